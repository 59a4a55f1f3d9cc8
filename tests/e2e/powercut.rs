//! A power cut at the primary: its database is an older one than what was captured and sent.

use std::path::Path;
use std::process::Command;

use rusqlite::Connection;
use rusqlite::config::DbConfig;

use crate::changes::{NEW_GENERATION, beside, connect, generation, pragma, remove_with_log};
use crate::support::cluster::Cluster;
use crate::support::compare::query;
use crate::support::{Scratch, wait_for};

/// By another process: closing a descriptor here would drop the locks of our own connections.
fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp")
        .arg(from)
        .arg(to)
        .status()
        .expect("run cp");
    assert!(status.success(), "cp {} {}", from.display(), to.display());
}

/// A power cut at `synchronous=NORMAL` takes back commits that the replica has; `again` other ones
/// are made at the same places before walcast is back.
fn power_cut(name: &str, again: u32) {
    let scratch = Scratch::new(name);
    let mut cluster = Cluster::new(&scratch);
    let db = cluster.primary_db().to_owned();
    let open = || {
        let conn = connect(&db);
        conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)
            .expect("keep the log");
        assert_eq!(pragma(&conn, "journal_mode = WAL").expect("switch"), "wal");
        conn.execute_batch("PRAGMA wal_autocheckpoint = 0")
            .expect("no checkpoint");
        conn
    };
    let insert = |conn: &Connection, text: &str, times: u32| {
        for _ in 0..times {
            conn.execute("INSERT INTO t VALUES(?1)", [text])
                .expect("insert");
        }
    };
    let conn = open();
    conn.execute_batch("CREATE TABLE t(x)").expect("create");
    insert(&conn, "kept", 10);
    cluster.start_primary();
    cluster.start_replica();
    cluster.wait_level();
    let saved = scratch.join("saved.db");
    copy(&db, &saved);
    copy(&beside(&db, "-wal"), &beside(&saved, "-wal"));
    insert(&conn, "lost", 20);
    cluster.wait_level();
    let replica = cluster.replica_db().to_owned();
    let lost = "SELECT count(*) FROM t WHERE x = 'lost'";
    assert_eq!(query(scratch.path(), &replica, lost).as_deref(), Ok("20"));
    let before = generation(&cluster);
    cluster.primary.kill9();
    drop(conn);
    remove_with_log(&db);
    copy(&saved, &db);
    copy(&beside(&saved, "-wal"), &beside(&db, "-wal"));
    let conn = open();
    insert(&conn, "other", again);
    cluster.start_primary();
    wait_for("the lost commits to go", || {
        let left = query(scratch.path(), &replica, lost)?;
        if left == "0" { Ok(()) } else { Err(left) }
    });
    insert(&conn, "after", 5);
    cluster.wait_level();
    cluster.assert_pages_equal();
    assert_ne!(generation(&cluster), before, "another history");
    assert_eq!(cluster.snapshots(), 2, "the replica was ahead");
    let log = cluster.primary.log();
    let why = log
        .lines()
        .find(|l| l.contains(NEW_GENERATION))
        .expect("the reason in the log");
    eprintln!("{why}");
    assert!(why.contains("power cut"), "{why}");
}

#[test]
fn a_power_cut_takes_back_commits() {
    power_cut("powercut", 0);
}

#[test]
fn a_power_cut_and_other_commits_at_the_same_places() {
    power_cut("powercut-again", 30);
}
