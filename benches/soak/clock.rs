//! Time in which this harness and its processes were awake: what they were frozen for (SIGSTOP, a cgroup's freezer, a
//! suspended machine) is no time of the run, and nobody's lag.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// [`Clock::awake`] is called much more often than this, however busy the machine is.
const FROZEN: Duration = Duration::from_secs(2);

/// Counts only time between whose looks there is no gap.
pub struct Clock {
    state: Mutex<(Instant, Awake)>,
    held: AtomicBool,
}

/// Time, put together from steps.
#[derive(Debug, Default)]
pub struct Awake {
    /// All steps that were no gap.
    pub time: Duration,
    /// The others.
    pub gaps: Vec<Duration>,
    /// The last gap goes on.
    held: bool,
}

impl Awake {
    /// `held`: somebody had stopped what is watched.
    pub fn step(&mut self, step: Duration, held: bool) {
        match self.gaps.last_mut().filter(|_| self.held && held) {
            Some(gap) => *gap += step,
            None if held || step > FROZEN => self.gaps.push(step),
            None => self.time += step,
        }
        self.held = held;
    }
}

impl Clock {
    /// Begins now.
    pub fn start() -> Clock {
        Clock {
            state: Mutex::new((Instant::now(), Awake::default())),
            held: AtomicBool::new(false),
        }
    }

    /// Time does not count from now on, or does again.
    pub fn hold(&self, held: bool) {
        if self.held.load(Ordering::Relaxed) != held {
            self.awake();
            self.held.store(held, Ordering::Relaxed);
        }
    }

    pub fn is_held(&self) -> bool {
        self.held.load(Ordering::Relaxed)
    }

    /// Whoever looks first after a gap notices it.
    fn look(&self) -> MutexGuard<'_, (Instant, Awake)> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let step = now.duration_since(state.0);
        state.0 = now;
        state.1.step(step, self.held.load(Ordering::Relaxed));
        state
    }

    /// Time awake since the start.
    pub fn awake(&self) -> Duration {
        self.look().1.time
    }

    /// How often it was frozen.
    pub fn freezes(&self) -> usize {
        self.look().1.gaps.len()
    }

    /// How long it was frozen, in all.
    pub fn frozen(&self) -> Duration {
        self.look().1.gaps.iter().sum()
    }
}
