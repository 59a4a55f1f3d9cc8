//! How the capture thread learns of a commit: short looks while the application writes, inotify once it is quiet.
//!
//! Looks at shared memory disturb nobody. inotify makes each of the application's writes slower (22 to 39 µs on the test
//! machine), so it is there only while nothing was written for [`QUIET`], and goes at the first event.

use super::wake::{FileWatch, Wake, allow_short_sleeps};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The shortest sleep between two looks.
const SHORTEST: Duration = Duration::from_micros(30);
/// The longest sleep between two looks before inotify takes over: half of it is lag, at each commit; less costs CPU.
const LONGEST: Duration = Duration::from_micros(60);
/// Without a commit for this long, the thread waits for the file system to tell it.
const QUIET: Duration = Duration::from_secs(1);
/// inotify may miss (a directory that was replaced), and a checkpoint that writes nothing any more ends unseen. So looks go
/// on, an eighth as far apart as the last event is away: what a checkpoint's fsync took is late by an eighth of that.
/// Hundreds of quiet databases must cost next to nothing.
const FALLBACK: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(4)];
/// A look each 10 ms costs 0.2% of a core.
const UNTOLD: Duration = Duration::from_millis(10);

/// The waiting of one capture thread.
pub struct Notice {
    files: [PathBuf; 2],
    last_event: Instant,
    sleep: Duration,
    told: Option<FileWatch>,
}

impl Notice {
    /// For a database and its log.
    pub fn new(database: &Path, log: &Path) -> Notice {
        allow_short_sleeps();
        Notice {
            files: [database.to_owned(), log.to_owned()],
            last_event: Instant::now(),
            sleep: SHORTEST,
            told: None,
        }
    }

    /// Something happened: look often from now on.
    pub fn active(&mut self) {
        self.last_event = Instant::now();
        self.sleep = SHORTEST;
        self.told = None;
    }

    /// True once nothing was written for [`QUIET`].
    pub fn is_quiet(&self) -> bool {
        self.last_event.elapsed() >= QUIET
    }

    /// Waits until it is time to look again, or `wake` was called. `unchanged` is asked once more after the file system
    /// was asked to tell: what happened before that would not be told.
    pub fn wait(&mut self, wake: &Wake, unchanged: impl Fn() -> bool) {
        if !self.is_quiet() {
            wake.wait(self.sleep);
            self.sleep = (self.sleep + self.sleep / 16).min(LONGEST);
            return;
        }
        if self.told.is_none() {
            self.told = FileWatch::new(&self.files, wake.signal());
        }
        if !unchanged() {
            return;
        }
        if self.told.is_none() {
            wake.wait(UNTOLD);
            return;
        }
        let [shortest, longest] = FALLBACK;
        let patience = (self.last_event.elapsed() / 8).clamp(shortest, longest);
        if wake.wait(patience) {
            self.active();
        }
    }
}
