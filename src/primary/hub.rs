//! Where the capture thread hands chunks to all streams: compressed once, shared by reference, bounded.
//!
//! A stream asks for what follows its own cursor. What it does not find here it reads from the shadow WAL, so a slow
//! replica costs no memory, and the capture thread never waits for one.

use super::recent::Recent;
use super::shadow::Needed;
use crate::format::position::{Generation, Position};
use crate::model::{Chunk, Point};
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::AtomicIsize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// Compressed bytes kept for streams that are a little behind.
const RING_BYTES: usize = 8 * 1024 * 1024;
/// Chunks kept; many small ones take more memory than their bytes.
const RING_CHUNKS: usize = 16 * 1024;
/// What a chunk takes besides its bytes, about.
const CHUNK_OVERHEAD: usize = 200;
/// Commits whose time is remembered, to tell how many seconds a replica is behind.
const TIMES: usize = 4096;
/// Who is more chunks behind reads them from the shadow WAL, many together (`batch`), though the ring has them.
const FAR: usize = 256;

/// A chunk that was captured, in the forms in which streams send it.
#[derive(Clone)]
pub struct Entry {
    /// As it is on disk.
    pub chunk: Chunk,
    /// For streams that have sent what it refers to; `None`: not made, or not smaller.
    pub recent: Option<Recent>,
}

impl Entry {
    /// Bytes of memory, about.
    fn cost(&self) -> usize {
        let recent = self.recent.as_ref().map_or(0, |recent| recent.data.len());
        self.chunk.data.len() + recent + CHUNK_OVERHEAD
    }
}

/// What follows a cursor.
pub enum After {
    /// This chunk.
    Entry(Entry),
    /// Nothing yet.
    Tip,
    /// Something that is only in the shadow WAL; nothing behind `bound` may be read there.
    Behind {
        /// The newest captured position.
        bound: Position,
    },
    /// The history that the cursor is in is not captured any more.
    Ended,
}

struct State {
    /// Counts attachments to the database. A stream lives in one.
    epoch: u64,
    generation: Option<Generation>,
    ring: VecDeque<Entry>,
    ring_bytes: usize,
    /// Where the chunk before the ring's first one ended.
    before: Option<Position>,
    /// The end of the newest chunk, whether a transaction ends there or not.
    published: Option<Position>,
    /// Positions before this cannot be read from the shadow WAL.
    oldest: (u64, u64),
    pins: BTreeMap<u64, usize>,
    /// Where each reader is whose log shall be kept beyond its age, by a number of its own.
    readers: BTreeMap<u64, Position>,
    times: VecDeque<Moment>,
    /// WAL bytes captured since the start.
    total: u64,
}

/// A commit whose time is remembered.
struct Moment {
    position: Position,
    time_us: i64,
    total: u64,
}

/// How far a replica is behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lag {
    /// WAL bytes; a lower bound where the position is further back than is remembered.
    pub bytes: u64,
    /// When the oldest commit that is missing was captured, µs since 1970; `None`: nothing is missing.
    pub since_us: Option<i64>,
}

/// The ring and the shared view of what is captured.
pub struct Hub {
    state: Mutex<State>,
    /// Changes with each chunk and each change of state: streams wait on it.
    changes: watch::Sender<u64>,
    tip: watch::Sender<Option<Point>>,
    /// Open streams that take the recent form.
    takers: AtomicIsize,
}

