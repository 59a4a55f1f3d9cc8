//! Linux: inotify. A user has often no more than 128 instances, and a process hundreds of databases: all of them share one,
//! and a thread hands on what it tells.

use super::Signal;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The one instance, once somebody needs it. It stays: one descriptor and a thread that sleeps.
static SHARED: Mutex<Option<Arc<Watcher>>> = Mutex::new(None);

struct Watcher {
    inotify: Inotify,
    /// Who is told. A file belongs to one database, so to one signal.
    told: Mutex<HashMap<WatchDescriptor, Arc<Signal>>>,
}

impl Watcher {
    /// The one that is there, or a new one; `None` if this user has no instance left. Then the next call tries again.
    fn shared() -> Option<Arc<Watcher>> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(watcher) = &*shared {
            return Some(watcher.clone());
        }
        let watcher = Arc::new(Watcher {
            inotify: Inotify::init(InitFlags::IN_CLOEXEC).ok()?,
            told: Mutex::default(),
        });
        let thread = std::thread::Builder::new().name("file-watch".to_owned());
        let reads = watcher.clone();
        thread.spawn(move || reads.run()).ok()?;
        *shared = Some(watcher.clone());
        Some(watcher)
    }

    fn told(&self) -> MutexGuard<'_, HashMap<WatchDescriptor, Arc<Signal>>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        loop {
            // An error can only be EINTR. Were it another, the looks at the longest interval go on.
            let Ok(events) = self.inotify.read_events() else {
                std::thread::sleep(std::time::Duration::from_millis(10));
                continue;
            };
            let told = self.told();
            for event in events {
                if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
                    // Something was lost: everybody looks.
                    told.values().for_each(|signal| signal.files_changed());
                } else if let Some(signal) = told.get(&event.wd) {
                    signal.files_changed();
                }
            }
        }
    }
}

/// Tells of writes to files, until it is dropped.
pub struct FileWatch {
    watcher: Arc<Watcher>,
    watches: Vec<WatchDescriptor>,
}

impl FileWatch {
    /// Watches these files; `None` if this user has no inotify instance or watch left.
    pub fn new(files: &[PathBuf], signal: &Arc<Signal>) -> Option<FileWatch> {
        let mut watch = FileWatch {
            watcher: Watcher::shared()?,
            watches: Vec::with_capacity(files.len()),
        };
        for file in files {
            let events =
                AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_MOVE_SELF | AddWatchFlags::IN_ATTRIB;
            let id = watch.watcher.inotify.add_watch(file.as_path(), events);
            let id = id.ok()?;
            watch.watches.push(id);
            watch.watcher.told().insert(id, signal.clone());
        }
        Some(watch)
    }
}

impl Drop for FileWatch {
    fn drop(&mut self) {
        for id in &self.watches {
            self.watcher.told().remove(id);
            // It is gone already if the file is.
            let _ = self.watcher.inotify.rm_watch(*id);
        }
    }
}

/// The default slack of 50 µs is longer than the capture thread's sleeps. Where it cannot be set, they are only longer.
pub fn allow_short_sleeps() {
    let _ = nix::sys::prctl::set_timerslack(1);
}

#[cfg(test)]
mod tests {
    use super::super::Wake;
    use super::*;
    use std::time::Duration;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn each_database_is_told_of_its_own_files() {
        let directory = tempfile::tempdir().expect("a directory");
        let databases: Vec<(PathBuf, Wake)> = (0..300)
            .map(|i| (directory.path().join(format!("{i}.db")), Wake::new()))
            .collect();
        // More than a user has instances.
        let watches: Vec<FileWatch> = databases
            .iter()
            .map(|(file, wake)| {
                std::fs::write(file, "before").expect("a file");
                let files = std::slice::from_ref(file);
                FileWatch::new(files, wake.signal()).expect("a watch")
            })
            .collect();
        for chosen in [0, 150, 299] {
            std::fs::write(&databases[chosen].0, "after").expect("written");
            assert!(databases[chosen].1.wait(LONG), "{chosen} is not told");
        }
        std::fs::remove_file(&databases[7].0).expect("removed");
        assert!(databases[7].1.wait(LONG), "a removal is told");
        drop(watches);
        // The kernel tells in order: once a new file's first change is told, so is all before it.
        let all_told = |name: &str| {
            let (file, told) = (directory.path().join(name), Wake::new());
            std::fs::write(&file, "before").expect("a file");
            let watch = FileWatch::new(std::slice::from_ref(&file), told.signal());
            let _watch = watch.expect("a watch");
            std::fs::write(&file, "after").expect("written");
            assert!(told.wait(LONG), "{name} is not told");
        };
        all_told("second.db");
        let signalled = || {
            databases
                .iter()
                .filter(|(_, wake)| wake.wait(Duration::ZERO))
        };
        // A write is several changes: the second may be told after the wait for the first.
        assert!(
            signalled().count() <= 4,
            "a database is told of another's file"
        );
        std::fs::write(&databases[0].0, "later").expect("written");
        all_told("third.db");
        let nobody = signalled().next().is_none();
        assert!(nobody, "one is told that watches no more");
    }
}
