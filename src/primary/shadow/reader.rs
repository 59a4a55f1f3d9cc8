//! Reads chunks from the shadow WAL, from any committed position on.

use super::{Layout, MAX_CONTENT, ShadowError};
use crate::disk::{self, File};
use crate::format::commits::{CommitRecord, HEADER_SIZE, RECORD_SIZE};
use crate::format::lz4;
use crate::format::position::Position;
use crate::format::wal::{FRAME_HEADER_SIZE, FrameHeader, WAL_HEADER_SIZE, frame_size};
use crate::model::{Chunk, Codec, Commit};
use bytes::Bytes;
use std::path::PathBuf;

type Result<T> = std::result::Result<T, ShadowError>;

/// Compressed bytes that one read of a segment asks for.
const READ: usize = 256 * 1024;

struct Segment {
    path: PathBuf,
    file: File,
    /// Offset in the segment of the first byte of `buf` that is not consumed.
    at: u64,
    buf: Vec<u8>,
    used: usize,
}

struct Sidecar {
    file: File,
    /// Number of the record to look at next.
    next: u64,
}

struct OpenIndex {
    segments: Vec<u64>,
    /// The segment after the open one.
    next: usize,
    segment: Option<Segment>,
    sidecar: Sidecar,
}

/// The reading end of one stream: a cursor.
pub struct ShadowReader {
    layout: Layout,
    at: Position,
    open: Option<OpenIndex>,
    content: Vec<u8>,
    last_record: Option<CommitRecord>,
}

impl ShadowReader {
    /// Reads from `at` on: the end of a chunk, or of a transaction within one, or the start of an index.
    pub fn new(layout: Layout, at: Position) -> ShadowReader {
        ShadowReader {
            layout,
            at,
            open: None,
            content: Vec::new(),
            last_record: None,
        }
    }

    /// Where the next chunk begins.
    pub fn position(&self) -> Position {
        self.at
    }

    /// The next chunk, `None` at `bound`, which is the newest captured position: nothing behind it is looked at.
    pub fn next(&mut self, bound: Position) -> Result<Option<Chunk>> {
        loop {
            if (self.at.index, self.at.offset) >= (bound.index, bound.offset) {
                return Ok(None);
            }
            if self.open.is_none() {
                self.open = Some(self.open_index()?);
            }
            if let Some(chunk) = self.next_in_index()? {
                return Ok(Some(chunk));
            }
            if self.at.index >= bound.index {
                let path = self.layout.index(self.at.generation, self.at.index);
                return Err(ShadowError::damaged(
                    &path,
                    self.at.offset,
                    "the index ends too early",
                ));
            }
            self.check_end()?;
            self.open = None;
            self.at = Position {
                index: self.at.index + 1,
                offset: 0,
                ..self.at
            };
        }
    }

    /// A complete index ends where its last record says. Without this look, files that retention took away under the
    /// cursor would be a gap that nobody sees; the sidecar stays readable through its descriptor.
    fn check_end(&mut self) -> Result<()> {
        let Some(open) = self.open.as_mut() else {
            return Ok(());
        };
        let last = open.sidecar.last()?;
        if last.is_some_and(|record| record.end_offset == self.at.offset) {
            return Ok(());
        }
        let path = self.layout.index(self.at.generation, self.at.index);
        match disk::list("shadow.list", &path)?.is_empty() {
            true => Err(ShadowError::Gone {
                index: self.at.index,
            }),
            false => Err(ShadowError::damaged(
                &path,
                self.at.offset,
                "the index ends too early",
            )),
        }
    }

    /// Where the last chunk ended on disk: the segment's name and the bytes of it, and the bytes of the sidecar that
    /// belong to the log up to there.
    pub(super) fn place(&self) -> Option<(u64, u64, u64)> {
        let open = self.open.as_ref()?;
        let segment = open.segment.as_ref()?;
        let sidecar = HEADER_SIZE as u64 + open.sidecar.next * RECORD_SIZE as u64;
        Some((open.segments[open.next - 1], segment.at, sidecar))
    }

    /// The record of the last chunk's end, and the chunk's bytes.
    pub(super) fn last(&self) -> (Option<CommitRecord>, &[u8]) {
        (self.last_record, &self.content)
    }

    fn open_index(&self) -> Result<OpenIndex> {
        let (generation, index) = (self.at.generation, self.at.index);
        let gone = |e: crate::disk::DiskError| match e.is_missing() {
            true => ShadowError::Gone { index },
            false => e.into(),
        };
        let segments = self.layout.list_segments(generation, index)?;
        let next = segments.partition_point(|start| *start <= self.at.offset);
        if next == 0 {
            return Err(ShadowError::Gone { index });
        }
        let path = self.layout.sidecar(generation, index);
        let file = File::open_read("shadow.sidecar-open", &path).map_err(gone)?;
        let mut sidecar = Sidecar { file, next: 0 };
        sidecar.seek(self.at.offset)?;
        Ok(OpenIndex {
            segments,
            next: next - 1,
            segment: None,
            sidecar,
        })
    }

