//! Chunks of the log, gathered to one object.
//!
//! A segment that holds a commit ends with one, so that whoever goes on after it begins with a transaction. Only a
//! transaction that is larger than [`LIMIT`] becomes segments without a commit, and one with it.

use crate::archive::{Key, SegmentDoc};
use crate::format::commits::CommitRecord;
use crate::format::lz4::{self, Lz4Error};
use crate::format::position::Position;
use crate::format::wal::{FRAME_HEADER_SIZE, FrameHeader, frame_size};
use crate::model::{Chunk, Codec, clock_us};
use tokio::time::Instant;

/// Bytes of log in one object, at most, but for a chunk that is larger.
pub const LIMIT: usize = 8 << 20;
/// Content of a chunk, at most.
const MAX_CHUNK_CONTENT: usize = LIMIT;
/// The end of the index before is not known: no end is like this.
pub const UNKNOWN_END: u64 = u64::MAX;

/// A chunk that does not continue what was gathered, or cannot be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum BatchError {
    /// It begins elsewhere.
    #[error("the log goes on at {got}, where {due} is due")]
    Order {
        /// Where it begins.
        got: Position,
        /// Where it should.
        due: Position,
    },
    /// It is damaged.
    #[error("the log at {at} is damaged: {source}")]
    Packed {
        /// Where it begins.
        at: Position,
        /// What is wrong.
        source: Lz4Error,
    },
    /// It is packed against chunks before it, which are not here.
    #[error("the log at {at} is packed for a replica's stream")]
    Recent {
        /// Where it begins.
        at: Position,
    },
    /// It has not the length that it says.
    #[error("the log at {at} is damaged: it has {got} bytes, not {due}")]
    Length {
        /// Where it begins.
        at: Position,
        /// Its bytes.
        got: u64,
        /// What it says.
        due: u64,
    },
}

/// One object in the making.
pub struct Batch {
    page_size: u32,
    /// Where `content` begins.
    start: Position,
    previous_end: u64,
    content: Vec<u8>,
    /// Bytes of `content` up to its last commit.
    committed: usize,
    records: Vec<CommitRecord>,
    /// When the first commit in it came.
    since: Option<Instant>,
}

/// An object that is complete.
#[derive(Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its name.
    pub key: Key,
    /// Its document.
    pub doc: SegmentDoc,
    /// Its content.
    pub content: Vec<u8>,
    /// Where it ends.
    pub end: Position,
}

impl Batch {
    /// Begins at `start`. `previous_end`: where the index before ended.
    pub fn new(page_size: u32, start: Position, previous_end: Option<u64>) -> Batch {
        let previous_end = match (start.offset, start.index) {
            (0, 1..) => previous_end.unwrap_or(UNKNOWN_END),
            _ => 0,
        };
        Batch {
            page_size,
            start,
            previous_end,
            content: Vec::new(),
            committed: 0,
            records: Vec::new(),
            since: None,
        }
    }

    fn end(&self) -> Position {
        Position {
            offset: self.start.offset + self.content.len() as u64,
            ..self.start
        }
    }

    /// When the oldest commit in it came.
    pub fn since(&self) -> Option<Instant> {
        self.since
    }

