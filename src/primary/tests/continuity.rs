//! What a restart proves, and what it does not.

use super::child::PrimaryChild;
use super::*;
use crate::format::position::Generation;
use std::str::FromStr;

fn position(text: &str) -> Position {
    Position::from_str(text).expect("a position")
}

/// A primary in a process of its own captures, is killed, and one in this process goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_under_load_it_goes_on_where_the_log_allows_it() {
    let mut bench = Bench::new("");
    bench.app.sql("PRAGMA wal_autocheckpoint=1000000");
    bench.app.write(50);
    let mut generation = None;
    let mut total = 50;
    for round in 0..6 {
        let mut child = PrimaryChild::start(&bench.path(), &[]);
        let before = position(&child.wait());
        assert_eq!(
            *generation.get_or_insert(before.generation),
            before.generation,
            "round {round}"
        );
        bench.app.begin_write(3000);
        child.0.kill();
        total += 3000;
        bench.app.end_write();
    }
    let primary = bench.primary();
    let last = fence(&primary).await;
    assert_eq!(Some(last.position.generation), generation);
    assert_eq!(last.position.index, 0, "the log was never restarted");
    let mut mirror = Mirror::default();
    let history = shadow_versions(&bench.path(), last.position.generation);
    assert_eq!(history, (1..=total).collect::<Vec<u64>>());
    let mut stream = primary.open_stream(start("one")).await.expect("a stream");
    follow(&mut stream, &mut mirror, last.position).await;
    mirror.verify(bench.dir.path());
    drop(stream);
    stop(primary).await;
}

