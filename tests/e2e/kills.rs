//! `kill -9` of each process under load, again and again: nothing acknowledged is lost, nothing
//! wrong is shown, and nothing is sent twice that the log still had.

use std::time::Duration;

use crate::support::scaled;
use crate::support::scene::Scene;

fn start(name: &str, seed: u64) -> (Scene, u64) {
    let scene = Scene::start(name, seed, 512, &["short", "long"], |_| {});
    (scene, scaled(10, 50))
}

/// Lets the load run until a moment that nobody chose.
fn random_moment(scene: &mut Scene) {
    scene.load.wait_commits(scene.rng.between(1, 150));
    // Not a wait for anything: commits alone would always give the same phase.
    std::thread::sleep(Duration::from_micros(scene.rng.below(20_000)));
}

#[test]
fn the_replica_is_killed() {
    let (mut scene, kills) = start("kill-replica", 201);
    for _ in 0..kills {
        random_moment(&mut scene);
        assert!(scene.cluster.replica.kill9(), "the replica ended by itself");
        scene.cluster.start_replica();
        scene.catch_up();
    }
    assert_eq!(
        scene.finish(kills),
        1,
        "the log still had every position: only the first start needs a snapshot"
    );
}

#[test]
fn the_primary_is_killed() {
    let (mut scene, kills) = start("kill-primary", 202);
    for _ in 0..kills {
        random_moment(&mut scene);
        assert!(scene.cluster.primary.kill9(), "the primary ended by itself");
        // The application goes on alone: sometimes long enough to restart its log.
        let alone = scene.rng.below(60);
        scene.load.wait_commits(alone);
        scene.cluster.start_primary();
        scene.catch_up();
    }
    let snapshots = scene.finish(kills);
    eprintln!("{kills} kills of the primary, {snapshots} snapshots");
}

#[test]
fn the_application_is_killed() {
    let (mut scene, kills) = start("kill-application", 203);
    for _ in 0..kills {
        random_moment(&mut scene);
        scene.load.kill_writer();
        scene.load.start_writer();
        scene.load.wait_commits(1);
        scene.catch_up();
    }
    assert_eq!(scene.finish(kills), 1, "walcast was there all the time");
}

#[test]
fn all_three_are_killed_at_once() {
    let (mut scene, kills) = start("kill-all", 204);
    for _ in 0..kills.div_ceil(2) {
        random_moment(&mut scene);
        scene.load.kill_writer();
        scene.cluster.primary.kill9();
        scene.cluster.replica.kill9();
        scene.load.start_writer();
        scene.load.wait_commits(1);
        scene.cluster.start_primary();
        scene.cluster.start_replica();
        scene.catch_up();
    }
    scene.finish(kills);
}
