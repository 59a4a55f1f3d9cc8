//! The loop of the capture thread while it is attached to a database.

use super::capture::{Capture, Seen, Trouble};
use super::error::PrimaryError;
use super::log::LiveLog;
use super::notice::Notice;
use super::pace::{self, Pace};
use super::shadow::{self, Job, Lineage};
use super::shared::{Reply, Request, Shared};
use crate::disk::ReplaceOps;
use crate::format::dbsum::DbSum;
use crate::format::position::{Generation, Position};
use crate::format::walindex::WRITE;
use crate::model::{DatabaseState, LogHolder, Point, clock_us};
use crate::sqlite::{SqliteError, index_connection};
use crate::sys::LockKind;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

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
/// Between two looks while a batch grows.
const BATCH_LOOK: Duration = Duration::from_micros(50);

/// The pause before the log is let go after all: a checkpoint that has copied everything ends within this, about.
const YIELD_LOOK: Duration = Duration::from_micros(50);

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
    /// The log with these salts cannot be captured, and why.
    Unsound([u32; 2], String),
}

/// Who waits for the end of a pause, and the generation before it.
pub type Resuming = (Reply<(Point, bool)>, Option<Generation>);

/// What happened at the last cheap look.
type Look = ([u32; 4], u32);

/// What comes after a turn.
pub enum Turn {
    /// The next one.
    On,
    /// The next one after this time, or when somebody asks for something.
    Wait(Duration),
    /// The next one when the log is not as it was in this look.
    Rest(Look),
    /// Nothing more.
    End(End),
}

