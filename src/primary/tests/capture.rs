//! Every commit is captured, whatever the application does with its log, and the application does not notice.

use super::*;

/// The number of commits: enough to see a gap, or with `WALCAST_FULL=1` what the issue names.
fn scaled(commits: u64, full: u64) -> u64 {
    match std::env::var_os("WALCAST_FULL").is_some_and(|value| value == "1") {
        true => full,
        false => commits,
    }
}

async fn every_commit(pragmas: &str, commits: u64, restarts: u64) {
    let mut bench = Bench::new("");
    bench.app.sql(pragmas);
    let primary = bench.primary();
    let first = fence(&primary).await;
    let mut stream = primary.open_stream(start("one")).await.expect("a stream");
    bench.app.begin_write(commits);
    let mut mirror = Mirror::default();
    follow(&mut stream, &mut mirror, first.position).await;
    // Followed while it goes on: what is kept for a replica that stands still is bounded.
    let writing = std::thread::spawn(move || {
        let written = bench.app.end_write();
        (bench, written)
    });
    while !writing.is_finished() {
        if let Ok(message) = tokio::time::timeout(Duration::from_millis(50), stream.next()).await {
            mirror.apply(message.expect("goes on").expect("is well"));
        }
    }
    let (bench, written) = writing.join().expect("it wrote");
    let last = fence(&primary).await;
    follow(&mut stream, &mut mirror, last.position).await;
    mirror.assert_complete(commits);
    assert_eq!(
        (mirror.versions.last(), written.last_version),
        (Some(&commits), commits)
    );
    assert_eq!(written.busy, 0, "no added SQLITE_BUSY");
    assert!(
        written.log_restarts >= restarts,
        "only {} restarts",
        written.log_restarts
    );
    assert_eq!((mirror.dbsum, mirror.merged), (last.dbsum, 0));
    let size = std::fs::metadata(wal_of(&bench.path()))
        .expect("a log")
        .len();
    // The application's own threshold, and what it writes while capture stands still: on a busy machine, its pauses.
    println!("{pragmas}: the log grew to {size} bytes");
    assert!(size < 32 << 20, "the log grew to {size} bytes");
    // A second replica that comes now, by a snapshot, is the same database.
    let late = replicate(&primary, last.position).await;
    assert_eq!(late.pages, mirror.pages);
    let version: String = mirror
        .verify(bench.dir.path())
        .query_row("SELECT mark FROM meta", [], |r| r.get(0))
        .expect("a row");
    assert_eq!(version, format!("VERSION:{commits:016x}"));
    drop(stream);
    stop(primary).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_commit_at_autocheckpoint_1() {
    every_commit("PRAGMA wal_autocheckpoint=1", scaled(4000, 100_000), 20).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_commit_at_autocheckpoint_1000() {
    every_commit("PRAGMA wal_autocheckpoint=1000", scaled(30_000, 500_000), 5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_commit_at_autocheckpoint_1_without_syncs() {
    every_commit(
        "PRAGMA wal_autocheckpoint=1; PRAGMA synchronous=OFF",
        scaled(20_000, 500_000),
        50,
    )
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn checkpoints_of_every_kind_succeed_within_a_second() {
    let mut bench = Bench::new("");
    bench.app.sql("PRAGMA busy_timeout=1000");
    let primary = bench.primary();
    fence(&primary).await;
    for kind in [
        "TRUNCATE", "RESTART", "FULL", "PASSIVE", "TRUNCATE", "TRUNCATE",
    ] {
        for commits in [0, 1, 200] {
            bench.app.write(commits);
            for _ in 0..2 {
                let answer = bench.app.sql(&format!("PRAGMA wal_checkpoint({kind})"));
                assert!(
                    answer.starts_with("Integer(0)|"),
                    "{kind} after {commits}: {answer}"
                );
            }
        }
    }
    // The log has to be let go at the very end of each one, while the checkpoint still has READ(0).
    for round in 0..300 {
        bench.app.write(1);
        let answer = bench.app.sql("PRAGMA wal_checkpoint(TRUNCATE)");
        assert!(answer.starts_with("Integer(0)|"), "round {round}: {answer}");
    }
    let last = fence(&primary).await;
    let mirror = replicate(&primary, last.position).await;
    assert_eq!(mirror.dbsum, last.dbsum);
    stop(primary).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn vacuum_growth_shrink_and_ddl_keep_the_checksum_right() {
    let mut bench = Bench::new("PRAGMA page_size=1024; PRAGMA auto_vacuum=INCREMENTAL");
    let primary = bench.primary();
    let first = fence(&primary).await;
    let mut mirror = Mirror::default();
    let mut stream = primary.open_stream(start("one")).await.expect("a stream");
    follow(&mut stream, &mut mirror, first.position).await;
    for sql in [
        "INSERT INTO item SELECT value, value, zeroblob(3000) FROM generate_series(1,2000)",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<3000)
         INSERT OR REPLACE INTO item SELECT i, i, zeroblob(3000) FROM n",
        "DELETE FROM item WHERE id%3>0",
        "PRAGMA incremental_vacuum(500)",
        "CREATE TABLE other(a,b); CREATE INDEX item_v ON item(v)",
        "VACUUM",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<5000)
         INSERT OR REPLACE INTO item SELECT i, i, randomblob(1500) FROM n",
        "SAVEPOINT s; DELETE FROM item; ROLLBACK TO s; RELEASE s",
        "DELETE FROM item",
        "PRAGMA wal_checkpoint(TRUNCATE)",
        "DROP TABLE other; VACUUM",
    ] {
        let done = bench.app.try_sql(sql);
        assert!(
            done.is_ok() || sql.contains("generate_series"),
            "{sql}: {done:?}"
        );
        let point = fence(&primary).await;
        follow(&mut stream, &mut mirror, point.position).await;
        assert_eq!(mirror.dbsum, point.dbsum, "{sql}");
    }
    mirror.verify(bench.dir.path());
    drop(stream);
    stop(primary).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_committed_is_not_captured() {
    let mut bench = Bench::new("PRAGMA page_size=4096");
    let primary = bench.primary();
    bench.app.write(10);
    let before = fence(&primary).await;
    // Far more than the cache: pages are in the log before the commit.
    bench.app.sql(
        "PRAGMA cache_size=10; PRAGMA cache_spill=1; BEGIN;
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<5000)
         INSERT OR REPLACE INTO item SELECT i, i, randomblob(1500) FROM n",
    );
    let size = std::fs::metadata(wal_of(&bench.path()))
        .expect("a log")
        .len();
    assert!(size > 4_000_000, "pages were spilled: {size}");
    assert_eq!(fence(&primary).await.position, before.position);
    bench.app.0.kill();
    bench.app = App::start(&bench.path());
    bench.app.write(5);
    let last = fence(&primary).await;
    let mirror = replicate(&primary, last.position).await;
    let rows: i64 = mirror
        .verify(bench.dir.path())
        .query_row("SELECT count(*) FROM item", [], |row| row.get(0))
        .expect("a row");
    assert_eq!(rows, 15);
    stop(primary).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn page_sizes_from_512_to_65536() {
    for shift in 9..=16 {
        let mut bench = Bench::new(&format!("PRAGMA page_size={}", 1 << shift));
        bench.app.write(20);
        let primary = bench.primary();
        let first = fence(&primary).await;
        assert_eq!(first.page_size, 1 << shift);
        let mut stream = primary.open_stream(start("one")).await.expect("a stream");
        let mut mirror = Mirror::default();
        follow(&mut stream, &mut mirror, first.position).await;
        bench.app.sql("PRAGMA wal_checkpoint(TRUNCATE)");
        bench.app.write(200);
        let last = fence(&primary).await;
        follow(&mut stream, &mut mirror, last.position).await;
        mirror.verify(bench.dir.path());
        drop(stream);
        stop(primary).await;
    }
}
