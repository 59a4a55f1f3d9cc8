//! The state of databases and replicas.

use super::field::{name, position_or_none, seconds, text, text_of};
use super::{WireError, pb};
use crate::format::dbsum::DbSum;
use crate::model::{DatabaseState, DatabaseStatus, ReplicaStatus, Role};

type Result<T> = std::result::Result<T, WireError>;

const STATES: [DatabaseState; 9] = [
    DatabaseState::Waiting,
    DatabaseState::Starting,
    DatabaseState::Streaming,
    DatabaseState::Paused,
    DatabaseState::Snapshot,
    DatabaseState::CatchingUp,
    DatabaseState::Disconnected,
    DatabaseState::Stopped,
    DatabaseState::Failed,
];

fn state(word: &str) -> Result<DatabaseState> {
    STATES
        .into_iter()
        .find(|state| state.to_string() == word)
        .ok_or(WireError::Unknown {
            what: "state of a database",
        })
}

fn role(role: i32) -> Result<Role> {
    match pb::Role::try_from(role) {
        Ok(pb::Role::Primary) => Ok(Role::Primary),
        Ok(pb::Role::Replica) => Ok(Role::Replica),
        Ok(pb::Role::Unspecified) => Err(WireError::Missing { field: "role" }),
        Err(_) => Err(WireError::Unknown { what: "role" }),
    }
}

impl From<DatabaseStatus> for pb::Database {
    fn from(status: DatabaseStatus) -> pb::Database {
        pb::Database {
            name: status.name,
            role: match status.role {
                Role::Primary => pb::Role::Primary,
                Role::Replica => pb::Role::Replica,
            }
            .into(),
            state: status.state.to_string(),
            reason: status.reason,
            position: text_of(status.position),
            size_bytes: status.size_bytes,
            database_checksum: status.dbsum.0,
            wal_bytes: status.wal_bytes,
            durable_position: text_of(status.durable),
            upstream_position: text_of(status.upstream_position),
            lag_seconds: status.lag_seconds,
            staleness_seconds: status.staleness_seconds,
            upstream: status.upstream,
            path: status.path,
            bytes_streamed: status.bytes_streamed,
            commits: status.commits,
            snapshots: status.snapshots,
        }
    }
}

impl TryFrom<pb::Database> for DatabaseStatus {
    type Error = WireError;

    fn try_from(database: pb::Database) -> Result<DatabaseStatus> {
        Ok(DatabaseStatus {
            name: name("name", database.name)?,
            role: role(database.role)?,
            state: state(&database.state)?,
            reason: text("reason", database.reason)?,
            position: position_or_none("position", &database.position)?,
            size_bytes: database.size_bytes,
            dbsum: DbSum(database.database_checksum),
            wal_bytes: database.wal_bytes,
            durable: position_or_none("durable_position", &database.durable_position)?,
            upstream_position: position_or_none("upstream_position", &database.upstream_position)?,
            lag_seconds: seconds("lag_seconds", database.lag_seconds)?,
            staleness_seconds: seconds("staleness_seconds", database.staleness_seconds)?,
            upstream: text("upstream", database.upstream)?,
            path: text("path", database.path)?,
            bytes_streamed: database.bytes_streamed,
            commits: database.commits,
            snapshots: database.snapshots,
        })
    }
}

impl From<ReplicaStatus> for pb::Replica {
    fn from(status: ReplicaStatus) -> pb::Replica {
        pb::Replica {
            database: status.database,
            replica_id: status.replica_id,
            name: status.name,
            address: status.address,
            state: status.state.to_string(),
            reason: status.reason,
            sent: text_of(status.sent),
            received: text_of(status.received),
            applied: text_of(status.applied),
            durable: text_of(status.durable),
            lag_bytes: status.lag_bytes,
            lag_seconds: status.lag_seconds,
            connected_since_us: status.connected_since_us,
            bytes_sent: status.bytes_sent,
        }
    }
}

impl TryFrom<pb::Replica> for ReplicaStatus {
    type Error = WireError;

    fn try_from(replica: pb::Replica) -> Result<ReplicaStatus> {
        Ok(ReplicaStatus {
            database: name("database", replica.database)?,
            replica_id: name("replica_id", replica.replica_id)?,
            name: name("name", replica.name)?,
            address: text("address", replica.address)?,
            state: state(&replica.state)?,
            reason: text("reason", replica.reason)?,
            sent: position_or_none("sent", &replica.sent)?,
            received: position_or_none("received", &replica.received)?,
            applied: position_or_none("applied", &replica.applied)?,
            durable: position_or_none("durable", &replica.durable)?,
            lag_bytes: replica.lag_bytes,
            lag_seconds: seconds("lag_seconds", replica.lag_seconds)?,
            connected_since_us: replica.connected_since_us,
            bytes_sent: replica.bytes_sent,
        })
    }
}
