//! How the capture thread learns of a commit: short looks while the application writes, inotify once it is quiet.
//!
//! Looks at shared memory disturb nobody. inotify makes each of the application's writes slower (22 to 39 µs on the test
//! machine), so it is there only while nothing was written for [`QUIET`], and goes at the first event.

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::time::TimeSpec;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The shortest sleep between two looks.
const SHORTEST: Duration = Duration::from_micros(30);
/// The longest sleep between two looks before inotify takes over: half of it is lag, at each commit; less costs CPU.
const LONGEST: Duration = Duration::from_micros(60);
/// Without a commit for this long, the thread waits for the file system to tell it.
const QUIET: Duration = Duration::from_secs(1);
/// inotify may miss (a file replaced, a watch that could not be made), so it never waits longer than this.
const FALLBACK: Duration = Duration::from_millis(250);

/// Wakes the capture thread from any other thread.
pub struct Wake {
    /// `None` where the process had no descriptor left: waits are then short.
    event: Option<EventFd>,
}

/// The longest wait where nobody can end it.
const BLIND: Duration = Duration::from_millis(10);

impl Wake {
    /// Makes one.
    pub fn new() -> Wake {
        Wake {
            event: EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC).ok(),
        }
    }

    /// Ends the current wait, or the next.
    pub fn wake(&self) {
        if let Some(event) = &self.event {
            // It can only fail when 2^64 - 2 wakes are pending, and then the thread is awake.
            let _ = event.write(1);
        }
    }

    /// Waits for a wake, at most `timeout`.
    pub fn wait(&self, timeout: Duration) {
        self.wait_with(timeout, None);
    }

    /// Waits for a wake or for `other` to have something to read; true if `other` has.
    fn wait_with(&self, timeout: Duration, other: Option<&Inotify>) -> bool {
        let Some(event) = &self.event else {
            std::thread::sleep(timeout.min(BLIND));
            return false;
        };
        let readable = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let mut fds = [
            readable(event.as_fd()),
            readable(other.map_or(event.as_fd(), AsFd::as_fd)),
        ];
        let count = if other.is_some() { 2 } else { 1 };
        // An error can only be EINTR: then the caller looks once more than needed.
        let ready = ppoll(&mut fds[..count], Some(TimeSpec::from(timeout)), None).unwrap_or(0);
        if ready == 0 {
            return false;
        }
        if fds[0].any().unwrap_or(false) {
            let _ = event.read();
        }
        other.is_some() && fds[1].any().unwrap_or(false)
    }
}

/// The waiting of one capture thread.
pub struct Notice {
    files: [PathBuf; 2],
    last_event: Instant,
    sleep: Duration,
    inotify: Option<Inotify>,
}

impl Notice {
    /// For a database and its log.
    pub fn new(database: &Path, log: &Path) -> Notice {
        // The default slack of 50 µs is longer than our sleeps. Where it cannot be set, they are only longer.
        let _ = nix::sys::prctl::set_timerslack(1);
        Notice {
            files: [database.to_owned(), log.to_owned()],
            last_event: Instant::now(),
            sleep: SHORTEST,
            inotify: None,
        }
    }

    /// Something happened: look often from now on.
    pub fn active(&mut self) {
        self.last_event = Instant::now();
        self.sleep = SHORTEST;
        self.inotify = None;
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
        if self.inotify.is_none() {
            self.inotify = self.watch();
        }
        if !unchanged() {
            return;
        }
        let Some(inotify) = &self.inotify else {
            // No inotify instance left for this user: a look each 10 ms costs 0.2% of a core.
            wake.wait(FALLBACK / 25);
            return;
        };
        if wake.wait_with(FALLBACK, Some(inotify)) {
            self.active();
        }
    }

    fn watch(&self) -> Option<Inotify> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).ok()?;
        for file in &self.files {
            let events =
                AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_MOVE_SELF | AddWatchFlags::IN_ATTRIB;
            inotify.add_watch(file.as_path(), events).ok()?;
        }
        Some(inotify)
    }
}
