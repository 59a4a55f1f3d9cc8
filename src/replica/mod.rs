//! A replica: follows a primary's stream, or an archive ([`archive`]), and keeps a local database that other programs read.
//!
//! Three parties: a task that follows the stream ([`follow`]), a thread that applies it ([`queue`], [`worker`],
//! [`applier`]), and a thread that waits for the disk ([`checkpointer`]). The threads are there only while they have
//! something to do. A commit that comes alone is applied by the task itself, which saves a wake-up. The decisions are in
//! [`machine`], which does nothing itself.

mod applier;
mod approach;
mod archive;
mod checkpointer;
mod copy;
mod detach;
mod doubt;
mod error;
mod follow;
mod gather;
mod holders;
mod house;
mod lag;
mod local;
mod local_copy;
mod log;
mod machine;
mod open;
mod queue;
mod record;
mod report;
mod restart;
mod scrub;
mod seed;
mod seeding;
mod shared;
mod slots;
mod take;
#[cfg(test)]
mod tests;
mod unpack;
mod worker;

pub use crate::sqlite::ViewError as CopyError;
pub use copy::CopyView;
pub use detach::{DetachError, detach_offline};
pub use local_copy::{LocalCopy, LocalCopyError};
pub use take::{Take, TakeError, Taken};

use crate::archive::ArchiveSource;
use crate::client::Upstream;
use crate::format::position::Position;
use crate::model::{DatabaseState, DatabaseStatus, Message, Meters, Point};
use crate::sqlite::WalIndex;
use queue::Queue;
use shared::Shared;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How a replica is run.
#[derive(Clone, Debug)]
pub struct ReplicaConfig {
    /// The database's name here.
    pub name: String,
    /// Its name on the upstream.
    pub upstream_database: String,
    /// The file that readers open.
    pub path: PathBuf,
    /// The URL that it follows, for people; empty: its archive alone.
    pub upstream: String,
    /// Where it starts from; without an upstream, what it follows.
    pub archive: Option<ArchiveSource>,
    /// The replica's name, for people.
    pub replica_name: String,
    /// When the database is called stale; `None`: never.
    pub max_staleness: Option<Duration>,
    /// Time between two looks at the whole file for damage; `None`: never.
    pub scrub_interval: Option<Duration>,
    /// Bytes of the local log that short pauses try to keep it below.
    pub wal_soft_limit: u64,
    /// Bytes of the local log from which nothing is applied before readers let it begin anew.
    pub wal_hard_limit: u64,
    /// Mode of a new database file.
    pub mode: u32,
}

impl ReplicaConfig {
    /// A replica of the database of the same name, with defaults.
    pub fn new(name: &str, path: PathBuf, upstream: &str) -> ReplicaConfig {
        ReplicaConfig {
            name: name.to_owned(),
            upstream_database: name.to_owned(),
            path,
            upstream: upstream.to_owned(),
            archive: None,
            replica_name: nix::unistd::gethostname()
                .ok()
                .and_then(|n| n.into_string().ok())
                .unwrap_or_else(|| "replica".to_owned()),
            max_staleness: None,
            scrub_interval: None,
            wal_soft_limit: 16 << 20,
            wal_hard_limit: 1 << 30,
            mode: 0o640,
        }
    }

    /// What it follows, for people.
    fn source(&self) -> String {
        match &self.archive {
            Some(archive) if self.upstream.is_empty() => format!("archive {}", archive.location),
            _ => self.upstream.clone(),
        }
    }
}

/// A replica could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ReplicaError {
    /// It has ended.
    #[error("{0}: the replica has stopped")]
    Stopped(String),
    /// The database failed.
    #[error("{0}")]
    Failed(String),
}

/// What a simulation puts together itself: the decisions and the queue of a replica, beside a database of its own.
#[doc(hidden)]
pub mod parts {
    pub use super::Command;
    pub use super::follow::{Follower, Refusal, Request, run, ticks};
    pub use super::machine::{Action, MAX_UNPACKED, Machine, Pages, StreamError};
    pub use super::queue::Queue;
    pub use super::record::Mark;
    pub use super::shared::Shared;
    pub use super::worker::{AtOnce, Next, Work, Worker};
}

/// What the applier is told.
pub enum Command {
    /// A stream begins; what shall it ask for?
    Begin(oneshot::Sender<Result<follow::Request, follow::Refusal>>),
    /// A message of the stream.
    Message {
        /// The message.
        message: Message,
        /// The stream; cancelled, once nothing more of it shall be applied.
        session: CancellationToken,
        /// Counts its bytes until it is applied.
        permit: Option<OwnedSemaphorePermit>,
    },
    /// The stream ended; the answer comes when all that was queued before is done.
    End(oneshot::Sender<()>),
    /// Look around. `idle`: nothing has come for a while.
    Tick { idle: bool },
    /// Hold the state that readers see now.
    View(Box<WalIndex>, oneshot::Sender<Result<CopyView, String>>),
    /// End replication.
    Detach(oneshot::Sender<Result<Option<Position>, String>>),
    /// End in order.
    Stop,
}

