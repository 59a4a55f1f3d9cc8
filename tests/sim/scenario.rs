//! One world from its beginning to its end, and many.

use crate::faults::Faults;
use crate::load::Load;
use crate::rng::Rng;
use crate::sched::{self, sleep_ms, spawn};
use crate::totals::Totals;
use crate::waiting::until_right;
use crate::world::{World, world};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// What happened in a world.
pub struct Outcome {
    pub events: Vec<String>,
    pub totals: Totals,
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
            world.totals()
        })
    }));
    let totals = lived.unwrap_or_else(|panic| {
        println!("{}", World::abandon(if aloud { 0 } else { 60 }));
        println!("again: WALCAST_SEED={seed} cargo test --test sim one_world -- --nocapture");
        resume_unwind(panic)
    });
    Outcome {
        events: World::end(),
        totals,
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
    let mut faults = Faults::new(Rng::new(rng.next()));
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
    let rounds = rng.between(1, 3);
    for round in 1..=rounds {
        faults.run(rng.between(5_000, 60_000) / rounds).await;
        faults.stop_application();
        world.note(format_args!("the faults are over"));
        world.count("rests");
        // One commit more, which nobody has yet; or none, so that nothing hides what was lost.
        sleep_ms(500).await;
        if rng.one_in(2) {
            Load::new(Rng::new(rng.next())).commit();
        }
        until_right().await;
        if round < rounds {
            faults.start_application();
        }
    }
}

/// Runs many worlds, on as many threads as there are processors.
pub fn worlds(first: u64, count: u64) {
    let next = AtomicU64::new(first);
    let totals: Mutex<Totals> = Mutex::default();
    let began = Instant::now();
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
            totals.merge(&outcome.totals);
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
    let totals = totals.into_inner().unwrap_or_else(PoisonError::into_inner);
    println!(
        "{count} worlds from seed {first} on, in {:.0} s:\n{totals}",
        began.elapsed().as_secs_f64()
    );
    totals.check(count);
}
