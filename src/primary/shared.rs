//! What the capture thread, the streams and the callers of one database share.

use super::PrimaryConfig;
use super::error::PrimaryError;
use super::hub::Hub;
use super::replicas::Replicas;
use super::shadow::Layout;
use super::wake::Wake;
use crate::disk::File;
use crate::format::position::{Generation, Position};
use crate::model::{DatabaseState, LongWork, Meters, Point, SnapshotBegin};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// An answer that a caller waits for.
pub type Reply<T> = oneshot::Sender<Result<T, PrimaryError>>;

/// What a caller asks of the capture thread.
pub enum Request {
    /// A point that covers every commit made before now.
    Fence(Reply<Point>),
    /// The beginning of a snapshot.
    Snapshot(Reply<SnapshotStart>),
    /// Let go of the files.
    Pause(Reply<Point>),
    /// Take them again; the answer tells whether continuity was proven.
    Resume(Reply<(Point, bool)>),
    /// Begin a new generation, and why: if it is still this one that is captured.
    Renew(Generation, String),
}

impl Request {
    /// Answers with an error.
    pub fn refuse(self, error: PrimaryError) {
        // A caller that went away needs no answer.
        match self {
            Request::Fence(reply) | Request::Pause(reply) => drop(reply.send(Err(error))),
            Request::Snapshot(reply) => drop(reply.send(Err(error))),
            Request::Resume(reply) => drop(reply.send(Err(error))),
            Request::Renew(..) => {}
        }
    }
}

/// Keeps an index in the shadow WAL for as long as it lives.
pub struct Pin {
    shared: Arc<Shared>,
    index: u64,
}

impl Pin {
    /// Keeps `index` and all after it.
    pub fn new(shared: &Arc<Shared>, index: u64) -> Pin {
        shared.hub.pin(index);
        Pin {
            shared: Arc::clone(shared),
            index,
        }
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.shared.hub.unpin(self.index);
    }
}

/// Everything a snapshot needs to begin.
pub struct SnapshotStart {
    /// The message that begins it.
    pub begin: SnapshotBegin,
    /// The database file, opened before SQLite opened it and never closed while SQLite has it open.
    pub file: Arc<File>,
    /// Keeps the WAL from the start on.
    pub pin: Pin,
    /// The attachment that it belongs to.
    pub epoch: u64,
}

/// The shared part of a [`super::Primary`].
pub struct Shared {
    /// As given.
    pub config: PrimaryConfig,
    /// Where the shadow WAL is.
    pub layout: Layout,
    /// Wakes the capture thread.
    pub wake: Wake,
    /// Chunks and positions.
    pub hub: Hub,
    /// The replicas.
    pub replicas: Replicas,
    /// `None` once nobody will answer any more.
    requests: Mutex<Option<VecDeque<Request>>>,
    waiting: AtomicBool,
    state: Mutex<(DatabaseState, String)>,
    reading: Mutex<Option<(LongWork, String)>>,
    stopping: AtomicBool,
    draining: Mutex<Option<Option<Position>>>,
    /// Cancelled once no new stream may begin.
    pub ending: CancellationToken,
    /// The database file; see [`SnapshotStart::file`].
    pub raw: Mutex<Option<Arc<File>>>,
    /// Counters for metrics.
    pub meters: Arc<Meters>,
    /// Transactions captured since the start.
    pub commits: AtomicU64,
    /// Payload bytes sent to replicas since the start.
    pub bytes_streamed: AtomicU64,
    /// Full snapshots sent since the start.
    pub snapshots: AtomicU64,
    /// Streams since the start, for their names.
    pub sessions: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// For a database that nobody looked at yet.
    pub fn new(config: PrimaryConfig) -> Shared {
        Shared {
            layout: Layout::of(&config.path),
            config,
            wake: Wake::new(),
            hub: Hub::new(),
            replicas: Replicas::default(),
            requests: Mutex::new(Some(VecDeque::new())),
            waiting: AtomicBool::new(false),
            state: Mutex::new((DatabaseState::Starting, "has just begun".into())),
            reading: Mutex::new(None),
            stopping: AtomicBool::new(false),
            draining: Mutex::new(None),
            ending: CancellationToken::new(),
            raw: Mutex::new(None),
            meters: Arc::default(),
            commits: AtomicU64::new(0),
            bytes_streamed: AtomicU64::new(0),
            snapshots: AtomicU64::new(0),
            sessions: AtomicU64::new(0),
        }
    }