    /// True if it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.content.is_empty()
    }

    /// False if what is gathered has to be taken first.
    pub fn has_room_for(&self, chunk: &Chunk) -> bool {
        self.content.is_empty()
            || chunk.start.index == self.start.index
                && self.content.len() + chunk.size() as usize <= LIMIT
    }

    /// Adds the next chunk.
    pub fn push(&mut self, chunk: &Chunk) -> Result<(), BatchError> {
        let (at, end) = (chunk.start, self.end());
        let begins = self.content.is_empty()
            && at.generation == end.generation
            && at.index == end.index + 1
            && at.offset == 0;
        if begins {
            self.previous_end = end.offset;
            self.start = at;
        } else if at != end {
            return Err(BatchError::Order { got: at, due: end });
        }
        let before = self.content.len();
        match chunk.codec {
            Codec::None => self.content.extend_from_slice(&chunk.data),
            Codec::Lz4 => lz4::decompress(&chunk.data, MAX_CHUNK_CONTENT, &mut self.content)
                .map_err(|source| BatchError::Packed { at, source })?,
            Codec::Lz4Recent => return Err(BatchError::Recent { at }),
        }
        let got = (self.content.len() - before) as u64;
        if got != chunk.size() {
            self.content.truncate(before);
            let due = chunk.size();
            return Err(BatchError::Length { at, got, due });
        }
        if let Some((end, header)) = self.last_commit(before) {
            // What is not told is not known: the checksum, while the primary still reads the database; the time. No time
            // before this one is wrong.
            let known = chunk.commit.filter(|_| end == self.content.len());
            self.records.push(CommitRecord {
                end_offset: self.start.offset + end as u64,
                dbsum: known.map(|commit| commit.dbsum).unwrap_or_default(),
                page_count: known.map_or(0, |commit| commit.page_count),
                time_us: known.map_or_else(clock_us, |commit| commit.time_us),
                cksum: header.cksum,
            });
            self.committed = end;
            self.since.get_or_insert_with(Instant::now);
        }
        Ok(())
    }

    /// The last commit in the content from `from` on: where it ends, and its frame's header.
    fn last_commit(&self, from: usize) -> Option<(usize, FrameHeader)> {
        let size = frame_size(self.page_size) as usize;
        let frames = self.content[from..].rchunks_exact(size);
        // The log's header, at the front, is what is left over.
        frames.enumerate().find_map(|(after, frame)| {
            let header = FrameHeader::parse(frame.first_chunk::<FRAME_HEADER_SIZE>()?);
            let end = self.content.len() - after * size;
            header.is_commit().then_some((end, header))
        })
    }

    /// Takes what can be written: up to the last commit; all of it if there is none. `None`: nothing was gathered.
    pub fn take(&mut self) -> Option<Segment> {
        if self.content.is_empty() {
            return None;
        }
        let rest = match self.committed {
            0 => Vec::new(),
            committed => self.content.split_off(committed),
        };
        let content = std::mem::replace(&mut self.content, rest);
        let start = self.start;
        let end = Position {
            offset: start.offset + content.len() as u64,
            ..start
        };
        let doc = SegmentDoc {
            page_size: self.page_size,
            start: start.offset,
            end: end.offset,
            previous_end: match start.offset {
                0 => self.previous_end,
                _ => 0,
            },
            records: std::mem::take(&mut self.records),
        };
        self.start = end;
        self.committed = 0;
        self.since = None;
        Some(Segment {
            key: Key::wal(start.generation, start.index, start.offset),
            doc,
            content,
            end,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::dbsum::DbSum;
    use crate::format::position::Generation;
    use crate::format::wal::{Cksum, WAL_HEADER_SIZE};
    use crate::model::Commit;
    use bytes::Bytes;

    const PAGE: u32 = 512;
    const FRAME: u64 = 512 + 24;

    fn at(index: u64, offset: u64) -> Position {
        Position {
            generation: Generation(7),
            index,
            offset,
        }
    }

    /// `frames` frames from `start` on, each of whose bytes are all `byte`, but for the size of the database in the last
    /// one's header: there is none without a commit.
    fn chunk(start: Position, frames: u64, byte: u8, committed: bool) -> Chunk {
        let header = if start.offset == 0 {
            WAL_HEADER_SIZE as u64
        } else {
            0
        };
        let size = header + frames * FRAME;
        let mut data = Vec::new();
        let mut content = vec![byte; size as usize];
        for frame in content.rchunks_exact_mut(FRAME as usize) {
            frame[4..8].fill(0);
        }
        if committed {
            let last = content.len() - FRAME as usize;
            content[last + 4..last + 8].copy_from_slice(&3_u32.to_be_bytes());
        }
        lz4::compress(&content, &mut data).expect("packed");
        Chunk {
            start,
            end_offset: start.offset + size,
            codec: Codec::Lz4,
            data: Bytes::from(data),
            commit: committed.then_some(Commit {
                dbsum: DbSum(u64::from(byte)),
                page_count: 3,
                time_us: 5,
            }),
        }
    }

    #[test]
    fn a_segment_ends_with_its_last_commit() {
        let mut batch = Batch::new(PAGE, at(0, 0), None);
        let first = chunk(at(0, 0), 2, 1, true);
        let second = chunk(first.end(), 1, 2, true);
        let third = chunk(second.end(), 4, 3, false);
        for chunk in [&first, &second, &third] {
            assert!(batch.has_room_for(chunk));
            batch.push(chunk).expect("in order");
        }
        let segment = batch.take().expect("some");
        assert_eq!(segment.key, Key::wal(Generation(7), 0, 0));
        assert_eq!(segment.end, second.end());
        assert_eq!(segment.content.len() as u64, second.end_offset);
        let ends: Vec<_> = segment.doc.records.iter().map(|r| r.end_offset).collect();
        assert_eq!(ends, [first.end_offset, second.end_offset]);
        let byte = u32::from_be_bytes([2; 4]);
        assert_eq!(segment.doc.records[1].cksum, Cksum(byte, byte));
        assert_eq!(SegmentDoc::parse(&segment.doc.encode()), Ok(segment.doc));
        // The rest waits for its commit, and goes without one only when it has to.
        assert!(!batch.is_empty() && batch.since().is_none());
        let rest = batch.take().expect("some");
        assert_eq!(
            (rest.doc.start, rest.doc.records.len()),
            (second.end_offset, 0)
        );
        assert_eq!(rest.end, third.end());
        assert_eq!(batch.take(), None);
    }

    #[test]
    fn a_commit_that_the_primary_tells_nothing_of_is_one() {
        let mut batch = Batch::new(PAGE, at(0, 0), None);
        // While the primary reads the database for its checksum, the log tells of commits, and nothing else does.
        let first = Chunk {
            commit: None,
            ..chunk(at(0, 0), 3, 1, true)
        };
        // And pieces of one large group of transactions have commits within.
        let (second, third) = (
            chunk(first.end(), 2, 2, true),
            chunk(at(0, first.end_offset + 2 * FRAME), 1, 3, false),
        );
        let mut content = Vec::new();
        for chunk in [&second, &third] {
            lz4::decompress(&chunk.data, MAX_CHUNK_CONTENT, &mut content).expect("unpacked");
        }
        let mut data = Vec::new();
        lz4::compress(&content, &mut data).expect("packed");
        let group = Chunk {
            end_offset: third.end_offset,
            data: Bytes::from(data),
            commit: None,
            ..second.clone()
        };
        batch.push(&first).expect("in order");
        assert!(batch.since().is_some());
        batch.push(&group).expect("in order");
        let segment = batch.take().expect("some");
        assert_eq!(segment.end, second.end());
        let records = segment.doc.records;
        let known: Vec<_> = records
            .iter()
            .map(|r| (r.end_offset, r.page_count))
            .collect();
        assert_eq!(known, [(first.end_offset, 0), (second.end_offset, 0)]);
        assert!(records.iter().all(|record| record.time_us != 0));
        assert_eq!(batch.take().expect("the rest").end, third.end());
    }

    #[test]
    fn an_index_begins_a_segment_that_knows_where_the_one_before_ended() {
        let mut batch = Batch::new(PAGE, at(0, 0), None);
        let first = chunk(at(0, 0), 2, 1, true);
        batch.push(&first).expect("in order");
        let next = chunk(at(1, 0), 1, 2, true);
        assert!(!batch.has_room_for(&next));
        batch
            .push(&next)
            .expect_err("the first index is not taken yet");
        assert_eq!(batch.take().expect("some").doc.previous_end, 0);
        batch.push(&next).expect("in order");
        assert_eq!(
            batch.take().expect("some").doc.previous_end,
            first.end_offset
        );
        let gap = chunk(at(3, 0), 1, 2, true);
        let error = batch.push(&gap).expect_err("index 2 is missing");
        assert!(error.to_string().contains("is due"), "{error}");
    }

    #[test]
    fn where_the_index_before_is_gone_no_end_fits() {
        let mut batch = Batch::new(PAGE, at(4, 0), None);
        batch.push(&chunk(at(4, 0), 1, 1, true)).expect("in order");
        assert_eq!(batch.take().expect("some").doc.previous_end, UNKNOWN_END);
        let mut batch = Batch::new(PAGE, at(4, 0), Some(1104));
        batch.push(&chunk(at(4, 0), 1, 1, true)).expect("in order");
        assert_eq!(batch.take().expect("some").doc.previous_end, 1104);
    }

    #[test]
    fn a_full_one_has_no_room() {
        let mut batch = Batch::new(PAGE, at(0, 0), None);
        let frames = LIMIT as u64 / FRAME - 10;
        let large = chunk(at(0, 0), frames, 1, false);
        assert!(batch.has_room_for(&large), "an empty one takes all");
        batch.push(&large).expect("in order");
        assert!(batch.has_room_for(&chunk(large.end(), 5, 1, true)));
        assert!(!batch.has_room_for(&chunk(large.end(), 50, 1, true)));
    }

    #[test]
    fn what_is_not_what_it_says_is_refused_and_leaves_nothing() {
        let mut batch = Batch::new(PAGE, at(0, 0), None);
        let good = chunk(at(0, 0), 2, 1, true);
        let short = Chunk {
            end_offset: good.end_offset + FRAME,
            ..good.clone()
        };
        batch.push(&short).expect_err("it is shorter than it says");
        batch.push(&good).expect("nothing is left of the other");
        let mut torn = chunk(good.end(), 1, 2, true);
        torn.data = torn.data.slice(..torn.data.len() - 1);
        batch.push(&torn).expect_err("it is cut off");
        assert_eq!(batch.take().expect("some").end, good.end());
    }
}
