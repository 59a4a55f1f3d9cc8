//! Quiet moments: level without a commit, one's own writes read, and clean ends and starts.

use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::support::checker::Required;
use crate::support::child::Spec;
use crate::support::cli::{field, status, wait_status, walcast};
use crate::support::cluster::{Cluster, NAME};
use crate::support::compare::query;
use crate::support::load::Load;
use crate::support::proc::position;
use crate::support::rng::Rng;
use crate::support::{Scratch, scaled, shadow, wait_for};

/// A primary with a table of numbers, and the application's connection.
fn quiet(scratch: &Scratch) -> (Cluster, Connection) {
    let mut cluster = Cluster::new(scratch);
    let conn = Connection::open(cluster.primary_db()).expect("open");
    conn.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))
        .expect("switch to WAL");
    conn.execute_batch("CREATE TABLE t(n INTEGER PRIMARY KEY); INSERT INTO t VALUES(0)")
        .expect("create");
    cluster.start_primary();
    (cluster, conn)
}

fn insert(conn: &Connection, n: u64) {
    conn.execute("INSERT INTO t VALUES(?1)", [n.cast_signed()])
        .expect("insert");
}

#[test]
fn level_with_an_idle_primary_without_a_commit() {
    let scratch = Scratch::new("idle");
    let (mut cluster, conn) = quiet(&scratch);
    let streaming = |cluster: &Cluster| {
        wait_status(cluster.replica_addr(), "streaming", |state, _| {
            state == "streaming"
        })
    };
    cluster.start_replica();
    streaming(&cluster);
    cluster.wait_level();
    // Resumed, with something to catch up and nothing after it; and with nothing at all.
    for n in [1, 2, 0] {
        if n % 2 == 0 {
            cluster.replica.kill9();
        } else {
            assert!(cluster.replica.terminate().success());
        }
        if n > 0 {
            insert(&conn, n);
        }
        cluster.start_replica();
        streaming(&cluster);
        let at = position(cluster.primary_addr(), NAME).expect("the primary's position");
        let here = position(cluster.replica_addr(), NAME).expect("the replica's position");
        if n == 0 {
            assert_eq!(here, at, "streaming means level");
        }
        cluster.wait_level();
        cluster.assert_pages_equal();
    }
    assert_eq!(cluster.snapshots(), 1);
}

#[test]
fn ones_own_writes_are_read() {
    let scratch = Scratch::new("own-writes");
    let (mut cluster, conn) = quiet(&scratch);
    cluster.start_replica();
    cluster.wait_level();
    let reader = Connection::open(cluster.replica_db()).expect("open the replica");
    let url = format!("http://{}", cluster.replica_addr());
    let wait = |at: &str, patience: &str| {
        walcast(&[
            "wait",
            "--server",
            &url,
            "--db",
            NAME,
            "--position",
            at,
            "--max-wait",
            patience,
        ])
    };
    let times = scaled(40, 1000);
    for n in 1..=times {
        insert(&conn, n);
        let at = position(cluster.primary_addr(), NAME).expect("a position that covers the commit");
        let said = wait(&at, "30s");
        assert_eq!(said.code, Some(0), "{said:?}");
        let seen: i64 = reader
            .query_row("SELECT max(n) FROM t", [], |r| r.get(0))
            .expect("read");
        assert_eq!(seen.cast_unsigned(), n, "one's own write");
    }
    let at = position(cluster.primary_addr(), NAME).expect("a position");
    let (generation, _) = at.split_once('/').expect("a generation");
    let began = Instant::now();
    let said = wait(
        &format!("{generation}/00000000ffffffff:0000000000001000"),
        "500ms",
    );
    assert_eq!(said.code, Some(4), "not reached: {said:?}");
    assert_eq!(said.stdout.trim(), at, "the current position is the answer");
    assert!(began.elapsed() >= Duration::from_millis(500));
    let said = wait("0000000000000001/0000000000000000:0000000000001000", "30s");
    assert_eq!(said.code, Some(5), "another generation: {said:?}");
}