/// One attachment and its loop.
pub struct Session {
    pub(super) capture: Capture,
    pub(super) shared: Arc<Shared>,
    pub(super) housekeeping: Arc<shadow::Housekeeping>,
    notice: Notice,
    pub(super) lineage: Lineage,
    /// The checksum that the file must have if nothing was captured since: what was recorded at the same position.
    pub(super) expected: Option<(Position, DbSum)>,
    /// Covered by `target`: answered once that is captured.
    pub(super) requests: VecDeque<Request>,
    /// Asked since `target` was seen.
    incoming: VecDeque<Request>,
    /// What has to be captured before anything newer is looked at: under a flood "now" would never be reached.
    target: Option<Seen>,
    pace: Pace,
    /// Who waits for the end of a pause, and the generation before it.
    pub(super) resuming: Option<Resuming>,
    pub(super) scanned: bool,
    last_look: Option<Look>,
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
            incoming: VecDeque::new(),
            target: None,
            pace: Pace::new(),
            resuming: None,
            scanned: false,
            last_look: None,
            trouble: None,
            unreadable_since: None,
            last_tick: Instant::now(),
            last_position: (Instant::now(), None),
        }
    }

    /// Captures until something ends it.
    pub fn run(mut self) -> End {
        self.begin();
        let end = loop {
            match self.turn() {
                Turn::On => {}
                Turn::Wait(time) => drop(self.shared.wake.wait(time)),
                Turn::Rest(look) => self.wait(look),
                Turn::End(end) => break end,
            }
        };
        self.close(end)
    }

    /// Before the first turn.
    pub fn begin(&mut self) {
        if self.capture.ready {
            self.announce();
        } else {
            self.set_state();
        }
    }

    /// One look at the log, and what is to be done for it. Waits for nothing.
    pub fn turn(&mut self) -> Turn {
        let stopping = self.shared.is_stopping();
        self.incoming.extend(self.shared.take_requests());
        let look = self.look();
        let settled = self.incoming.is_empty()
            && self.requests.is_empty()
            && !stopping
            && self.capture.ready
            && self.trouble.is_none();
        if settled && self.last_look == Some(look) {
            return match self.tick() {
                Some(end) => Turn::End(end),
                None => Turn::Rest(look),
            };
        }
        if settled && self.last_look.is_some() && self.may_batch() {
            return Turn::Wait(BATCH_LOOK);
        }
        self.last_look = Some(look);
        match self.step(stopping) {
            Ok(None) => Turn::On,
            Ok(Some(end)) => Turn::End(end),
            // Asked once more: what is not done yet is not forgotten.
            Err(wait) => {
                self.last_look = None;
                Turn::Wait(wait)
            }
        }
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

    /// Under a flood the next commits may wait for more, but not while anything depends on their capture: a log that is
    /// to be taken back, or one that a checkpoint has copied, is copying now, or is about to.
    fn may_batch(&self) -> bool {
        if !self.pace.may_wait() || !self.capture.hold.has_log() {
            return false;
        }
        let Some(cursor) = &self.capture.cursor else {
            return false;
        };
        let [_, frames, ..] = self.capture.index.glance();
        let copied = self.capture.index.checkpoint_info();
        let waiting =
            u64::from(frames.saturating_sub(cursor.frames)) * u64::from(self.capture.page_size);
        copied.attempted.max(copied.backfill) < cursor.frames && waiting < pace::BATCH_BYTES
    }

    /// One round. `Err`: not all is done, wait that long before the next.
    fn step(&mut self, stopping: bool) -> Result<Option<End>, Duration> {
        let before = self.capture.position;
        let done = self.advance();
        if self.capture.position != before {
            self.notice.active();
            self.pace.captured(self.capture.index.glance()[0]);
        }
        let done = match done {
            Ok(done) => done,
            Err(Trouble::Lost(reason)) => return Ok(Some(End::Again(reason))),
            Err(Trouble::Unsound { salt, reason }) => return Ok(Some(End::Unsound(salt, reason))),
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
            None if self.capture.yield_due => Err(YIELD_LOOK),
            end => Ok(end),
        }
    }

    /// Holds, follows, captures. `None`: there is more.
    fn advance(&mut self) -> Result<Option<Seen>, Trouble> {
        let capture = &mut self.capture;
        let seen = Capture::observe(&*capture.index)?;
        let seen = capture.guard(seen)?;
        capture.follow(&seen)?;
        let old = self.target.take();
        let target = match old.filter(|old| old.salt == seen.salt && old.frames <= seen.frames) {
            Some(target) => target,
            None => {
                // Asked before this was seen, so covered by it.
                self.requests.append(&mut self.incoming);
                seen
            }
        };
        for _ in 0..CHUNKS_PER_STEP {
            if capture.is_captured(&target) {
                capture.yield_log()?;
                capture.chase()?;
                capture.note_holder(&target);
                return Ok(Some(target));
            }
            capture.capture_chunk(target.frames)?;
        }
        self.shared.meters.set_holder(LogHolder::Walcast);
        self.target = Some(target);
        Ok(None)
    }

    fn unreadable(&mut self, stopping: bool) -> Result<Option<End>, Duration> {
        if stopping {
            return Ok(Some(End::Stopped));
        }
        let since = *self.unreadable_since.get_or_insert_with(Instant::now);
        if since.elapsed() <= REPAIR_AFTER {
            return Err(Duration::from_micros(100));
        }
        match self.repair() {
            Ok(None) => {
                self.unreadable_since = Some(Instant::now());
                Err(Duration::from_micros(100))
            }
            Ok(Some(reason)) => self.later(reason, stopping),
            Err(error) => self.later(error.to_string(), stopping),
        }
    }

    /// Has SQLite repair the wal-index, or says what is in the way.
    fn repair(&mut self) -> Result<Option<String>, SqliteError> {
        const WHAT: &str = "the wal-index header is not readable";
        let index = &mut self.capture.index;
        // Only a try: SQLite would wait for it for 10 s. Who has it lives, and nobody else can read or write either.
        if !index.lock(WRITE, LockKind::Exclusive)? {
            return Ok(Some(format!(
                "{WHAT}: the process that holds the write lock is repairing it, or stands still in the middle of a commit"
            )));
        }
        index.unlock(WRITE, LockKind::Exclusive)?;
        let (database, path) = (&self.shared.config.name, &self.shared.config.path);
        tracing::warn!(
            database,
            "{WHAT}: a writer died while it wrote it; SQLite repairs it"
        );
        // Any read by SQLite runs the recovery. Our locks are shared with this connection, and stay.
        index_connection(path)?;
        Ok(None)
    }

    fn later(&mut self, reason: String, stopping: bool) -> Result<Option<End>, Duration> {
        if stopping {
            return Ok(Some(End::Stopped));
        }
        self.shared.set_state(
            DatabaseState::Waiting,
            &format!("capture is held up: {reason}"),
        );
        self.requests.append(&mut self.incoming);
        for request in std::mem::take(&mut self.requests) {
            request.refuse(PrimaryError::Disk(reason.clone()));
        }
        self.trouble = Some(reason);
        if let Some(end) = self.tick() {
            return Ok(Some(end));
        }
        Err(RETRY)
    }

    /// Someone waits for this attachment; `before` is the generation that was captured when the files were let go.
    pub fn resume(&mut self, reply: Reply<(Point, bool)>, before: Option<Generation>) {
        self.resuming = Some((reply, before));
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
        let generation = self.capture.position.generation;
        let forget = |gone| hub.forget_before(generation, gone + 1);
        self.capture.shadow.tick(clock_us(), hub.needed(), forget);
        self.write_position(false);
        if self.notice.is_quiet() {
            let has_freed = self.shared.hub.rest();
            self.capture.rest();
            if has_freed {
                crate::sys::give_memory_back();
            }
        }
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
        match durable {
            true => self.housekeeping.give(job),
            false => drop(self.housekeeping.offer(job)),
        }
    }

    /// Lets go of everything, SQLite first: the raw descriptor must outlive it.
    pub fn close(mut self, end: End) -> End {
        self.write_position(true);
        for request in self.requests.drain(..).chain(self.incoming.drain(..)) {
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
