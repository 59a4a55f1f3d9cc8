//! One world from its beginning to its end, and many.

use crate::faults::Faults;
use crate::load::Load;
use crate::rng::Rng;
use crate::sched::{self, sleep_ms, spawn};
use crate::world::{World, world};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use walcast::model::DatabaseState;

/// From the end of the last fault to the last replica being level.
const CONVERGENCE_MS: u64 = 60_000;

/// What happened in a world.
pub struct Outcome {
    pub events: Vec<String>,
    pub counts: BTreeMap<&'static str, u64>,
}

/// Runs the world of a seed.
pub fn run(seed: u64, aloud: bool) -> Outcome {
    let base = match std::path::Path::new("/dev/shm") {
        memory if memory.is_dir() => memory.to_owned(),
        _ => std::env::temp_dir(),
    };
    let files = tempfile::Builder::new()
        .prefix("walcast-sim-")
        .tempdir_in(base)
        .expect("a directory");
    let path = files.path().to_owned();
    let lived = catch_unwind(AssertUnwindSafe(|| {
        sched::run(seed, async move {
            let world = World::create(seed, &path, aloud);
            life(seed).await;
            world.counts.take()
        })
    }));
    let counts = lived.unwrap_or_else(|panic| {
        println!("{}", World::abandon(if aloud { 0 } else { 60 }));
        println!("again: WALCAST_SEED={seed} cargo test --test sim one_world -- --nocapture");
        resume_unwind(panic)
    });
    Outcome {
        events: World::end(),
        counts,
    }
}

async fn life(seed: u64) {
    let world = world();
    let mut rng = Rng::new(seed ^ 0x11fe);
    world.note(format_args!("seed {seed}"));
    sched::after_each_poll(|| {
        let world = crate::world::world();
        let process = world.primary.process.borrow();
        if process.as_ref().is_some_and(|p| p.shared.has_requests()) {
            world.primary.changed.notify_one();
        }
    });
    let until: Rc<Cell<bool>> = Rc::default();
    let mut faults = Faults::new(Rng::new(rng.next()), until.clone());
    faults.start_application();
    sleep_ms(rng.below(3_000)).await;
    world.primary.start();
    for replica in &world.replicas {
        let late = rng.below(4_000);
        let number = replica.number();
        spawn(sched::WORLD, async move {
            sleep_ms(late).await;
            crate::world::world().replicas[number].start();
        });
    }
    sleep_ms(4_100).await;
    faults.run(rng.between(5_000, 60_000)).await;
    until.set(true);
    world.note(format_args!("the faults are over"));
    // One commit more, which nobody has yet.
    sleep_ms(500).await;
    Load::new(Rng::new(rng.next())).commit();
    converge().await;
    settle().await;
}

/// All replicas show the newest state within the time that is allowed.
async fn converge() {
    let world = world();
    let mut waited = 0;
    loop {
        let current = world.primary.app.borrow().history.current();
        let all = 0..world.replicas.len();
        let late: Vec<usize> = all
            .filter(|r| world.check.seen(*r) != Some(current))
            .collect();
        if late.is_empty() {
            world.note(format_args!("level after {waited} ms"));
            return;
        }
        if waited >= CONVERGENCE_MS {
            for replica in &late {
                let process = world.replicas[*replica].process.borrow();
                let status = process.as_ref().map(|p| p.shared.status());
                println!("replica {replica}: {status:#?}");
            }
            println!("primary: {:?}", world.primary.tip());
            panic!("{late:?} are not at state {current} {waited} ms after the last fault");
        }
        sleep_ms(100).await;
        waited += 100;
    }
}

/// What everybody says of it is so a little later: the replicas that they are level, and the primary that they are.
async fn settle() {
    let world = world();
    sleep_ms(15_000).await;
    let tip = world.primary.tip().expect("a tip");
    let process = world.primary.process.borrow().clone().expect("a primary");
    let known = process.served.replicas();
    for replica in &world.replicas {
        let number = replica.number();
        let process = replica.process.borrow().clone().expect("a process");
        let status = process.shared.status();
        let wrong = process.shared.meters.checksum_failures.get();
        assert!(
            replica.is_model() || wrong == 0,
            "replica {number}: {wrong} checksums differed"
        );
        assert_eq!(status.state, DatabaseState::Streaming, "{status:?}");
        assert_eq!(status.position, Some(tip.position), "replica {number}");
        assert_eq!(status.durable, Some(tip.position), "replica {number}");
        assert_eq!(status.lag_seconds, 0.0, "replica {number}");
        let name = format!("replica-{number}");
        let mine = known
            .iter()
            .find(|r| r.name == name)
            .expect("a known replica");
        assert_eq!(mine.applied, Some(tip.position), "{mine:?}");
        assert_eq!(mine.durable, Some(tip.position), "{mine:?}");
        assert_eq!(mine.state, DatabaseState::Streaming, "{mine:?}");
    }
}

/// Runs many worlds, on as many threads as there are processors.
pub fn worlds(first: u64, count: u64) {
    let next = AtomicU64::new(first);
    let totals: Mutex<BTreeMap<&'static str, u64>> = Mutex::default();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let work = || {
        loop {
            let seed = next.fetch_add(1, Relaxed);
            if seed >= first + count {
                return;
            }
            let outcome = catch_unwind(AssertUnwindSafe(|| run(seed, false)));
            let outcome = outcome.unwrap_or_else(|panic| {
                next.store(u64::MAX / 2, Relaxed);
                resume_unwind(panic)
            });
            let mut totals = totals.lock().unwrap_or_else(PoisonError::into_inner);
            for (what, times) in outcome.counts {
                *totals.entry(what).or_default() += times;
            }
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for thread in threads {
            if let Err(panic) = thread.join() {
                resume_unwind(panic);
            }
        }
    });
    println!("{count} worlds from seed {first} on: {totals:?}");
}
