//! Damage in the shadow WAL: what it is taken for, and what is made of it.

use super::*;
use crate::format::wal::WAL_HEADER_SIZE;
use crate::model::Message;
use crate::primary::shadow::{Layout, ShadowError, ShadowReader};
use crate::primary::{PrimaryError, batch};

/// Files of the shadow WAL, oldest first.
fn segments(path: &Path) -> Vec<PathBuf> {
    let layout = Layout::of(path);
    let generation = layout
        .read_generation()
        .expect("readable")
        .expect("a generation");
    let mut files = Vec::new();
    for index in layout.list_indexes(generation).expect("indexes") {
        for segment in layout.list_segments(generation, index).expect("segments") {
            files.push(layout.segment(generation, index, segment));
        }
    }
    files
}

fn flip(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).expect("a file");
    bytes[at] ^= 0x10;
    std::fs::write(path, bytes).expect("written");
}

fn flip_middle(path: &Path) {
    let bytes = std::fs::metadata(path).expect("a file").len();
    flip(path, bytes as usize / 2);
}

/// More than one segment, and more than the ring keeps.
async fn write_segments(bench: &mut Bench, primary: &Primary) -> Point {
    for _ in 0..3 {
        bench.app.sql(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<2000)
             INSERT OR REPLACE INTO item SELECT i, i, randomblob(3000) FROM n",
        );
    }
    fence(primary).await
}

