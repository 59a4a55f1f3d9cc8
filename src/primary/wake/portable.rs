//! Any system: a condition variable. The file system tells nothing, so looks go on at their longest interval.

use std::path::PathBuf;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Wakes the capture thread from any other thread.
pub struct Wake {
    pending: Mutex<bool>,
    changed: Condvar,
}

impl Wake {
    /// Makes one.
    pub fn new() -> Wake {
        Wake {
            pending: Mutex::new(false),
            changed: Condvar::new(),
        }
    }

    /// Ends the current wait, or the next.
    pub fn wake(&self) {
        *self.pending.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_one();
    }

    /// Waits for a wake, at most `timeout`.
    pub fn wait(&self, timeout: Duration) {
        let pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self
            .changed
            .wait_timeout_while(pending, timeout, |pending| !*pending);
        let (mut pending, _) = waited.unwrap_or_else(PoisonError::into_inner);
        *pending = false;
    }

    /// Waits for a wake; nobody tells of files here.
    pub fn wait_with(&self, timeout: Duration, _files: Option<&FileWatch>) -> bool {
        self.wait(timeout);
        false
    }
}

/// There is none.
pub enum FileWatch {}

impl FileWatch {
    /// `None`.
    pub fn new(_files: &[PathBuf]) -> Option<FileWatch> {
        None
    }
}

/// Nothing to do.
pub fn allow_short_sleeps() {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn a_wake_ends_the_current_wait_or_the_next() {
        let wake = Wake::new();
        let long = Duration::from_secs(60);
        let begun = Instant::now();
        wake.wake();
        assert!(!wake.wait_with(long, FileWatch::new(&[]).as_ref()));
        std::thread::scope(|scope| {
            scope.spawn(|| wake.wake());
            wake.wait(long);
        });
        assert!(begun.elapsed() < long, "a wake was lost");
        allow_short_sleeps();
    }

    #[test]
    fn a_wait_without_a_wake_ends_by_itself() {
        let wake = Wake::new();
        wake.wait(Duration::from_millis(1));
        assert!(!*wake.pending.lock().expect("a lock"));
    }
}
