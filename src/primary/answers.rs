//! Answers to those who wait for the capture thread.

use super::capture::Seen;
use super::error::PrimaryError;
use super::session::{End, Session};
use super::shared::{Pin, Request, SnapshotStart};
use crate::format::position::Position;
use crate::format::wal::frames_end;
use crate::model::SnapshotBegin;
use std::sync::Arc;

impl Session {
    /// Answers those who waited for everything up to `seen`.
    pub(super) fn answer(&mut self, seen: &Seen) -> Option<End> {
        let mut end = None;
        for request in std::mem::take(&mut self.requests) {
            match request {
                // Who speaks of a generation that is over has what he wants.
                Request::Renew(of, _) if of != self.capture.position.generation => {}
                // Who lets go of the files first looks at them anew.
                Request::Renew(..) if end.is_some() => {}
                Request::Renew(_, reason) => end = Some(End::Renew(reason)),
                request if !self.capture.ready => request.refuse(self.shared.not_ready()),
                Request::Fence(reply) => drop(reply.send(Ok(self.capture.point()))),
                Request::Snapshot(reply) => drop(reply.send(self.snapshot(seen))),
                // Answered once the files are let go.
                Request::Pause(reply) if matches!(end, Some(End::Paused(..))) => {
                    self.shared.request(Request::Pause(reply));
                }
                Request::Pause(reply) => end = Some(End::Paused(reply, self.capture.point())),
                Request::Resume(reply) => drop(reply.send(Ok((self.capture.point(), true)))),
            }
        }
        end
    }

    /// Where a snapshot begins: the file holds all frames that are copied, and whatever is copied while the file is
    /// read has a frame behind that place.
    fn snapshot(&self, seen: &Seen) -> Result<SnapshotStart, PrimaryError> {
        let capture = &self.capture;
        let copied = seen.backfill.min(seen.frames);
        // Let go since it was seen: all of it is captured and copied, and its frames may be those of the next log by now.
        let is_let_go = capture.may_restart && !capture.hold.has_log();
        let (start, log) = match &capture.cursor {
            _ if is_let_go => (capture.position, capture.end),
            Some(cursor) if seen.frames > 0 && copied == 0 && cursor.frames > 0 => (
                Position {
                    offset: 0,
                    ..capture.position
                },
                None,
            ),
            Some(cursor) if seen.frames > 0 && copied < cursor.frames => {
                let frame = capture.log.frame_header(capture.page_size, copied);
                let frame = frame.map_err(|e| PrimaryError::Disk(e.to_string()))?;
                let offset = frames_end(capture.page_size, copied);
                (
                    Position {
                        offset,
                        ..capture.position
                    },
                    Some((cursor.header, frame.cksum)),
                )
            }
            _ => (capture.position, capture.end),
        };
        Ok(SnapshotStart {
            begin: SnapshotBegin {
                page_count: capture.sums.page_count(),
                start,
                log,
            },
            file: Arc::clone(&capture.raw),
            pin: Pin::new(&self.shared, start.index),
            epoch: self.shared.hub.epoch(),
        })
    }
}
