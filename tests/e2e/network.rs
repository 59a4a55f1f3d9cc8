//! The network between primary and replica is cut, stalled, and damages a byte: always detected,
//! never applied, and level again afterwards.

use crate::support::checker::Required;
use crate::support::child::Spec;
use crate::support::cluster::Cluster;
use crate::support::load::Load;
use crate::support::rng::Rng;
use crate::support::{Scratch, deadline, scaled, wait_for};

/// What of random bytes certainly passes in a snapshot of `BIG_MB`.
const SNAPSHOT_BYTES: u64 = BIG_MB << 20;
const BIG_MB: u64 = 16;

fn readers(cluster: &Cluster, load: &mut Load) {
    let replica = cluster.replica_db().to_owned();
    for mode in ["short", "long", "readonly"] {
        load.add_reader(&replica, mode, Spec::default().with("wait_first", 1));
    }
}

/// A database of `BIG_MB` that lz4 cannot shrink; its writer has ended.
fn big_database(scratch: &Scratch, cluster: &Cluster, seed: u64) -> Load {
    let options = Spec::default()
        .with("seed", seed)
        .with("mix", "big")
        .with("big_mb", BIG_MB)
        .with("commits", 2);
    let mut load = Load::new(scratch.path(), cluster.primary_db(), options);
    load.start_writer();
    load.finish_writer(deadline());
    load
}

fn wait_count(what: &str, count: impl Fn() -> u64, goal: u64) {
    wait_for(what, || match count() {
        n if n >= goal => Ok(()),
        n => Err(format!("{n} of {goal}")),
    });
}

fn end(mut cluster: Cluster, mut load: Load, commits: u64) {
    let version = load.version();
    cluster.assert_equal(version);
    load.wait_reads(5);
    load.stop_readers();
    load.assert_right(&Required::new(commits, 5, 1));
}

#[test]
fn cut_in_the_middle_of_a_snapshot() {
    let seed = Rng::seed_for("cut snapshot", 301);
    let mut rng = Rng::new(seed);
    let scratch = Scratch::new("cut-snapshot");
    let mut cluster = Cluster::new(&scratch);
    let mut load = big_database(&scratch, &cluster, seed);
    readers(&cluster, &mut load);
    cluster.start_primary();
    let cuts = scaled(5, 20);
    // Together less than one snapshot, should a replica go on where it was.
    let most = SNAPSHOT_BYTES / (cuts + 1);
    let pieces = (0..cuts).map(|_| rng.between(1, most)).collect();
    cluster.proxy.cut_after_each(pieces);
    cluster.start_replica();
    wait_count("the cuts", || cluster.proxy.cuts(), cuts);
    end(cluster, load, 2);
}

#[test]
fn a_byte_damaged_in_a_snapshot() {
    let seed = Rng::seed_for("flip snapshot", 302);
    let mut rng = Rng::new(seed);
    let scratch = Scratch::new("flip-snapshot");
    let mut cluster = Cluster::new(&scratch);
    let mut load = big_database(&scratch, &cluster, seed);
    readers(&cluster, &mut load);
    cluster.start_primary();
    // Late enough to be in the pages, not in the first messages.
    cluster
        .proxy
        .flip_after(rng.between(1 << 20, SNAPSHOT_BYTES / 2));
    cluster.start_replica();
    wait_count("the flip", || cluster.proxy.flips(), 1);
    end(cluster, load, 2);
}

/// A cluster that streams, under a writer that goes on.
fn streaming(scratch: &Scratch, seed: u64) -> (Cluster, Load) {
    let mut cluster = Cluster::new(scratch);
    let options = Spec::default()
        .with("seed", seed)
        .with("blob_kb", 512)
        .with("max_mb", 8)
        .with("rate", 300);
    let mut load = Load::replicated(scratch.path(), &mut cluster, options, 5);
    readers(&cluster, &mut load);
    (cluster, load)
}

#[test]
fn cut_and_refused_in_the_middle_of_chunks() {
    let seed = Rng::seed_for("cut stream", 303);
    let mut rng = Rng::new(seed);
    let scratch = Scratch::new("cut-stream");
    let (mut cluster, mut load) = streaming(&scratch, seed);
    for n in 1..=scaled(10, 100) {
        cluster.proxy.cut_after(rng.below(200_000));
        wait_count("the cut", || cluster.proxy.cuts(), n);
        if rng.one_in(3) {
            cluster.proxy.refuse(true);
            load.wait_commits(20);
            cluster.proxy.refuse(false);
        }
        cluster.wait_version(load.version());
    }
    load.stop_writer();
    assert_eq!(cluster.snapshots(), 1, "each resume was inside the log");
    end(cluster, load, scaled(10, 100));
}

#[test]
fn bytes_damaged_in_the_stream() {
    let seed = Rng::seed_for("flip stream", 304);
    let mut rng = Rng::new(seed);
    let scratch = Scratch::new("flip-stream");
    let (mut cluster, mut load) = streaming(&scratch, seed);
    for n in 1..=scaled(10, 100) {
        cluster.proxy.flip_after(rng.below(200_000));
        wait_count("the flip", || cluster.proxy.flips(), n);
        load.wait_commits(20);
        cluster.wait_version(load.version());
    }
    load.stop_writer();
    end(cluster, load, scaled(10, 100));
}

#[test]
fn a_route_that_stalls_and_comes_back() {
    let seed = Rng::seed_for("stall", 305);
    let scratch = Scratch::new("stall");
    let (mut cluster, mut load) = streaming(&scratch, seed);
    for _ in 0..scaled(3, 10) {
        cluster.proxy.stall(true);
        // The primary must not wait for a replica that takes nothing.
        load.wait_commits(300);
        cluster.proxy.stall(false);
        cluster.wait_version(load.version());
    }
    load.stop_writer();
    end(cluster, load, 600);
}
