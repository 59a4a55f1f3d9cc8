//! The loop of the capture thread while it is attached to a database.

use super::capture::{Capture, Seen, Trouble};
use super::error::PrimaryError;
use super::log::LiveLog;
use super::notice::Notice;
use super::shadow::{self, Base, Job, Lineage};
use super::shared::{Pin, Reply, Request, Shared, SnapshotStart};
use crate::disk::ReplaceOps;
use crate::format::dbsum::DbSum;
use crate::format::position::{Generation, Position};
use crate::format::wal::frames_end;
use crate::model::{DatabaseState, Point, SnapshotBegin, clock_us};
use crate::sqlite::index_connection;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often the files and the retention are looked after.
const TICK: Duration = Duration::from_millis(250);
/// How often the position file is replaced, at most.
const POSITION: Duration = Duration::from_secs(1);
/// A wal-index header that is not readable for this long was left so by a writer that died in the middle.
const REPAIR_AFTER: Duration = Duration::from_millis(50);
/// The pause before trying again what failed (a full disk).
const RETRY: Duration = Duration::from_millis(100);
/// Chunks captured before the hold and the callers are looked after again.
const CHUNKS_PER_STEP: usize = 16;

const POSITION_OPS: ReplaceOps = ReplaceOps {
    write: "position.write",
    sync: "position.sync",
    rename: "position.rename",
};

/// Why an attachment ended.
pub enum End {
    /// The server stops.
    Stopped,
    /// Someone wants the files alone; the answer is due once they are let go.
    Paused(Reply<Point>, Point),
    /// Continuity has to be proven anew.
    Again(String),
    /// A new generation has to begin.
    Renew(String),
}

/// Who waits for the end of a pause, and the generation before it.
type Resuming = (Reply<(Point, bool)>, Option<Generation>);

/// What happened at the last cheap look.
type Look = ([u32; 4], u32);

/// One attachment and its loop.
pub struct Session {
    capture: Capture,
    shared: Arc<Shared>,
    housekeeping: Arc<shadow::Housekeeping>,
    notice: Notice,
    lineage: Lineage,
    /// The checksum that the file must have if nothing was captured since: what was recorded at the same position.
    expected: Option<(Position, DbSum)>,
    requests: VecDeque<Request>,
    /// Who waits for the end of a pause, and the generation before it.
    resuming: Option<Resuming>,
    scanned: bool,
    trouble: Option<String>,
    unreadable_since: Option<Instant>,
    last_tick: Instant,
    last_position: (Instant, Option<Position>),
}

impl Session {
    /// Around what continuity gave.
    pub fn new(
        capture: Capture,
        housekeeping: Arc<shadow::Housekeeping>,
        lineage: Lineage,
        expected: Option<(Position, DbSum)>,
    ) -> Session {
        let shared = Arc::clone(&capture.shared);
        let path = &shared.config.path;
        let notice = Notice::new(path, &LiveLog::path_of(path));
        Session {
            capture,
            shared,
            housekeeping,
            notice,
            lineage,
            expected,
            requests: VecDeque::new(),
            resuming: None,
            scanned: false,
            trouble: None,
            unreadable_since: None,
            last_tick: Instant::now(),
            last_position: (Instant::now(), None),
        }
    }

    /// Captures until something ends it.
    pub fn run(mut self) -> End {
        if self.capture.ready {
            self.announce();
        } else {
            self.set_state();
        }
        let mut last_look: Option<Look> = None;
        let end = loop {
            let stopping = self.shared.is_stopping();
            self.requests.extend(self.shared.take_requests());
            let look = self.look();
            let quiet = last_look == Some(look) && self.requests.is_empty() && !stopping;
            if quiet && self.capture.ready && self.trouble.is_none() {
                if let Some(end) = self.tick() {
                    break end;
                }
                self.wait(look);
                continue;
            }
            last_look = Some(look);
            match self.step(stopping) {
                Ok(None) => {}
                Ok(Some(end)) => break end,
                // Asked once more: what is not done yet is not forgotten.
                Err(wait) => {
                    last_look = None;
                    self.shared.wake.wait(wait);
                }
            }
        };
        self.close(end)
    }

    fn look(&self) -> Look {
        (
            self.capture.index.glance(),
            self.capture.index.checkpoint_info().backfill,
        )
    }

    fn wait(&mut self, look: Look) {
        let Session {
            notice,
            capture,
            shared,
            ..
        } = self;
        let index = &capture.index;
        notice.wait(&shared.wake, || {
            (index.glance(), index.checkpoint_info().backfill) == look && !shared.has_requests()
        });
    }

    /// One round. `Err`: not all is done, wait that long before the next.
    fn step(&mut self, stopping: bool) -> Result<Option<End>, Duration> {
        let before = self.capture.position;
        // What was asked before this moment is covered by what is seen after it.
        let done = self.advance();
        if self.capture.position != before {
            self.notice.active();
        }
        let done = match done {
            Ok(done) => done,
            Err(Trouble::Lost(reason)) => return Ok(Some(End::Again(reason))),
            Err(Trouble::Unreadable) => return self.unreadable(stopping),
            Err(Trouble::Later(reason)) => return self.later(reason, stopping),
        };
        self.unreadable_since = None;
        if self.trouble.take().is_some() {
            self.set_state();
        }
        let Some(seen) = done else {
            // More to capture: at once, but for those who wait.
            return Err(Duration::ZERO);
        };
        match self.scan(&seen) {
            Some(Some(end)) => return Ok(Some(end)),
            Some(None) => return Err(RETRY),
            None => {}
        }
        if stopping {
            return Ok(Some(End::Stopped));
        }
        if let Some(end) = self.answer(&seen) {
            return Ok(Some(end));
        }
        match self.tick() {
            None if !self.capture.ready => Err(Duration::ZERO),
            end => Ok(end),
        }
    }

