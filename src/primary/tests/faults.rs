//! Kills at named places, full disks, floods of pages.

use super::child::PrimaryChild;
use super::*;
use crate::primary::shadow::Layout;

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

/// Through another process: closing a descriptor of -shm here would drop our locks.
fn tear_header(path: &Path) {
    let mut shm = path.as_os_str().to_owned();
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
}

/// A process that stands still in the middle of publishing keeps the lock without which nobody repairs the header.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_while_a_torn_header_cannot_be_repaired_is_told_so() {
    let mut bench = Bench::new("");
    let primary = bench.primary();
    bench.app.write(10);
    let first = fence(&primary).await;
    bench.app.sql("BEGIN IMMEDIATE");
    tear_header(&bench.path());
    for _ in 0..2 {
        let answer = tokio::time::timeout(Duration::from_secs(5), primary.fence()).await;
        let error = answer
            .expect("an answer")
            .expect_err("not readable")
            .to_string();
        assert!(error.contains("stands still"), "{error}");
    }
    wait_for_state(&primary, DatabaseState::Waiting, "stands still").await;
    bench.app.sql("ROLLBACK");
    let second = fence(&primary).await;
    assert_eq!(second.position, first.position);
    assert_eq!(primary.status().state, DatabaseState::Streaming);
    stop(primary).await;
}

/// An application that dies in the middle of publishing leaves a wal-index header that nobody can read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_torn_wal_index_header_is_repaired() {
    let mut bench = Bench::new("");
    let primary = bench.primary();
    bench.app.write(10);
    let first = fence(&primary).await;
    tear_header(&bench.path());
    let second = fence(&primary).await;
    assert_eq!(second.position, first.position);
    bench.app.write(10);
    let last = fence(&primary).await;
    assert_eq!(last.position.generation, first.position.generation);
    let mirror = replicate(&primary, last.position).await;
    mirror.verify(bench.dir.path());
    stop(primary).await;
}
