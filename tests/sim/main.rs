//! A primary and its replicas in simulated time, over a simulated network, from a seed. See docs/testing.md.
//!
//! What runs is what is shipped: the capture's turns, the hub, streams and snapshots, the shadow WAL on real files, the
//! gRPC service, the client, the follower with its queue, and the replica's machine. What is not: SQLite, TCP, HTTP/2,
//! threads, the clock, and (but for one replica in eight) the replica's database.

mod app;
mod capture;
mod check;
mod disk;
mod excuse;
mod faults;
mod files;
mod history;
mod load;
mod net;
mod pipe;
mod primary;
mod queue;
mod replica;
mod rng;
mod scenario;
mod sched;
mod shm;
mod store;
mod totals;
mod waiting;
mod world;

use rng::Rng;
use scenario::{run, worlds};

/// Worlds in CI, and in full.
const WORLDS: [u64; 2] = [300, 20_000];

/// Worlds whose events are compared.
const COMPARED: u64 = 20;

#[test]
fn every_world_converges_and_shows_nothing_but_commits() {
    let count = WORLDS[usize::from(std::env::var_os("WALCAST_FULL").is_some())];
    let count = std::env::var("WALCAST_WORLDS").map_or(count, |n| n.parse().expect("a number"));
    worlds(Rng::seed_for("sim", 1), count);
}

/// To look at one: with `--nocapture` it tells all its events.
#[test]
fn one_world() {
    let outcome = run(Rng::seed_for("sim", 1), true);
    print!("{}", outcome.totals);
}

#[test]
fn a_seed_is_one_history() {
    let first = Rng::seed_for("sim", 1);
    for seed in first..first + COMPARED {
        let (one, again) = (run(seed, false).events, run(seed, false).events);
        for (event, other) in one.iter().zip(&again) {
            assert_eq!(event, other, "seed {seed}");
        }
        assert_eq!(one.len(), again.len(), "seed {seed}");
        assert!(one.len() > 50, "seed {seed}: nothing happened");
    }
}
