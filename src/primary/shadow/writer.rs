//! Appends chunks to the shadow WAL of one generation.

use super::next::Begun;
use super::{
    Backlog, Housekeeping, IndexSize, Job, Layout, Needed, NextIndex, Retention, SEGMENT_BYTES,
    SEGMENT_SECONDS,
};
use crate::disk::{self, File};
use crate::format::commits::{CommitRecord, HEADER_SIZE, Header, RECORD_SIZE};
use crate::format::position::{Generation, Position};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// A chunk to append.
#[derive(Clone, Copy, Debug)]
pub struct Piece<'a> {
    /// Its index.
    pub index: u64,
    /// Offset in the WAL file of its first byte.
    pub start: u64,
    /// One lz4 frame.
    pub data: &'a [u8],
    /// What is known at its end, if a transaction ends there.
    pub record: Option<CommitRecord>,
}

struct Segment {
    file: File,
    len: u64,
    opened: Instant,
    /// The newest write failed, and may have left some bytes behind `len`.
    torn: bool,
}

impl Segment {
    /// An empty one.
    fn new(file: File) -> Segment {
        Segment {
            file,
            len: 0,
            opened: Instant::now(),
            torn: false,
        }
    }
}

struct OpenIndex {
    index: u64,
    sidecar: File,
    sidecar_len: u64,
    segment: Option<Segment>,
    /// Bytes on disk of what is closed.
    closed_bytes: u64,
}

/// The writing end.
///
/// A call that fails has changed nothing that a reader could see, and may be repeated with the same arguments: it then
/// writes over what it left.
pub struct ShadowWriter {
    layout: Layout,
    generation: Generation,
    page_size: u32,
    /// The offset that the newest record names.
    end: u64,
    open: Option<OpenIndex>,
    retention: Retention,
    housekeeping: Arc<Housekeeping>,
    next: NextIndex,
    /// Removals that found the queue full.
    waiting: Backlog,
}

impl ShadowWriter {
    /// Goes on at a position, after the complete indexes of its generation.
    pub fn new(
        layout: Layout,
        at: Position,
        page_size: u32,
        retention: Retention,
        housekeeping: Arc<Housekeeping>,
    ) -> ShadowWriter {
        ShadowWriter {
            next: NextIndex::new(layout.clone()),
            layout,
            generation: at.generation,
            page_size,
            end: at.offset,
            open: None,
            retention,
            housekeeping,
            waiting: Backlog::default(),
        }
    }

    /// Goes on in an index that a former run left: `sidecar_len` and `bytes` are what recovery found to be good.
    pub fn reopen(&mut self, index: u64, sidecar_len: u64, bytes: u64) -> disk::Result<()> {
        let path = self.layout.sidecar(self.generation, index);
        let sidecar = File::open_rw("shadow.sidecar-open", &path)?;
        self.open = Some(OpenIndex {
            index,
            sidecar,
            sidecar_len,
            segment: None,
            closed_bytes: bytes,
        });
        Ok(())
    }

    /// Appends a chunk. A chunk of a higher index begins that index, and completes the one before.
    pub fn append(&mut self, piece: &Piece<'_>, now_us: i64) -> disk::Result<()> {
        if self
            .open
            .as_ref()
            .is_none_or(|open| open.index != piece.index)
        {
            let begun = self.begin_index(piece)?;
            // Before the syncs of the one that ends: the next restart may come sooner than they are done.
            self.next.ask(&self.housekeeping);
            self.finish_index(now_us);
            self.open = Some(begun);
        }
        self.rotate(false);
        // Cannot be absent: made above.
        let Some(open) = self.open.as_mut() else {
            return Ok(());
        };
        if open.segment.is_none() {
            let path = self
                .layout
                .segment(self.generation, piece.index, piece.start);
            open.segment = Some(Segment::new(File::create_within("shadow.create", &path)?));
        }
        let Some(segment) = open.segment.as_mut() else {
            return Ok(());
        };
        segment.torn = true;
        segment
            .file
            .write_all_at("shadow.append", piece.data, segment.len)?;
        if let Some(record) = &piece.record {
            open.sidecar
                .write_all_at("shadow.record", &record.encode(), open.sidecar_len)?;
            open.sidecar_len += RECORD_SIZE as u64;
            self.end = record.end_offset;
        }
        segment.torn = false;
        segment.len += piece.data.len() as u64;
        Ok(())
    }

    /// Replaces the newest record, once the checksum at its position is known.
    pub fn amend(&mut self, record: &CommitRecord) -> disk::Result<()> {
        let Some(open) = self.open.as_mut() else {
            return Ok(());
        };
        let last = open.sidecar_len.saturating_sub(RECORD_SIZE as u64);
        if last < HEADER_SIZE as u64 {
            return Ok(());
        }
        open.sidecar
            .write_all_at("shadow.amend", &record.encode(), last)
    }

