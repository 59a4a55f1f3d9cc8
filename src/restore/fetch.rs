//! Objects read and unpacked ahead, by a few threads, and handed over in the order in which they are needed.
//!
//! Memory: for each of 2 × threads objects ahead, two pieces on their way and one in the making, and what a decoder needs
//! for a block (up to 12 MiB for the largest blocks that lz4 knows, 2 MiB for walcast's own).

use super::error::RestoreError;
use super::object::Source;
use crate::archive::{Key, SegmentDoc};
use std::collections::{BTreeSet, VecDeque};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// Bytes of a piece. Whole pages of any size fit in it.
pub(super) const PIECE_BYTES: usize = 512 << 10;
const PIECES_AHEAD: usize = 2;

/// What comes of an object: its document where it is a segment, then its content. The end of messages is the object's,
/// verified.
pub(super) enum Part {
    Doc(Option<SegmentDoc>),
    Piece(Vec<u8>),
}

type Message = Result<Part, RestoreError>;

/// What to fetch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub(super) key: Key,
    pub(super) has_doc: bool,
}

struct Job {
    wanted: Wanted,
    to: SyncSender<Message>,
}

/// An object on its way.
pub(super) struct Incoming {
    pub(super) key: Key,
    parts: Receiver<Message>,
}

impl Incoming {
    /// What comes next; `None` at the object's end.
    pub(super) fn next(&self) -> Option<Message> {
        self.parts.recv().ok()
    }
}

/// The threads, and what they are to do. Dropping it waits for what they have in hand.
pub(super) struct Fetcher {
    wanted: std::vec::IntoIter<Wanted>,
    ahead: VecDeque<Incoming>,
    limit: usize,
    jobs: Option<Sender<Job>>,
    threads: Vec<JoinHandle<()>>,
}

impl Fetcher {
    pub(super) fn new(
        source: &Source,
        avoid: &BTreeSet<Key>,
        threads: usize,
        wanted: Vec<Wanted>,
    ) -> Result<Fetcher, RestoreError> {
        let threads = threads.clamp(1, 64);
        let (jobs, queue) = channel::<Job>();
        let queue = Arc::new(Mutex::new(queue));
        let avoid = Arc::new(avoid.clone());
        let mut fetcher = Fetcher {
            wanted: wanted.into_iter(),
            ahead: VecDeque::new(),
            limit: 2 * threads,
            jobs: Some(jobs),
            threads: Vec::new(),
        };
        for number in 0..threads {
            let (source, avoid, queue) = (source.clone(), avoid.clone(), queue.clone());
            let work = move || {
                // The lock is held while waiting: whoever gets a job is the one that waits.
                while let Ok(job) = {
                    let queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
                    queue.recv()
                } {
                    if let Err(error) = fetch(&source, &avoid, &job) {
                        // Nobody listens any more: nobody cares.
                        let _ = job.to.send(Err(error));
                    }
                }
            };
            let thread = std::thread::Builder::new()
                .name(format!("fetch-{number}"))
                .spawn(work)
                .map_err(|error| {
                    RestoreError::Disk(crate::disk::DiskError::new(
                        "restore.thread",
                        std::path::Path::new("thread"),
                        error,
                    ))
                })?;
            fetcher.threads.push(thread);
        }
        Ok(fetcher)
    }

    /// The next object.
    pub(super) fn next(&mut self) -> Option<Incoming> {
        while self.ahead.len() < self.limit
            && let Some(jobs) = &self.jobs
            && let Some(wanted) = self.wanted.next()
        {
            let (to, parts) = sync_channel(PIECES_AHEAD);
            let key = wanted.key;
            // The threads end after this is dropped, so there is one to take it.
            let _ = jobs.send(Job { wanted, to });
            self.ahead.push_back(Incoming { key, parts });
        }
        self.ahead.pop_front()
    }
}

impl Drop for Fetcher {
    fn drop(&mut self) {
        self.ahead.clear();
        self.jobs = None;
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Sends an object to its end, or until nobody listens.
fn fetch(source: &Source, avoid: &BTreeSet<Key>, job: &Job) -> Result<(), RestoreError> {
    let key = job.wanted.key;
    if matches!(key, Key::Wal { .. }) {
        let doc = match job.wanted.has_doc {
            true => source.segment_doc(key, avoid)?,
            false => None,
        };
        if job.to.send(Ok(Part::Doc(doc))).is_err() {
            return Ok(());
        }
    }
    let mut object = source.open(key)?;
    loop {
        let mut piece = Vec::with_capacity(PIECE_BYTES);
        if !object.read(&mut piece, PIECE_BYTES)? {
            return Ok(());
        }
        if job.to.send(Ok(Part::Piece(piece))).is_err() {
            return Ok(());
        }
    }
}
