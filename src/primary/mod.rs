//! The primary's side of one database: capture, shadow WAL, streams and snapshots.
//!
//! ```text
//! application ── commit ──> -wal, wal-index
//!                               │ looks at shared memory (`notice`), under an unbroken hold (`hold`)
//!                               v
//! capture thread: `log` verifies ─> `sums` page table ─> lz4 ─> `shadow` file ─> `hub` ring
//!                                                                   │              │
//! streams (async): a stream at the tip takes shared bytes from <────┼──────────────┘
//!                  one that is behind reads the shadow WAL <────────┘
//! ```
//!
//! One thread for each database (`supervisor`, `session`) does all that touches the wal-index. Nothing here writes to the
//! application's files, runs a checkpoint, or takes the WRITE or CKPT lock.

mod answers;
mod attach;
mod batch;
mod capture;
mod chase;
mod continuity;
mod decide;
mod error;
mod hold;
mod hub;
mod index;
mod kept;
mod log;
mod notice;
mod open;
mod pace;
mod prove;
mod publish;
mod ready;
mod recent;
mod replicas;
mod session;
pub mod shadow;
mod shared;
mod snapshot;
mod stream;
mod sums;
mod supervisor;
#[cfg(test)]
mod tests;
mod unsound;
mod wake;

pub use error::PrimaryError;
pub use hub::Lag;
pub use kept::Kept;
pub use open::LogFrom;
pub use stream::StreamHandle;

use crate::format::position::{Generation, Position};
use crate::model::{
    DatabaseState, DatabaseStatus, Meters, Point, Progress, ReplicaStatus, Role, StreamStart,
};
use log::LiveLog;
use shared::{Reply, Request, Shared, SnapshotStart};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

/// A call that meets a database which is just being read waits this long before it gives up.
const STARTING_PATIENCE: Duration = Duration::from_secs(2);

/// How one database is captured.
#[derive(Clone, Debug)]
pub struct PrimaryConfig {
    /// Its name, by which replicas ask for it.
    pub name: String,
    /// The database file.
    pub path: PathBuf,
    /// Bytes on disk of the shadow WAL beyond which old indexes are removed.
    pub retain_bytes: u64,
    /// Age of an index beyond which it is removed.
    pub retain_age: Duration,
    /// How often a stream says that the primary is alive when there is nothing else to say.
    pub heartbeat: Duration,
    /// The server's lasting identity.
    pub server_id: String,
}

impl PrimaryConfig {
    /// With the defaults: 1 GiB, 24 hours, a heartbeat each second.
    pub fn new(name: impl Into<String>, path: impl Into<PathBuf>) -> PrimaryConfig {
        PrimaryConfig {
            name: name.into(),
            path: path.into(),
            retain_bytes: 1024 * 1024 * 1024,
            retain_age: Duration::from_secs(24 * 60 * 60),
            heartbeat: Duration::from_secs(1),
            server_id: String::new(),
        }
    }
}

/// What a simulation puts together itself: a capture without a thread, over a wal-index without SQLite.
#[doc(hidden)]
pub mod parts {
    pub use super::attach::examine;
    pub use super::continuity::attach_with;
    pub use super::index::Index;
    pub use super::log::LiveLog;
    pub use super::session::{End, Session, Turn};
    pub use super::shared::Shared;
    pub use super::unsound::Unsound;
}

/// One database of an application, captured for replicas.
pub struct Primary {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
    ended: watch::Receiver<bool>,
}

impl Primary {
    /// Starts the capture thread. It waits for the database to exist, to be in WAL mode, and whatever else is needed;
    /// [`Primary::status`] says what it waits for.
    pub fn start(config: PrimaryConfig) -> Arc<Primary> {
        let shared = Arc::new(Shared::new(config));
        let (ending, ended) = watch::channel(false);
        let thread = {
            let shared = Arc::clone(&shared);
            let name = format!("capture-{}", shared.config.name);
            std::thread::Builder::new().name(name).spawn(move || {
                supervisor::run(&shared);
                ending.send_replace(true);
            })
        };
        let thread = thread.inspect_err(|error| {
            shared.set_state(DatabaseState::Failed, &format!("start a thread: {error}"));
            shared.stop();
            shared.refuse_all();
        });
        Arc::new(Primary {
            shared,
            thread: Mutex::new(thread.ok()),
            ended,
        })
    }

