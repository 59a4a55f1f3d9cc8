//! The slow disk work of a database, on a thread beside the capture: an fsync or the removal of thousands of files must never
//! stand between a commit and its capture.

use super::NextIndex;
use crate::disk::{self, DiskError, Errands, File, ReplaceOps};
use std::collections::VecDeque;
use std::path::PathBuf;

/// Work that may be late.
#[derive(Debug)]
pub enum Job {
    /// Make a closed file survive a power cut. Under a flood some are left out: what is lost by that, a power cut only,
    /// is found by the checksums at the next start.
    Sync(File),
    /// Remove a file or a directory.
    Remove(PathBuf),
    /// Make the files of the next index.
    Prepare(NextIndex),
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

/// The queue. Dropping it waits for the jobs in it.
pub struct Housekeeping {
    database: String,
    errands: Errands<Job>,
}

impl Housekeeping {
    /// For the database of this name.
    pub fn new(name: &str) -> Housekeeping {
        Housekeeping::with(name, work)
    }

    /// The same with another way to do a job.
    pub fn with(
        name: &str,
        mut work: impl FnMut(Job) -> Result<(), DiskError> + Send + 'static,
    ) -> Housekeeping {
        let database = name.to_owned();
        let mut last_error = String::new();
        let errands = Errands::new(format!("disk-{name}"), QUEUE, move |job| match work(job) {
            Ok(()) => last_error.clear(),
            Err(error) => {
                let error = error.to_string();
                // A full disk would otherwise fill the log as well.
                if error != last_error {
                    tracing::warn!(database, "{error}");
                }
                last_error = error;
            }
        });
        Housekeeping {
            database: name.to_owned(),
            errands,
        }
    }

    /// The name of its database, for the log.
    pub fn database(&self) -> &str {
        &self.database
    }

    /// Hands a job over without waiting; gives it back if too many wait.
    pub fn offer(&self, job: Job) -> Option<Job> {
        self.errands.offer(job)
    }

    /// Hands a job over, and waits for room: for the end, when nothing is held up by it any more.
    pub fn give(&self, job: Job) {
        self.errands.give(job);
    }

    /// Waits until all that was handed over is done.
    pub fn settle(&self) {
        self.errands.settle();
    }
}

/// Jobs that found the queue full, in the order in which they came. Were a later index removed before an earlier one, an end
/// in between would leave a log with a hole.
#[derive(Default)]
pub struct Backlog(VecDeque<Job>);

impl Backlog {
    /// Hands a job over by `offer`, after those that wait; or keeps it.
    pub fn add(&mut self, job: Job, offer: impl FnMut(Job) -> Option<Job>) {
        self.0.push_back(job);
        self.drain(offer);
    }

    /// Hands over what waits, as far as `offer` takes it. True if nothing waits any more.
    pub fn drain(&mut self, mut offer: impl FnMut(Job) -> Option<Job>) -> bool {
        while let Some(job) = self.0.pop_front() {
            if let Some(job) = offer(job) {
                self.0.push_front(job);
                return false;
            }
        }
        true
    }
}

/// Does a job.
pub fn work(job: Job) -> Result<(), DiskError> {
    match job {
        Job::Sync(file) => file.sync_data("shadow.sync"),
        Job::Remove(path) => match path.is_dir() {
            true => disk::remove_dir_all("shadow.remove", &path),
            false => disk::remove_file("shadow.remove", &path),
        },
        Job::Prepare(next) => next.make(),
        Job::Replace {
            ops,
            path,
            bytes,
            durable,
        } => disk::replace(ops, &path, &bytes, durable),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_for_a_while_keeps_its_order() {
        let mut backlog = Backlog::default();
        let (mut done, mut tries) = (Vec::new(), 0_usize);
        // The queue has room now and then, as while a thread takes from it.
        let mut offer = |job: Job| {
            tries += 1;
            if !tries.is_multiple_of(3) {
                return Some(job);
            }
            let Job::Remove(path) = job else {
                unreachable!("only removals are added")
            };
            done.push(path);
            None
        };
        let paths: Vec<PathBuf> = (0..50).map(|n| PathBuf::from(n.to_string())).collect();
        for path in &paths {
            backlog.add(Job::Remove(path.clone()), &mut offer);
        }
        while !backlog.drain(&mut offer) {}
        assert_eq!(done, paths);
    }
}
