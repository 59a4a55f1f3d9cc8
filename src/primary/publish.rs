//! What capture tells: chunks to the streams, the tip, the counters, and what holds the log.

use super::capture::{Capture, Prepared, Seen};
use super::hub::Entry;
use super::shared::Shared;
use crate::format::position::Position;
use crate::format::wal::frame_size;
use crate::model::{Chunk, Codec, Commit, LogHolder, Point};
use std::sync::atomic::Ordering::Relaxed;

impl Capture {
    /// Hands a chunk that is in the shadow WAL to the streams and to everybody who looks.
    pub(super) fn publish(&mut self, prepared: Prepared) {
        let Prepared {
            index,
            start,
            end,
            data,
            recent,
            record,
            commits,
        } = prepared;
        let start = Position {
            index,
            offset: start,
            ..self.position
        };
        self.position = Position {
            offset: end.offset(),
            ..start
        };
        self.end = Some((end.header, end.cksum));
        self.cursor = Some(end);
        self.count(end.offset() - start.offset, commits, data.len());
        if let Some(record) = &record {
            self.time_us = record.time_us;
        }
        if !self.ready {
            self.unknown = record.or(self.unknown);
            self.shared
                .hub
                .advance(self.position, end.offset() - start.offset);
            return;
        }
        let commit = record.map(|record| Commit {
            dbsum: record.dbsum,
            page_count: record.page_count,
            time_us: record.time_us,
        });
        let chunk = Chunk {
            start,
            end_offset: end.offset(),
            codec: Codec::Lz4,
            data,
            commit,
        };
        self.shared.hub.publish(Entry { chunk, recent });
        match record {
            Some(_) => self.shared.hub.set_tip(self.point()),
            None => self.shared.hub.notify(),
        }
    }

    /// One chunk was captured.
    fn count(&self, wal_bytes: u64, commits: u32, packed: usize) {
        let Shared {
            commits: total,
            meters,
            ..
        } = &*self.shared;
        total.fetch_add(u64::from(commits), Relaxed);
        meters.wal_bytes.add(wal_bytes);
        // The header of the log, 32 bytes, is less than a frame.
        meters.frames.add(wal_bytes / frame_size(self.page_size));
        meters.segments.observe(packed as u64);
    }

    /// Tells the metrics what keeps the log from beginning anew, once all of `seen` is captured.
    pub fn note_holder(&self, seen: &Seen) {
        self.shared.meters.set_holder(if seen.frames == 0 {
            LogHolder::Nothing
        } else if seen.backfill < seen.frames {
            LogHolder::Checkpoint
        } else if self.hold.has_log() {
            LogHolder::Walcast
        } else {
            LogHolder::Nothing
        });
    }

    /// The captured tip. Right only while `ready`, at a commit.
    pub fn point(&self) -> Point {
        Point {
            position: self.position,
            dbsum: self.sums.sum(),
            page_count: self.sums.page_count(),
            page_size: self.page_size,
            frame_cksum: self.end.map(|(_, cksum)| cksum),
            time_us: self.time_us,
        }
    }
}
