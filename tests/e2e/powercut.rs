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

fn copy_directory(from: &Path, to: &Path) {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(status.expect("run cp").success(), "cp {}", from.display());
}

/// A power cut at `synchronous=NORMAL` takes back commits that the replica has; `again` other ones
/// are made at the same places before walcast is back. `whole`: the shadow WAL is as old as the log then, so nothing on the
/// primary's disk tells that there was more.
fn power_cut(name: &str, again: u32, whole: bool) {
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
    copy_directory(&beside(&db, "-walcast"), &beside(&saved, "-walcast"));
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
    if whole {
        std::fs::remove_dir_all(beside(&db, "-walcast")).expect("remove the shadow WAL");
        copy_directory(&beside(&saved, "-walcast"), &beside(&db, "-walcast"));
    }
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
    assert_eq!(cluster.snapshots(), 2, "the replica was ahead");
    let healed = cluster.replica.count_in_logs("a snapshot heals it");
    assert_eq!(healed, 0, "it was told before it applied anything");
    if whole {
        assert_eq!(generation(&cluster), before, "nobody knows better");
        return;
    }
    assert_ne!(generation(&cluster), before, "another history");
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
    power_cut("powercut", 0, false);
}

#[test]
fn a_power_cut_and_other_commits_at_the_same_places() {
    power_cut("powercut-again", 30, false);
}

#[test]
fn a_power_cut_takes_both_logs_back() {
    power_cut("powercut-whole", 0, true);
}

#[test]
fn a_power_cut_takes_both_logs_back_and_other_commits_at_the_same_places() {
    power_cut("powercut-whole-again", 30, true);
}
