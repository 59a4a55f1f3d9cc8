//! Batches under a flood: above a few thousand commits each second, a chunk for each is work for everybody behind us,
//! and a millisecond is not noticed. Below that, each commit goes out at once.

use std::time::Duration;
use tokio::time::Instant;

/// Commits each second from which on capture may wait.
const FLOOD: f64 = 4000.0;
/// How long it may wait.
const DELAY: Duration = Duration::from_millis(1);
/// Bytes that wait at most, about.
pub const BATCH_BYTES: u64 = 128 * 1024;

/// The rate of commits, seen at each capture.
pub struct Pace {
    last: Instant,
    changes: u32,
    rate: f64,
}

impl Pace {
    /// Nothing seen yet.
    pub fn new() -> Pace {
        Pace {
            last: Instant::now(),
            changes: 0,
            rate: 0.0,
        }
    }

    /// Something was captured; `changes` is the wal-index's counter of commits.
    pub fn captured(&mut self, changes: u32) {
        let commits = changes.wrapping_sub(self.changes);
        // A recovery resets the counter: no sign of a flood.
        let commits = if commits > u32::MAX / 2 { 0 } else { commits };
        let now = Instant::now();
        let seconds = (now - self.last).as_secs_f64().max(1e-6);
        self.rate = 0.75 * self.rate + 0.25 * (f64::from(commits) / seconds).min(1e6);
        (self.last, self.changes) = (now, changes);
    }

    /// True if the next commits may wait for more.
    pub fn may_wait(&self) -> bool {
        self.rate > FLOOD && self.last.elapsed() < DELAY
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn single_commits_never_wait() {
        let mut pace = Pace::new();
        for changes in 1..5 {
            std::thread::sleep(Duration::from_millis(2));
            pace.captured(changes);
            assert!(!pace.may_wait());
        }
    }

    #[test]
    fn a_flood_waits_and_a_reset_counter_is_none() {
        let mut pace = Pace::new();
        for changes in 1..=8 {
            pace.captured(changes * 1000);
        }
        assert!(pace.rate > FLOOD);
        for _ in 0..40 {
            pace.captured(0);
        }
        assert!(pace.rate < FLOOD);
    }
}
