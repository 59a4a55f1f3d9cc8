//! How the capture thread learns of a commit: short looks while the application writes, inotify once it is quiet.
//!
//! Looks at shared memory disturb nobody. inotify makes each of the application's writes slower (22 to 39 µs on the test
//! machine), so it is there only while nothing was written for [`QUIET`], and goes at the first event.

use super::wake::{FileWatch, Wake, allow_short_sleeps};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::time::Instant;

/// The shortest sleep between two looks.
const SHORTEST: Duration = Duration::from_micros(30);
/// The longest sleep between two looks before inotify takes over: half of it is lag, at each commit; less costs CPU.
const LONGEST: Duration = Duration::from_micros(60);
/// Databases of this process that may look that often at one time. Where more are written to, each looks the less often: all
/// together they never take more of the processor than these would.
const FEW: usize = 4;
/// Without a commit for this long, the thread waits for the file system to tell it.
const QUIET: Duration = Duration::from_secs(1);
/// inotify may miss (a directory that was replaced), and a checkpoint that writes nothing any more ends unseen. So looks go
/// on, an eighth as far apart as the last event is away: what a checkpoint's fsync took is late by an eighth of that.
/// Hundreds of quiet databases must cost next to nothing.
const FALLBACK: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(4)];
/// A look each 10 ms costs 0.2% of a core.
const UNTOLD: Duration = Duration::from_millis(10);
/// Commits in a row that nobody told of, after which nobody is trusted to: some filesystems tell of nothing.
const MISSES: u32 = 3;

/// How many of this process look often now.
static LOOKING: AtomicUsize = AtomicUsize::new(0);

/// The waiting of one capture thread.
pub struct Notice {
    files: [PathBuf; 2],
    last_event: Instant,
    /// Something was written, and the quiet time after it is not over. Not so at the start: a process that begins with
    /// hundreds of databases must not look at all of them often.
    looking: bool,
    sleep: Duration,
    told: Option<FileWatch>,
    /// The last wait for the file system ended without a word.
    untold: bool,
    /// Commits in a row that came to light by such a look.
    misses: u32,
}

impl Notice {
    /// For a database and its log.
    pub fn new(database: &Path, log: &Path) -> Notice {
        allow_short_sleeps();
        Notice {
            files: [database.to_owned(), log.to_owned()],
            last_event: Instant::now(),
            looking: false,
            sleep: SHORTEST,
            told: None,
            untold: false,
            misses: 0,
        }
    }

    fn look_often(&mut self, often: bool) {
        match (self.looking, often) {
            (false, true) => drop(LOOKING.fetch_add(1, Relaxed)),
            (true, false) => drop(LOOKING.fetch_sub(1, Relaxed)),
            _ => {}
        }
        self.looking = often;
    }

    /// Something happened: look often from now on.
    pub fn active(&mut self) {
        self.misses += u32::from(std::mem::take(&mut self.untold));
        self.look_often(true);
        self.last_event = Instant::now();
        self.sleep = SHORTEST * crowd();
        self.told = None;
    }

    /// True once nothing was written for [`QUIET`], or nothing yet.
    pub fn is_quiet(&self) -> bool {
        !self.looking || self.last_event.elapsed() >= QUIET
    }

    /// True if the file system is waited for: it was asked to tell, and does.
    fn is_told(&self) -> bool {
        self.told.is_some() && self.misses < MISSES
    }

    /// Waits until it is time to look again, or `wake` was called. `unchanged` is asked once more after the file system
    /// was asked to tell: what happened before that would not be told.
    pub fn wait(&mut self, wake: &Wake, unchanged: impl Fn() -> bool) {
        if !self.is_quiet() {
            wake.wait(self.sleep);
            self.sleep = (self.sleep + self.sleep / 16).min(LONGEST * crowd());
            return;
        }
        self.look_often(false);
        if self.told.is_none() {
            self.told = FileWatch::new(&self.files, wake.signal());
        }
        if !unchanged() {
            return;
        }
        if !self.is_told() {
            wake.wait(UNTOLD);
            return;
        }
        let [shortest, longest] = FALLBACK;
        let patience = (self.last_event.elapsed() / 8).clamp(shortest, longest);
        let begun = Instant::now();
        if wake.wait(patience) {
            self.misses = 0;
            self.active();
        } else {
            self.untold = begun.elapsed() >= patience;
        }
    }
}

impl Drop for Notice {
    fn drop(&mut self) {
        self.look_often(false);
    }
}

/// By how much looks are further apart than those of a few databases.
fn crowd() -> u32 {
    let times = LOOKING.load(Relaxed) / FEW;
    u32::try_from(times).unwrap_or(u32::MAX).clamp(1, 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_never_tells_is_not_waited_for() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("db");
        std::fs::write(&file, "").expect("a file");
        let mut notice = Notice::new(&file, &file);
        let wake = Wake::new();
        for missed in 0..MISSES {
            notice.look_often(false);
            notice.wait(&wake, || true);
            assert!(notice.is_told(), "after {missed}");
            // A commit is found that nobody told of.
            notice.active();
        }
        notice.look_often(false);
        notice.wait(&wake, || true);
        assert!(!notice.is_told());
    }
}
