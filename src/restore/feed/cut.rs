//! Messages out of an archive's bytes: chunks are cut where a commit's checksum is recorded.

use super::Deliver;
use super::begin::later;
use crate::archive::{Key, SnapshotDoc};
use crate::format::dbsum::DbSum;
use crate::format::position::Position;
use crate::format::wal::{FRAME_HEADER_SIZE, WAL_HEADER_SIZE, frame_size};
use crate::model::{
    Chunk, Codec, Commit, MAX_CHUNK, Message, SnapshotBegin, SnapshotEnd, SnapshotPages,
};
use crate::restore::error::RestoreError;
use crate::restore::fetch::{Fetcher, Part, Wanted};
use crate::restore::object::Source;
use crate::restore::walk::{Seen, Sink};
use bytes::Bytes;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

/// Where the cutting stands.
pub(super) struct Cut {
    /// The replica has what is up to here.
    skip: Position,
    /// A snapshot that is not complete before the log reaches a place.
    snapshot: Option<(SnapshotDoc, Position)>,
    /// Bytes of the log that are not sent yet, and where they begin.
    bytes: Vec<u8>,
    start: Position,
    /// How many of them end with a commit, and where that is.
    committed: Option<(usize, Position)>,
    /// The last commit that was sent with its checksum.
    proven: Position,
}

impl Cut {
    pub(super) fn new(begin: Position) -> Cut {
        Cut {
            skip: begin,
            snapshot: None,
            bytes: Vec::new(),
            start: begin,
            committed: None,
            proven: begin,
        }
    }

    /// The last place at which a replica can prove what it has.
    pub(super) fn proven(&self) -> Position {
        self.proven
    }

    /// The replica's next commit, if this frame's end is known as one.
    fn known(&self, seen: &Seen<'_>) -> Option<Commit> {
        if let Some(record) = seen.record.filter(|record| record.page_count != 0) {
            return Some(Commit {
                dbsum: record.dbsum,
                page_count: record.page_count,
                time_us: record.time_us,
            });
        }
        // Where the snapshot was taken its own document knows.
        let (doc, _) = self.snapshot.as_ref()?;
        let is_there = seen.frame.header.is_commit() && doc.position == seen.position;
        Some(Commit {
            dbsum: dbsum(&doc.dbsum).filter(|_| is_there)?,
            page_count: doc.page_count,
            time_us: doc.time_us,
        })
    }
}

/// Makes messages.
pub(super) struct Sender<'a, 'd> {
    pub(super) cut: &'a mut Cut,
    pub(super) deliver: &'a mut Deliver<'d>,
    pub(super) cancel: &'a AtomicBool,
}

impl Sender<'_, '_> {
    pub(super) fn send(&mut self, message: Message) -> Result<(), RestoreError> {
        match !self.cancel.load(Ordering::Relaxed) && (self.deliver)(message) {
            true => Ok(()),
            false => Err(RestoreError::Cancelled),
        }
    }

    /// Sends the snapshot's pages. It ends where the log has reached its place, and what readers saw before.
    pub(super) fn snapshot(
        &mut self,
        source: &Source,
        doc: SnapshotDoc,
        seen: Option<Position>,
    ) -> Result<(), RestoreError> {
        self.send(Message::SnapshotBegin(SnapshotBegin {
            page_count: doc.page_count,
            start: self.cut.start,
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
        let sum = dbsum(&doc.dbsum);
        let sum =
            sum.ok_or_else(|| source.damaged(key.doc().unwrap_or(key), "its checksum is none"))?;
        let until = later(Some(doc.position), seen).unwrap_or(doc.position);
        if until.offset == 0 && until == doc.position {
            return self.end_snapshot(
                until,
                Commit {
                    dbsum: sum,
                    page_count: doc.page_count,
                    time_us: doc.time_us,
                },
            );
        }
        self.cut.snapshot = Some((doc, until));
        Ok(())
    }

    fn end_snapshot(&mut self, position: Position, commit: Commit) -> Result<(), RestoreError> {
        self.cut.snapshot = None;
        self.send(Message::SnapshotEnd(SnapshotEnd {
            position,
            dbsum: commit.dbsum,
            page_count: commit.page_count,
            time_us: commit.time_us,
        }))
    }

    /// Sends the bytes that are there; with a commit where they end with a known one.
    fn flush(&mut self, end: Position, commit: Option<Commit>) -> Result<(), RestoreError> {
        let cut = &mut *self.cut;
        let chunk = Chunk {
            start: cut.start,
            end_offset: end.offset,
            codec: Codec::None,
            data: Bytes::from(std::mem::take(&mut cut.bytes)),
            commit,
        };
        cut.start = end;
        cut.committed = None;
        self.send(Message::Chunk(chunk))
    }
}

fn dbsum(text: &str) -> Option<DbSum> {
    u64::from_str_radix(text, 16).ok().map(DbSum)
}

impl Sink for Sender<'_, '_> {
    fn frame(&mut self, seen: Seen<'_>) -> Result<bool, RestoreError> {
        let end = seen.position;
        let cut = &mut *self.cut;
        if end <= cut.skip {
            return Ok(true);
        }
        let size = frame_size(seen.log.page_size);
        if cut.bytes.is_empty() {
            let before = end.offset - size;
            let is_first = before == WAL_HEADER_SIZE as u64;
            cut.start = Position {
                offset: if is_first { 0 } else { before },
                ..end
            };
            if is_first {
                cut.bytes.extend_from_slice(&seen.log.encode());
            }
        }
        cut.bytes.extend_from_slice(&seen.frame.header.encode());
        cut.bytes.extend_from_slice(seen.frame.data);
        if seen.frame.header.is_commit() {
            cut.committed = Some((cut.bytes.len(), end));
        }
        let known = cut.known(&seen);
        let is_full = cut.bytes.len() + seen.frame.data.len() + FRAME_HEADER_SIZE > MAX_CHUNK;
        if known.is_none() && !is_full {
            return Ok(true);
        }
        self.flush(end, known)?;
        if let Some(commit) = known {
            self.cut.proven = end;
            let snapshot = self.cut.snapshot.as_ref();
            if snapshot.is_some_and(|(_, until)| end >= *until) {
                self.end_snapshot(end, commit)?;
            }
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
        // Commits whose checksum nobody knew belong to the next that is known. What is behind them was not committed.
        if let Some((length, end)) = self.cut.committed {
            self.cut.bytes.truncate(length);
            self.flush(end, None)?;
        }
        self.cut.bytes.clear();
        Ok(())
    }
}
