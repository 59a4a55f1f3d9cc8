//! The log's bytes in order: each segment in its place, each frame with the log's salts and in SQLite's chain of checksums.

use super::error::RestoreError;
use super::fetch::{Incoming, Part};
use super::object::Source;
use crate::archive::{Key, SegmentDoc};
use crate::format::commits::CommitRecord;
use crate::format::position::{Generation, Position};
use crate::format::wal::{
    Cksum, FRAME_HEADER_SIZE, Frame, FrameHeader, FrameScanner, WAL_HEADER_SIZE, WalHeader,
    frame_size,
};
use std::collections::VecDeque;

/// What a frame was.
pub(super) struct Seen<'a> {
    pub(super) frame: Frame<'a>,
    /// The header of its log.
    pub(super) log: WalHeader,
    /// Where it ends.
    pub(super) position: Position,
    /// What the archive records of its commit.
    pub(super) record: Option<CommitRecord>,
    /// The segment that it is in.
    pub(super) key: Key,
}

/// What becomes of the log.
pub(super) trait Sink {
    /// The next frame; `false`: enough.
    fn frame(&mut self, seen: Seen<'_>) -> Result<bool, RestoreError>;
    /// Some frames were handed over.
    fn pause(&mut self) -> Result<(), RestoreError>;
    /// A log ended: what was not committed in it never will be.
    fn log_ended(&mut self) -> Result<(), RestoreError>;
}

/// Whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    More,
    Enough,
}

/// Where the walk stands.
pub(super) struct Walk {
    source: Source,
    generation: Generation,
    page_size: u32,
    index: u64,
    /// Bytes of the log that were verified.
    end: u64,
    /// The last commit in this log, 0 if there was none.
    committed: u64,
    header: Option<WalHeader>,
    cksum: Cksum,
    /// Bytes that are not a whole frame yet.
    rest: Vec<u8>,
    records: VecDeque<CommitRecord>,
    /// A piece that does not continue this log, and holds no commit: left from before a crash, unless one follows.
    broken: Option<RestoreError>,
}

impl Walk {
    /// Before the first byte of a log.
    pub(super) fn new(source: &Source, generation: Generation, page_size: u32, index: u64) -> Walk {
        Walk {
            source: source.clone(),
            generation,
            page_size,
            index,
            end: 0,
            committed: 0,
            header: None,
            cksum: Cksum::default(),
            rest: Vec::new(),
            records: VecDeque::new(),
            broken: None,
        }
    }

    fn key(&self, index: u64, offset: u64) -> Key {
        Key::wal(self.generation, index, offset)
    }

    /// Where the verified log ends.
    pub(super) fn position(&self) -> Position {
        Position {
            generation: self.generation,
            index: self.index,
            offset: self.end,
        }
    }

    /// Where the last commit of this log ends.
    pub(super) fn committed(&self) -> u64 {
        self.committed
    }

    /// Takes the next segment.
    pub(super) fn segment(
        &mut self,
        incoming: &Incoming,
        sink: &mut impl Sink,
    ) -> Result<Next, RestoreError> {
        let Key::Wal { index, offset, .. } = incoming.key else {
            return Ok(Next::More);
        };
        let doc = match incoming.next() {
            Some(Ok(Part::Doc(doc))) => doc,
            Some(Err(error)) => return self.unless_leftover(index, offset, error),
            _ => return Ok(Next::More),
        };
        if index != self.index {
            self.next_log(index, offset, doc.as_ref(), sink)?;
        }
        if offset < self.end {
            // Left from before a crash: what came after it was written anew, in other pieces.
            return Ok(Next::More);
        }
        if offset > self.end && self.broken.is_none() {
            return Err(self.source.missing(self.key(self.index, self.end)));
        }
        if let Some(doc) = &doc
            && doc.page_size != self.page_size
        {
            return Err(self.doc_damaged(incoming.key, "it has another page size"));
        }
        self.rest.clear();
        self.records = doc
            .as_ref()
            .map(|d| d.records.clone())
            .unwrap_or_default()
            .into();
        let start = self.end;
        while let Some(part) = incoming.next() {
            if let Part::Piece(piece) = part? {
                if self.piece(incoming.key, &piece, sink)? == Next::Enough {
                    return Ok(Next::Enough);
                }
                sink.pause()?;
            }
        }
        if self.broken.is_some() {
            return Ok(Next::More);
        }
        if !self.rest.is_empty() || self.header.is_none() {
            return Err(self
                .source
                .damaged(incoming.key, "it does not end where a frame ends"));
        }
        if doc.is_some_and(|doc| doc.end != self.end) {
            let what = format!(
                "it has {} bytes of log, and its document says others",
                self.end - start
            );
            return Err(self.source.damaged(incoming.key, what));
        }
        match self.records.front() {
            Some(_) => Err(self.doc_damaged(incoming.key, "it records a commit that is not there")),
            None => Ok(Next::More),
        }
    }