/// The versions of all commits in the shadow WAL, unpacked as `lz4 -d` and `cat` would.
fn shadow_versions(path: &Path, generation: Generation) -> Vec<u64> {
    use crate::format::wal::{FrameScanner, WAL_HEADER_SIZE, WalHeader};
    let layout = super::super::shadow::Layout::of(path);
    let mut versions = Vec::new();
    for index in layout.list_indexes(generation).expect("indexes") {
        let mut wal = Vec::new();
        for segment in layout.list_segments(generation, index).expect("segments") {
            assert_eq!(segment, wal.len() as u64, "segments follow each other");
            let bytes =
                std::fs::read(layout.segment(generation, index, segment)).expect("a segment");
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let extent = crate::format::lz4::frame_extent(rest)
                    .expect("a frame")
                    .expect("whole");
                let (frame, after) = rest.split_at(extent.compressed_len);
                crate::format::lz4::decompress(frame, 2 << 20, &mut wal).expect("sound");
                rest = after;
            }
        }
        let (header, frames) = wal
            .split_first_chunk::<WAL_HEADER_SIZE>()
            .expect("a header");
        let header = WalHeader::parse(header).expect("valid");
        let mut scanner = FrameScanner::new(&header, header.cksum, frames);
        for frame in scanner.by_ref() {
            versions.extend(mirror::version_of(frame.data).filter(|version| *version > 0));
        }
        assert_eq!(scanner.end(), Some(crate::format::wal::ScanEnd::End));
    }
    versions.dedup();
    versions
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clean_restart_keeps_the_generation() {
    let mut bench = Bench::new("");
    bench.app.write(100);
    let primary = bench.primary();
    let first = fence(&primary).await;
    stop(primary).await;
    // The log goes on.
    bench.app.write(100);
    let primary = bench.primary();
    let second = fence(&primary).await;
    assert!(
        second.position > first.position,
        "{} then {}",
        first.position,
        second.position
    );
    let mut stream = primary
        .open_stream(start_at("old", &first))
        .await
        .expect("a stream");
    let Some(Ok(crate::model::Message::Hello(hello))) = stream.next().await else {
        panic!("a hello")
    };
    assert_eq!(
        hello.follows,
        crate::model::Follows::Resume,
        "{}",
        hello.reason
    );
    drop(stream);
    stop(primary).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clean_close_by_the_application_is_proven_by_content() {
    let mut bench = Bench::new("");
    bench.app.write(100);
    let primary = bench.primary();
    let first = fence(&primary).await;
    stop(primary).await;
    // The last connection closes: the log is copied and deleted.
    let path = bench.path();
    bench.app.end();
    assert!(!wal_of(&path).exists());
    let mut app = App::start(&path);
    app.write(10);
    app.sql("PRAGMA wal_checkpoint(PASSIVE)");
    let bench = Bench {
        dir: bench.dir,
        app,
    };
    // Written and copied while walcast was down: no proof.
    let primary = bench.primary();
    let second = fence(&primary).await;
    assert_ne!(second.position.generation, first.position.generation);
    stop(primary).await;
    // Closed without a change: the same content.
    bench.app.end();
    let mut bench = Bench {
        app: App::start(&path),
        dir: bench.dir,
    };
    let primary = bench.primary();
    let third = fence(&primary).await;
    assert_eq!(third.position, second.position);
    assert_eq!(third.dbsum, second.dbsum);
    bench.app.write(10);
    let fourth = fence(&primary).await;
    assert_eq!(fourth.position.generation, second.position.generation);
    assert_eq!(fourth.position.index, second.position.index + 1);
    let mut stream = primary
        .open_stream(start_at("old", &second))
        .await
        .expect("a stream");
    let Some(Ok(crate::model::Message::Hello(hello))) = stream.next().await else {
        panic!("a hello")
    };
    assert_eq!(
        hello.follows,
        crate::model::Follows::Resume,
        "{}",
        hello.reason
    );
    drop(stream);
    let mirror = replicate(&primary, fourth.position).await;
    assert_eq!(mirror.dbsum, fourth.dbsum);
    stop(primary).await;
}

/// The log is empty after the restart, so nothing is written to the shadow WAL: all of it is old, and too old.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_index_that_holds_the_tip_outlives_its_age() {
    let mut bench = Bench::new("");
    bench.app.write(100);
    let primary = bench.primary();
    let first = fence(&primary).await;
    stop(primary).await;
    let path = bench.path();
    bench.app.end();
    let mut bench = Bench {
        app: App::start(&path),
        dir: bench.dir,
    };
    let config = PrimaryConfig {
        retain_age: Duration::from_millis(1),
        ..bench.config()
    };
    let layout = super::super::shadow::Layout::of(&path);
    let mut starts = 0;
    let primary = loop {
        std::fs::remove_file(layout.position()).expect("of the start before");
        let primary = Primary::start(config.clone());
        assert_eq!(fence(&primary).await.position, first.position);
        // It is replaced after the look for what is too old.
        wait_for_file(&layout.position()).await;
        starts += 1;
        if starts == 3 {
            break primary;
        }
        stop(primary).await;
    };
    let mut stream = super::streams::resumed(&primary, "level", &first).await;
    bench.app.write(1);
    let last = fence(&primary).await;
    assert_eq!(last.position.index, first.position.index + 1);
    // Who is level does not need the old log for it, which may go now.
    let hub = &primary.shared.hub;
    let next = hub.after(hub.epoch(), first.position);
    assert!(matches!(next, crate::primary::hub::After::Entry(_)));
    loop {
        let message = stream.next().await.expect("goes on").expect("is well");
        if let crate::model::Message::Chunk(chunk) = message {
            assert_eq!(chunk.end(), last.position);
            break;
        }
    }
    drop(stream);
    stop(primary).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_during_the_proof_by_content_is_no_lost_continuity() {
    let mut bench = Bench::new("");
    bench.app.sql(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<7000)
         INSERT INTO item SELECT i, i, randomblob(3000) FROM n",
    );
    let primary = bench.primary();
    let first = fence(&primary).await;
    stop(primary).await;
    let path = bench.path();
    bench.app.end();
    let bench = Bench {
        app: App::start(&path),
        dir: bench.dir,
    };
    let (plan, met) = (bench.dir.path().join("plan"), bench.dir.path().join("met"));
    std::fs::write(&plan, "scan.read=stall").expect("a plan");
    let environment = [
        ("WALCAST_FAULTS_FILE", plan.as_path()),
        ("WALCAST_FAULTS_MET", met.as_path()),
    ];
    let child = PrimaryChild::start(&path, &environment);
    let begun = Instant::now();
    while !std::fs::read_to_string(&met).is_ok_and(|met| met.contains("scan.read")) {
        assert!(begun.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    child.end();
    let primary = bench.primary();
    assert_eq!(fence(&primary).await.position, first.position);
    stop(primary).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn written_again_but_not_copied_is_proven_by_content() {
    let mut bench = Bench::new("");
    bench.app.write(100);
    bench.app.sql("PRAGMA wal_checkpoint(TRUNCATE)");
    let primary = bench.primary();
    bench.app.write(3);
    let first = fence(&primary).await;
    stop(primary).await;
    let path = bench.path();
    bench.app.end();
    let mut app = App::start(&path);
    app.sql("PRAGMA wal_autocheckpoint=0");
    app.write(7);
    let bench = Bench {
        dir: bench.dir,
        app,
    };
    let primary = bench.primary();
    let second = fence(&primary).await;
    assert_eq!(second.position.generation, first.position.generation);
    assert_eq!(second.position.index, first.position.index + 1);
    let mut mirror = Mirror::default();
    let mut stream = primary
        .open_stream(start_at("old", &first))
        .await
        .expect("a stream");
    while mirror.position != Some(second.position) {
        let message = stream.next().await.expect("goes on").expect("is well");
        if let crate::model::Message::Chunk(chunk) = &message {
            assert!(chunk.commit.is_some());
            mirror.position = Some(chunk.end());
        }
    }
    drop(stream);
    stop(primary).await;
}

/// A recovery forgets how much of the log is in the file, and the content is again what was captured: what the log holds was
/// committed upon another state.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_may_be_copied_is_not_proven_by_content() {
    let mut bench = Bench::new("PRAGMA wal_autocheckpoint=0");
    let path = bench.path();
    bench.app.sql(
        "CREATE TABLE a(x TEXT); INSERT INTO a VALUES('0'); CREATE TABLE b(y TEXT); INSERT INTO b VALUES('0')",
    );
    let primary = bench.primary();
    let first = fence(&primary).await;
    stop(primary).await;
    bench.app.sql("PRAGMA wal_checkpoint(PASSIVE)");
    let file = std::fs::read(&path).expect("the file");
    // One log that nobody captured, and the next.
    bench
        .app
        .sql("BEGIN; UPDATE a SET x='1'; UPDATE b SET y='1'; COMMIT");
    bench.app.sql("PRAGMA wal_checkpoint(PASSIVE)");
    bench
        .app
        .sql("UPDATE a SET x='2'; BEGIN; UPDATE a SET x='0'; UPDATE b SET y='0'; COMMIT");
    bench.app.sql("PRAGMA wal_checkpoint(PASSIVE)");
    bench.app.0.kill();
    assert!(std::fs::read(&path).expect("the file") == file);
    let primary = bench.primary();
    let second = fence(&primary).await;
    assert_ne!(second.position.generation, first.position.generation);
    assert_eq!(second.dbsum, first.dbsum);
    stop(primary).await;
}

/// The wal-index lives, so SQLite looks at no checksum, and the log goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_captured_frame_that_is_damaged_says_what_to_do() {
    let mut bench = Bench::new("PRAGMA wal_autocheckpoint=0");
    bench.app.sql("PRAGMA wal_checkpoint(TRUNCATE)");
    let primary = bench.primary();
    bench.app.write(20);
    let first = fence(&primary).await;
    stop(primary).await;
    // A page that is written anew by each commit: only the log is damaged, not what it says last.
    let log = std::fs::File::options()
        .write(true)
        .open(wal_of(&bench.path()));
    let log = log.expect("the log");
    std::os::unix::fs::FileExt::write_all_at(&log, b"other", 32 + 24 + 2000).expect("written");
    let primary = bench.primary();
    wait_for_state(
        &primary,
        DatabaseState::Waiting,
        "once the application has checkpointed",
    )
    .await;
    let reason = primary.status().reason;
    assert!(
        reason.contains("frame 1: it does not have its checksum"),
        "{reason}"
    );
    // What was captured is not given up before it must be.
    let layout = super::super::shadow::Layout::of(&bench.path());
    let generation = layout.read_generation().expect("readable");
    assert_eq!(generation, Some(first.position.generation));
    bench.app.sql("PRAGMA wal_checkpoint(PASSIVE)");
    let second = fence(&primary).await;
    assert_ne!(second.position.generation, first.position.generation);
    bench.app.write(5);
    let last = fence(&primary).await;
    assert_eq!(last.position.generation, second.position.generation);
    let mirror = replicate(&primary, last.position).await;
    mirror.verify(bench.dir.path());
    stop(primary).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_cut_that_took_back_commits_begins_a_new_generation() {
    let mut bench = Bench::new("");
    let path = bench.path();
    bench.app.write(100);
    let old: Vec<Vec<u8>> = [path.clone(), wal_of(&path)]
        .iter()
        .map(|p| std::fs::read(p).expect("read"))
        .collect();
    bench.app.write(100);
    let primary = bench.primary();
    let first = fence(&primary).await;
    stop(primary).await;
    bench.app.0.kill();
    for (p, bytes) in [path.clone(), wal_of(&path)].iter().zip(&old) {
        std::fs::write(p, bytes).expect("restored");
    }
    let mut shm = path.clone().into_os_string();
    shm.push("-shm");
    std::fs::remove_file(shm).expect("removed");
    let mut app = App::start(&path);
    // SQLite goes on with the same salts at the same offsets.
    let written = app.write(150);
    assert_eq!(written.last_version, 250);
    let bench = Bench {
        dir: bench.dir,
        app,
    };
    let primary = bench.primary();
    let second = fence(&primary).await;
    assert_ne!(second.position.generation, first.position.generation);
    let mut stream = primary
        .open_stream(start_at("old", &first))
        .await
        .expect("a stream");
    let Some(Ok(crate::model::Message::Hello(hello))) = stream.next().await else {
        panic!("a hello")
    };
    assert_eq!(hello.follows, crate::model::Follows::OtherGeneration);
    assert_eq!(hello.fork, Some(first.position));
    drop(stream);
    let mirror = replicate(&primary, second.position).await;
    mirror.verify(bench.dir.path());
    stop(primary).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_lets_the_application_have_the_files_alone() {
    let mut bench = Bench::new("");
    bench.app.write(50);
    let primary = bench.primary();
    fence(&primary).await;
    let error = bench
        .app
        .try_sql("PRAGMA journal_mode=DELETE")
        .expect_err("walcast is there");
    assert!(error.contains("locked"), "{error}");
    let paused = primary.pause().await.expect("paused");
    assert!(matches!(
        primary.fence().await,
        Err(crate::primary::PrimaryError::Paused)
    ));
    bench.app.sql("PRAGMA locking_mode=EXCLUSIVE");
    bench.app.write(1);
    bench
        .app
        .sql("PRAGMA locking_mode=NORMAL; SELECT count(*) FROM item");
    let (resumed, continuous) = primary.resume().await.expect("resumed");
    assert!(
        continuous && resumed.position > paused.position,
        "{} {}",
        paused.position,
        resumed.position
    );
    primary.pause().await.expect("paused");
    bench.app.sql("PRAGMA journal_mode=DELETE");
    bench.app.write(5);
    let error = primary
        .resume()
        .await
        .expect_err("not in WAL mode")
        .to_string();
    assert!(error.contains("PRAGMA journal_mode=WAL"), "{error}");
    bench
        .app
        .sql("PRAGMA page_size=8192; VACUUM; PRAGMA journal_mode=WAL");
    bench.app.write(5);
    wait_for_state(&primary, DatabaseState::Streaming, "").await;
    let last = fence(&primary).await;
    assert_ne!(last.position.generation, resumed.position.generation);
    assert_eq!(last.page_size, 8192);
    let mirror = replicate(&primary, last.position).await;
    mirror.verify(bench.dir.path());
    stop(primary).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_replaced_begins_a_new_generation() {
    let mut bench = Bench::new("");
    bench.app.write(50);
    let primary = bench.primary();
    let first = fence(&primary).await;
    let path = bench.path();
    bench.app.0.kill();
    for end in ["", "-wal", "-shm"] {
        let mut name = path.clone().into_os_string();
        name.push(end);
        std::fs::remove_file(name).expect("removed");
    }
    wait_for_state(&primary, DatabaseState::Waiting, "does not exist yet").await;
    let dir = bench.dir;
    let mut app = App::start(&path);
    app.sql(
        "PRAGMA journal_mode=WAL; CREATE TABLE meta(id INTEGER PRIMARY KEY, mark TEXT);
         INSERT INTO meta VALUES(1, 'VERSION:0000000000000000');
         CREATE TABLE item(id INTEGER PRIMARY KEY, v INTEGER, pad BLOB)",
    );
    app.write(5);
    let second = fence(&primary).await;
    assert_ne!(second.position.generation, first.position.generation);
    let mirror = replicate(&primary, second.position).await;
    mirror.verify(dir.path());
    stop(primary).await;
}
