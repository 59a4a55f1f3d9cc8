//! An archive as a primary's stream: a replica takes from it what it would take from the primary.
//!
//! A snapshot, then the log from the beginning of its index on, in chunks that end where the archive recorded a commit; or
//! the log from where the replica is. With a time to poll it goes on as the archive grows, without one it ends with it. It
//! ends as well where another history begins: who then asks again gets a snapshot of that.
//!
//! What it sends has been verified as in a restore, and the replica proves each commit once more. After an error the replica
//! asks again from what it has.

use super::catalog::{Catalog, History, Segment};
use super::error::RestoreError;
use super::fetch::{Fetcher, Part, Wanted};
use super::object::Source;
use super::search;
use super::walk::{Next, Seen, Sink, Walk};
use crate::archive::{Key, SnapshotDoc};
use crate::format::position::Position;
use crate::format::wal::{FRAME_HEADER_SIZE, WAL_HEADER_SIZE, frame_size};
use crate::model::{
    Chunk, Codec, Commit, Follows, Hello, MAX_CHUNK, Message, SnapshotBegin, SnapshotEnd,
    SnapshotPages, clock_us,
};
use bytes::Bytes;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Between two looks at the flag while nothing happens.
const NAP: Duration = Duration::from_millis(20);

/// How to feed.
#[derive(Clone, Copy, Debug)]
pub struct FeedOptions<'a> {
    /// Where the replica is; `None`: it has nothing.
    pub from: Option<Position>,
    /// How often to look for more; `None`: end with what is there.
    pub poll: Option<Duration>,
    /// Objects that are read and unpacked at one time.
    pub parallelism: usize,
    /// Set to stop.
    pub cancel: &'a AtomicBool,
}

/// Takes a message; `false`: nobody takes them any more.
pub type Deliver<'a> = dyn FnMut(Message) -> bool + 'a;

/// Sends the archive's newest history.
///
/// # Errors
/// As for a restore; [`RestoreError::Undocumented`] if the archive does not record what a replica needs.
pub fn feed(
    source: &Source,
    options: &FeedOptions<'_>,
    deliver: &mut Deliver<'_>,
) -> Result<(), RestoreError> {
    let none = BTreeSet::new();
    let empty = || RestoreError::Empty {
        archive: source.name(),
    };
    let mut catalog = Catalog::read(source, &none)?;
    let newest = catalog.histories.pop().ok_or_else(empty)?;
    let begin = Begin::choose(source, &newest, options.from)?;
    let generation = newest.generation;
    let end = search::newest(source, &newest, &none)?.ok_or_else(empty)?;
    let begin_at = begin.position();
    let mut to = Sender {
        deliver,
        cancel: options.cancel,
        skip: begin_at,
        snapshot: None,
        bytes: Vec::new(),
        start: begin_at,
    };
    let page_size = begin
        .page_size(&newest)
        .ok_or_else(|| undocumented(source))?;
    to.send(Message::Hello(Hello {
        protocol: 1,
        server_id: format!("archive {}", source.name()),
        session_id: String::new(),
        page_size,
        generation,
        parent: newest
            .doc
            .as_ref()
            .and_then(|doc| Some(doc.fork?.generation)),
        fork: newest.doc.as_ref().and_then(|doc| doc.fork),
        follows: begin.follows(options.from),
        reason: format!("from the archive {}", source.name()),
        position: end.position,
        clock_us: clock_us(),
        heartbeat_ms: options.poll.map_or(1000, |poll| poll.as_millis() as u32),
    }))?;
    let first = match begin {
        Begin::Snapshot(doc) => {
            let index = doc.position.index;
            to.snapshot(source, doc)?;
            index
        }
        Begin::Resume { index, .. } => index,
    };
    let mut walk = Walk::new(source, generation, page_size, first);
    let mut history = newest;
    loop {
        log(source, &history, &mut walk, options, &mut to)?;
        let Some(poll) = options.poll else {
            return Ok(());
        };
        to.wait(poll)?;
        let mut catalog = Catalog::read(source, &none)?;
        match catalog.histories.pop() {
            Some(newest) if newest.generation == generation => history = newest,
            _ => return Ok(()),
        }
        to.send(Message::Heartbeat {
            position: to.start,
            clock_us: clock_us(),
        })?;
    }
}

fn undocumented(source: &Source) -> RestoreError {
    RestoreError::Undocumented {
        archive: source.name(),
    }
}

/// How the stream begins.
enum Begin {
    /// With the newest snapshot.
    Snapshot(SnapshotDoc),
    /// With the log behind the replica's position, which is read from this index on.
    Resume { from: Position, index: u64 },
}