/// A cluster under load with readers.
fn loaded(scratch: &Scratch, name: &str, seed: u64) -> (Cluster, Load) {
    let mut cluster = Cluster::new(scratch);
    let options = Spec::default()
        .with("seed", Rng::seed_for(name, seed))
        .with("blob_kb", 128)
        .with("max_mb", 2);
    let mut load = Load::replicated(scratch.path(), &mut cluster, options, 20);
    let replica = cluster.replica_db().to_owned();
    for mode in ["short", "long"] {
        load.add_reader(&replica, mode, Spec::default());
    }
    load.wait_logged('r', 3);
    (cluster, load)
}

#[test]
fn a_primary_that_ends_brings_its_replica_to_the_last_position() {
    let scratch = Scratch::new("drain");
    let (mut cluster, mut load) = loaded(&scratch, "drain", 1001);
    for round in 0..scaled(3, 20) {
        load.wait_commits(100);
        let committed = load.version();
        let status = cluster.primary.terminate();
        assert_eq!(
            status.code(),
            Some(0),
            "round {round}:\n{}",
            cluster.primary.log()
        );
        // The primary is gone: what the replica does not have now, it does not get.
        let sql = "SELECT version FROM meta WHERE id = 1";
        let seen = query(scratch.path(), cluster.replica_db(), sql).expect("read the replica");
        let seen: u64 = seen.parse().expect("a version");
        assert!(
            seen >= committed,
            "version {seen}, but {committed} was committed before the end"
        );
        let reason = wait_status(
            cluster.replica_addr(),
            "why it is behind",
            |state, reason| state == "disconnected" && !reason.is_empty(),
        );
        eprintln!("{reason}");
        cluster.start_primary();
        wait_status(
            cluster.replica_addr(),
            "streaming again",
            |state, reason| state == "streaming" && reason.is_empty(),
        );
        cluster.wait_version(load.version());
    }
    let report = load.stop_writer();
    cluster.assert_equal(report.or("version", 0));
    // At rest the last position is known, and both have it.
    assert_eq!(cluster.primary.terminate().code(), Some(0));
    let file =
        |db| std::fs::read_to_string(shadow::directory(db).join("position")).expect("a position");
    let (primary_db, replica_db) = (
        cluster.primary_db().to_owned(),
        cluster.replica_db().to_owned(),
    );
    let last = file(&primary_db);
    let here = position(cluster.replica_addr(), NAME).expect("the replica's position");
    assert_eq!(here, last.trim());
    assert_eq!(cluster.replica.terminate().code(), Some(0));
    assert_eq!(file(&replica_db), last, "durable at a clean end");
    load.stop_readers();
    load.assert_right(&Required::new(300, 5, 2));
}

#[test]
fn a_replica_that_ends_and_comes_back() {
    let scratch = Scratch::new("replica-ends");
    let (mut cluster, mut load) = loaded(&scratch, "replica-ends", 1002);
    for _ in 0..scaled(3, 20) {
        load.wait_commits(50);
        assert_eq!(
            cluster.replica.terminate().code(),
            Some(0),
            "{}",
            cluster.replica.log()
        );
        let primary = cluster.primary_addr();
        let of_replica = |state: &'static str| {
            wait_for(
                &format!("a {state} replica in the primary's status"),
                || {
                    let json = status(primary)?;
                    let (_, replicas) = json.split_once("\"replicas\":").ok_or("no replicas")?;
                    let now = field(replicas, "state");
                    if now == state {
                        Ok(field(replicas, "reason"))
                    } else {
                        Err(now)
                    }
                },
            )
        };
        let reason = of_replica("disconnected");
        assert!(!reason.is_empty(), "no reason");
        load.wait_commits(50);
        cluster.start_replica();
        assert_eq!(of_replica("streaming"), "");
        cluster.wait_version(load.version());
    }
    let report = load.stop_writer();
    cluster.assert_equal(report.or("version", 0));
    load.stop_readers();
    load.assert_right(&Required::new(300, 5, 2));
    assert_eq!(cluster.snapshots(), 1, "the log had every position");
}
