//! The state of a database as a person or a monitor sees it.

use super::metrics::ArchiveMeters;
use crate::format::dbsum::DbSum;
use crate::format::position::Position;
use std::fmt;
use std::sync::Arc;

/// The part a server plays for one database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The application's database.
    Primary,
    /// A copy that follows.
    Replica,
}

/// One word for what a database is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatabaseState {
    /// Waits for something outside: the file does not exist, is not in WAL mode, cannot work here.
    Waiting,
    /// Reads what is there.
    Starting,
    /// All is well.
    Streaming,
    /// A primary that let go of its files.
    Paused,
    /// A replica that takes a snapshot.
    Snapshot,
    /// A replica that applies what it missed.
    CatchingUp,
    /// A replica without its primary; it goes on answering with what it has.
    Disconnected,
    /// Ended on request.
    Stopped,
    /// Cannot go on without a person.
    Failed,
    /// A word that this build does not know: its server is of a later version. None of ours is ever in it.
    Unknown,
}

impl fmt::Display for DatabaseState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            DatabaseState::Waiting => "waiting",
            DatabaseState::Starting => "starting",
            DatabaseState::Streaming => "streaming",
            DatabaseState::Paused => "paused",
            DatabaseState::Snapshot => "snapshot",
            DatabaseState::CatchingUp => "catching-up",
            DatabaseState::Disconnected => "disconnected",
            DatabaseState::Stopped => "stopped",
            DatabaseState::Failed => "failed",
            DatabaseState::Unknown => "unknown",
        })
    }
}

/// Everything `walcast status` shows of one database.
#[derive(Clone, Debug)]
pub struct DatabaseStatus {
    /// Its name.
    pub name: String,
    /// What this server is for it.
    pub role: Role,
    /// What it is doing.
    pub state: DatabaseState,
    /// Why, and what to do; empty when all is well.
    pub reason: String,
    /// The current position.
    pub position: Option<Position>,
    /// Bytes of the database there.
    pub size_bytes: u64,
    /// Its checksum there.
    pub dbsum: DbSum,
    /// Bytes of its `-wal` file.
    pub wal_bytes: u64,
    /// Replica: what survives a power cut.
    pub durable: Option<Position>,
    /// Replica: the primary's newest known position.
    pub upstream_position: Option<Position>,
    /// Replica: seconds that readers are behind; 0 when level.
    pub lag_seconds: f64,
    /// Replica: seconds since it last knew to be level; negative if it never was.
    pub staleness_seconds: f64,
    /// Replica: what it follows.
    pub upstream: String,
    /// The file.
    pub path: String,
    /// Payload bytes sent or received since the start.
    pub bytes_streamed: u64,
    /// Transactions (primary) or publications (replica) since the start.
    pub commits: u64,
    /// Full snapshots since the start.
    pub snapshots: u64,
}

/// A replica's report.
#[derive(Clone, Debug)]
pub struct Progress {
    /// The database on the primary.
    pub database: String,
    /// The replica.
    pub replica_id: String,
    /// The stream it belongs to.
    pub session_id: String,
    /// What arrived.
    pub received: Option<Position>,
    /// What readers see.
    pub applied: Option<Position>,
    /// What survives a power cut.
    pub durable: Option<Position>,
    /// How late the newest applied commit became visible, seconds.
    pub apply_lag_seconds: f64,
}

/// What a primary knows of one replica.
#[derive(Clone, Debug)]
pub struct ReplicaStatus {
    /// The database.
    pub database: String,
    /// The replica's lasting identity.
    pub replica_id: String,
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: String,
    /// snapshot, catching-up, streaming, disconnected.
    pub state: DatabaseState,
    /// Why it is not streaming.
    pub reason: String,
    /// Handed to the connection.
    pub sent: Option<Position>,
    /// Arrived there.
    pub received: Option<Position>,
    /// Visible there.
    pub applied: Option<Position>,
    /// Survives a power cut there.
    pub durable: Option<Position>,
    /// WAL bytes behind.
    pub lag_bytes: u64,
    /// Seconds behind; 0 when level.
    pub lag_seconds: f64,
    /// Since when it is connected, µs since 1970; 0 if it is not.
    pub connected_since_us: i64,
    /// Payload bytes sent since then.
    pub bytes_sent: u64,
}

/// What a primary knows of one of its archives.
#[derive(Clone, Debug)]
pub struct ArchiveStatus {
    /// The database.
    pub database: String,
    /// Where the archive is.
    pub archive: String,
    /// streaming: all is well; snapshot: nothing can be restored yet; catching-up; disconnected: tries again; failed.
    pub state: DatabaseState,
    /// Why it is not streaming, or what it does beside.
    pub reason: String,
    /// On its way, or there.
    pub sent: Option<Position>,
    /// In the archive.
    pub durable: Option<Position>,
    /// WAL bytes behind.
    pub lag_bytes: u64,
    /// Seconds behind; 0 when level.
    pub lag_seconds: f64,
    /// Since when it writes there, µs since 1970; 0 if it does not.
    pub since_us: i64,
    /// Its counters.
    pub meters: Arc<ArchiveMeters>,
}

impl ArchiveStatus {
    /// As a person sees it among the replicas.
    pub fn as_replica(&self) -> ReplicaStatus {
        ReplicaStatus {
            database: self.database.clone(),
            replica_id: format!("archive:{}", self.archive),
            name: format!("archive {}", self.archive),
            address: String::new(),
            state: self.state,
            reason: self.reason.clone(),
            sent: self.sent,
            received: self.durable,
            applied: self.durable,
            durable: self.durable,
            lag_bytes: self.lag_bytes,
            lag_seconds: self.lag_seconds,
            connected_since_us: self.since_us,
            bytes_sent: self.meters.uploaded_bytes.get(),
        }
    }
}
