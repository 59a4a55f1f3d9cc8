//! What the services need of a database.

use super::errors::{Reason, Refusal};
use crate::format::position::Position;
use crate::model::{
    ArchiveStatus, CopyMessage, CopyRequest, DatabaseState, DatabaseStatus, Message, Meters, Point,
    Progress, ReplicaStatus, StreamStart,
};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::watch;
use tokio_stream::Stream;

/// The messages of one stream, pulled one by one. Its end without an error: everything up to the drain's position was
/// sent.
pub type Messages = Pin<Box<dyn Stream<Item = Result<Message, Refusal>> + Send>>;

/// The messages of one copy, pulled one by one.
pub type Copies = Pin<Box<dyn Stream<Item = Result<CopyMessage, Refusal>> + Send>>;

/// What both roles have.
#[tonic::async_trait]
pub trait Database: Send + Sync + 'static {
    /// Its name.
    fn name(&self) -> &str;
    /// Its state, for people.
    fn status(&self) -> DatabaseStatus;
    /// Its state, and the seconds since it was level with its primary: what its health depends on, asked often of all.
    fn pulse(&self) -> (DatabaseState, f64) {
        let status = self.status();
        (status.state, status.staleness_seconds)
    }
    /// Its counters, for metrics.
    fn meters(&self) -> Arc<Meters>;
    /// Its position: captured on a primary, what readers see on a replica.
    fn watch(&self) -> watch::Receiver<Option<Point>>;
    /// Begins to end it.
    fn stop(&self);
    /// Waits until it has ended and its files are closed.
    async fn stopped(&self);
}

/// A database that walcast captures.
#[tonic::async_trait]
pub trait PrimaryDatabase: Database {
    /// A point that covers every commit made before the call.
    async fn fence(&self) -> Result<Point, Refusal>;
    /// Opens a stream.
    async fn open_stream(&self, start: StreamStart) -> Result<Messages, Refusal>;
    /// Takes a replica's report.
    fn progress(&self, progress: Progress) -> Result<(), Refusal>;
    /// The replicas that it knows.
    fn replicas(&self) -> Vec<ReplicaStatus>;
    /// The archives that it writes.
    fn archives(&self) -> Vec<ArchiveStatus> {
        Vec::new()
    }
    /// Its replicas and archives, as people see them in one list.
    fn followers(&self) -> Vec<ReplicaStatus> {
        let mut list = self.replicas();
        list.extend(self.archives().iter().map(ArchiveStatus::as_replica));
        list
    }
    /// Lets go of the files.
    async fn pause(&self) -> Result<Point, Refusal>;
    /// Takes them again; true if the generation is still the same.
    async fn resume(&self) -> Result<(Point, bool), Refusal>;
    /// Captures up to now; streams end once they have sent that. Archives have it when this returns.
    async fn drain(&self);
}

/// A database that follows another.
#[tonic::async_trait]
pub trait ReplicaDatabase: Database {
    /// Whether its readers have ever seen the primary's newest state.
    fn has_caught_up_once(&self) -> bool;
    /// Reads the copy as its readers see it now, at one position.
    async fn read_copy(&self, request: CopyRequest) -> Result<Copies, Refusal>;
    /// False for a copy that its upstream let go: it counts neither for health nor for readiness.
    fn is_followed(&self) -> bool {
        true
    }
    /// Ends replication for good and leaves an ordinary database; the position that it holds, if that is known.
    async fn detach(&self) -> Result<(Option<Position>, PathBuf), Refusal>;
}

/// One database with the role that this server has for it.
#[derive(Clone)]
pub enum Served {
    /// It is captured here.
    Primary(Arc<dyn PrimaryDatabase>),
    /// It is a copy.
    Replica(Arc<dyn ReplicaDatabase>),
}

impl Served {
    /// The part that does not depend on the role.
    pub fn database(&self) -> &dyn Database {
        match self {
            Served::Primary(primary) => primary.as_ref(),
            Served::Replica(replica) => replica.as_ref(),
        }
    }

    /// The primary, or a refusal that says what to do instead.
    pub(super) fn primary(&self) -> Result<Arc<dyn PrimaryDatabase>, Refusal> {
        match self {
            Served::Primary(primary) => Ok(primary.clone()),
            Served::Replica(replica) => {
                let (name, upstream) = (replica.name(), replica.status().upstream);
                let message = match upstream.strip_prefix("archive ") {
                    Some(archive) => format!(
                        "'{name}' is a replica here, which follows the archive {archive}; ask its primary"
                    ),
                    None => format!("'{name}' is a replica here; ask its primary at {upstream}"),
                };
                Err(Refusal::new(Reason::NotAPrimary, message).about(name))
            }
        }
    }

    /// The replica, or a refusal.
    pub(super) fn replica(&self) -> Result<Arc<dyn ReplicaDatabase>, Refusal> {
        match self {
            Served::Replica(replica) => Ok(replica.clone()),
            Served::Primary(primary) => {
                let name = primary.name();
                let message =
                    format!("'{name}' is a primary here; ask a server that is a replica of it");
                Err(Refusal::new(Reason::NotAReplica, message).about(name))
            }
        }
    }
}
