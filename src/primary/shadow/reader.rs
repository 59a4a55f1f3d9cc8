//! Reads chunks from the shadow WAL, from any committed position on.

use super::segment::Segment;
use super::sidecar::Sidecar;
use super::{Layout, MAX_CONTENT, ShadowError};
use crate::disk::{self, File};
use crate::format::commits::{CommitRecord, HEADER_SIZE, RECORD_SIZE};
use crate::format::lz4;
use crate::format::position::{Generation, Position};
use crate::format::wal::{FRAME_HEADER_SIZE, FrameHeader, WAL_HEADER_SIZE, frame_size};
use crate::model::{Chunk, Codec, Commit};
use bytes::Bytes;

type Result<T> = std::result::Result<T, ShadowError>;

struct OpenIndex {
    segments: Vec<u64>,
    /// The segment after the open one.
    next: usize,
    segment: Option<Segment>,
    sidecar: Sidecar,
}

fn open_sidecar(layout: &Layout, generation: Generation, index: u64) -> disk::Result<Sidecar> {
    let path = layout.sidecar(generation, index);
    let file = File::open_read("shadow.sidecar-open", &path)?;
    Ok(Sidecar { file, next: 0 })
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
    /// After an error it may be called again, and goes on at the same place.
    pub fn next(&mut self, bound: Position) -> Result<Option<Chunk>> {
        let chunk = self.read(bound);
        if chunk.is_err() {
            // The files may have been read beyond the cursor, and what came of that is lost with the error.
            self.open = None;
        }
        chunk
    }

    fn read(&mut self, bound: Position) -> Result<Option<Chunk>> {
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
            return self.check_next();
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

    /// The index after it says the same. Else a power cut took its end away, with the records of it.
    fn check_next(&self) -> Result<()> {
        let (generation, index) = (self.at.generation, self.at.index + 1);
        let header = match open_sidecar(&self.layout, generation, index) {
            Err(error) if error.is_missing() => return Err(ShadowError::Gone { index }),
            opened => opened?.header()?,
        };
        if header.previous_end == self.at.offset {
            return Ok(());
        }
        let path = self.layout.index(self.at.generation, self.at.index);
        let what = format!(
            "the index ends here, the next one follows byte {}",
            header.previous_end
        );
        Err(ShadowError::damaged(&path, self.at.offset, what))
    }

    /// The newest record of an index.
    pub fn last_record(
        layout: &Layout,
        generation: Generation,
        index: u64,
    ) -> Result<Option<CommitRecord>> {
        match open_sidecar(layout, generation, index) {
            Err(error) if error.is_missing() => Err(ShadowError::Gone { index }),
            opened => opened?.last(),
        }
    }

    /// Where the index before this one ended, `None` if there is none or that cannot be read.
    pub fn previous_end(layout: &Layout, generation: Generation, index: u64) -> Option<u64> {
        let header = open_sidecar(layout, generation, index)
            .ok()?
            .header()
            .ok()?;
        (index > 0).then_some(header.previous_end)
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
    pub(in crate::primary) fn last(&self) -> (Option<CommitRecord>, &[u8]) {
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
        let mut sidecar = open_sidecar(&self.layout, generation, index).map_err(gone)?;
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
            lz4::decompress(&frame.data, MAX_CONTENT, &mut self.content)
                .map_err(|e| ShadowError::lz4(&segment.path, frame.at, e))?;
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
