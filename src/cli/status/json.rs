//! Status for programs. Names never change; new ones may come.

use super::Entry;
use crate::format::position::Position;
use crate::model::Role;
use serde::Serialize;

#[derive(Serialize)]
struct Status {
    databases: Vec<Database>,
}

#[derive(Serialize)]
struct Database {
    name: String,
    role: &'static str,
    state: String,
    reason: String,
    path: String,
    upstream: String,
    position: Option<String>,
    database_checksum: String,
    size_bytes: u64,
    wal_bytes: u64,
    durable_position: Option<String>,
    upstream_position: Option<String>,
    lag_seconds: f64,
    staleness_seconds: f64,
    bytes_streamed: u64,
    commits: u64,
    snapshots: u64,
    replicas: Vec<Replica>,
}

#[derive(Serialize)]
struct Replica {
    name: String,
    replica_id: String,
    address: String,
    state: String,
    reason: String,
    sent: Option<String>,
    received: Option<String>,
    applied: Option<String>,
    durable: Option<String>,
    lag_bytes: u64,
    lag_seconds: f64,
    connected_since_us: i64,
    bytes_sent: u64,
}

fn text(position: Option<Position>) -> Option<String> {
    position.map(|position| position.to_string())
}

fn database(entry: &Entry) -> Database {
    let database = &entry.database;
    Database {
        name: database.name.clone(),
        role: match database.role {
            Role::Primary => "primary",
            Role::Replica => "replica",
        },
        state: database.state.to_string(),
        reason: database.reason.clone(),
        path: database.path.clone(),
        upstream: database.upstream.clone(),
        position: text(database.position),
        database_checksum: database.dbsum.to_string(),
        size_bytes: database.size_bytes,
        wal_bytes: database.wal_bytes,
        durable_position: text(database.durable),
        upstream_position: text(database.upstream_position),
        lag_seconds: database.lag_seconds,
        staleness_seconds: database.staleness_seconds,
        bytes_streamed: database.bytes_streamed,
        commits: database.commits,
        snapshots: database.snapshots,
        replicas: entry
            .replicas
            .iter()
            .map(|replica| Replica {
                name: replica.name.clone(),
                replica_id: replica.replica_id.clone(),
                address: replica.address.clone(),
                state: replica.state.to_string(),
                reason: replica.reason.clone(),
                sent: text(replica.sent),
                received: text(replica.received),
                applied: text(replica.applied),
                durable: text(replica.durable),
                lag_bytes: replica.lag_bytes,
                lag_seconds: replica.lag_seconds,
                connected_since_us: replica.connected_since_us,
                bytes_sent: replica.bytes_sent,
            })
            .collect(),
    }
}

/// One line.
pub(super) fn render(entries: &[Entry]) -> String {
    let status = Status {
        databases: entries.iter().map(database).collect(),
    };
    // Strings, numbers and lists: nothing of it can fail.
    serde_json::to_string(&status).unwrap_or_default()
}
