//! The slow disk work of a database, on a thread of its own: an fsync or the removal of thousands of files must never
//! stand between a commit and its capture.

use crate::disk::{self, DiskError, File, ReplaceOps};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

/// Work that may be late.
#[derive(Debug)]
pub enum Job {
    /// Make a closed file survive a power cut. Under a flood some are left out: what is lost by that, a power cut only,
    /// is found by the checksums at the next start.
    Sync(File),
    /// Remove a file or a directory.
    Remove(PathBuf),
    /// Replace a small file.
    Replace {
        /// The names of the steps.
        ops: ReplaceOps,
        /// The file.
        path: PathBuf,
        /// Its new bytes.
        bytes: Vec<u8>,
        /// Whether to wait for the disk.
        durable: bool,
    },
}

/// Jobs that may wait. Each may hold an open file.
const QUEUE: usize = 64;

/// The thread and its queue. Dropping it waits for the jobs in it.
pub struct Housekeeping {
    jobs: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Housekeeping {
    /// Starts the thread.
    pub fn start(name: &str) -> std::io::Result<Housekeeping> {
        let (jobs, queue) = sync_channel(QUEUE);
        let thread = std::thread::Builder::new()
            .name(format!("disk-{name}"))
            .spawn(move || run(&queue))?;
        Ok(Housekeeping {
            jobs: Some(jobs),
            thread: Some(thread),
        })
    }

    /// Hands a job over without waiting; gives it back if too many wait.
    pub fn offer(&self, job: Job) -> Option<Job> {
        match self.jobs.as_ref()?.try_send(job) {
            Ok(()) => None,
            Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) => Some(job),
        }
    }

    /// Hands a job over, and waits for room: for the end, when nothing is held up by it any more.
    pub fn give(&self, job: Job) {
        if let Some(jobs) = &self.jobs {
            // It can only fail if the thread panicked, and that was printed.
            let _ = jobs.send(job);
        }
    }
}

impl Drop for Housekeeping {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A panic there was printed by that thread; there is nothing left to do with it here.
            let _ = thread.join();
        }
    }
}

fn run(queue: &Receiver<Job>) {
    let mut last_error = String::new();
    for job in queue {
        match work(job) {
            Ok(()) => last_error.clear(),
            Err(error) => {
                let error = error.to_string();
                // A full disk would otherwise fill the log as well.
                if error != last_error {
                    tracing::warn!("{error}");
                }
                last_error = error;
            }
        }
    }
}

fn work(job: Job) -> Result<(), DiskError> {
    match job {
        Job::Sync(file) => file.sync_data("shadow.sync"),
        Job::Remove(path) => match path.is_dir() {
            true => disk::remove_dir_all("shadow.remove", &path),
            false => disk::remove_file("shadow.remove", &path),
        },
        Job::Replace {
            ops,
            path,
            bytes,
            durable,
        } => disk::replace(ops, &path, &bytes, durable),
    }
}
