//! Whoever writes to a replica's file: refused, or found and healed; and allowed after a detach.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use rusqlite::Connection;

use crate::heal::{HEALS, Scene};
use crate::support::checker::Required;
use crate::support::cli::{on, wait_status, walcast};
use crate::support::cluster::NAME;
use crate::support::compare::query;
use crate::support::foreign::publish_header;
use crate::support::{shadow, wait_for};

#[test]
fn a_local_write_while_walcast_is_down() {
    let mut scene = Scene::new("heal-write", 908, false);
    scene.readers();
    let replica = scene.cluster.replica_db().to_owned();
    scene.stop_replica();
    let dir = scene.scratch.path();
    let sql = "PRAGMA wal_checkpoint(PASSIVE)";
    let mode = wait_for("the mark taken off", || {
        query(dir, &replica, sql)?;
        let file = File::options()
            .write(true)
            .open(&replica)
            .map_err(|e| e.to_string())?;
        file.write_all_at(&[2], 18).map_err(|e| e.to_string())?;
        query(
            dir,
            &replica,
            "INSERT INTO ballast VALUES(2, 'local') RETURNING id",
        )
    });
    assert_eq!(mode, "2");
    // Slow enough for a look at the status between what was found and what heals it.
    scene.cluster.proxy.delay(Duration::from_millis(100));
    scene.cluster.start_replica();
    let reason = wait_status(
        scene.cluster.replica_addr(),
        "the local write in the status",
        |_, reason| {
            reason.contains("the checksum of the database would be")
                || reason.contains("is not at its recorded position")
        },
    );
    eprintln!("{reason}");
    scene.cluster.proxy.delay(Duration::ZERO);
    scene.named(HEALS);
    scene.cluster.wait_version(scene.load.version());
    let left = query(
        scene.scratch.path(),
        &replica,
        "SELECT count(*) FROM ballast WHERE id = 2",
    );
    assert_eq!(left.as_deref(), Ok("0"));
    assert_eq!(scene.finish(), 2);
}

#[test]
fn a_header_that_somebody_else_published_while_walcast_runs() {
    let mut scene = Scene::new("heal-header", 910, false);
    scene.readers();
    scene.load.stop_writer();
    scene.cluster.wait_level();
    publish_header(scene.cluster.replica_db());
    scene.write_ballast("anything");
    scene.cluster.wait_level();
    scene.named("was changed by another program");
    scene.load.start_writer();
    // Nothing but the header was changed, and what is there is proven: no snapshot.
    assert_eq!(scene.finish(), 1);
}

/// `SQLITE_DBCONFIG_RESET_DATABASE` makes an empty database of it, and takes the mark off.
#[test]
fn a_database_that_was_reset_while_walcast_is_down() {
    let mut scene = Scene::new("heal-reset", 909, false);
    let replica = scene.cluster.replica_db().to_owned();
    scene.stop_replica();
    let conn = Connection::open(&replica).expect("open");
    let reset = rusqlite::config::DbConfig::SQLITE_DBCONFIG_RESET_DATABASE;
    conn.set_db_config(reset, true).expect("reset");
    conn.execute_batch("VACUUM").expect("reset");
    conn.set_db_config(reset, false).expect("reset");
    conn.execute_batch("CREATE TABLE mine(x); INSERT INTO mine VALUES(1)")
        .expect("write");
    drop(conn);
    scene.cluster.start_replica();
    scene.cluster.wait_version(scene.load.version());
    scene.readers();
    assert_eq!(scene.finish(), 2);
}

#[test]
fn ordinary_writes_are_refused() {
    let mut scene = Scene::new("heal-refused", 910, false);
    scene.readers();
    let replica = scene.cluster.replica_db().to_owned();
    let refused = |scene: &Scene| {
        for sql in [
            "INSERT INTO ballast VALUES(3, 'mine') RETURNING id",
            "UPDATE meta SET version = 0 RETURNING version",
            "DELETE FROM acct RETURNING id",
            "CREATE TABLE mine(x)",
            "PRAGMA user_version = 7",
            "VACUUM",
        ] {
            let said = query(scene.scratch.path(), &replica, sql).expect_err(sql);
            assert!(
                said.contains("attempt to write a readonly database"),
                "{sql}: {said}"
            );
        }
    };
    refused(&scene);
    scene.cluster.replica.kill9();
    refused(&scene);
    scene.cluster.start_replica();
    assert_eq!(scene.finish(), 1);
}

/// What is left after a detach.
fn assert_ordinary(scene: &mut Scene) {
    let replica = scene.cluster.replica_db().to_owned();
    assert!(
        !shadow::directory(&replica).exists(),
        "walcast's files are left"
    );
    let dir = scene.scratch.path();
    for (sql, answer) in [
        ("INSERT INTO ballast VALUES(4, 'mine') RETURNING id", "4"),
        ("PRAGMA integrity_check", "ok"),
        ("PRAGMA journal_mode", "wal"),
    ] {
        assert_eq!(query(dir, &replica, sql).as_deref(), Ok(answer), "{sql}");
    }
    // Readers went through it, and are still there.
    scene.load.wait_logged('r', 3);
    scene.load.stop_readers();
    scene.load.assert_right(&Required::new(20, 5, 1));
}

#[test]
fn detached_by_the_running_replica() {
    let mut scene = Scene::new("detach-rpc", 911, false);
    scene.readers();
    let report = scene.load.stop_writer();
    scene.cluster.assert_equal(report.or("version", 0));
    let position = scene.cluster.wait_level();
    let said = on(scene.cluster.replica_addr(), "detach", NAME);
    assert!(said.contains(&position), "{said}");
    assert_ordinary(&mut scene);
    assert!(scene.cluster.replica.terminate().success());
}

#[test]
fn detached_without_a_running_replica() {
    let mut scene = Scene::new("detach-offline", 912, false);
    scene.readers();
    let report = scene.load.stop_writer();
    scene.cluster.assert_equal(report.or("version", 0));
    let position = scene.cluster.wait_level();
    let path = scene.cluster.replica_db().display().to_string();
    let held = walcast(&["detach", "--db", &path]);
    assert_eq!(held.code, Some(5), "a running walcast has it: {held:?}");
    scene.stop_replica();
    let said = walcast(&["detach", "--db", &path]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.stdout.contains(&position), "{said:?}");
    assert_ordinary(&mut scene);
    let again = walcast(&["detach", "--db", &path]);
    assert_eq!(again.code, Some(5), "nothing is left to detach: {again:?}");
}
