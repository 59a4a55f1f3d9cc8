//! A committed frame that no checksum covers, as SQLite 3.40 leaves it where a transaction rolls back to a savepoint after its
//! pages were spilled into the log. Readers of the primary see nothing of it; walcast cannot capture that log, and must not
//! keep the application from beginning another.

use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::changes::{NEW_GENERATION, beside, connect, pragma};
use crate::support::cli::wait_status;
use crate::support::cluster::Cluster;
use crate::support::compare::query;
use crate::support::walfile;
use crate::support::{Scratch, wait_for};

/// Takes salts and checksum away from the last committed frame.
fn forge(db: &Path) {
    let mut options = std::fs::File::options();
    let log = options.read(true).write(true).open(beside(db, "-wal"));
    let log = log.expect("open the log");
    let wal = walfile::read(&log, u32::MAX).expect("read").expect("a log");
    let frame = walfile::FRAME_HEADER + u64::from(wal.page_size);
    let at = walfile::HEADER + u64::from(wal.frames - 1) * frame;
    log.write_all_at(&[0; 16], at + 8).expect("forge");
}

fn waited_out(checkpoint: &str) {
    let scratch = Scratch::new("unsound");
    let mut cluster = Cluster::new(&scratch);
    let db = cluster.primary_db().to_owned();
    let replica = cluster.replica_db().to_owned();
    let conn = connect(&db);
    assert_eq!(pragma(&conn, "journal_mode = WAL").expect("switch"), "wal");
    conn.execute_batch("PRAGMA wal_autocheckpoint = 0")
        .expect("no checkpoint");
    let mut rows = 0;
    let mut commit = |many: u64| {
        for _ in 0..many {
            conn.execute_batch("INSERT INTO t VALUES(randomblob(3000))")
                .expect("commit");
        }
        rows += many;
        rows
    };
    let arrive = |cluster: &Cluster, rows: u64| {
        wait_for(&format!("{rows} rows on the replica"), || {
            match query(scratch.path(), &replica, "SELECT count(*) FROM t")? {
                now if now == rows.to_string() => Ok(()),
                now => Err(now),
            }
        });
        cluster.wait_level();
    };
    conn.execute_batch("CREATE TABLE t(b)").expect("create");
    let now = commit(10);
    cluster.start_primary();
    cluster.start_replica();
    arrive(&cluster, now);
    assert!(cluster.primary.terminate().success());
    commit(5);
    forge(&db);
    commit(5);
    cluster.start_primary();
    let addr = cluster.primary_addr();
    wait_status(addr, "the frame in the status", |state, reason| {
        state == "waiting" && reason.contains("frame") && reason.contains("no checksum covers")
    });
    commit(5);
    let busy: i64 = conn
        .query_row(&format!("PRAGMA wal_checkpoint({checkpoint})"), [], |r| {
            r.get(0)
        })
        .expect("checkpoint");
    assert_eq!(busy, 0, "nothing is held: {checkpoint} has its way");
    // At once if the log is empty; else although the log is still the same, since all of it is in the file.
    let now = commit(0);
    arrive(&cluster, now);
    // This one begins the log anew, and is captured as ever.
    let now = commit(20);
    arrive(&cluster, now);
    cluster.assert_pages_equal();
    assert_eq!(cluster.primary.count_in_logs(NEW_GENERATION), 1);
    assert_eq!(cluster.snapshots(), 2);
}

#[test]
fn a_log_that_no_checksum_covers_is_passed_over_once_it_is_copied() {
    waited_out("PASSIVE");
}

#[test]
fn a_log_that_no_checksum_covers_may_be_emptied() {
    waited_out("TRUNCATE");
}
