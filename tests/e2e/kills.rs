//! `kill -9` of each process under load, again and again: nothing acknowledged is lost, nothing
//! wrong is shown, and nothing is sent twice that the log still had.

use std::time::Duration;

use crate::support::checker::Required;
use crate::support::child::Spec;
use crate::support::cluster::Cluster;
use crate::support::load::Load;
use crate::support::rng::Rng;
use crate::support::{Scratch, scaled};

/// A cluster at work with two readers on the replica.
struct Scene {
    cluster: Cluster,
    load: Load,
    rng: Rng,
    kills: u64,
    // Dropped last: the others have their files in it.
    _scratch: Scratch,
}

impl Scene {
    fn start(name: &str, seed: u64) -> Self {
        let seed = Rng::seed_for(name, seed);
        let scratch = Scratch::new(name);
        let mut cluster = Cluster::new(&scratch);
        let options = Spec::default()
            .with("seed", seed)
            .with("blob_kb", 512)
            .with("max_mb", 8)
            .with("rate", 400);
        let mut load = Load::new(scratch.path(), cluster.primary_db(), options);
        load.start_writer();
        load.wait_commits(10);
        cluster.start_primary();
        cluster.start_replica();
        cluster.wait_version(load.version());
        let replica = cluster.replica_db().to_owned();
        for mode in ["short", "long"] {
            load.add_reader(&replica, mode, Spec::default());
        }
        Self {
            cluster,
            load,
            rng: Rng::new(seed),
            kills: scaled(10, 50),
            _scratch: scratch,
        }
    }

    /// Lets the load run until a moment that nobody chose.
    fn random_moment(&mut self) {
        self.load.wait_commits(self.rng.between(1, 150));
        // Not a wait for anything: commits alone would always give the same phase.
        std::thread::sleep(Duration::from_micros(self.rng.below(20_000)));
    }

    /// The replica has what was committed before now.
    fn catch_up(&mut self) {
        self.cluster.wait_version(self.load.version());
    }

    /// The verdict; gives how many snapshots were sent.
    fn finish(mut self) -> usize {
        self.load.wait_reads(5);
        let report = self.load.stop_writer();
        self.cluster.assert_equal(report.or("version", 0));
        self.load.stop_readers();
        self.load.assert_right(&Required::new(self.kills, 5, 2));
        self.cluster.snapshots()
    }
}

#[test]
fn the_replica_is_killed() {
    let mut scene = Scene::start("kill-replica", 201);
    for _ in 0..scene.kills {
        scene.random_moment();
        assert!(scene.cluster.replica.kill9(), "the replica ended by itself");
        scene.cluster.start_replica();
        scene.catch_up();
    }
    assert_eq!(
        scene.finish(),
        1,
        "the log still had every position: only the first start needs a snapshot"
    );
}

#[test]
fn the_primary_is_killed() {
    let mut scene = Scene::start("kill-primary", 202);
    for _ in 0..scene.kills {
        scene.random_moment();
        assert!(scene.cluster.primary.kill9(), "the primary ended by itself");
        // The application goes on alone: sometimes long enough to restart its log.
        let alone = scene.rng.below(60);
        scene.load.wait_commits(alone);
        scene.cluster.start_primary();
        scene.catch_up();
    }
    let kills = scene.kills;
    let snapshots = scene.finish();
    eprintln!("{kills} kills of the primary, {snapshots} snapshots");
}

#[test]
fn the_application_is_killed() {
    let mut scene = Scene::start("kill-application", 203);
    for _ in 0..scene.kills {
        scene.random_moment();
        scene.load.kill_writer();
        scene.load.start_writer();
        scene.load.wait_commits(1);
        scene.catch_up();
    }
    assert_eq!(scene.finish(), 1, "walcast was there all the time");
}

#[test]
fn all_three_are_killed_at_once() {
    let mut scene = Scene::start("kill-all", 204);
    for _ in 0..scene.kills.div_ceil(2) {
        scene.random_moment();
        scene.load.kill_writer();
        scene.cluster.primary.kill9();
        scene.cluster.replica.kill9();
        scene.load.start_writer();
        scene.load.wait_commits(1);
        scene.cluster.start_primary();
        scene.cluster.start_replica();
        scene.catch_up();
    }
    scene.finish();
}
