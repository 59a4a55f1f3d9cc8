//! The application on the primary is not disturbed, and every commit of its is in the log.

use crate::support::checker::Required;
use crate::support::child::Spec;
use crate::support::cluster::Cluster;
use crate::support::load::Load;
use crate::support::rng::Rng;
use crate::support::{Scratch, scaled, shadow, wait_for};

/// Commits with no patience at all, and the application's own PASSIVE checkpoints.
fn captured_without_a_busy(autocheckpoint: u64) {
    let seed = Rng::seed_for("capture", 500 + autocheckpoint);
    let scratch = Scratch::new("capture");
    let mut cluster = Cluster::new(&scratch);
    let commits = scaled(10_000, 500_000);
    let options = Spec::default()
        .with("seed", seed)
        .with("mix", "one")
        .with("busy_timeout", 0)
        .with("autocheckpoint", autocheckpoint)
        .with("rows", 2000);
    let mut load = Load::new(scratch.path(), cluster.primary_db(), options);
    load.start_writer();
    load.wait_commits(1);
    cluster.start_primary();
    cluster.start_replica();
    cluster.wait_version(1);
    let first = load.version();
    let mut done = 0;
    // In steps, so that each has the usual deadline.
    while done < commits {
        load.wait_commits(1000);
        done += 1000;
    }
    let report = load.stop_writer();
    let busy: Vec<_> = report.prefixed("busy.").collect();
    assert!(busy.is_empty(), "the application met {busy:?}");
    cluster.assert_equal(report.or("version", 0));
    load.assert_right(&Required::new(commits, 0, 0));
    // The files are whole once the primary has ended.
    assert!(cluster.primary.terminate().success());
    let dir = shadow::directory(cluster.primary_db());
    let log = wait_for("a readable shadow WAL", || {
        shadow::read(&dir, &scratch.join("index-wal"))
    });
    assert_eq!(log.generations, 1, "the hold was never broken");
    let oldest = log.first_version().expect("a version in the log");
    let missing = log.missing(&load.read_history(), oldest.max(first));
    assert!(missing.is_empty(), "not captured: {missing:?}");
    eprintln!(
        "{} commits in {} indexes and {} files, oldest kept version {oldest}",
        log.commits, log.indexes, log.files
    );
}

#[test]
fn every_commit_at_autocheckpoint_1() {
    captured_without_a_busy(1);
}

#[test]
fn every_commit_at_autocheckpoint_1000() {
    captured_without_a_busy(1000);
}
