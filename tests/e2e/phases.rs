//! `kill -9` in named phases: the process kills itself at a disk operation or at a point between two of them, chosen by
//! `WALCAST_FAULTS`. The counts of each phase are printed; a phase that was not met fails the test.

use std::collections::BTreeMap;

use crate::support::checker::Required;
use crate::support::child::Spec;
use crate::support::cluster::Cluster;
use crate::support::load::Load;
use crate::support::rng::Rng;
use crate::support::{Scratch, scaled, wait_for};

/// Where a replica that streams is killed, and at which meeting at most: phases that come once need 1.
const REPLICA_PHASES: [(&str, u64); 14] = [
    ("wal.append", 60),
    ("apply.noted", 60),
    ("apply.written", 60),
    ("publish.between-copies", 60),
    ("apply.published", 60),
    ("applied.write", 60),
    ("wal.sync-header", 2),
    ("restart.sync-db", 2),
    ("restart.published", 2),
    ("restart.done", 2),
    ("durable.sync-wal", 3),
    ("durable.write", 3),
    ("position.write", 3),
    ("position.rename", 3),
];

/// Where a replica that takes its first snapshot is killed.
const SEED_PHASES: [(&str, u64); 7] = [
    ("seed.create", 1),
    ("seed.write", 40),
    ("seed.sync", 1),
    ("seed.remove-stale", 2),
    ("seed.rename", 2),
    ("wal.open", 1),
    ("pages.allocate", 1),
];

/// Where a primary is killed.
const PRIMARY_PHASES: [(&str, u64); 3] = [
    ("shadow.append", 60),
    ("shadow.record", 60),
    ("position.rename", 3),
];

struct Scene {
    cluster: Cluster,
    load: Load,
    rng: Rng,
    counts: BTreeMap<&'static str, u64>,
    // Dropped last: the others have their files in it.
    _scratch: Scratch,
}

impl Scene {
    fn start(name: &str, seed: u64) -> Self {
        let seed = Rng::seed_for(name, seed);
        let scratch = Scratch::new(name);
        let mut cluster = Cluster::new(&scratch);
        cluster.replica.arg("--wal-soft-limit=1MiB");
        let options = Spec::default()
            .with("seed", seed)
            .with("blob_kb", 256)
            .with("max_mb", 8)
            .with("rate", 400);
        let mut load = Load::new(scratch.path(), cluster.primary_db(), options);
        load.start_writer();
        load.wait_commits(10);
        cluster.start_primary();
        cluster.start_replica();
        cluster.wait_version(load.version());
        let replica = cluster.replica_db().to_owned();
        // No long transactions: they would keep the log from beginning anew, and its phases from being met.
        for mode in ["short", "reconnect"] {
            load.add_reader(&replica, mode, Spec::default());
        }
        Self {
            cluster,
            load,
            rng: Rng::new(seed),
            counts: BTreeMap::new(),
            _scratch: scratch,
        }
    }

    fn fault(&mut self, phase: &str, most: u64) -> String {
        format!("{phase}=kill@{}", self.rng.between(1, most))
    }

    fn kill_replica_in(&mut self, phase: &'static str, most: u64) {
        let fault = self.fault(phase, most);
        self.cluster.replica.kill9();
        self.cluster.replica.env("WALCAST_FAULTS", &fault);
        // It may meet the phase before it listens.
        self.cluster.replica.spawn();
        let replica = &mut self.cluster.replica;
        wait_for(&format!("the replica's end by {fault}"), || {
            match replica.is_running() {
                true => Err("it runs".to_owned()),
                false => Ok(()),
            }
        });
        self.cluster.replica.kill9();
        self.cluster.replica.env("WALCAST_FAULTS", "");
        self.cluster.start_replica();
        self.cluster.wait_version(self.load.version());
        *self.counts.entry(phase).or_default() += 1;
    }

    fn finish(mut self, kills: u64) -> usize {
        eprintln!("kills by phase: {:?}", self.counts);
        self.load.wait_reads(5);
        let report = self.load.stop_writer();
        self.cluster.assert_equal(report.or("version", 0));
        self.load.stop_readers();
        self.load.assert_right(&Required::new(kills, 5, 2));
        self.cluster.snapshots()
    }
}

#[test]
fn a_replica_is_killed_in_each_phase_of_streaming() {
    let mut scene = Scene::start("phases-replica", 301);
    let rounds = scaled(1, 5);
    for _ in 0..rounds {
        for (phase, most) in REPLICA_PHASES {
            scene.kill_replica_in(phase, most);
        }
    }
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
            let fault = format!("{phase}=kill@{}", rng.between(1, most));
            let side = cluster
                .replica_db()
                .parent()
                .expect("a directory")
                .to_owned();
            std::fs::remove_dir_all(&side).expect("emptied");
            std::fs::create_dir_all(&side).expect("made again");
            cluster.replica.env("WALCAST_FAULTS", &fault);
            cluster.replica.spawn();
            let replica = &mut cluster.replica;
            wait_for(&format!("the replica's end by {fault}"), || {
                match replica.is_running() {
                    true => Err("it runs".to_owned()),
                    false => Ok(()),
                }
            });
            cluster.replica.kill9();
            cluster.replica.env("WALCAST_FAULTS", "");
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
    let mut scene = Scene::start("phases-primary", 303);
    let rounds = scaled(2, 10);
    for _ in 0..rounds {
        for (phase, most) in PRIMARY_PHASES {
            let fault = scene.fault(phase, most);
            scene.cluster.primary.kill9();
            scene.cluster.primary.env("WALCAST_FAULTS", &fault);
            scene.cluster.primary.spawn();
            let primary = &mut scene.cluster.primary;
            wait_for(&format!("the primary's end by {fault}"), || {
                match primary.is_running() {
                    true => Err("it runs".to_owned()),
                    false => Ok(()),
                }
            });
            scene.cluster.primary.kill9();
            scene.cluster.primary.env("WALCAST_FAULTS", "");
            scene.cluster.start_primary();
            scene.cluster.wait_version(scene.load.version());
            *scene.counts.entry(phase).or_default() += 1;
        }
    }
    let kills = rounds * PRIMARY_PHASES.len() as u64;
    scene.finish(kills);
}
