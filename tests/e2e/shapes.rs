//! Databases of every shape: page sizes, one page, none, not there yet, not in WAL mode yet.

use rusqlite::Connection;

use crate::support::checker::Required;
use crate::support::child::Spec;
use crate::support::cluster::Cluster;
use crate::support::compare::query;
use crate::support::load::Load;
use crate::support::rng::Rng;
use crate::support::{Scratch, scaled, wait_for};

/// Load through a whole life with these options of the writer; equal at the end.
fn replicate(mut cluster: Cluster, scratch: &Scratch, options: Spec) -> u64 {
    let options = options.with("blob_kb", 256).with("max_mb", 4);
    let mut load = Load::new(scratch.path(), cluster.primary_db(), options);
    let replica = cluster.replica_db().to_owned();
    for mode in ["short", "reconnect"] {
        load.add_reader(&replica, mode, Spec::default().with("wait_first", 1));
    }
    load.start_writer();
    let commits = scaled(150, 3000);
    load.wait_commits(commits);
    load.wait_reads(5);
    let report = load.stop_writer();
    let equal = cluster.assert_equal(report.or("version", 0));
    load.stop_readers();
    load.assert_right(&Required::new(commits, 5, 1));
    equal.page_size
}

fn started(scratch: &Scratch) -> Cluster {
    let mut cluster = Cluster::new(scratch);
    cluster.start_primary();
    cluster.start_replica();
    cluster
}

#[test]
fn every_page_size() {
    let seed = Rng::seed_for("page sizes", 401);
    for shift in 9..=16 {
        let page_size = 1u64 << shift;
        let scratch = Scratch::new(&format!("page{page_size}"));
        let options = Spec::default()
            .with("seed", seed)
            .with("page_size", page_size);
        assert_eq!(replicate(started(&scratch), &scratch, options), page_size);
    }
}

#[test]
fn auto_vacuum_full_and_incremental() {
    let seed = Rng::seed_for("auto_vacuum", 402);
    for auto_vacuum in [1, 2] {
        let scratch = Scratch::new(&format!("vacuum{auto_vacuum}"));
        let options = Spec::default()
            .with("seed", seed)
            .with("auto_vacuum", auto_vacuum)
            .with(
                "mix",
                "one:20,grow:4,shrink:4,massdel:2,blob:5,vacuum:5,ckpt:3",
            );
        replicate(started(&scratch), &scratch, options);
    }
}

#[test]
fn a_database_of_one_page_that_grows() {
    let scratch = Scratch::new("onepage");
    let mut cluster = Cluster::new(&scratch);
    let conn = Connection::open(cluster.primary_db()).expect("open");
    let mode: String = conn
        .query_row("PRAGMA journal_mode = WAL", [], |r| r.get(0))
        .expect("switch to WAL");
    assert_eq!(mode, "wal");
    drop(conn);
    cluster.start_primary();
    cluster.start_replica();
    wait_for("the replica's file", || {
        query(scratch.path(), cluster.replica_db(), "PRAGMA page_count")
            .and_then(|n| if n == "1" { Ok(()) } else { Err(n) })
    });
    cluster.wait_level();
    assert_eq!(cluster.assert_pages_equal().pages, 1);
    replicate(cluster, &scratch, Spec::default());
}

#[test]
fn a_database_that_does_not_exist_yet() {
    let scratch = Scratch::new("notyet");
    let cluster = started(&scratch);
    assert!(
        !cluster.primary_db().exists(),
        "walcast made the application's file"
    );
    assert!(
        !cluster.replica_db().exists(),
        "an empty replica takes local writes"
    );
    replicate(cluster, &scratch, Spec::default());
}

#[test]
fn a_database_of_no_pages() {
    let scratch = Scratch::new("empty");
    let mut cluster = Cluster::new(&scratch);
    std::fs::File::create(cluster.primary_db()).expect("create");
    cluster.start_primary();
    cluster.start_replica();
    assert!(
        !cluster.replica_db().exists(),
        "an empty replica takes local writes"
    );
    replicate(cluster, &scratch, Spec::default());
}

#[test]
fn a_database_that_is_not_in_wal_mode_yet() {
    let scratch = Scratch::new("notwal");
    let mut cluster = Cluster::new(&scratch);
    let conn = Connection::open(cluster.primary_db()).expect("open");
    conn.execute_batch("CREATE TABLE before(x); INSERT INTO before VALUES(1)")
        .expect("create");
    drop(conn);
    cluster.start_primary();
    cluster.start_replica();
    wait_for("the line that says how to switch", || {
        match cluster.primary.count_in_logs("journal_mode") {
            0 => Err(cluster.primary.log()),
            _ => Ok(()),
        }
    });
    let mode = query(scratch.path(), cluster.primary_db(), "PRAGMA journal_mode").expect("query");
    assert_eq!(mode, "delete", "it must be left as it is");
    // The writer switches, as the line says.
    replicate(cluster, &scratch, Spec::default());
}