    /// Without a thread: a simulation drives the capture itself.
    #[doc(hidden)]
    pub fn simulated(shared: Arc<Shared>) -> Arc<Primary> {
        Arc::new(Primary {
            shared,
            thread: Mutex::new(None),
            ended: watch::Sender::new(true).subscribe(),
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.shared.config.name
    }

    /// What it is doing.
    pub fn status(&self) -> DatabaseStatus {
        let shared = &self.shared;
        let (state, reason) = shared.state_now();
        let point = shared.hub.tip_now();
        let log = LiveLog::path_of(&shared.config.path);
        DatabaseStatus {
            name: shared.config.name.clone(),
            role: Role::Primary,
            state,
            reason,
            position: point.map(|point| point.position),
            size_bytes: point.map_or(0, |p| u64::from(p.page_count) * u64::from(p.page_size)),
            dbsum: point.map_or_else(Default::default, |point| point.dbsum),
            wal_bytes: crate::disk::metadata("log.stat", &log).map_or(0, |m| m.len()),
            durable: None,
            upstream_position: None,
            lag_seconds: 0.0,
            staleness_seconds: 0.0,
            upstream: String::new(),
            path: shared.config.path.display().to_string(),
            bytes_streamed: shared.bytes_streamed.load(Relaxed),
            commits: shared.commits.load(Relaxed),
            snapshots: shared.snapshots.load(Relaxed),
        }
    }

    /// Its state; it is never stale.
    pub fn pulse(&self) -> (DatabaseState, f64) {
        (self.shared.pulse(), 0.0)
    }

    /// Its counters.
    pub fn meters(&self) -> Arc<Meters> {
        Arc::clone(&self.shared.meters)
    }

    /// The captured tip: committed, in the shadow WAL, checksum known.
    pub fn watch(&self) -> watch::Receiver<Option<Point>> {
        self.shared.hub.tip()
    }

    /// A point that covers every commit made before the call.
    pub async fn fence(&self) -> Result<Point, PrimaryError> {
        ask(&self.shared, Request::Fence).await
    }

    /// Begins a stream: from the position that `start` proves, or with a snapshot.
    pub async fn open_stream(
        self: &Arc<Self>,
        start: StreamStart,
    ) -> Result<StreamHandle, PrimaryError> {
        open::open(&self.shared, start).await
    }

    /// Reads the log in this process: from where `start` proves to be on, else from the beginning of the newest index.
    pub async fn open_log(
        self: &Arc<Self>,
        start: StreamStart,
    ) -> Result<(StreamHandle, LogFrom), PrimaryError> {
        open::open_log(&self.shared, start).await
    }

    /// Keeps the log for a reader that may be slow: beyond `retain_age`, within `retain_bytes`.
    pub fn keep_log(&self) -> Kept {
        Kept::new(&self.shared)
    }

    /// How far a reader at `position` is behind the newest commit.
    pub fn lag(&self, position: Option<Position>) -> Lag {
        self.shared.hub.lag(position)
    }

    /// Begins a new generation after this one, as after lost continuity.
    pub fn renew(&self, generation: Generation, reason: &str) {
        let reason = reason.to_owned();
        self.shared.request(Request::Renew(generation, reason));
    }

    /// The directory of walcast's files beside the database.
    pub fn directory(&self) -> &Path {
        self.shared.layout.root()
    }

    /// How it was started.
    pub fn config(&self) -> &PrimaryConfig {
        &self.shared.config
    }

    /// True once no new stream may begin, since the server drains or stops.
    pub fn is_ending(&self) -> bool {
        self.shared.is_draining() || self.shared.is_stopping()
    }

    /// Waits until [`Primary::is_ending`].
    pub async fn ending(&self) {
        self.shared.ending.cancelled().await;
    }

    /// Takes a replica's report. A report for a stream that is not open is an error and changes nothing.
    pub fn progress(&self, progress: Progress) -> Result<(), PrimaryError> {
        self.shared.replicas.progress(&progress)
    }

    /// The replicas that are or were here.
    pub fn replicas(&self) -> Vec<ReplicaStatus> {
        self.shared
            .replicas
            .list(&self.shared.config.name, &self.shared.hub)
    }

    /// Lets go of the database's files, after everything committed so far is captured. Streams end.
    pub async fn pause(&self) -> Result<Point, PrimaryError> {
        ask_once(&self.shared, Request::Pause).await
    }

    /// Takes the files again. The answer tells whether this continues the same generation.
    pub async fn resume(&self) -> Result<(Point, bool), PrimaryError> {
        ask_once(&self.shared, Request::Resume).await
    }

    /// Captures up to now, and lets each stream end once it has reached that point. New streams are refused.
    pub async fn drain(&self) -> Option<Point> {
        let point = self.fence().await.ok();
        self.shared.drain(point.map(|point| point.position));
        point
    }

    /// Asks for the end. Streams end at once.
    pub fn stop(&self) {
        self.shared.stop();
    }

    /// Waits for the end after [`Primary::stop`]: locks released, files closed, thread joined.
    pub async fn stopped(&self) {
        let mut ended = self.ended.clone();
        // An error means that the thread is gone without a word: a panic, which the join below shows.
        let _ = ended.wait_for(|ended| *ended).await;
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread
            && let Err(panic) = thread.join()
        {
            self.shared
                .set_state(DatabaseState::Failed, "the capture thread panicked");
            std::panic::resume_unwind(panic);
        }
    }
}

impl Drop for Primary {
    fn drop(&mut self) {
        self.shared.stop();
    }
}

/// Asks the capture thread once.
async fn ask_once<T>(
    shared: &Arc<Shared>,
    request: impl Fn(Reply<T>) -> Request,
) -> Result<T, PrimaryError> {
    let (reply, answer) = oneshot::channel();
    shared.request(request(reply));
    answer.await.unwrap_or_else(|_| Err(shared.not_ready()))
}

/// Asks the capture thread; while it only reads the database after a start, asks again for a while.
async fn ask<T>(
    shared: &Arc<Shared>,
    request: impl Fn(Reply<T>) -> Request,
) -> Result<T, PrimaryError> {
    let deadline = Instant::now() + STARTING_PATIENCE;
    let mut changes = shared.hub.changes();
    loop {
        match ask_once(shared, &request).await {
            Err(PrimaryError::NotReady {
                state: DatabaseState::Starting,
                reason,
            }) => {
                let again = tokio::time::timeout_at(deadline, changes.changed()).await;
                if again.is_err() || Instant::now() >= deadline {
                    return Err(PrimaryError::NotReady {
                        state: DatabaseState::Starting,
                        reason,
                    });
                }
            }
            answer => return answer,
        }
    }
}

/// The beginning of a snapshot.
async fn begin_snapshot(shared: &Arc<Shared>) -> Result<SnapshotStart, PrimaryError> {
    ask(shared, Request::Snapshot).await
}
