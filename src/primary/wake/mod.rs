//! Waking the capture thread: by another thread, and by the file system where it can tell.

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
pub use linux::{FileWatch, allow_short_sleeps};

// Compiled and tested on Linux too, so that the other systems are not left with code that nobody ever built.
#[cfg(any(not(target_os = "linux"), test))]
mod portable;
#[cfg(not(target_os = "linux"))]
pub use portable::{FileWatch, allow_short_sleeps};

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Wakes the capture thread from any other thread. It has no descriptor: a process has hundreds of these.
pub struct Wake(Arc<Signal>);

/// What the thread waits for.
pub struct Signal {
    pending: Mutex<Pending>,
    changed: Condvar,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Pending {
    woken: bool,
    files: bool,
}

impl Signal {
    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The watched files changed.
    pub fn files_changed(&self) {
        self.pending().files = true;
        self.changed.notify_one();
    }
}

impl Wake {
    /// Makes one.
    pub fn new() -> Wake {
        Wake(Arc::new(Signal {
            pending: Mutex::default(),
            changed: Condvar::new(),
        }))
    }

    /// For whoever watches files.
    pub fn signal(&self) -> &Arc<Signal> {
        &self.0
    }

    /// Ends the current wait, or the next.
    pub fn wake(&self) {
        self.0.pending().woken = true;
        self.0.changed.notify_one();
    }

    /// Waits for a wake, or for a change of files that are watched, at most `timeout`; true if files changed.
    pub fn wait(&self, timeout: Duration) -> bool {
        let nothing = |pending: &mut Pending| *pending == Pending::default();
        let pending = self.0.pending();
        let waited = self.0.changed.wait_timeout_while(pending, timeout, nothing);
        let (mut pending, _) = waited.unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *pending).files
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn a_wake_ends_the_current_wait_or_the_next() {
        let wake = Wake::new();
        let begun = Instant::now();
        wake.wake();
        assert!(!wake.wait(LONG));
        std::thread::scope(|scope| {
            scope.spawn(|| wake.wake());
            assert!(!wake.wait(LONG));
        });
        assert!(begun.elapsed() < LONG, "a wake was lost");
    }

    #[test]
    fn a_wait_without_a_wake_ends_by_itself() {
        let wake = Wake::new();
        assert!(!wake.wait(Duration::from_millis(1)));
        assert!(*wake.0.pending() == Pending::default());
    }
}
