//! What the threads and tasks of one replica tell each other and the outside.

use super::ReplicaConfig;
use super::lag::Lag;
use crate::disk::{self, File};
use crate::format::dbsum::DbSum;
use crate::format::position::Position;
use crate::model::{
    DatabaseState, DatabaseStatus, Follows, LogHolder, LongWork, Meters, Point, Progress, Role,
    Told,
};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Why a replica is `starting`, which may take minutes for a large one.
const OPENING: &str = "opens the copy and verifies all of it";

/// State of one replica, behind short locks.
pub struct Shared {
    /// How it was started.
    pub config: ReplicaConfig,
    /// Counters for metrics.
    pub meters: Arc<Meters>,
    /// The applier shall look around.
    attention: Notify,
    /// Nothing is due: it looks around seldom.
    calm: AtomicBool,
    applied: watch::Sender<Option<Point>>,
    caught_up: watch::Sender<bool>,
    /// The local log has no room for more: no stream may run.
    held: watch::Sender<bool>,
    /// How often that began.
    holds: AtomicU64,
    /// The database file, see [`Shared::raw_file`].
    raw: Mutex<Option<Arc<File>>>,
    inner: Mutex<Inner>,
}

struct Inner {
    lag: Lag,
    session: CancellationToken,
    last_open_failure: String,
    state: DatabaseState,
    reason: String,
    work: Option<Work>,
    faults: BTreeMap<&'static str, String>,
    received: Option<Position>,
    durable: Option<Position>,
    wal_bytes: u64,
    bytes: u64,
    publications: u64,
    snapshots: u64,
    snapshot_began: Instant,
    scrubs: u64,
    apply_lag_seconds: f64,
    /// What comes is the archive's, and how far the upstream is nobody has said yet.
    seeding: bool,
    /// Readers see a state of a history that the primary does not have (any more): a snapshot is on its way.
    is_foreign: bool,
}

/// Long work that is under way.
struct Work {
    work: LongWork,
    what: &'static str,
    done: u64,
    total: u64,
    /// How far it is, for status.
    text: String,
}

impl Work {
    fn new(what: &'static str, total: u64) -> Work {
        Work {
            work: LongWork::begin(std::time::Instant::now()),
            what,
            done: 0,
            total,
            text: String::new(),
        }
    }

    fn add(&mut self, bytes: u64) -> Option<Told> {
        self.done += bytes;
        let told = self
            .work
            .at(self.done, self.total, std::time::Instant::now())?;
        self.text.clone_from(&told.text);
        Some(told)
    }
}