    /// A leftover is not read, so what is wrong with it does not matter.
    fn unless_leftover(
        &self,
        index: u64,
        offset: u64,
        error: RestoreError,
    ) -> Result<Next, RestoreError> {
        match index == self.index && offset < self.end {
            true => Ok(Next::More),
            false => Err(error),
        }
    }

    fn doc_damaged(&self, key: Key, what: &str) -> RestoreError {
        self.source.damaged(key.doc().unwrap_or(key), what)
    }

    fn next_log(
        &mut self,
        index: u64,
        offset: u64,
        doc: Option<&SegmentDoc>,
        sink: &mut impl Sink,
    ) -> Result<(), RestoreError> {
        if index != self.index + 1 {
            // Where this log ended is not known, so the next one is what is certainly not there.
            return Err(self.source.missing(self.key(self.index + 1, 0)));
        }
        if offset != 0 {
            return Err(self.source.missing(self.key(index, 0)));
        }
        let ended = doc.map_or(0, |doc| doc.previous_end);
        if ended != 0 && ended != self.committed {
            return Err(match self.broken.take() {
                Some(error) => error,
                None if ended > self.committed => {
                    self.source.missing(self.key(self.index, self.end))
                }
                None => {
                    self.doc_damaged(self.key(index, 0), "it has another end of the log before")
                }
            });
        }
        if self.end == 0 {
            return Err(self.source.missing(self.key(self.index, 0)));
        }
        sink.log_ended()?;
        *self = Walk::new(&self.source, self.generation, self.page_size, index);
        Ok(())
    }

    fn piece(
        &mut self,
        key: Key,
        piece: &[u8],
        sink: &mut impl Sink,
    ) -> Result<Next, RestoreError> {
        self.rest.extend_from_slice(piece);
        let mut bytes = std::mem::take(&mut self.rest);
        let mut used = 0;
        if self.broken.is_none() && self.header.is_none() {
            let Some(head) = bytes.first_chunk::<WAL_HEADER_SIZE>() else {
                self.rest = bytes;
                return Ok(Next::More);
            };
            let header = WalHeader::parse(head).map_err(|error| self.source.damaged(key, error))?;
            if header.page_size != self.page_size {
                let what = "its log has another page size than the snapshot";
                return Err(self.source.damaged(key, what));
            }
            self.cksum = header.cksum;
            self.header = Some(header);
            self.end = WAL_HEADER_SIZE as u64;
            used = WAL_HEADER_SIZE;
        }
        let next = self.frames(key, &bytes, &mut used, sink)?;
        bytes.drain(..used);
        self.rest = bytes;
        Ok(next)
    }

    fn frames(
        &mut self,
        key: Key,
        bytes: &[u8],
        used: &mut usize,
        sink: &mut impl Sink,
    ) -> Result<Next, RestoreError> {
        if self.broken.is_some() {
            return self.refuse_commits(bytes, used);
        }
        let Some(header) = self.header else {
            return Ok(Next::More);
        };
        let whole = frame_size(self.page_size) as usize;
        // Of a frame that is not whole nothing is looked at yet.
        let frames = bytes.len().saturating_sub(*used) / whole * whole;
        let mut scanner = FrameScanner::new(&header, self.cksum, &bytes[*used..*used + frames]);
        let mut next = Next::More;
        while next == Next::More
            && let Some(frame) = scanner.next()
        {
            self.end += whole as u64;
            *used += whole;
            self.cksum = frame.cksum_after;
            let record = match frame.header.is_commit() {
                true => self.record(key, &frame)?,
                false => None,
            };
            let position = self.position();
            if !sink.frame(Seen {
                frame,
                log: header,
                position,
                record,
                key,
            })? {
                next = Next::Enough;
            }
        }
        if next == Next::More && (scanner.offset()) < frames {
            let what = "its frames do not continue the log before it";
            self.broken = Some(self.source.damaged(key, what));
            return self.refuse_commits(bytes, used);
        }
        Ok(next)
    }

    /// The record of a commit. One that names a place where none is does not belong to this log.
    fn record(
        &mut self,
        key: Key,
        frame: &Frame<'_>,
    ) -> Result<Option<CommitRecord>, RestoreError> {
        self.committed = self.end;
        let wrong = "it records other commits than its segment has";
        match self.records.front() {
            Some(record) if record.end_offset < self.end => Err(self.doc_damaged(key, wrong)),
            Some(record) if record.end_offset == self.end => {
                if record.cksum != frame.cksum_after {
                    return Err(self.doc_damaged(key, wrong));
                }
                Ok(self.records.pop_front())
            }
            _ => Ok(None),
        }
    }

    /// In what does not continue the log: a commit proves that something was lost.
    fn refuse_commits(&mut self, bytes: &[u8], used: &mut usize) -> Result<Next, RestoreError> {
        let whole = frame_size(self.page_size) as usize;
        for frame in bytes[*used..].chunks_exact(whole) {
            *used += whole;
            let head = frame.first_chunk::<FRAME_HEADER_SIZE>();
            if head.is_some_and(|head| FrameHeader::parse(head).is_commit())
                && let Some(error) = self.broken.take()
            {
                return Err(error);
            }
        }
        Ok(Next::More)
    }
}
