//! `kill -9` in named phases: the process kills itself at a disk operation or at a point between two of them, chosen by
//! `WALCAST_FAULTS`. The counts of each phase are printed; a phase that was not met fails the test.

use std::collections::BTreeMap;

use crate::support::child::Spec;
use crate::support::cluster::Cluster;
use crate::support::load::Load;
use crate::support::rng::Rng;
use crate::support::scene::Scene;
use crate::support::{Scratch, scaled};

/// Where a replica that streams is killed, and at which meeting at most: phases that come once need 1.
const REPLICA_PHASES: [(&str, u64); 15] = [
    ("wal.append", 60),
    ("apply.noted", 60),
    ("apply.written", 60),
    ("publish.between-copies", 60),
    ("apply.published", 60),
    ("applied.write", 60),
    ("wal.sync-header", 2),
    ("restart.sync-db", 2),
    ("restart.between", 2),
    ("restart.published", 2),
    ("restart.done", 2),
    ("durable.sync-wal", 3),
    ("durable.write", 3),
    ("position.write", 3),
    ("position.rename", 3),
];

/// Where a replica that takes its first snapshot is killed.
const SEED_PHASES: [(&str, u64); 8] = [
    ("seed.create", 1),
    ("seed.write", 40),
    ("seed.sync", 1),
    ("seed.remove-stale", 2),
    ("seed.rename-log", 2),
    ("seed.rename", 2),
    ("wal.open", 1),
    ("pages.allocate", 1),
];

/// Where a primary is killed.
const PRIMARY_PHASES: [(&str, u64); 6] = [
    ("shadow.append", 60),
    ("shadow.record", 60),
    ("shadow.next-create", 2),
    ("shadow.next-rename", 2),
    ("shadow.next-rename-sidecar", 2),
    ("position.rename", 3),
];

fn start(name: &str, seed: u64) -> Scene {
    // No long transactions: they would keep the log from beginning anew, and its phases from being met.
    Scene::start(name, seed, 256, &["short", "reconnect"], |cluster| {
        cluster.replica.arg("--wal-soft-limit=1MiB");
    })
}

fn fault(rng: &mut Rng, phase: &str, most: u64) -> String {
    format!("{phase}=kill@{}", rng.between(1, most))
}

#[test]
fn a_replica_is_killed_in_each_phase_of_streaming() {
    let mut scene = start("phases-replica", 301);
    let rounds = scaled(1, 5);
    let mut counts = BTreeMap::new();
    for _ in 0..rounds {
        for (phase, most) in REPLICA_PHASES {
            let fault = fault(&mut scene.rng, phase, most);
            scene.cluster.replica.kill9();
            scene.cluster.replica.run_to_death(&fault);
            scene.cluster.start_replica();
            scene.catch_up();
            *counts.entry(phase).or_insert(0) += 1;
        }
    }
    eprintln!("kills by phase: {counts:?}");
    let kills = rounds * REPLICA_PHASES.len() as u64;
    assert_eq!(scene.finish(kills), 1, "the log still had every position");
}

#[test]
fn a_replica_is_killed_in_each_phase_of_its_first_snapshot() {
    let seed = Rng::seed_for("phases-seed", 302);
    let mut rng = Rng::new(seed);
    let scratch = Scratch::new("phases-seed");
    let mut cluster = Cluster::new(&scratch);
    let options = Spec::default()
        .with("seed", seed)
        .with("blob_kb", 1024)
        .with("max_mb", 48);
    let mut load = Load::new(
        scratch.path(),
        cluster.primary_db(),
        options.with("rate", 400),
    );
    load.start_writer();
    load.wait_commits(200);
    cluster.start_primary();
    for _ in 0..scaled(1, 4) {
        for (phase, most) in SEED_PHASES {
            let fault = fault(&mut rng, phase, most);
            let side = cluster
                .replica_db()
                .parent()
                .expect("a directory")
                .to_owned();
            std::fs::remove_dir_all(&side).expect("emptied");
            std::fs::create_dir_all(&side).expect("made again");
            cluster.replica.run_to_death(&fault);
            cluster.start_replica();
            cluster.wait_version(load.version());
            eprintln!("killed by {fault}");
            cluster.replica.kill9();
        }
    }
    cluster.start_replica();
    let report = load.stop_writer();
    cluster.assert_equal(report.or("version", 0));
}

#[test]
fn a_primary_is_killed_in_each_phase() {
    let mut scene = start("phases-primary", 303);
    let rounds = scaled(2, 10);
    let mut counts = BTreeMap::new();
    for _ in 0..rounds {
        for (phase, most) in PRIMARY_PHASES {
            let fault = fault(&mut scene.rng, phase, most);
            scene.cluster.primary.kill9();
            scene.cluster.primary.run_to_death(&fault);
            scene.cluster.start_primary();
            scene.catch_up();
            *counts.entry(phase).or_insert(0) += 1;
        }
    }
    eprintln!("kills by phase: {counts:?}");
    scene.finish(rounds * PRIMARY_PHASES.len() as u64);
}