    /// Asks the capture thread for something.
    pub fn request(&self, request: Request) {
        match lock(&self.requests).as_mut() {
            Some(requests) => requests.push_back(request),
            None => return request.refuse(self.not_ready()),
        }
        self.waiting.store(true, Ordering::Release);
        self.wake.wake();
    }

    /// What was asked since the last call. Costs one load when there is nothing.
    pub fn take_requests(&self) -> VecDeque<Request> {
        if !self.has_requests() || !self.waiting.swap(false, Ordering::Acquire) {
            return VecDeque::new();
        }
        lock(&self.requests)
            .as_mut()
            .map(std::mem::take)
            .unwrap_or_default()
    }

    /// Refuses all that waits and all that comes: the thread is gone.
    pub fn refuse_all(&self) {
        let waiting = lock(&self.requests).take();
        for request in waiting.into_iter().flatten() {
            request.refuse(self.not_ready());
        }
    }

    /// True if something was asked.
    pub fn has_requests(&self) -> bool {
        self.waiting.load(Ordering::Relaxed)
    }

    /// What it is doing, without the reason.
    pub fn pulse(&self) -> DatabaseState {
        lock(&self.state).0
    }

    /// What the database is doing, and why.
    pub fn state(&self) -> (DatabaseState, String) {
        lock(&self.state).clone()
    }

    /// How far reading the database is, in bytes. Status says so until the state is another, and the log now and then.
    pub fn note_reading(&self, done: u64, total: u64) {
        let mut reading = lock(&self.reading);
        let now = Instant::now();
        let (work, text) = reading.get_or_insert_with(|| (LongWork::begin(now), String::new()));
        if let Some(told) = work.at(done, total, now) {
            if told.line {
                let name = &self.config.name;
                tracing::info!(database = %name, "reading of {name}: {}", told.text);
            }
            *text = told.text;
        }
    }

    /// What the database is doing, and why, and how far it is.
    pub fn state_now(&self) -> (DatabaseState, String) {
        let (state, reason) = self.state();
        match &*lock(&self.reading) {
            Some((_, text)) if state == DatabaseState::Starting && !text.is_empty() => {
                (state, format!("{reason}: {text}"))
            }
            _ => (state, reason),
        }
    }

    /// Sets it; each change is one line in the log.
    pub fn set_state(&self, state: DatabaseState, reason: &str) {
        if state != DatabaseState::Starting {
            *lock(&self.reading) = None;
        }
        let mut current = lock(&self.state);
        if current.0 == state && current.1 == reason {
            return;
        }
        let name = &self.config.name;
        match state {
            DatabaseState::Waiting | DatabaseState::Failed => {
                tracing::warn!(database = %name, "{state}: {reason}");
            }
            _ if reason.is_empty() => tracing::info!(database = %name, "{state}"),
            _ => tracing::info!(database = %name, "{state}: {reason}"),
        }
        *current = (state, reason.to_owned());
        drop(current);
        self.hub.notify();
    }

    /// The error for a caller who came too early.
    pub fn not_ready(&self) -> PrimaryError {
        match self.state() {
            (DatabaseState::Paused, _) => PrimaryError::Paused,
            // It was not when the question came, or the stream ended.
            (state @ DatabaseState::Streaming, _) => PrimaryError::NotReady {
                state,
                reason: "it began anew in between; ask again".to_owned(),
            },
            (state, reason) => PrimaryError::NotReady { state, reason },
        }
    }

    /// Ends the thread and all streams.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        self.ending.cancel();
        self.wake.wake();
        self.hub.notify();
    }

    /// True once it shall end.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    /// Streams end once they are at `point`; `None`: wherever they are.
    pub fn drain(&self, point: Option<Position>) {
        *lock(&self.draining) = Some(point);
        self.ending.cancel();
        self.hub.notify();
    }

    /// True once no new stream may begin.
    pub fn is_draining(&self) -> bool {
        lock(&self.draining).is_some()
    }

    /// True if a stream at `cursor` shall end now.
    pub fn is_drained(&self, cursor: Position) -> bool {
        match &*lock(&self.draining) {
            Some(Some(point)) => {
                cursor.generation != point.generation
                    || (cursor.index, cursor.offset) >= (point.index, point.offset)
            }
            Some(None) => true,
            None => false,
        }
    }
}
