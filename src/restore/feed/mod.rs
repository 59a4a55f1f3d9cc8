//! An archive as a primary's stream: a replica takes from it what it would take from the primary.
//!
//! A snapshot, then the log from the beginning of its index on, in chunks that end where the archive recorded a commit; or
//! the log from where the replica is. [`Feed::begin`] sends what is there, [`Feed::more`] what has come since, until another
//! history begins: who then begins again gets a snapshot of that.
//!
//! What it sends has been verified as in a restore, and the replica proves each commit once more. A commit whose checksum
//! the archive does not know is sent with the next one that is known. After an error the replica begins again from what it
//! has.

mod begin;
mod cut;

use super::catalog::{Catalog, History, Segment};
use super::error::RestoreError;
use super::fetch::{Fetcher, Wanted};
use super::object::Source;
use super::walk::{Next, Walk};
use crate::archive::Key;
use crate::format::position::{Generation, Position};
use crate::model::{Hello, Message, clock_us};
use begin::Begin;
use cut::{Cut, Sender};
use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// How to feed.
#[derive(Clone, Copy, Debug)]
pub struct FeedOptions<'a> {
    /// Where the replica is; `None`: it has nothing to go on from.
    pub from: Option<Position>,
    /// What readers of the replica saw: nothing older of the same history becomes visible.
    pub seen: Option<Position>,
    /// The only history that will do; `None`: the newest.
    pub generation: Option<Generation>,
    /// The log of this index is damaged: a snapshot of a later one is better than going on.
    pub damaged: Option<u64>,
    /// Snapshots of these indexes could not be read: an older one, and the log from it on, is better than none.
    pub unsound: &'a BTreeSet<u64>,
    /// How often there will be more; `None`: this is all.
    pub poll: Option<Duration>,
    /// Objects that are read and unpacked at one time.
    pub parallelism: usize,
    /// Set to stop.
    pub cancel: &'a AtomicBool,
}

impl<'a> FeedOptions<'a> {
    /// All of the newest history, once.
    pub fn new(cancel: &'a AtomicBool) -> FeedOptions<'a> {
        FeedOptions {
            from: None,
            seen: None,
            generation: None,
            damaged: None,
            unsound: const { &BTreeSet::new() },
            poll: None,
            parallelism: 2,
            cancel,
        }
    }
}

/// Takes a message; `false`: nobody takes them any more.
pub type Deliver<'a> = dyn FnMut(Message) -> bool + 'a;

/// A stream that has begun, and where it stands.
pub struct Feed {
    source: Source,
    generation: Generation,
    parallelism: usize,
    walk: Walk,
    cut: Cut,
}

impl Feed {
    /// Sends what the archive has of its newest history.
    ///
    /// # Errors
    /// As for a restore; [`RestoreError::Undocumented`] if the archive does not record what a replica needs, and
    /// [`RestoreError::Behind`] if the replica has all of it already and more.
    pub fn begin(
        source: &Source,
        options: &FeedOptions<'_>,
        deliver: &mut Deliver<'_>,
    ) -> Result<Feed, RestoreError> {
        let mut histories = Catalog::read(source, &BTreeSet::new())?.histories;
        let archive = source.name();
        let Some(history) = histories.pop() else {
            return Err(RestoreError::Empty { archive });
        };
        let generation = history.generation;
        if let Some(wanted) = options.generation.filter(|wanted| *wanted != generation) {
            return Err(RestoreError::NoGeneration {
                archive,
                generation: wanted,
            });
        }
        let (begin, end) = Begin::choose(source, &history, options)?;
        let undocumented = RestoreError::Undocumented { archive };
        let page_size = begin.page_size(&history).ok_or(undocumented)?;
        let mut cut = Cut::new(begin.position());
        let mut to = Sender {
            cut: &mut cut,
            deliver,
            cancel: options.cancel,
        };
        let fork = history.doc.as_ref().and_then(|doc| doc.fork);
        to.send(Message::Hello(Hello {
            protocol: 1,
            server_id: format!("archive {}", source.name()),
            session_id: String::new(),
            page_size,
            generation,
            parent: fork.map(|fork| fork.generation),
            fork,
            follows: begin.follows(options.from),
            reason: format!("from the archive {}", source.name()),
            position: end,
            clock_us: clock_us(),
            heartbeat_ms: options.poll.map_or(1000, |poll| poll.as_millis() as u32),
        }))?;
        let first = match begin {
            Begin::Snapshot(doc) => {
                let index = doc.position.index;
                let seen = options.seen.filter(|seen| seen.generation == generation);
                to.snapshot(source, doc, seen)?;
                index
            }
            Begin::Resume { index, .. } => index,
        };
        let mut feed = Feed {
            source: source.clone(),
            generation,
            parallelism: options.parallelism,
            walk: Walk::new(source, generation, page_size, first),
            cut,
        };
        let segments = feed.ahead(&history);
        feed.log(segments, options.cancel, deliver)?;
        Ok(feed)
    }

    /// Sends what has come since; `false` if another history has begun.
    ///
    /// # Errors
    /// As [`Feed::begin`].
    pub fn more(
        &mut self,
        cancel: &AtomicBool,
        deliver: &mut Deliver<'_>,
    ) -> Result<bool, RestoreError> {
        let mut histories = Catalog::read(&self.source, &BTreeSet::new())?.histories;
        let history = match histories.pop() {
            Some(newest) if newest.generation == self.generation => newest,
            _ => return Ok(false),
        };
        let segments = self.ahead(&history);
        let proven = begin::proven_end(&self.source, self.generation, segments)?;
        let mut to = Sender {
            cut: &mut self.cut,
            deliver,
            cancel,
        };
        let position = proven.unwrap_or(to.cut.proven());
        to.send(Message::Heartbeat {
            position,
            clock_us: clock_us(),
        })?;
        self.log(segments, cancel, deliver)?;
        Ok(true)
    }

    /// The segments that were not read yet, as far as their documents are there: the others are taken when they are.
    fn ahead<'h>(&self, history: &'h History) -> &'h [Segment] {
        let here = self.walk.position();
        let segments = begin::documented(history.segments_from(here.index));
        let is_old = |s: &Segment| (s.index, s.offset) < (here.index, here.offset);
        &segments[segments.partition_point(is_old)..]
    }

    fn log(
        &mut self,
        segments: &[Segment],
        cancel: &AtomicBool,
        deliver: &mut Deliver<'_>,
    ) -> Result<(), RestoreError> {
        if segments.is_empty() {
            return Ok(());
        }
        let wanted = segments.iter().map(|segment| Wanted {
            key: Key::wal(self.generation, segment.index, segment.offset),
            has_doc: segment.listed.has_doc,
        });
        let none = BTreeSet::new();
        let mut fetcher = Fetcher::new(&self.source, &none, self.parallelism, wanted.collect())?;
        let mut to = Sender {
            cut: &mut self.cut,
            deliver,
            cancel,
        };
        while let Some(incoming) = fetcher.next() {
            if self.walk.segment(&incoming, &mut to)? == Next::Enough {
                return Err(RestoreError::Cancelled);
            }
        }
        Ok(())
    }
}