impl Begin {
    fn choose(
        source: &Source,
        history: &History,
        from: Option<Position>,
    ) -> Result<Begin, RestoreError> {
        if let Some(from) = from.filter(|from| from.generation == history.generation)
            && let Some(index) = log_of(source, history, from)?
        {
            return Ok(Begin::Resume { from, index });
        }
        for &index in history.snapshots.keys().rev() {
            let key = Key::snapshot(history.generation, index);
            if let Some(doc) = source.snapshot_doc(key, &BTreeSet::new())? {
                return Ok(Begin::Snapshot(doc));
            }
        }
        Err(undocumented(source))
    }

    /// Behind this the replica gets all.
    fn position(&self) -> Position {
        match self {
            // The log of the snapshot's index is played over it from its beginning.
            Begin::Snapshot(doc) => Position {
                offset: 0,
                ..doc.position
            },
            Begin::Resume { from, .. } => *from,
        }
    }

    fn page_size(&self, history: &History) -> Option<u32> {
        match self {
            Begin::Snapshot(doc) => Some(doc.page_size),
            Begin::Resume { .. } => history.doc.as_ref().map(|doc| doc.page_size),
        }
    }

    fn follows(&self, from: Option<Position>) -> Follows {
        match (self, from) {
            (Begin::Resume { .. }, _) => Follows::Resume,
            (Begin::Snapshot(_), None) => Follows::NewReplica,
            (Begin::Snapshot(doc), Some(from)) if from.generation != doc.position.generation => {
                Follows::OtherGeneration
            }
            (Begin::Snapshot(_), Some(_)) => Follows::NotRetained,
        }
    }
}

/// The index from which the log behind a position can be read: its own, or the next one if that is known to follow.
fn log_of(source: &Source, history: &History, from: Position) -> Result<Option<u64>, RestoreError> {
    let begins = |index: u64| {
        let first = history.segments_from(index).first();
        first.filter(|first| (first.index, first.offset) == (index, 0))
    };
    if begins(from.index).is_some() {
        return Ok(Some(from.index));
    }
    let next = from.index + 1;
    if begins(next).is_none() {
        return Ok(None);
    }
    let key = Key::wal(history.generation, next, 0);
    let doc = source.segment_doc(key, &BTreeSet::new())?;
    Ok(doc
        .filter(|doc| doc.previous_end == from.offset)
        .map(|_| next))
}

/// Sends what the archive has of the log and was not sent yet.
fn log(
    source: &Source,
    history: &History,
    walk: &mut Walk,
    options: &FeedOptions<'_>,
    to: &mut Sender<'_, '_>,
) -> Result<(), RestoreError> {
    let here = walk.position();
    let segments = history.segments_from(here.index);
    // One whose document is not there yet is taken when it is.
    let end = segments.iter().rposition(|segment| segment.listed.has_doc);
    let segments = &segments[..end.map_or(0, |end| end + 1)];
    let is_new = |s: &&Segment| (s.index, s.offset) >= (here.index, here.offset);
    let wanted = segments.iter().filter(is_new).map(|segment| Wanted {
        key: Key::wal(history.generation, segment.index, segment.offset),
        has_doc: segment.listed.has_doc,
    });
    let wanted: Vec<Wanted> = wanted.collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let mut fetcher = Fetcher::new(source, &BTreeSet::new(), options.parallelism, wanted)?;
    while let Some(incoming) = fetcher.next() {
        if walk.segment(&incoming, to)? == Next::Enough {
            return Err(RestoreError::Cancelled);
        }
    }
    Ok(())
}

/// Makes messages.
struct Sender<'a, 'd> {
    deliver: &'a mut Deliver<'d>,
    cancel: &'a AtomicBool,
    /// The replica has what is up to here.
    skip: Position,
    /// A snapshot that is not complete before the log reaches it.
    snapshot: Option<SnapshotDoc>,
    /// Bytes of the log that are not sent yet, and where they begin.
    bytes: Vec<u8>,
    start: Position,
}

impl Sender<'_, '_> {
    fn send(&mut self, message: Message) -> Result<(), RestoreError> {
        match !self.cancel.load(Ordering::Relaxed) && (self.deliver)(message) {
            true => Ok(()),
            false => Err(RestoreError::Cancelled),
        }
    }