    fn next_in_index(&mut self) -> Result<Option<Chunk>> {
        let Some(open) = self.open.as_mut() else {
            return Ok(None);
        };
        loop {
            if open.segment.is_none() {
                if open.next >= open.segments.len() {
                    // The one that is being written gets followers.
                    open.segments = self
                        .layout
                        .list_segments(self.at.generation, self.at.index)?;
                }
                let Some(start) = open.segments.get(open.next) else {
                    return Ok(None);
                };
                let path = self
                    .layout
                    .segment(self.at.generation, self.at.index, *start);
                let file =
                    File::open_read("shadow.open", &path).map_err(|e| match e.is_missing() {
                        true => ShadowError::Gone {
                            index: self.at.index,
                        },
                        false => e.into(),
                    })?;
                open.segment = Some(Segment {
                    path,
                    file,
                    at: 0,
                    buf: Vec::new(),
                    used: 0,
                });
                open.next += 1;
                self.skip_to_cursor()?;
                return self.next_in_index();
            }
            let Some(segment) = open.segment.as_mut() else {
                return Ok(None);
            };
            let Some(frame) = segment.next_frame()? else {
                // Closed and read to its end, unless the cursor's bound was wrong: the next segment continues it.
                open.segment = None;
                continue;
            };
            self.content.clear();
            if let Err(e) = lz4::decompress(&frame.data, MAX_CONTENT, &mut self.content) {
                // Who asks again must meet the damage again, and never what follows it under its offset.
                segment.give_back(frame.data.len());
                return Err(ShadowError::lz4(&segment.path, frame.at, e));
            }
            let end = self.at.offset + self.content.len() as u64;
            return self.chunk(Bytes::from(frame.data), end).map(Some);
        }
    }

    /// Skips frames before the cursor in a segment that was just opened; one that the cursor cuts is cut.
    fn skip_to_cursor(&mut self) -> Result<()> {
        let Some(open) = self.open.as_mut() else {
            return Ok(());
        };
        let start = open.segments[open.next - 1];
        let Some(segment) = open.segment.as_mut() else {
            return Ok(());
        };
        let mut offset = start;
        while offset < self.at.offset {
            let Some(frame) = segment.peek_frame()? else {
                return Err(ShadowError::damaged(
                    &segment.path,
                    segment.at,
                    "the segment is cut off",
                ));
            };
            let end = offset + frame.content_len;
            if end <= self.at.offset {
                segment.consume(frame.compressed_len);
                offset = end;
                continue;
            }
            segment.cut_frame(frame.compressed_len, (self.at.offset - offset) as usize)?;
            offset = self.at.offset;
        }
        if offset != self.at.offset {
            return Err(ShadowError::damaged(
                &segment.path,
                0,
                "the segment does not continue the log",
            ));
        }
        Ok(())
    }

    fn chunk(&mut self, data: Bytes, end: u64) -> Result<Chunk> {
        let start = self.at;
        self.last_record = match self.open.as_mut() {
            Some(open) => open.sidecar.at(end)?,
            None => None,
        };
        let known = self.last_record.filter(|record| record.page_count > 0);
        self.at = Position {
            offset: end,
            ..self.at
        };
        let commit = known.map(|record| Commit {
            dbsum: record.dbsum,
            page_count: record.page_count,
            time_us: record.time_us,
        });
        Ok(Chunk {
            start,
            end_offset: end,
            codec: Codec::Lz4,
            data,
            commit,
        })
    }

    /// The header of the frame that ends at `position`, and the record of that position if there is one.
    pub fn frame_ending_at(
        layout: &Layout,
        page_size: u32,
        position: Position,
    ) -> Result<(FrameHeader, Option<CommitRecord>)> {
        let size = frame_size(page_size);
        let index = layout.index(position.generation, position.index);
        let before = position
            .offset
            .checked_sub(size)
            .filter(|o| *o >= WAL_HEADER_SIZE as u64);
        let Some(before) = before else {
            return Err(ShadowError::damaged(
                &index,
                position.offset,
                "no frame ends here",
            ));
        };
        // Offset 32 is no cursor: the chunk that holds the first frame begins with the WAL header.
        let from = if before == WAL_HEADER_SIZE as u64 {
            0
        } else {
            before
        };
        let mut reader = ShadowReader::new(
            layout.clone(),
            Position {
                offset: from,
                ..position
            },
        );
        let bound = Position {
            offset: u64::MAX,
            ..position
        };
        let mut record = None;
        if reader.next(bound)?.is_none() {
            return Err(ShadowError::Gone {
                index: position.index,
            });
        }
        if let Some(open) = reader.open.as_mut() {
            open.sidecar.seek(before)?;
            record = open.sidecar.at(position.offset)?;
        }
        let at = (before - from) as usize;
        let bytes = reader
            .content
            .get(at..)
            .and_then(|b| b.first_chunk::<FRAME_HEADER_SIZE>());
        match bytes {
            Some(bytes) => Ok((FrameHeader::parse(bytes), record)),
            None => Err(ShadowError::damaged(
                &index,
                position.offset,
                "the frame is cut off",
            )),
        }
    }
}