/// A handle to a running replica.
pub struct Replica {
    shared: Arc<Shared>,
    queue: Arc<Queue>,
    cancel: CancellationToken,
    tasks: TaskTracker,
}

impl Replica {
    /// Starts following; without an upstream, the archive alone. Must be called in a tokio runtime.
    pub fn start(config: ReplicaConfig, upstream: impl Into<Option<Upstream>>) -> Arc<Replica> {
        let shared = Arc::new(Shared::new(config));
        let cancel = CancellationToken::new();
        let tasks = TaskTracker::new();
        let (threads, tracker) = (Handle::current(), tasks.clone());
        let run = move |work| drop(tracker.spawn_blocking_on(work, &threads));
        let worker = worker::Worker::new(shared.clone());
        let queue = Queue::new(Box::new(worker), Box::new(run));
        let follower = follow::Follower {
            shared: shared.clone(),
            upstream: upstream.into(),
            queue: queue.clone(),
        };
        tasks.spawn(follow::run(follower, cancel.clone()));
        tasks.spawn(follow::ticks(shared.clone(), queue.clone(), cancel.clone()));
        tasks.close();
        Arc::new(Replica {
            shared,
            queue,
            cancel,
            tasks,
        })
    }

    /// The database's name.
    pub fn name(&self) -> &str {
        &self.shared.config.name
    }

    /// How it was started.
    pub fn config(&self) -> &ReplicaConfig {
        &self.shared.config
    }

    /// Everything for `walcast status`.
    pub fn status(&self) -> DatabaseStatus {
        self.shared.status()
    }

    /// Its state, and the seconds since it was level; negative if it never was.
    pub fn pulse(&self) -> (DatabaseState, f64) {
        self.shared.pulse()
    }

    /// Its counters.
    pub fn meters(&self) -> Arc<Meters> {
        self.shared.meters.clone()
    }

    /// What readers see now, and each change of it.
    pub fn watch(&self) -> watch::Receiver<Option<Point>> {
        self.shared.watch()
    }

    /// Whether it was level with its primary at least once since it started.
    pub fn has_caught_up_once(&self) -> bool {
        *self.shared.caught_up().borrow()
    }

    /// Each change of [`Replica::has_caught_up_once`].
    pub fn caught_up(&self) -> watch::Receiver<bool> {
        self.shared.caught_up()
    }

    /// Ends replication and leaves an ordinary, writable database. Answers with its last position, if that is known.
    ///
    /// # Errors
    /// The replica goes on, except where the database is an ordinary one already and what walcast kept beside it could not be
    /// removed: the error says so, and the state is `failed`.
    pub async fn detach(&self) -> Result<(Option<Position>, PathBuf), ReplicaError> {
        let stopped = || ReplicaError::Stopped(self.name().to_owned());
        let (reply, answer) = oneshot::channel();
        self.queue
            .send(Command::Detach(reply))
            .await
            .map_err(|_| stopped())?;
        let position = answer
            .await
            .map_err(|_| stopped())?
            .map_err(ReplicaError::Failed)?;
        self.cancel.cancel();
        Ok((position, self.shared.config.path.clone()))
    }

    /// Holds the state that readers see now, as an open read transaction would. `None`: there is none that is proven yet.
    pub async fn view(&self) -> Result<Option<CopyView>, ReplicaError> {
        let stopped = || ReplicaError::Stopped(self.name().to_owned());
        if self.watch().borrow().is_none() {
            return Ok(None);
        }
        let path = self.shared.config.path.clone();
        let opened = tokio::task::spawn_blocking(move || WalIndex::open(&path)).await;
        let index = opened
            .map_err(|_| stopped())?
            .map_err(|error| ReplicaError::Failed(error.to_string()))?;
        let (reply, answer) = oneshot::channel();
        self.queue
            .send(Command::View(Box::new(index), reply))
            .await
            .map_err(|_| stopped())?;
        let view = answer.await.map_err(|_| stopped())?;
        view.map(Some).map_err(ReplicaError::Failed)
    }

    /// Begins to end.
    pub fn stop(&self) {
        self.cancel.cancel();
    }

    /// Waits until everything has ended and all is on disk.
    pub async fn stopped(&self) {
        // If the worker has ended already there is nobody to tell.
        let _ = self.queue.send(Command::Stop).await;
        self.tasks.wait().await;
    }

    /// Why the replica cannot go on at all, once that is so.
    pub fn fatal(&self) -> Option<String> {
        self.queue.fatal()
    }
}

fn random_u64() -> u64 {
    // Without randomness from the kernel nothing here can be safe: salts, generations, identities.
    crate::model::random_u64()
        .unwrap_or_else(|error| panic!("the system gives no random numbers: {error}"))
}
