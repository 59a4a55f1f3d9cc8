//! Readers of a replica, in other processes, see only what the primary committed, in order.

use crate::support::checker::Required;
use crate::support::child::Spec;
use crate::support::cluster::Cluster;
use crate::support::load::Load;
use crate::support::rng::Rng;
use crate::support::{Scratch, scaled};

/// What a writer beside walcast must not meet, with a busy timeout of 1 s.
fn assert_undisturbed(report: &Spec) {
    let busy: Vec<_> = report.prefixed("busy.").collect();
    assert!(busy.is_empty(), "the application met {busy:?}");
    let mut checkpoints = report.prefixed("ckpt.");
    let refused = checkpoints.find(|(key, _)| key.ends_with(".busy"));
    assert_eq!(refused, None, "a checkpoint of the application was refused");
}

#[test]
fn readers_see_committed_states_in_order_under_the_full_mix() {
    let scratch = Scratch::new("readers");
    let seed = Rng::seed_for("readers", 101);
    let mut cluster = Cluster::new(&scratch);
    let options = Spec::default().with("seed", seed);
    let mut load = Load::new(scratch.path(), cluster.primary_db(), options);
    // The application is there first, and writes while everything else comes.
    load.start_writer();
    load.wait_commits(20);
    load.add_readers(cluster.replica_db(), &Spec::default().with("wait_first", 1));
    cluster.start_primary();
    cluster.start_replica();
    let commits = scaled(1500, 50_000);
    load.wait_commits(commits);
    let reads = scaled(30, 1000);
    load.wait_reads(usize::try_from(reads).expect("a count fits a usize"));
    let report = load.stop_writer();
    cluster.assert_equal(report.or("version", 0));
    load.stop_readers();
    load.assert_right(&Required::new(commits, reads, scaled(10, 300)));
    assert_undisturbed(&report);
    assert_eq!(cluster.snapshots(), 1, "one replica, one snapshot");
}

#[test]
fn a_transaction_of_many_megabytes_becomes_visible_whole() {
    let scratch = Scratch::new("bigtx");
    let seed = Rng::seed_for("big transactions", 102);
    let mut cluster = Cluster::new(&scratch);
    let options = Spec::default()
        .with("seed", seed)
        .with("mix", "big:2,massdel:2,vacuum:1,one:5")
        .with("big_mb", scaled(16, 100));
    let mut load = Load::new(scratch.path(), cluster.primary_db(), options);
    load.start_writer();
    load.wait_commits(1);
    load.add_readers(
        cluster.replica_db(),
        &Spec::default()
            .with("wait_first", 1)
            .with("quick_every", 10),
    );
    cluster.start_primary();
    cluster.start_replica();
    load.wait_commits(scaled(30, 200));
    load.wait_reads(5);
    let report = load.stop_writer();
    cluster.assert_equal(report.or("version", 0));
    load.stop_readers();
    load.assert_right(&Required::new(scaled(30, 200), 5, 2));
}
