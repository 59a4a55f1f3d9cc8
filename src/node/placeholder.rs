//! A database that is shown and not served: what it would be, and why it is not.

use crate::format::dbsum::DbSum;
use crate::format::position::Position;
use crate::model::{
    CopyRequest, DatabaseState, DatabaseStatus, Meters, Point, Progress, ReplicaStatus, Role,
    StreamStart,
};
use crate::server::{
    Copies, Database, Messages, PrimaryDatabase, Reason, Refusal, ReplicaDatabase,
};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::watch;

/// A name in the registry without a database behind it.
pub struct Placeholder {
    status: DatabaseStatus,
    orphan: bool,
    meters: Arc<Meters>,
    points: watch::Sender<Option<Point>>,
}

/// A status that knows no more than this.
pub fn status_of(name: &str, role: Role, state: DatabaseState, dbsum: DbSum) -> DatabaseStatus {
    DatabaseStatus {
        name: name.to_owned(),
        role,
        state,
        reason: String::new(),
        position: None,
        size_bytes: 0,
        dbsum,
        wal_bytes: 0,
        durable: None,
        upstream_position: None,
        lag_seconds: 0.0,
        staleness_seconds: -1.0,
        upstream: String::new(),
        path: String::new(),
        bytes_streamed: 0,
        commits: 0,
        snapshots: 0,
    }
}

impl Placeholder {
    /// `orphan`: a copy whose upstream let it go. It is no fault, so the server's health does not suffer from it.
    pub fn new(
        name: &str,
        path: &std::path::Path,
        role: Role,
        upstream: &str,
        orphan: bool,
        reason: &str,
    ) -> Placeholder {
        let state = if orphan {
            DatabaseState::Stopped
        } else {
            DatabaseState::Failed
        };
        let status = DatabaseStatus {
            reason: reason.to_owned(),
            upstream: upstream.to_owned(),
            path: path.display().to_string(),
            ..status_of(name, role, state, DbSum(0))
        };
        Placeholder {
            status,
            orphan,
            meters: Arc::default(),
            points: watch::Sender::new(None),
        }
    }

    fn refusal(&self) -> Refusal {
        let DatabaseStatus {
            name,
            state,
            reason,
            ..
        } = &self.status;
        let message = format!("'{name}' is {state}: {reason}");
        Refusal::new(Reason::DatabaseNotReady, message).about(name)
    }
}

#[tonic::async_trait]
impl Database for Placeholder {
    fn name(&self) -> &str {
        &self.status.name
    }

    fn status(&self) -> DatabaseStatus {
        self.status.clone()
    }

    fn meters(&self) -> Arc<Meters> {
        self.meters.clone()
    }

    fn watch(&self) -> watch::Receiver<Option<Point>> {
        self.points.subscribe()
    }

    fn stop(&self) {}

    async fn stopped(&self) {}
}

#[tonic::async_trait]
impl PrimaryDatabase for Placeholder {
    async fn fence(&self) -> Result<Point, Refusal> {
        Err(self.refusal())
    }

    async fn open_stream(&self, _: StreamStart) -> Result<Messages, Refusal> {
        Err(self.refusal())
    }

    fn progress(&self, _: Progress) -> Result<(), Refusal> {
        Err(self.refusal())
    }

    fn replicas(&self) -> Vec<ReplicaStatus> {
        Vec::new()
    }

    async fn pause(&self) -> Result<Point, Refusal> {
        Err(self.refusal())
    }

    async fn resume(&self) -> Result<(Point, bool), Refusal> {
        Err(self.refusal())
    }

    async fn drain(&self) {}
}

#[tonic::async_trait]
impl ReplicaDatabase for Placeholder {
    fn has_caught_up_once(&self) -> bool {
        false
    }

    fn is_followed(&self) -> bool {
        !self.orphan
    }

    async fn read_copy(&self, _: CopyRequest) -> Result<Copies, Refusal> {
        Err(self.refusal())
    }

    async fn detach(&self) -> Result<(Option<Position>, PathBuf), Refusal> {
        let name = &self.status.name;
        let message = format!(
            "'{name}' is not followed now; stop this server, then: walcast detach --db {}",
            self.status.path
        );
        Err(Refusal::new(Reason::WrongState, message).about(name))
    }
}