/// A frame taken out of a segment.
struct Raw {
    data: Vec<u8>,
    at: u64,
}

impl Segment {
    fn fill(&mut self) -> Result<bool> {
        self.buf.drain(..self.used);
        self.used = 0;
        let have = self.buf.len();
        self.buf.resize(have + READ, 0);
        let read = self.file.read_at(
            "shadow.read",
            &mut self.buf[have..],
            self.at.wrapping_add(have as u64),
        )?;
        self.buf.truncate(have + read);
        Ok(read > 0)
    }

    /// The extent of the next frame, `None` at the end of the segment.
    fn peek_frame(&mut self) -> Result<Option<lz4::FrameExtent>> {
        loop {
            let extent = lz4::frame_extent(&self.buf[self.used..])
                .map_err(|e| ShadowError::lz4(&self.path, self.at, e))?;
            if let Some(extent) = extent {
                if extent.content_len > MAX_CONTENT as u64 || extent.content_len == 0 {
                    return Err(ShadowError::damaged(
                        &self.path,
                        self.at,
                        "a frame of impossible size",
                    ));
                }
                return Ok(Some(extent));
            }
            if !self.fill()? {
                return match self.buf.is_empty() {
                    true => Ok(None),
                    false => Err(ShadowError::damaged(
                        &self.path,
                        self.at,
                        "the frame is cut off",
                    )),
                };
            }
        }
    }

    fn consume(&mut self, len: usize) {
        self.used += len;
        self.at = self.at.wrapping_add(len as u64);
    }

    fn give_back(&mut self, len: usize) {
        self.used -= len;
        self.at = self.at.wrapping_sub(len as u64);
    }

    fn next_frame(&mut self) -> Result<Option<Raw>> {
        let Some(extent) = self.peek_frame()? else {
            return Ok(None);
        };
        let at = self.at;
        let data = self.buf[self.used..self.used + extent.compressed_len].to_vec();
        self.consume(extent.compressed_len);
        Ok(Some(Raw { data, at }))
    }

    /// Replaces the next frame (in memory) by one without its first `skip` bytes.
    fn cut_frame(&mut self, len: usize, skip: usize) -> Result<()> {
        let (path, at) = (self.path.clone(), self.at);
        let mut content = Vec::new();
        lz4::decompress(
            &self.buf[self.used..self.used + len],
            MAX_CONTENT,
            &mut content,
        )
        .map_err(|e| ShadowError::lz4(&path, at, e))?;
        let mut cut = Vec::new();
        lz4::compress(&content[skip..], &mut cut).map_err(|e| ShadowError::lz4(&path, at, e))?;
        let (grown, shrunk) = (cut.len(), len);
        self.buf.splice(self.used..self.used + len, cut);
        // `at` stays the offset of `buf[used]` for the bytes after this frame.
        self.at = (self.at + shrunk as u64).wrapping_sub(grown as u64);
        Ok(())
    }
}

impl Sidecar {
    fn record(&self, number: u64) -> Result<Option<CommitRecord>> {
        let mut bytes = [0; RECORD_SIZE];
        let at = HEADER_SIZE as u64 + number * RECORD_SIZE as u64;
        if self.file.read_at("shadow.sidecar-read", &mut bytes, at)? < RECORD_SIZE {
            return Ok(None);
        }
        let record = CommitRecord::parse(&bytes);
        record
            .map(Some)
            .map_err(|e| ShadowError::damaged(self.file.path(), at, e))
    }

    fn count(&self) -> Result<u64> {
        let len = self
            .file
            .len("shadow.sidecar-len")?
            .saturating_sub(HEADER_SIZE as u64);
        Ok(len / RECORD_SIZE as u64)
    }

    fn last(&self) -> Result<Option<CommitRecord>> {
        match self.count()? {
            0 => Ok(None),
            count => self.record(count - 1),
        }
    }

    /// Moves to the first record beyond `offset`.
    fn seek(&mut self, offset: u64) -> Result<()> {
        let (mut low, mut high) = (0, self.count()?);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.record(middle)? {
                Some(record) if record.end_offset <= offset => low = middle + 1,
                _ => high = middle,
            }
        }
        self.next = low;
        Ok(())
    }

    /// The record of `offset`, if there is one. Offsets are asked for in ascending order.
    fn at(&mut self, offset: u64) -> Result<Option<CommitRecord>> {
        while let Some(record) = self.record(self.next)? {
            if record.end_offset > offset {
                return Ok(None);
            }
            self.next += 1;
            if record.end_offset == offset {
                return Ok(Some(record));
            }
        }
        Ok(None)
    }
}