/// Why a stream ends.
pub(super) async fn error_of(mut stream: StreamHandle) -> PrimaryError {
    loop {
        match stream.next().await.expect("no clean end") {
            Ok(_) => {}
            Err(error) => return error,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_in_an_old_index_is_named_and_healed_by_a_snapshot() {
    let mut bench = Bench::new("");
    let primary = bench.primary();
    bench.app.write(10);
    let first = fence(&primary).await;
    for _ in 0..3 {
        bench.app.write(200);
        bench.app.sql("PRAGMA wal_checkpoint(TRUNCATE)");
    }
    bench.app.write(10);
    let last = fence(&primary).await;
    let files = segments(&bench.path());
    stop(primary).await;
    flip_middle(&files[1]);
    let primary = bench.primary();
    assert_eq!(fence(&primary).await.position, last.position);
    let stream = primary.open_stream(start_at("r", &first)).await;
    let error = error_of(stream.expect("a stream")).await;
    assert!(matches!(error, PrimaryError::Damaged(_)), "{error}");
    // Now it is known: the replica gets a snapshot, in the same generation.
    let mut mirror = Mirror::default();
    let mut stream = primary
        .open_stream(start_at("r", &first))
        .await
        .expect("a stream");
    follow(&mut stream, &mut mirror, last.position).await;
    assert_eq!(mirror.follows, [crate::model::Follows::NotRetained]);
    assert_eq!(mirror.dbsum, last.dbsum);
    drop(stream);
    stop(primary).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_in_the_current_index_begins_a_new_generation() {
    let mut bench = Bench::new("");
    bench.app.sql("PRAGMA wal_autocheckpoint=0");
    let primary = bench.primary();
    bench.app.write(10);
    let first = fence(&primary).await;
    let last = write_segments(&mut bench, &primary).await;
    assert_eq!(last.position.index, first.position.index);
    flip_middle(&segments(&bench.path())[2]);
    let stream = primary.open_stream(start_at("r", &first)).await;
    let error = error_of(stream.expect("a stream")).await;
    assert!(
        matches!(
            error,
            PrimaryError::Damaged(_) | PrimaryError::GenerationChanged(_)
        ),
        "{error}"
    );
    let begun = Instant::now();
    let point = loop {
        let point = fence(&primary).await;
        if point.position.generation != first.position.generation {
            break point;
        }
        assert!(begun.elapsed() < PATIENCE);
    };
    let mirror = replicate(&primary, point.position).await;
    assert_eq!(mirror.dbsum, last.dbsum);
    mirror.verify(bench.dir.path());
    stop(primary).await;
}

/// Two streams come to the same damage, and the second one's read of it is seen late.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_of_damage_does_not_touch_the_generation_after_it() {
    let mut bench = Bench::new("");
    bench.app.sql("PRAGMA wal_autocheckpoint=0");
    let primary = bench.primary();
    bench.app.write(10);
    let first = fence(&primary).await;
    let last = write_segments(&mut bench, &primary).await;
    flip_middle(&segments(&bench.path())[2]);
    let mut reader = ShadowReader::new(Layout::of(&bench.path()), first.position);
    let mut sound = 0;
    loop {
        let (next, batch) = batch::read(reader, last.position, true);
        reader = next;
        match batch {
            Ok(chunks) => sound += chunks.len(),
            Err(error) => break assert!(matches!(error, ShadowError::Damaged { .. }), "{error}"),
        }
    }
    let open = || primary.open_stream(start_at("r", &first));
    let (mut one, mut other) = (open().await.expect("one"), open().await.expect("another"));
    while sound > 0 {
        let message = other.next().await.expect("goes on").expect("is well");
        sound -= usize::from(matches!(message, Message::Chunk(_)));
    }
    let begun = Instant::now();
    while !other.reading.as_ref().expect("it reads").is_finished() {
        assert!(begun.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    while let Some(Ok(_)) = one.next().await {}
    let begun = Instant::now();
    let renewed = loop {
        let point = fence(&primary).await;
        if point.position.generation != first.position.generation {
            break point.position.generation;
        }
        assert!(begun.elapsed() < PATIENCE);
    };
    let error = loop {
        match other.next().await.expect("no clean end") {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(
        matches!(error, PrimaryError::GenerationChanged(g) if g == renewed),
        "{error}"
    );
    // Another who saw the same, and only asks late.
    primary.renew(first.position.generation, "the test asks");
    // The first answer comes when all that was asked before it is done, the second after what came of that.
    for _ in 0..2 {
        bench.app.write(1);
        assert_eq!(fence(&primary).await.position.generation, renewed);
    }
    stop(primary).await;
}

/// Whoever reads while retention removes an index, which takes a while, is too slow; nothing is damaged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_that_is_being_removed_is_no_damage() {
    let mut bench = Bench::new("");
    // The checkpoint waits until what it copied is captured.
    bench.app.sql("PRAGMA busy_timeout=1000");
    let primary = bench.primary();
    bench.app.write(10);
    let first = fence(&primary).await;
    bench.app.sql(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<4000)
         INSERT OR REPLACE INTO item SELECT i, i, randomblob(3000) FROM n",
    );
    // Without a timeout it may not succeed at once: walcast may just be at the lock.
    let last = loop {
        bench.app.sql("PRAGMA wal_checkpoint(TRUNCATE)");
        bench.app.write(10);
        let last = fence(&primary).await;
        if last.position.index > first.position.index {
            break last;
        }
    };
    let stream = primary
        .open_stream(start_at("r", &first))
        .await
        .expect("a stream");
    let hub = &primary.shared.hub;
    hub.forget_before(last.position.generation, last.position.index);
    std::fs::remove_file(&segments(&bench.path())[2]).expect("removed");
    let error = error_of(stream).await;
    assert!(matches!(error, PrimaryError::TooSlow(_)), "{error}");
    assert_eq!(primary.meters().checksum_failures.get(), 0);
    stop(primary).await;
}

/// What a power cut may leave behind the last synced byte: a torn frame, zeros, a record too few.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_torn_end_is_cut_and_captured_again() {
    let mut bench = Bench::new("");
    bench.app.sql("PRAGMA wal_autocheckpoint=0");
    for (round, damage) in ["truncate", "zeros", "record", "garbage", "flip"]
        .iter()
        .enumerate()
    {
        let primary = bench.primary();
        for _ in 0..5 {
            bench.app.write(3);
            fence(&primary).await;
        }
        let before = fence(&primary).await;
        stop(primary).await;
        let path = bench.path();
        let last = segments(&path).pop().expect("a segment");
        let layout = Layout::of(&path);
        let sidecar = layout.sidecar(before.position.generation, before.position.index);
        let cut = |file: &Path, by: u64| {
            let len = std::fs::metadata(file).expect("a file").len();
            let file = std::fs::OpenOptions::new()
                .write(true)
                .open(file)
                .expect("opened");
            file.set_len(len - by).expect("cut");
        };
        match *damage {
            "truncate" => cut(&last, 7),
            "zeros" => {
                cut(&last, 100);
                let mut bytes = std::fs::read(&last).expect("read");
                bytes.extend([0; 100]);
                std::fs::write(&last, bytes).expect("written");
            }
            "record" => cut(&sidecar, 20),
            "garbage" => {
                let mut bytes = std::fs::read(&last).expect("read");
                bytes.extend([0x55; 300]);
                std::fs::write(&last, bytes).expect("written");
            }
            _ => flip(
                &last,
                std::fs::metadata(&last).expect("a file").len() as usize - 12,
            ),
        }
        let primary = bench.primary();
        let after = fence(&primary).await;
        assert_eq!(after.position, before.position, "{damage}");
        assert_eq!(after.dbsum, before.dbsum, "{damage}");
        // A replica that was level stays level, though the position is now within a captured piece.
        let mut stream = primary
            .open_stream(start_at("r", &before))
            .await
            .expect("a stream");
        let Some(Ok(Message::Hello(hello))) = stream.next().await else {
            panic!("a hello")
        };
        assert_eq!(
            hello.follows,
            crate::model::Follows::Resume,
            "{damage}: {}",
            hello.reason
        );
        drop(stream);
        let mirror = replicate(&primary, after.position).await;
        mirror.verify(bench.dir.path());
        stop(primary).await;
        assert!(round < 5);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shadow_wal_is_a_wal_that_sqlite_accepts() {
    let mut bench = Bench::new("");
    bench
        .app
        .sql("PRAGMA wal_autocheckpoint=0; PRAGMA wal_checkpoint(TRUNCATE)");
    let base = {
        // Copied by the application's process: a descriptor of ours would be a danger once SQLite is open here.
        let copy = bench.dir.path().join("base.db");
        bench.app.sql(&format!("VACUUM INTO '{}'", copy.display()));
        std::fs::read(bench.path()).expect("the file, before walcast opens it")
    };
    let primary = bench.primary();
    bench.app.write(100);
    let last = fence(&primary).await;
    let mut wal = Vec::new();
    for segment in segments(&bench.path()) {
        let bytes = std::fs::read(segment).expect("a segment");
        let mut rest = &bytes[..];
        while let Some(extent) = crate::format::lz4::frame_extent(rest).expect("frames only") {
            let (frame, after) = rest.split_at(extent.compressed_len);
            crate::format::lz4::decompress(frame, 2 << 20, &mut wal).expect("sound");
            rest = after;
        }
    }
    assert_eq!(wal.len() as u64, last.position.offset);
    assert!(wal.len() > WAL_HEADER_SIZE);
    let copy = bench.dir.path().join("copy.db");
    std::fs::write(&copy, base).expect("written");
    std::fs::write(wal_of(&copy), wal).expect("written");
    let connection = rusqlite::Connection::open(&copy).expect("opened");
    let mark: String = connection
        .query_row("SELECT mark FROM meta", [], |row| row.get(0))
        .expect("a row");
    assert_eq!(mark, format!("VERSION:{:016x}", 100));
    stop(primary).await;
}
