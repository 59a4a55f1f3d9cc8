//! The state of databases and replicas.

use super::field::{MAX_NAME, name, position_or_none, seconds, shortened, text, text_of};
use super::{WireError, pb};
use crate::format::dbsum::DbSum;
use crate::model::{DatabaseState, DatabaseStatus, ReplicaStatus, Role};

type Result<T> = std::result::Result<T, WireError>;

const STATES: [DatabaseState; 10] = [
    DatabaseState::Waiting,
    DatabaseState::Starting,
    DatabaseState::Streaming,
    DatabaseState::Paused,
    DatabaseState::Snapshot,
    DatabaseState::CatchingUp,
    DatabaseState::Disconnected,
    DatabaseState::Stopped,
    DatabaseState::Failed,
    // What one that was told so says in turn.
    DatabaseState::Unknown,
];

/// The state and its reason. A word of a later version must not hide all else that its server says, and with it the
/// other databases: then the state is unknown, and the reason says which it is.
fn state(word: String, reason: String) -> Result<(DatabaseState, String)> {
    let reason = text(reason);
    let known = STATES.into_iter().find(|state| state.to_string() == word);
    if let Some(state) = known {
        return Ok((state, reason));
    }
    let mut said = format!(
        "'{}', a state that this walcast is too old to know",
        name("state", word)?
    );
    if !reason.is_empty() {
        said = format!("{said}: {reason}");
    }
    Ok((DatabaseState::Unknown, said))
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
            reason: text(status.reason),
            position: text_of(status.position),
            size_bytes: status.size_bytes,
            database_checksum: status.dbsum.0,
            wal_bytes: status.wal_bytes,
            durable_position: text_of(status.durable),
            upstream_position: text_of(status.upstream_position),
            lag_seconds: status.lag_seconds,
            staleness_seconds: status.staleness_seconds,
            upstream: text(status.upstream),
            path: text(status.path),
            bytes_streamed: status.bytes_streamed,
            commits: status.commits,
            snapshots: status.snapshots,
        }
    }
}

impl TryFrom<pb::Database> for DatabaseStatus {
    type Error = WireError;

    fn try_from(database: pb::Database) -> Result<DatabaseStatus> {
        let (state, reason) = state(database.state, database.reason)?;
        Ok(DatabaseStatus {
            name: name("name", database.name)?,
            role: role(database.role)?,
            state,
            reason,
            position: position_or_none("position", &database.position)?,
            size_bytes: database.size_bytes,
            dbsum: DbSum(database.database_checksum),
            wal_bytes: database.wal_bytes,
            durable: position_or_none("durable_position", &database.durable_position)?,
            upstream_position: position_or_none("upstream_position", &database.upstream_position)?,
            lag_seconds: seconds("lag_seconds", database.lag_seconds)?,
            staleness_seconds: seconds("staleness_seconds", database.staleness_seconds)?,
            upstream: text(database.upstream),
            path: text(database.path),
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
            // An archive's are its URL, which may be long.
            replica_id: shortened(status.replica_id, MAX_NAME),
            name: shortened(status.name, MAX_NAME),
            address: text(status.address),
            state: status.state.to_string(),
            reason: text(status.reason),
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
        let (state, reason) = state(replica.state, replica.reason)?;
        Ok(ReplicaStatus {
            database: name("database", replica.database)?,
            replica_id: name("replica_id", replica.replica_id)?,
            name: name("name", replica.name)?,
            address: text(replica.address),
            state,
            reason,
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

#[cfg(test)]
mod tests {
    use super::super::MAX_TEXT;
    use super::*;

    #[test]
    fn what_is_too_long_loses_its_middle_and_hides_nothing_else() {
        let long = |start: &str, end: &str| format!("{start}{}{end}", "\u{4e2d}".repeat(2000));
        let database = pb::Database {
            name: "app.db".into(),
            role: pb::Role::Primary.into(),
            state: DatabaseState::Streaming.to_string(),
            reason: long("held by ", ""),
            path: long("/data/", "/app.db"),
            upstream: long("https://", ":4040"),
            ..Default::default()
        };
        let status = DatabaseStatus::try_from(database).expect("a status");
        assert!(status.reason.starts_with("held by ") && status.reason.len() <= MAX_TEXT);
        assert!(status.path.starts_with("/data/") && status.path.ends_with("/app.db"));
        assert!(status.path.contains("...") && status.path.len() <= MAX_TEXT);
        // What this side says of itself is fit to be read.
        let again = DatabaseStatus {
            reason: long("", "why"),
            ..status
        };
        let read = DatabaseStatus::try_from(pb::Database::from(again)).expect("a status");
        assert!(read.reason.ends_with("why"));

        let archive = ReplicaStatus {
            database: "app.db".into(),
            replica_id: long("archive:s3://bucket/", "/a"),
            name: long("archive s3://bucket/", "/a"),
            address: String::new(),
            state: DatabaseState::Streaming,
            reason: String::new(),
            sent: None,
            received: None,
            applied: None,
            durable: None,
            lag_bytes: 0,
            lag_seconds: 0.0,
            connected_since_us: 0,
            bytes_sent: 0,
        };
        let read = ReplicaStatus::try_from(pb::Replica::from(archive)).expect("a status");
        assert!(read.name.starts_with("archive s3://bucket/") && read.name.ends_with("/a"));
        assert!(read.name.len() <= MAX_NAME && read.replica_id.len() <= MAX_NAME);
    }

    #[test]
    fn a_state_of_a_later_version_hides_nothing_else() {
        let database = |state: &str, reason: &str| pb::Database {
            name: "app.db".into(),
            role: pb::Role::Primary.into(),
            state: state.into(),
            reason: reason.into(),
            size_bytes: 4096,
            ..Default::default()
        };
        let said = "'rewinding', a state that this walcast is too old to know";
        for (reason, shown) in [("", said), ("by an hour", &format!("{said}: by an hour"))] {
            let status = DatabaseStatus::try_from(database("rewinding", reason)).expect("a status");
            assert_eq!(status.state, DatabaseState::Unknown);
            assert_eq!((&*status.reason, status.size_bytes), (shown, 4096));
        }
        for state in STATES {
            let status = database(&state.to_string(), "why");
            let status = DatabaseStatus::try_from(status).expect("a status");
            assert_eq!((status.state, &*status.reason), (state, "why"));
        }
        for state in ["", "two\nlines"] {
            let error = DatabaseStatus::try_from(database(state, "")).expect_err("no word");
            assert_eq!(error.field(), Some("state"));
        }
    }
}
