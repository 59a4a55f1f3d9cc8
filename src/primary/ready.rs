//! The way of an attachment to "all checksums are known": the page table is made while the log is captured already.

use super::capture::Seen;
use super::session::End;
use super::session::Session;
use super::shadow::{self, Base, Job};
use crate::model::DatabaseState;

impl Session {
    pub(super) fn set_state(&self) {
        match self.capture.ready {
            true => self.shared.set_state(DatabaseState::Streaming, ""),
            false => self.shared.set_state(
                DatabaseState::Starting,
                "reads the database to know its checksum",
            ),
        }
    }

    /// A step of the scan, or its end. `Some`: this round is over.
    pub(super) fn scan(&mut self, seen: &Seen) -> Option<Option<End>> {
        if self.capture.ready {
            return None;
        }
        if !self.scanned {
            if let Err(error) = self.capture.sums.scan_step(&self.capture.raw) {
                return Some(Some(End::Again(error.to_string())));
            }
            let (done, total) = self.capture.sums.scanned_bytes();
            self.shared.note_reading(done, total);
            // From here on one more round is needed: it captures all that was in the log when the scan ended.
            self.scanned = self.capture.sums.is_scanned();
            return None;
        }
        debug_assert!(self.capture.is_captured(seen));
        self.become_ready()
    }

    /// All checksums are known from here on.
    fn become_ready(&mut self) -> Option<Option<End>> {
        let capture = &mut self.capture;
        let sum = capture.sums.sum();
        if let Some((position, expected)) = self.expected.take()
            && position == capture.position
            && expected != sum
        {
            let reason = format!(
                "the database's content is not what was captured at {position}: something wrote to it past SQLite"
            );
            return Some(Some(End::Renew(reason)));
        }
        if let Some(mut record) = capture.unknown {
            record.dbsum = sum;
            record.page_count = capture.sums.page_count();
            if let Err(error) = capture.shadow.amend(&record) {
                tracing::warn!(database = %self.shared.config.name, "{error}");
                return Some(None);
            }
            capture.unknown = None;
        }
        capture.ready = true;
        if capture.end.is_none() {
            self.write_base();
        }
        self.announce();
        None
    }

    /// Streams may begin.
    pub(super) fn announce(&mut self) {
        let point = self.capture.point();
        self.shared.hub.set_tip(point);
        self.set_state();
        tracing::info!(
            database = %self.shared.config.name,
            "capturing from {}, {} pages of {} bytes, checksum {}",
            point.position, point.page_count, point.page_size, point.dbsum
        );
        if let Some((reply, before)) = self.resuming.take() {
            let continuous = before == Some(point.position.generation);
            drop(reply.send(Ok((point, continuous))));
        }
    }

    fn write_base(&mut self) {
        let point = self.capture.point();
        let base = Base {
            dbsum: point.dbsum,
            page_count: point.page_count,
            page_size: point.page_size,
        };
        if self.lineage.base != Some(base) {
            self.lineage.base = Some(base);
            let job = Job::Replace {
                ops: shadow::LINEAGE_OPS,
                path: self.shared.layout.lineage(),
                bytes: self.lineage.to_text().into_bytes(),
                durable: true,
            };
            self.housekeeping.offer(job);
        }
    }
}
