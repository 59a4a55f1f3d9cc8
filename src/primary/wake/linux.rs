//! Linux: an eventfd and inotify, waited for together.

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::time::TimeSpec;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::Duration;

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

    /// Waits for a wake or for a change of the watched files; true if they changed.
    pub fn wait_with(&self, timeout: Duration, files: Option<&FileWatch>) -> bool {
        let Some(event) = &self.event else {
            std::thread::sleep(timeout.min(BLIND));
            return false;
        };
        let readable = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let mut fds = [
            readable(event.as_fd()),
            readable(files.map_or(event.as_fd(), |files| files.0.as_fd())),
        ];
        let count = if files.is_some() { 2 } else { 1 };
        // An error can only be EINTR: then the caller looks once more than needed.
        let ready = ppoll(&mut fds[..count], Some(TimeSpec::from(timeout)), None).unwrap_or(0);
        if ready == 0 {
            return false;
        }
        if fds[0].any().unwrap_or(false) {
            let _ = event.read();
        }
        files.is_some() && fds[1].any().unwrap_or(false)
    }
}

/// Tells of writes to files.
pub struct FileWatch(Inotify);

impl FileWatch {
    /// Watches these files; `None` if this user has no inotify instance left.
    pub fn new(files: &[PathBuf]) -> Option<FileWatch> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).ok()?;
        for file in files {
            let events =
                AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_MOVE_SELF | AddWatchFlags::IN_ATTRIB;
            inotify.add_watch(file.as_path(), events).ok()?;
        }
        Some(FileWatch(inotify))
    }
}

/// The default slack of 50 µs is longer than the capture thread's sleeps. Where it cannot be set, they are only longer.
pub fn allow_short_sleeps() {
    let _ = nix::sys::prctl::set_timerslack(1);
}