    fn wait(&self, time: Duration) -> Result<(), RestoreError> {
        let end = Instant::now() + time;
        while !self.cancel.load(Ordering::Relaxed) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(NAP));
        }
        Err(RestoreError::Cancelled)
    }

    fn snapshot(&mut self, source: &Source, doc: SnapshotDoc) -> Result<(), RestoreError> {
        self.send(Message::SnapshotBegin(SnapshotBegin {
            page_count: doc.page_count,
            start: self.start,
            log: None,
        }))?;
        let key = Key::snapshot(doc.position.generation, doc.position.index);
        let wanted = Wanted {
            key,
            has_doc: false,
        };
        let mut fetcher = Fetcher::new(source, &BTreeSet::new(), 1, vec![wanted])?;
        let mut pages = 0;
        while let Some(incoming) = fetcher.next() {
            while let Some(part) = incoming.next() {
                let Part::Piece(piece) = part? else { continue };
                let count = piece.len() as u32 / doc.page_size;
                if !piece.len().is_multiple_of(doc.page_size as usize) {
                    return Err(source.damaged(key, "it does not end where a page ends"));
                }
                self.send(Message::SnapshotPages(SnapshotPages {
                    first_page: pages + 1,
                    codec: Codec::None,
                    size: piece.len() as u32,
                    data: Bytes::from(piece),
                }))?;
                pages += count;
            }
        }
        if pages != doc.page_count {
            return Err(source.damaged(key, "it has other pages than its document says"));
        }
        match doc.position.offset {
            0 => {
                let dbsum = dbsum(&doc.dbsum).ok_or_else(|| {
                    source.damaged(key.doc().unwrap_or(key), "its checksum is none")
                })?;
                self.send(Message::SnapshotEnd(SnapshotEnd {
                    position: doc.position,
                    dbsum,
                    page_count: doc.page_count,
                    time_us: doc.time_us,
                }))
            }
            _ => {
                self.snapshot = Some(doc);
                Ok(())
            }
        }
    }

    /// Sends the bytes that are there; with a commit where they end with a recorded one.
    fn flush(&mut self, end: Position, commit: Option<Commit>) -> Result<(), RestoreError> {
        let chunk = Chunk {
            start: self.start,
            end_offset: end.offset,
            codec: Codec::None,
            data: Bytes::from(std::mem::take(&mut self.bytes)),
            commit,
        };
        self.start = end;
        self.send(Message::Chunk(chunk))
    }
}

fn dbsum(text: &str) -> Option<crate::format::dbsum::DbSum> {
    let sum = u64::from_str_radix(text, 16);
    sum.ok().map(crate::format::dbsum::DbSum)
}

impl Sink for Sender<'_, '_> {
    fn frame(&mut self, seen: Seen<'_>) -> Result<bool, RestoreError> {
        let end = seen.position;
        if (end.index, end.offset) <= (self.skip.index, self.skip.offset) {
            return Ok(true);
        }
        let size = frame_size(seen.log.page_size);
        if self.bytes.is_empty() {
            let before = end.offset - size;
            let is_first = before == WAL_HEADER_SIZE as u64;
            self.start = Position {
                offset: if is_first { 0 } else { before },
                ..end
            };
            if is_first {
                self.bytes.extend_from_slice(&seen.log.encode());
            }
        }
        self.bytes.extend_from_slice(&seen.frame.header.encode());
        self.bytes.extend_from_slice(seen.frame.data);
        let known = seen.record.filter(|record| record.page_count != 0);
        let is_full = self.bytes.len() + seen.frame.data.len() + FRAME_HEADER_SIZE > MAX_CHUNK;
        if known.is_none() && !is_full {
            return Ok(true);
        }
        let commit = known.map(|record| Commit {
            dbsum: record.dbsum,
            page_count: record.page_count,
            time_us: record.time_us,
        });
        self.flush(end, commit)?;
        let is_reached = |doc: &SnapshotDoc| {
            (end.index, end.offset) >= (doc.position.index, doc.position.offset)
        };
        if let Some(commit) = commit
            && self.snapshot.as_ref().is_some_and(is_reached)
        {
            self.snapshot = None;
            self.send(Message::SnapshotEnd(SnapshotEnd {
                position: end,
                dbsum: commit.dbsum,
                page_count: commit.page_count,
                time_us: commit.time_us,
            }))?;
        }
        Ok(true)
    }

    fn pause(&mut self) -> Result<(), RestoreError> {
        match self.cancel.load(Ordering::Relaxed) {
            true => Err(RestoreError::Cancelled),
            false => Ok(()),
        }
    }

    fn log_ended(&mut self) -> Result<(), RestoreError> {
        // What is not sent was not committed.
        self.bytes.clear();
        Ok(())
    }
}
