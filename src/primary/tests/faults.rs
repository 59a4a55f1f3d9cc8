//! Kills at named places, full disks, damage.

use super::child::PrimaryChild;
use super::*;
use crate::format::wal::WAL_HEADER_SIZE;
use crate::model::Message;
use crate::primary::shadow::{Layout, ShadowError, ShadowReader};
use crate::primary::{PrimaryError, batch};

/// A primary that dies at a named operation leaves a shadow WAL from which the next one goes on without a gap.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_each_named_operation_nothing_is_lost() {
    let mut met = 0;
    for (plan, keeps_generation) in [
        ("generation.write=kill", false),
        ("generation.rename=kill", false),
        ("lineage.rename=kill", false),
        ("shadow.mkdir=kill@1", false),
        ("shadow.create=kill@1", false),
        // The second index is begun without the files that were made for it.
        ("shadow.next-mkdir=enospc;shadow.create=kill@2", true),
        ("shadow.append=kill@1", false),
        ("shadow.append=kill@5", true),
        ("shadow.append=short@5;shadow.append=kill@6", true),
        ("shadow.record=kill@4", true),
        ("shadow.amend=kill@1", true),
        (
            "shadow.next-mkdir=enospc;shadow.sidecar-create=kill@2",
            true,
        ),
        (
            "shadow.next-mkdir=enospc;shadow.sidecar-header=kill@2",
            true,
        ),
        ("shadow.next-mkdir=kill@1", true),
        ("shadow.next-create=kill@2", true),
        ("shadow.next-sidecar=kill@2", true),
        ("shadow.next-rename=kill@1", true),
        ("shadow.next-rename-sidecar=kill@1", true),
        ("shadow.next-open=kill@2", true),
        ("shadow.sidecar-header=kill@2", true),
        ("position.rename=kill@1", true),
    ] {
        let mut bench = Bench::new("");
        bench.app.write(5);
        let path = bench.path();
        let file = bench.dir.path().join("faults");
        std::fs::write(&file, plan).expect("a plan");
        let mut child = PrimaryChild::start(&path, &[("WALCAST_FAULTS_FILE", &file)]);
        // Commits until it is dead; the log is restarted now and then.
        let begun = Instant::now();
        while child.0.is_alive() {
            bench.app.write(1);
            // Not before the primary holds the log: it must find one, whose commits it captures before it knows a checksum.
            let holds = matches!(Layout::of(&path).read_generation(), Ok(Some(_)));
            if holds && begun.elapsed().as_millis().is_multiple_of(7) {
                bench.app.try_sql("PRAGMA wal_checkpoint(TRUNCATE)").ok();
            }
            assert!(begun.elapsed() < PATIENCE, "{plan} never strikes");
            std::thread::sleep(Duration::from_millis(2));
        }
        met += 1;
        let written = Layout::of(&path).read_generation().expect("readable");
        let last_version = bench.app.write(20).last_version;
        let primary = bench.primary();
        let last = fence(&primary).await;
        if keeps_generation {
            // The log may have been restarted after the kill; then a new generation is right.
            assert!(written.is_some(), "{plan}");
        }
        let mirror = replicate(&primary, last.position).await;
        let version: String = mirror
            .verify(bench.dir.path())
            .query_row("SELECT mark FROM meta", [], |row| row.get(0))
            .expect("a row");
        assert_eq!(version, format!("VERSION:{last_version:016x}"), "{plan}");
        stop(primary).await;
    }
    assert_eq!(met, 21);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_holds_capture_up_and_nothing_else() {
    for op in [
        "shadow.append",
        "shadow.record",
        "shadow.create",
        "shadow.sidecar-create",
        "pages.allocate",
    ] {
        let mut bench = Bench::new("");
        bench.app.write(5);
        let path = bench.path();
        let file = bench.dir.path().join("faults");
        std::fs::write(&file, "").expect("no plan yet");
        let mut child = PrimaryChild::start(&path, &[("WALCAST_FAULTS_FILE", &file)]);
        let before = child.wait();
        std::fs::write(
            &file,
            format!(
                "{op}={};shadow.next-*=enospc",
                if op == "shadow.append" {
                    "short"
                } else {
                    "enospc"
                }
            ),
        )
        .expect("a plan");
        // A new segment, a new index, more pages than the table has room for.
        bench.app.sql("PRAGMA wal_checkpoint(TRUNCATE)");
        bench.app.sql("PRAGMA wal_autocheckpoint=100");
        let grow = op == "pages.allocate";
        if grow {
            bench.app.sql(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<70000)
                 INSERT OR REPLACE INTO item SELECT i, i, zeroblob(4000) FROM n",
            );
        }
        // A segment is closed by its age, so it takes some commits until the next is created.
        let begun = Instant::now();
        let mut last = bench.app.write(1).last_version;
        while child.fence().is_ok() {
            assert!(begun.elapsed() < PATIENCE, "{op} never strikes");
            last = bench.app.write(1).last_version;
        }
        let written = bench.app.write(500);
        assert_eq!(
            (written.last_version, written.busy),
            (last + 500, 0),
            "{op}"
        );
        let error = child.fence().expect_err("held up");
        assert!(error.contains("free some space"), "{op}: {error}");
        assert!(error.contains(op), "{op}: {error}");
        std::fs::write(&file, "").expect("space again");
        let after: Position = child.wait().parse().expect("a position");
        assert!(after > before.parse().expect("a position"), "{op}");
        bench.app.write(5);
        child.wait();
        child.end();
        let primary = bench.primary();
        let last = fence(&primary).await;
        assert_eq!(last.position.generation, after.generation, "{op}");
        let mirror = replicate(&primary, last.position).await;
        mirror.verify(bench.dir.path());
        stop(primary).await;
    }
}

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
    let bytes = std::fs::metadata(&files[1]).expect("a file").len() as usize;
    stop(primary).await;
    flip(&files[1], bytes / 2);
    let primary = bench.primary();
    assert_eq!(fence(&primary).await.position, last.position);
    let mut stream = primary
        .open_stream(start_at("r", &first))
        .await
        .expect("a stream");
    let error = loop {
        match stream.next().await.expect("no clean end") {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
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
    // More than one segment, and more than the ring keeps.
    for _ in 0..3 {
        bench.app.sql(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<2000)
             INSERT OR REPLACE INTO item SELECT i, i, randomblob(3000) FROM n",
        );
    }
    let last = fence(&primary).await;
    assert_eq!(last.position.index, first.position.index);
    let files = segments(&bench.path());
    let at = std::fs::metadata(&files[2]).expect("a file").len() as usize / 2;
    flip(&files[2], at);
    let mut stream = primary
        .open_stream(start_at("r", &first))
        .await
        .expect("a stream");
    let error = loop {
        match stream.next().await.expect("no clean end") {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
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
    for _ in 0..3 {
        bench.app.sql(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<2000)
             INSERT OR REPLACE INTO item SELECT i, i, randomblob(3000) FROM n",
        );
    }
    let last = fence(&primary).await;
    let files = segments(&bench.path());
    let at = std::fs::metadata(&files[2]).expect("a file").len() as usize / 2;
    flip(&files[2], at);
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
    let mut stream = primary
        .open_stream(start_at("r", &first))
        .await
        .expect("a stream");
    let hub = &primary.shared.hub;
    hub.forget_before(last.position.generation, last.position.index);
    std::fs::remove_file(&segments(&bench.path())[2]).expect("removed");
    let error = loop {
        match stream.next().await.expect("no clean end") {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_huge_transaction_takes_no_memory() {
    let mut bench = Bench::new("");
    bench.app.write(5);
    let mut child = PrimaryChild::start(&bench.path(), &[]);
    child.wait();
    let before = child.memory();
    bench.app.sql(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<60000)
         INSERT OR REPLACE INTO item SELECT i, i, randomblob(3900) FROM n",
    );
    child.wait();
    bench.app.sql("VACUUM");
    child.wait();
    let after = child.memory();
    child.end();
    assert!(after < before + 32 * 1024, "from {before} to {after} KiB");
    assert!(after < 64 * 1024, "{after} KiB");
}

/// An application that dies in the middle of publishing leaves a wal-index header that nobody can read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_torn_wal_index_header_is_repaired() {
    let mut bench = Bench::new("");
    let primary = bench.primary();
    bench.app.write(10);
    let first = fence(&primary).await;
    // Through another process: closing a descriptor of -shm here would drop our locks.
    let mut shm = bench.path().into_os_string();
    shm.push("-shm");
    let script = format!(
        "printf '\\377' | dd of='{}' bs=1 seek=20 conv=notrunc status=none",
        shm.display()
    );
    let done = std::process::Command::new("sh")
        .args(["-c", &script])
        .status()
        .expect("a shell");
    assert!(done.success());
    let second = fence(&primary).await;
    assert_eq!(second.position, first.position);
    bench.app.write(10);
    let last = fence(&primary).await;
    assert_eq!(last.position.generation, first.position.generation);
    let mirror = replicate(&primary, last.position).await;
    mirror.verify(bench.dir.path());
    stop(primary).await;
}