    /// Holds, follows, captures. `None`: there is more.
    fn advance(&mut self) -> Result<Option<Seen>, Trouble> {
        let capture = &mut self.capture;
        let seen = Capture::observe(&capture.index)?;
        let seen = capture.guard(seen)?;
        capture.follow(&seen)?;
        for _ in 0..CHUNKS_PER_STEP {
            if capture.is_captured(&seen) {
                capture.yield_log()?;
                return Ok(Some(seen));
            }
            capture.capture_chunk(seen.frames)?;
        }
        Ok(None)
    }

    fn unreadable(&mut self, stopping: bool) -> Result<Option<End>, Duration> {
        if stopping {
            return Ok(Some(End::Stopped));
        }
        let since = *self.unreadable_since.get_or_insert_with(Instant::now);
        if since.elapsed() > REPAIR_AFTER {
            tracing::warn!(
                database = %self.shared.config.name,
                "the wal-index header is not readable: a writer died while it wrote it; SQLite repairs it"
            );
            // Any read by SQLite runs the recovery. Our locks are shared with this connection, and stay.
            if let Err(error) = index_connection(&self.shared.config.path) {
                tracing::debug!("{error}");
            }
            self.unreadable_since = Some(Instant::now());
        }
        Err(Duration::from_micros(100))
    }

    fn later(&mut self, reason: String, stopping: bool) -> Result<Option<End>, Duration> {
        if stopping {
            return Ok(Some(End::Stopped));
        }
        self.shared.set_state(
            DatabaseState::Waiting,
            &format!("capture is held up: {reason}"),
        );
        for request in std::mem::take(&mut self.requests) {
            request.refuse(PrimaryError::Disk(reason.clone()));
        }
        self.trouble = Some(reason);
        if let Some(end) = self.tick() {
            return Ok(Some(end));
        }
        Err(RETRY)
    }

    fn set_state(&self) {
        match self.capture.ready {
            true => self.shared.set_state(DatabaseState::Streaming, ""),
            false => self.shared.set_state(
                DatabaseState::Starting,
                "reads the database to know its checksum",
            ),
        }
    }

    /// A step of the scan, or its end. `Some`: this round is over.
    fn scan(&mut self, seen: &Seen) -> Option<Option<End>> {
        if self.capture.ready {
            return None;
        }
        if !self.scanned {
            if let Err(error) = self.capture.sums.scan_step(&self.capture.raw) {
                return Some(Some(End::Again(error.to_string())));
            }
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
                tracing::warn!("{error}");
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

    /// Someone waits for this attachment; `before` is the generation that was captured when the files were let go.
    pub fn resume(&mut self, reply: Reply<(Point, bool)>, before: Option<Generation>) {
        self.resuming = Some((reply, before));
    }

    /// Streams may begin.
    fn announce(&mut self) {
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

    /// Answers those who waited for everything up to `seen`.
    fn answer(&mut self, seen: &Seen) -> Option<End> {
        let mut end = None;
        for request in std::mem::take(&mut self.requests) {
            match request {
                Request::Renew(reason) => end = Some(End::Renew(reason)),
                request if !self.capture.ready => request.refuse(self.shared.not_ready()),
                Request::Fence(reply) => drop(reply.send(Ok(self.capture.point()))),
                Request::Snapshot(reply) => drop(reply.send(self.snapshot(seen))),
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
        let (start, log) = match &capture.cursor {
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

    /// What is due by the clock.
    fn tick(&mut self) -> Option<End> {
        if self.last_tick.elapsed() < TICK {
            return None;
        }
        self.last_tick = Instant::now();
        if !self.capture.raw.is_current() {
            return Some(End::Again(
                "the database file was replaced or deleted".into(),
            ));
        }
        if !self.capture.log.is_current() {
            return Some(End::Again("the -wal file was replaced or deleted".into()));
        }
        let hub = &self.shared.hub;
        self.capture
            .shadow
            .tick(clock_us(), hub.pinned(), |gone| hub.forget_before(gone + 1));
        self.write_position(false);
        None
    }

    fn write_position(&mut self, durable: bool) {
        let (at, written) = self.last_position;
        let position = self.shared.hub.tip_now().map(|point| point.position);
        let Some(position) = position.filter(|p| written != Some(*p) || durable) else {
            return;
        };
        if !durable && at.elapsed() < POSITION {
            return;
        }
        self.last_position = (Instant::now(), Some(position));
        let job = Job::Replace {
            ops: POSITION_OPS,
            path: self.shared.layout.position(),
            bytes: format!("{position}\n").into_bytes(),
            durable,
        };
        self.housekeeping.offer(job);
    }

    /// Lets go of everything, SQLite first: the raw descriptor must outlive it.
    fn close(mut self, end: End) -> End {
        self.write_position(true);
        for request in self.requests.drain(..) {
            request.refuse(self.shared.not_ready());
        }
        if let Some((reply, _)) = self.resuming.take() {
            drop(reply.send(Err(self.shared.not_ready())));
        }
        let Capture {
            index, shadow, raw, ..
        } = self.capture;
        shadow.close();
        drop(index);
        drop(raw);
        end
    }
}
