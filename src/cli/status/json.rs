//! Status for programs. Forty lines instead of a dependency: it is written, never read.

use super::Entry;
use crate::format::position::Position;
use crate::model::{DatabaseStatus, ReplicaStatus, Role};
use std::fmt::Write as _;

/// A JSON string.
fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if u32::from(c) < 0x20 => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn position(position: Option<Position>) -> String {
    position.map_or("null".to_owned(), |position| quote(&position.to_string()))
}

fn object(fields: &[(&str, String)]) -> String {
    let fields: Vec<String> = fields
        .iter()
        .map(|(k, v)| format!("{}:{v}", quote(k)))
        .collect();
    format!("{{{}}}", fields.join(","))
}

fn replica(replica: &ReplicaStatus) -> String {
    object(&[
        ("name", quote(&replica.name)),
        ("replica_id", quote(&replica.replica_id)),
        ("address", quote(&replica.address)),
        ("state", quote(&replica.state.to_string())),
        ("reason", quote(&replica.reason)),
        ("sent", position(replica.sent)),
        ("received", position(replica.received)),
        ("applied", position(replica.applied)),
        ("durable", position(replica.durable)),
        ("lag_bytes", replica.lag_bytes.to_string()),
        ("lag_seconds", replica.lag_seconds.to_string()),
        ("connected_since_us", replica.connected_since_us.to_string()),
        ("bytes_sent", replica.bytes_sent.to_string()),
    ])
}

fn database(entry: &Entry) -> String {
    let database: &DatabaseStatus = &entry.database;
    let replicas: Vec<String> = entry.replicas.iter().map(replica).collect();
    let role = match database.role {
        Role::Primary => "primary",
        Role::Replica => "replica",
    };
    object(&[
        ("name", quote(&database.name)),
        ("role", quote(role)),
        ("state", quote(&database.state.to_string())),
        ("reason", quote(&database.reason)),
        ("path", quote(&database.path)),
        ("upstream", quote(&database.upstream)),
        ("position", position(database.position)),
        ("database_checksum", quote(&database.dbsum.to_string())),
        ("size_bytes", database.size_bytes.to_string()),
        ("wal_bytes", database.wal_bytes.to_string()),
        ("durable_position", position(database.durable)),
        ("upstream_position", position(database.upstream_position)),
        ("lag_seconds", database.lag_seconds.to_string()),
        ("staleness_seconds", database.staleness_seconds.to_string()),
        ("bytes_streamed", database.bytes_streamed.to_string()),
        ("commits", database.commits.to_string()),
        ("snapshots", database.snapshots.to_string()),
        ("replicas", format!("[{}]", replicas.join(","))),
    ])
}

pub(super) fn render(entries: &[Entry]) -> String {
    let databases: Vec<String> = entries.iter().map(database).collect();
    object(&[("databases", format!("[{}]", databases.join(",")))])
}

#[cfg(test)]
mod tests {
    #[test]
    fn strings_are_escaped() {
        assert_eq!(
            super::quote("a\"b\\c\n\u{1}é"),
            "\"a\\\"b\\\\c\\u000a\\u0001é\""
        );
    }
}
