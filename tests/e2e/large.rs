//! Databases over 1 GiB, where SQLite's lock-byte page stands, in 64 MiB of memory on either side.
//! Half a minute for each page size on a quiet machine: in CI one of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::support::cluster::{Cluster, NAME};
use crate::support::proc::position;
use crate::support::{Scratch, poll_for, scaled};

const MIB: u64 = 1 << 20;
/// Over the lock-byte page at 1 GiB, with room for what a VACUUM saves.
const SIZE_MIB: u64 = 1130;
/// Where that page stands.
const LOCK_BYTE: u64 = 1 << 30;
const LIMIT: u64 = 64 * MIB;
/// For a gigabyte on a busy machine of two cores.
const PATIENCE: Duration = Duration::from_secs(180);

/// A value in kB of `/proc/PID/status`, in bytes; 0 when the process is gone.
fn memory(pid: u32, key: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text
        .lines()
        .find_map(|l| l.strip_prefix(key)?.strip_prefix(':'));
    let kib = line.and_then(|l| l.split_whitespace().next()?.parse().ok());
    kib.unwrap_or(0) * 1024
}

/// Samples a process's own memory. `VmHWM` also counts mapped files: the wal-index and the table of
/// page hashes, which the kernel can write out and drop.
struct Watch {
    pid: u32,
    peak: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    fn start(pid: u32) -> Self {
        let (peak, stop) = (
            Arc::new(AtomicU64::new(0)),
            Arc::new(AtomicBool::new(false)),
        );
        let (of_thread, stopped) = (Arc::clone(&peak), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            while !stopped.load(Relaxed) {
                of_thread.fetch_max(memory(pid, "RssAnon"), Relaxed);
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        Self {
            pid,
            peak,
            stop,
            thread: Some(thread),
        }
    }

    fn assert_bounded(&self, side: &str, when: &str) {
        let (anon, all) = (self.peak.load(Relaxed), memory(self.pid, "VmHWM"));
        eprintln!(
            "{side} {when}: RssAnon peak {} KiB, VmHWM {} KiB",
            anon >> 10,
            all >> 10
        );
        assert!(all > 0 && anon > 0, "the {side} is not there");
        assert!(
            anon <= LIMIT,
            "the {side} used {} MiB of its own",
            anon / MIB
        );
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

/// Like `wait_level`, with the patience that a gigabyte needs; gives the time.
fn wait_level(cluster: &Cluster) -> Duration {
    let began = Instant::now();
    poll_for("level", PATIENCE, || {
        // The primary's answer covers every commit made before: its status may be older.
        let a = position(cluster.primary_addr(), NAME)?;
        let b = position(cluster.replica_addr(), NAME)?;
        if a == b {
            Ok(())
        } else {
            Err(format!("{a} against {b}"))
        }
    })
    .unwrap_or_else(|why| panic!("{why}"));
    began.elapsed()
}

fn grow(conn: &mut Connection, mib: u64) {
    let step = 96;
    let mut left = mib;
    while left > 0 {
        let now = left.min(step);
        let tx = conn.transaction().expect("begin");
        for n in 0..now {
            // One in eight does not shrink: lz4 and the wire shall have work, but not all of the time.
            let what = if n % 8 == 0 { "randomblob" } else { "zeroblob" };
            tx.execute(&format!("INSERT INTO t(data) VALUES({what}({MIB}))"), [])
                .expect("insert");
        }
        tx.commit().expect("commit");
        left -= now;
    }
}

fn large(page_size: u64) {
    let scratch = Scratch::new(&format!("large{page_size}"));
    let mut cluster = Cluster::new(&scratch);
    let mut conn = Connection::open(cluster.primary_db()).expect("open");
    conn.busy_timeout(Duration::from_secs(10))
        .expect("set the busy timeout");
    conn.execute_batch(&format!("PRAGMA page_size = {page_size}"))
        .expect("set the page size");
    conn.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))
        .expect("switch to WAL");
    conn.execute_batch("CREATE TABLE t(id INTEGER PRIMARY KEY, data BLOB)")
        .expect("create");
    // Half of it is there, half comes while the replica follows.
    grow(&mut conn, SIZE_MIB / 2);
    cluster.start_primary();
    let primary = Watch::start(cluster.primary.pid().expect("a process"));
    cluster.start_replica();
    let replica = Watch::start(cluster.replica.pid().expect("a process"));
    let began = Instant::now();
    let step = |what: &str, cluster: &Cluster| {
        let level = wait_level(cluster);
        eprintln!(
            "{page_size}: {what}: level after {level:?}, {:?} in all",
            began.elapsed()
        );
        primary.assert_bounded("primary", what);
        replica.assert_bounded("replica", what);
    };
    step("snapshot", &cluster);
    grow(&mut conn, SIZE_MIB - SIZE_MIB / 2);
    step("growth", &cluster);
    let pages: i64 = conn
        .query_row("PRAGMA page_count", [], |r| r.get(0))
        .expect("count");
    assert!(
        pages.cast_unsigned() * page_size > LOCK_BYTE,
        "not over the lock-byte page"
    );
    let equal = cluster.assert_pages_equal();
    assert_eq!(
        (equal.page_size, equal.pages),
        (page_size, pages.cast_unsigned())
    );
    // One transaction of a gigabyte.
    conn.execute_batch("VACUUM").expect("VACUUM");
    step("VACUUM", &cluster);
    let equal = cluster.assert_pages_equal();
    assert!(
        equal.pages * page_size > LOCK_BYTE,
        "not over the lock-byte page"
    );
    conn.execute_batch("DELETE FROM t")
        .expect("delete everything");
    step("mass delete", &cluster);
    conn.execute_batch("INSERT INTO t(data) VALUES('after')")
        .expect("insert");
    step("the commit after it", &cluster);
    conn.execute_batch("VACUUM").expect("VACUUM");
    step("the last VACUUM", &cluster);
    assert!(cluster.assert_pages_equal().pages < 10);
    assert_eq!(cluster.snapshots(), 1);
}

#[test]
fn over_a_gibibyte_in_little_memory() {
    let page_sizes: &[u64] = if scaled(0, 1) == 1 {
        &[4096, 65536]
    } else {
        &[4096]
    };
    for page_size in page_sizes {
        large(*page_size);
    }
}
