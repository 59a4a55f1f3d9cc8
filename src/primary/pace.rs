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
/// The rate is measured over at least this. Less would take a few commits shortly after each other, such as those that
/// gathered behind a checkpoint, for a flood, and those after them would wait for nothing.
const WINDOW: Duration = Duration::from_millis(25);

/// The rate of commits, seen at each capture.
pub struct Pace {
    last: Instant,
    /// The counter of commits then; `None` before the first capture.
    changes: Option<u32>,
    /// When the window began.
    began: Instant,
    /// Commits since then.
    commits: u64,
    /// Commits each second in the window before it.
    rate: f64,
}

impl Pace {
    /// Nothing seen yet.
    pub fn new() -> Pace {
        let now = Instant::now();
        Pace {
            last: now,
            changes: None,
            began: now,
            commits: 0,
            rate: 0.0,
        }
    }

    /// Something was captured; `changes` is the wal-index's counter of commits.
    pub fn captured(&mut self, changes: u32) {
        let before = self.changes.unwrap_or(changes);
        let commits = changes.wrapping_sub(before);
        // A recovery resets the counter: no sign of a flood.
        let commits = if commits > u32::MAX / 2 { 0 } else { commits };
        let now = Instant::now();
        (self.last, self.changes) = (now, Some(changes));
        self.commits += u64::from(commits);
        let age = now - self.began;
        if age >= WINDOW {
            self.rate = self.commits as f64 / age.as_secs_f64();
            (self.began, self.commits) = (now, 0);
        }
    }

    /// True if the next commits may wait for more.
    pub fn may_wait(&self) -> bool {
        self.rate > FLOOD && self.last.elapsed() < DELAY
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    const MILLISECOND: Duration = Duration::from_millis(1);

    #[tokio::test(start_paused = true)]
    async fn single_commits_never_wait() {
        let mut pace = Pace::new();
        for changes in 1..100 {
            advance(2 * MILLISECOND).await;
            pace.captured(changes);
            assert!(!pace.may_wait());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_waits_and_a_reset_counter_is_none() {
        let mut pace = Pace::new();
        for changes in 1..=40 {
            advance(MILLISECOND).await;
            pace.captured(changes * 1000);
        }
        assert!(pace.rate > FLOOD && pace.may_wait());
        advance(DELAY).await;
        assert!(!pace.may_wait(), "it waited already");
        for _ in 0..40 {
            advance(MILLISECOND).await;
            pace.captured(0);
        }
        assert!(pace.rate < FLOOD && !pace.may_wait());
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_within_the_window_is_no_flood() {
        let mut pace = Pace::new();
        let mut changes = 0;
        // Quiet, then a checkpoint behind which 20 commits gathered, in one capture and in those right after it.
        for gathered in [[20, 0, 0], [5, 10, 5]] {
            for _ in 0..50 {
                advance(MILLISECOND).await;
                changes += 1;
                pace.captured(changes);
                assert!(!pace.may_wait());
            }
            for commits in gathered {
                advance(MILLISECOND / 20).await;
                changes += commits;
                pace.captured(changes);
                assert!(!pace.may_wait());
            }
        }
        // What lasts is one: at least one whole window of it.
        for _ in 0..50 {
            advance(MILLISECOND).await;
            changes += 20;
            pace.captured(changes);
        }
        assert!(pace.may_wait());
    }
}