impl Hub {
    /// Nothing captured.
    pub fn new() -> Hub {
        let state = State {
            epoch: 0,
            generation: None,
            ring: VecDeque::new(),
            ring_bytes: 0,
            before: None,
            published: None,
            oldest: (0, 0),
            pins: BTreeMap::new(),
            readers: BTreeMap::new(),
            times: VecDeque::new(),
            total: 0,
        };
        Hub {
            state: Mutex::new(state),
            changes: watch::Sender::new(0),
            tip: watch::Sender::new(None),
            takers: AtomicIsize::new(0),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes all streams.
    pub fn notify(&self) {
        self.changes
            .send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Tells of each change.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// The newest committed position with its checksum.
    pub fn tip(&self) -> watch::Receiver<Option<Point>> {
        self.tip.subscribe()
    }

    /// The same, now.
    pub fn tip_now(&self) -> Option<Point> {
        *self.tip.borrow()
    }

    /// A new attachment begins: streams of the one before end. `oldest` is the first index that can be read.
    pub fn begin(&self, published: Position, oldest: u64) {
        let mut state = self.state();
        state.epoch += 1;
        if state.generation != Some(published.generation) {
            state.times.clear();
        }
        state.generation = Some(published.generation);
        state.ring.clear();
        state.ring_bytes = 0;
        state.before = Some(published);
        state.published = Some(published);
        state.oldest = (oldest, 0);
        drop(state);
        self.notify();
    }

    /// The attachment ended. The tip stays known: it is still the newest captured position.
    pub fn end(&self) {
        let mut state = self.state();
        state.epoch += 1;
        state.ring.clear();
        state.ring_bytes = 0;
        drop(state);
        self.notify();
    }

    /// The tip is not known any more, or not yet.
    pub fn forget_tip(&self) {
        self.tip.send_replace(None);
    }

    /// The number of the current attachment.
    pub fn epoch(&self) -> u64 {
        self.state().epoch
    }

    /// The current generation.
    pub fn generation(&self) -> Option<Generation> {
        self.state().generation
    }

    /// So many more streams take the recent form; fewer, if it is negative.
    pub fn takers(&self, change: isize) {
        self.takers.fetch_add(change, Relaxed);
    }

    /// True while any stream takes the recent form.
    pub fn has_takers(&self) -> bool {
        self.takers.load(Relaxed) > 0
    }

    /// A chunk is in the shadow WAL.
    pub fn publish(&self, entry: Entry) {
        let mut state = self.state();
        state.published = Some(entry.chunk.end());
        state.total += entry.chunk.size();
        state.ring_bytes += entry.cost();
        state.ring.push_back(entry);
        while state.ring_bytes > RING_BYTES || state.ring.len() > RING_CHUNKS {
            let Some(old) = state.ring.pop_front() else {
                break;
            };
            state.ring_bytes -= old.cost();
            state.before = Some(old.chunk.end());
        }
    }

    /// Bytes are in the shadow WAL whose checksum is not known: no stream may begin before the next [`Hub::set_tip`].
    pub fn advance(&self, end: Position, bytes: u64) {
        let mut state = self.state();
        state.before = Some(end);
        state.published = Some(end);
        state.total += bytes;
    }

    /// The newest committed position is known with its checksum.
    pub fn set_tip(&self, point: Point) {
        let mut state = self.state();
        let Point {
            position, time_us, ..
        } = point;
        if state
            .times
            .back()
            .is_none_or(|last| last.position != position)
        {
            let total = state.total;
            state.times.push_back(Moment {
                position,
                time_us,
                total,
            });
        }
        if state.times.len() > TIMES {
            state.times.pop_front();
        }
        drop(state);
        self.tip.send_replace(Some(point));
        self.notify();
    }

    /// What follows `cursor` in the attachment `epoch`.
    pub fn after(&self, epoch: u64, cursor: Position) -> After {
        let state = self.state();
        let Some(bound) = state
            .published
            .filter(|p| state.epoch == epoch && p.generation == cursor.generation)
        else {
            return After::Ended;
        };
        let key = |p: Position| (p.index, p.offset);
        let next = state
            .ring
            .partition_point(|entry| key(entry.chunk.end()) <= key(cursor));
        let previous = match next.checked_sub(1) {
            Some(previous) => Some(state.ring[previous].chunk.end()),
            None => state.before,
        };
        match state.ring.get(next) {
            Some(_) if state.ring.len() - next > FAR => After::Behind { bound },
            Some(entry) if entry.chunk.start == cursor => After::Entry(entry.clone()),
            // The first chunk of an index follows the end of the index before.
            Some(entry) if entry.chunk.start.offset == 0 && previous == Some(cursor) => {
                After::Entry(entry.clone())
            }
            None if bound == cursor => After::Tip,
            _ => After::Behind { bound },
        }
    }

    /// True if WAL from `position` on can be read.
    pub fn is_kept(&self, position: Position) -> bool {
        (position.index, position.offset) >= self.state().oldest
    }

    /// Nothing was committed for a while: gives the ring's memory back. The last chunk stays, so that a stream at the
    /// tip sees that what comes next follows it. True if there was any.
    pub fn rest(&self) -> bool {
        let mut state = self.state();
        let has_more = state.ring.len() > 1;
        while state.ring.len() > 1 {
            state.before = state.ring.pop_front().map(|old| old.chunk.end());
        }
        state.ring.shrink_to(64);
        state.ring_bytes = state.ring.iter().map(Entry::cost).sum();
        has_more
    }

    /// Indexes of this generation before `index` are not kept any more.
    pub fn forget_before(&self, generation: Generation, index: u64) {
        let mut state = self.state();
        if state.generation == Some(generation) {
            state.oldest = state.oldest.max((index, 0));
        }
    }

    /// Keeps `index` and all after it for a snapshot in progress.
    pub fn pin(&self, index: u64) {
        *self.state().pins.entry(index).or_insert(0) += 1;
    }

    /// Ends one [`Hub::pin`].
    pub fn unpin(&self, index: u64) {
        let mut state = self.state();
        if let Some(count) = state.pins.get_mut(&index) {
            *count -= 1;
            if *count == 0 {
                state.pins.remove(&index);
            }
        }
    }

    /// What must not go yet.
    pub fn needed(&self) -> Needed {
        let state = self.state();
        // One of another generation has read nothing of this one.
        let of = |at: &Position| match Some(at.generation) == state.generation {
            true => at.index,
            false => 0,
        };
        Needed {
            pinned: state.pins.keys().next().copied(),
            unread: state.readers.values().map(of).min(),
        }
    }

    /// A reader is at `at` now; `None`: it reads no more.
    pub fn reads_at(&self, reader: u64, at: Option<Position>) {
        let mut state = self.state();
        match at {
            Some(at) => state.readers.insert(reader, at),
            None => state.readers.remove(&reader),
        };
    }

    /// How far a replica at `position` is behind the newest commit. One further behind than is remembered gets the
    /// oldest time known: it is at least that late.
    pub fn lag(&self, position: Option<Position>) -> Lag {
        let state = self.state();
        let key = |p: &Position| (p.index, p.offset);
        let here = position.filter(|p| state.generation == Some(p.generation));
        let next = here.map_or(0, |at| {
            state
                .times
                .partition_point(|m| key(&m.position) <= key(&at))
        });
        let Some(missing) = state.times.get(next) else {
            return Lag::default();
        };
        let known = next
            .checked_sub(1)
            .and_then(|before| state.times.get(before));
        let from = known.map_or(missing.total, |moment| moment.total);
        Lag {
            bytes: state.total.saturating_sub(from),
            since_us: Some(missing.time_us),
        }
    }
}