    fn begin_index(&self, piece: &Piece<'_>) -> disk::Result<OpenIndex> {
        let index = piece.index;
        let (sidecar, segment) = match self.prepared(piece) {
            Some(begun) => (begun.sidecar, Some(Segment::new(begun.segment))),
            None => (self.create_index(index)?, None),
        };
        let header = Header {
            page_size: self.page_size,
            previous_end: if index == 0 { 0 } else { self.end },
        };
        sidecar.write_all_at("shadow.sidecar-header", &header.encode(), 0)?;
        Ok(OpenIndex {
            index,
            sidecar,
            sidecar_len: HEADER_SIZE as u64,
            segment,
            closed_bytes: Retention::PER_INDEX,
        })
    }

    /// The files that were made for it, if it is as they are: from its start.
    fn prepared(&self, piece: &Piece<'_>) -> Option<Begun> {
        if piece.start != 0 {
            return None;
        }
        self.next
            .begin(self.generation, piece.index)
            .unwrap_or_else(|error| {
                let database = self.housekeeping.database();
                tracing::warn!(database, "{error}");
                None
            })
    }

    /// The directory of an index, and its sidecar.
    fn create_index(&self, index: u64) -> disk::Result<File> {
        let directories = [
            self.layout.index(self.generation, index),
            self.layout.commits(self.generation),
        ];
        for directory in directories {
            disk::create_dirs_within("shadow.mkdir", self.layout.root(), &directory)?;
        }
        let path = self.layout.sidecar(self.generation, index);
        File::create_within("shadow.sidecar-create", &path)
    }

    fn finish_index(&mut self, now_us: i64) {
        self.rotate(true);
        let Some(open) = self.open.take() else {
            self.retention.ended(now_us);
            return;
        };
        let bytes = open.closed_bytes + Retention::on_disk(open.sidecar_len);
        self.retention.add(IndexSize {
            index: open.index,
            bytes,
            ended_us: now_us,
        });
        self.housekeeping.offer(Job::Sync(open.sidecar));
    }

    /// Closes the segment if it is large or old enough, or in any case.
    fn rotate(&mut self, always: bool) {
        let Some(open) = self.open.as_mut() else {
            return;
        };
        let age = Duration::from_secs(SEGMENT_SECONDS);
        // What a failed write left must be written over: a reader would take it for damage.
        let due = |s: &Segment| !s.torn && (s.len >= SEGMENT_BYTES || s.opened.elapsed() >= age);
        if open
            .segment
            .as_ref()
            .is_some_and(|segment| always || due(segment))
            && let Some(segment) = open.segment.take()
        {
            open.closed_bytes += Retention::on_disk(segment.len);
            self.housekeeping.offer(Job::Sync(segment.file));
        }
    }

    /// Work by the clock: closes a segment that is old, sees to the next index's files, removes what is no longer kept, and
    /// tells `forget` of each index before it goes.
    pub fn tick(&mut self, now_us: i64, needed: Needed, forget: impl Fn(u64)) {
        // Not for a log that nobody writes to: a process has hundreds of them.
        if self
            .open
            .as_ref()
            .is_some_and(|open| open.segment.is_some())
        {
            self.next.ask(&self.housekeeping);
        }
        self.rotate(false);
        if !self.waiting.drain(|job| self.housekeeping.offer(job)) {
            return;
        }
        while self.may_remove()
            && let Some(index) = self
                .retention
                .next_to_remove(self.open_bytes(), needed, now_us)
        {
            // Readers are told before the first file goes.
            forget(index);
            self.discard(index);
        }
    }

    /// Has an index removed that nobody reads.
    pub fn discard(&mut self, index: u64) {
        // The directory last: by it a start finds what an end in between has left.
        self.remove(Job::Remove(self.layout.sidecar(self.generation, index)));
        self.remove(Job::Remove(self.layout.index(self.generation, index)));
    }

    /// Until the next index begins, the newest one holds the tip, whatever its age: replicas that are level go on from its
    /// end, and so does the next start.
    fn may_remove(&self) -> bool {
        self.open.is_some() || self.retention.count() > 1
    }

    fn remove(&mut self, job: Job) {
        self.waiting.add(job, |job| self.housekeeping.offer(job));
    }

    fn open_bytes(&self) -> u64 {
        let Some(open) = &self.open else { return 0 };
        let segment = open.segment.as_ref().map_or(0, |segment| segment.len);
        open.closed_bytes + Retention::on_disk(segment) + Retention::on_disk(open.sidecar_len)
    }

    /// A clean end: all that was written survives a power cut once the housekeeping is done.
    pub fn close(self) {
        let Some(open) = self.open else { return };
        if let Some(segment) = open.segment {
            self.housekeeping.give(Job::Sync(segment.file));
        }
        self.housekeeping.give(Job::Sync(open.sidecar));
    }
}
