//! Time in which this harness was awake: what it was frozen for (SIGSTOP, a cgroup's freezer, a suspended machine) is no
//! time of the run, and nobody's lag.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// [`Clock::awake`] is called much more often than this, however busy the machine is.
const FROZEN: Duration = Duration::from_secs(2);

/// Counts only time between whose looks there is no gap.
pub struct Clock(Mutex<(Instant, Awake)>);

/// Time, put together from steps.
#[derive(Debug, Default)]
pub struct Awake {
    /// All steps that were no gap.
    pub time: Duration,
    /// The others.
    pub gaps: Vec<Duration>,
}

impl Awake {
    pub fn step(&mut self, step: Duration) {
        if step > FROZEN {
            self.gaps.push(step);
        } else {
            self.time += step;
        }
    }
}

impl Clock {
    /// Begins now.
    pub fn start() -> Clock {
        Clock(Mutex::new((Instant::now(), Awake::default())))
    }

    /// Whoever looks first after a gap notices it.
    fn look(&self) -> MutexGuard<'_, (Instant, Awake)> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let step = now.duration_since(state.0);
        state.0 = now;
        state.1.step(step);
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