impl Shared {
    /// Knows nothing yet.
    pub fn new(config: ReplicaConfig) -> Shared {
        let inner = Inner {
            lag: Lag::new(Instant::now()),
            session: CancellationToken::new(),
            last_open_failure: String::new(),
            state: DatabaseState::Starting,
            reason: OPENING.to_owned(),
            work: None,
            faults: BTreeMap::new(),
            received: None,
            durable: None,
            wal_bytes: 0,
            bytes: 0,
            publications: 0,
            snapshots: 0,
            snapshot_began: Instant::now(),
            scrubs: 0,
            apply_lag_seconds: 0.0,
            seeding: false,
            is_foreign: false,
        };
        Shared {
            config,
            meters: Arc::default(),
            attention: Notify::new(),
            calm: AtomicBool::new(true),
            applied: watch::Sender::new(None),
            caught_up: watch::Sender::new(false),
            held: watch::Sender::new(false),
            holds: AtomicU64::new(0),
            raw: Mutex::new(None),
            inner: Mutex::new(inner),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing in here panics half-way through a change that matters.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The descriptor of the database file, opened before any connection of SQLite's but the one that made the wal-index of a
    /// new file. It is kept while whoever applies opens the files anew: a state that is held for a copy may have a connection
    /// open, and the first descriptor that is closed would take its locks (POSIX). One of a file that has no path any more is
    /// replaced.
    pub(super) fn raw_file(&self) -> disk::Result<Arc<File>> {
        let mut kept = self.raw.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(raw) = kept.as_ref().filter(|raw| raw.is_current()) {
            return Ok(Arc::clone(raw));
        }
        let raw = Arc::new(File::open_rw("db.open", &self.config.path)?);
        *kept = Some(Arc::clone(&raw));
        Ok(raw)
    }

    /// Nothing of the database is open here any more, but for states that are held.
    pub(super) fn let_go(&self) {
        *self.raw.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Makes the applier look around soon.
    pub fn wake(&self) {
        self.attention.notify_one();
    }

    /// Completes when [`Shared::wake`] was called.
    pub(super) async fn woken(&self) {
        self.attention.notified().await;
    }

    /// Whether anything is due after this. Only whoever applies says so.
    pub fn set_calm(&self, calm: bool) {
        if self.calm.swap(calm, Ordering::Relaxed) && !calm {
            self.wake();
        }
    }

    /// Whether the local log has no room for more. Only whoever applies says so.
    pub(super) fn set_held(&self, held: bool) {
        if !self.held.send_replace(held) && held {
            self.holds.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How often the local log had no room for more.
    pub(super) fn holds(&self) -> u64 {
        self.holds.load(Ordering::Relaxed)
    }

    /// True while no stream may run.
    pub(super) fn is_held(&self) -> bool {
        *self.held.borrow()
    }

    /// Completes when there is room.
    pub(super) async fn room(&self) {
        // The sender lives as long as this.
        let _ = self.held.subscribe().wait_for(|held| !held).await;
    }

    /// True if nothing is due.
    pub(super) fn is_calm(&self) -> bool {
        self.calm.load(Ordering::Relaxed)
    }

    /// The primary's position and clock, as a message said.
    pub fn seen(&self, position: Position, clock_us: i64) {
        let mut inner = self.lock();
        if inner.seeding {
            return;
        }
        inner.lag.seen(position, clock_us, Instant::now());
        self.look_level(&mut inner);
    }

    /// A stream begins, and the primary says where it is.
    pub fn greeted(&self, position: Position, clock_us: i64) {
        let mut inner = self.lock();
        if inner.seeding {
            return;
        }
        inner.lag.greeted(position, clock_us, Instant::now());
        self.look_level(&mut inner);
    }

    /// What follows in a stream that begins, which says whether the primary has the history of what readers see here.
    pub(super) fn note_follows(&self, follows: Follows) {
        let mut inner = self.lock();
        match follows {
            Follows::Resume => inner.is_foreign = false,
            // Of a snapshot that is asked for again nothing can be told: the copy is given up already.
            Follows::NewReplica | Follows::NotRetained => {}
            _ => inner.is_foreign = follows.is_foreign(),
        }
        if inner.is_foreign {
            inner.received = None;
            inner.lag.forget_applied();
        }
    }

    /// What comes next is an archive's, and the upstream is asked after that: no position of it is the newest.
    pub(super) fn set_seeding(&self, seeding: bool) {
        self.lock().seeding = seeding;
    }

    /// Readers see this now. `streamed`: it came from the stream, not from the disk at the start.
    pub fn applied(&self, point: &Point, streamed: bool) {
        let mut inner = self.lock();
        let now = Instant::now();
        inner.lag.applied(point.position, point.time_us, now);
        if streamed {
            inner.is_foreign = false;
            inner.publications += 1;
            if let Some(clock) = inner.lag.primary_clock_us(now) {
                inner.apply_lag_seconds = (clock - point.time_us).max(0) as f64 / 1e6;
            }
        }
        self.look_level(&mut inner);
        // Within the lock: whoever makes a report finds either both of before or both of now.
        self.applied.send_replace(Some(*point));
    }

    fn look_level(&self, inner: &mut Inner) {
        let taking = !inner.seeding
            && matches!(
                inner.state,
                DatabaseState::CatchingUp | DatabaseState::Snapshot
            );
        if inner.lag.is_level() && taking {
            inner.state = DatabaseState::Streaming;
            inner.reason.clear();
            let what = match &self.config.archive {
                Some(archive) if self.config.upstream.is_empty() => {
                    let poll = archive.poll.as_secs_f64();
                    inner.reason = format!(
                        "level with the archive, which is read each {poll} s; what is not archived yet is not here"
                    );
                    "archive"
                }
                _ => "primary",
            };
            tracing::info!(database = %self.config.name, "level with the {what}: streaming");
            self.caught_up
                .send_if_modified(|was| !std::mem::replace(was, true));
        }
    }

    /// What readers see is not to be trusted: until it is level again, health says so.
    pub(super) fn not_caught_up(&self) {
        self.caught_up.send_replace(false);
    }

    /// Long work begins, of about so many bytes.
    pub(super) fn work_began(&self, what: &'static str, total: u64) {
        self.lock().work = Some(Work::new(what, total));
    }

    /// So many bytes more are done of the work that is under way, if there is any.
    pub(super) fn work_grew(&self, bytes: u64) {
        let mut inner = self.lock();
        let Some(work) = &mut inner.work else { return };
        if let Some(told) = work.add(bytes)
            && told.line
        {
            let name = &self.config.name;
            tracing::info!(database = %name, "{} of {name}: {}", work.what, told.text);
        }
    }

    /// It is over, or was given up.
    pub(super) fn work_ended(&self) {
        self.lock().work = None;
    }

    /// A snapshot comes in, of about so many bytes.
    pub fn snapshot_began(&self, bytes: u64) {
        self.work_began("snapshot", bytes);
        let mut inner = self.lock();
        inner.snapshots += 1;
        inner.snapshot_began = Instant::now();
        inner.state = DatabaseState::Snapshot;
    }

    /// It is complete.
    pub fn snapshot_ended(&self) {
        self.work_ended();
        let began = self.lock().snapshot_began;
        self.meters.snapshots.time(began.elapsed());
    }

    /// What it is doing, and why.
    pub fn set_state(&self, state: DatabaseState, reason: String) {
        let mut inner = self.lock();
        inner.state = state;
        inner.reason = reason;
    }

    /// The stream that runs now, so that the applier can end it.
    pub(super) fn set_session(&self, session: CancellationToken) {
        self.lock().session = session;
    }

    /// Ends the stream that runs now; the next one begins after a moment.
    pub fn end_session(&self) {
        self.lock().session.cancel();
    }

    /// The stream ended for a reason outside. True if that is news.
    pub(super) fn disconnected(&self, reason: &str) -> bool {
        let mut inner = self.lock();
        let news = inner.state != DatabaseState::Disconnected || inner.reason != reason;
        inner.state = DatabaseState::Disconnected;
        reason.clone_into(&mut inner.reason);
        news
    }

    /// The local database cannot be opened. True if that is news.
    pub(super) fn failed_to_open(&self, reason: &str) -> bool {
        let mut inner = self.lock();
        std::mem::replace(&mut inner.last_open_failure, reason.to_owned()) != reason
    }

    /// It is open: what keeps it from that the next time is news, whatever it was before.
    pub(super) fn opened(&self) {
        self.lock().last_open_failure.clear();
    }

    /// A part has a fault that does not end the stream, or has it no more.
    pub fn note_fault(&self, part: &'static str, fault: Option<String>) {
        if part == "log" {
            let held = fault.is_some();
            self.meters.set_holder(match held {
                true => LogHolder::Reader,
                false => LogHolder::Nothing,
            });
        }
        let mut inner = self.lock();
        match fault {
            Some(text) => {
                if inner.faults.insert(part, text.clone()).is_none() {
                    tracing::warn!(database = %self.config.name, "{text}");
                }
            }
            None => {
                inner.faults.remove(part);
            }
        }
    }

    pub fn note_received(&self, position: Option<Position>) {
        self.lock().received = position;
    }

    pub(super) fn note_bytes(&self, bytes: usize) {
        self.lock().bytes += bytes as u64;
        if bytes > 0 {
            self.meters.segments.observe(bytes as u64);
        }
    }

    /// Payload bytes that came in.
    pub(super) fn bytes(&self) -> u64 {
        self.lock().bytes
    }

    pub fn note_durable(&self, position: Position) {
        self.lock().durable = Some(position);
    }

    pub(super) fn note_wal(&self, bytes: u64) {
        self.lock().wal_bytes = bytes;
    }

    pub(super) fn scrubbed(&self) {
        self.lock().scrubs += 1;
    }

    /// The durable position.
    pub fn durable(&self) -> Option<Position> {
        self.lock().durable
    }

    /// What the primary is told of this replica, for the stream `session_id`. Positions of a history that it does not have
    /// are not named: those of its own that come after may be smaller, and within one stream they must not go back.
    pub fn progress(&self, replica_id: &str, session_id: &str) -> Progress {
        let inner = self.lock();
        let applied = (*self.applied.borrow()).map(|point| point.position);
        let known = |position: Option<Position>| position.filter(|_| !inner.is_foreign);
        // Of another history as well, until the first sync of what replaced it.
        let durable = inner
            .durable
            .filter(|d| applied.is_none_or(|a| *d <= a || d.generation != a.generation));
        Progress {
            database: self.config.upstream_database.clone(),
            replica_id: replica_id.to_owned(),
            session_id: session_id.to_owned(),
            received: known(inner.received),
            applied: known(applied),
            durable: known(durable),
            apply_lag_seconds: inner.apply_lag_seconds,
        }
    }

    /// What readers see.
    pub fn watch(&self) -> watch::Receiver<Option<Point>> {
        self.applied.subscribe()
    }

    /// Whether it was level once.
    pub fn caught_up(&self) -> watch::Receiver<bool> {
        self.caught_up.subscribe()
    }

    /// Its state, and the seconds since it was level.
    pub fn pulse(&self) -> (DatabaseState, f64) {
        let inner = self.lock();
        (inner.state, inner.lag.staleness_seconds(Instant::now()))
    }

    /// Everything for `walcast status`.
    pub fn status(&self) -> DatabaseStatus {
        let point = *self.applied.borrow();
        let inner = self.lock();
        let now = Instant::now();
        let work = inner.work.iter().map(|work| match work.text.as_str() {
            "" if inner.reason.is_empty() => work.what.to_owned(),
            "" => String::new(),
            text => format!("{}: {text}", work.what),
        });
        let parts = std::iter::once(inner.reason.clone()).chain(work);
        let parts = parts.chain(inner.faults.values().cloned());
        let parts: Vec<String> = parts.filter(|part| !part.is_empty()).collect();
        let reason = parts.join("; ");
        DatabaseStatus {
            name: self.config.name.clone(),
            role: Role::Replica,
            state: inner.state,
            reason,
            position: point.map(|p| p.position),
            size_bytes: point.map_or(0, |p| u64::from(p.page_count) * u64::from(p.page_size)),
            dbsum: point.map_or(DbSum(0), |p| p.dbsum),
            wal_bytes: inner.wal_bytes,
            durable: inner.durable,
            upstream_position: inner.lag.upstream(),
            lag_seconds: inner.lag.lag_seconds(now),
            staleness_seconds: inner.lag.staleness_seconds(now),
            upstream: self.config.source(),
            path: self.config.path.display().to_string(),
            bytes_streamed: inner.bytes,
            commits: inner.publications,
            snapshots: inner.snapshots,
        }
    }
}
