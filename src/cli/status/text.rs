//! Status for people.

use super::super::table::{Table, visible};
use super::super::units::{show_seconds, show_size};
use super::Entry;
use crate::format::position::Position;
use crate::model::{DatabaseState, DatabaseStatus, ReplicaStatus, Role};

pub(super) fn render(entries: &[Entry]) -> String {
    let mut table = Table::new(
        0,
        &[
            "DATABASE", "ROLE", "STATE", "POSITION", "SIZE", "WAL", "LAG", "UPSTREAM",
        ],
    );
    for entry in entries {
        table.row(database_cells(&entry.database));
    }
    let overview = table.to_string();
    let mut lines = overview.lines();
    let mut out = String::new();
    push_line(&mut out, lines.next());
    for (entry, line) in entries.iter().zip(lines) {
        push_line(&mut out, Some(line));
        push_reason(&mut out, 2, "", &entry.database.reason);
        out.push_str(&replicas(entry));
    }
    out
}

fn push_line(out: &mut String, line: Option<&str>) {
    out.push_str(line.unwrap_or_default());
    out.push('\n');
}

fn push_reason(out: &mut String, indent: usize, who: &str, reason: &str) {
    if !reason.is_empty() {
        let line = visible(&format!("{who}{reason}"));
        out.push_str(&format!("{}{line}\n", " ".repeat(indent)));
    }
}

fn database_cells(database: &DatabaseStatus) -> [String; 8] {
    let (role, lag) = match database.role {
        Role::Primary => ("primary", "-".to_owned()),
        Role::Replica => ("replica", replica_lag(database)),
    };
    let or_dash = |text: &str| {
        if text.is_empty() {
            "-".to_owned()
        } else {
            text.to_owned()
        }
    };
    [
        database.name.clone(),
        role.to_owned(),
        database.state.to_string(),
        database
            .position
            .map_or("-".to_owned(), |position| position.to_string()),
        show_size(database.size_bytes),
        show_size(database.wal_bytes),
        lag,
        or_dash(&database.upstream),
    ]
}

/// Lag is what is known; staleness says for how long nothing is known.
fn replica_lag(database: &DatabaseStatus) -> String {
    let lag = show_seconds(database.lag_seconds);
    match database.state {
        DatabaseState::Streaming => lag,
        _ if database.staleness_seconds < 0.0 => "never level".to_owned(),
        _ => format!("level {} ago", show_seconds(database.staleness_seconds)),
    }
}

fn replicas(entry: &Entry) -> String {
    if entry.replicas.is_empty() {
        return String::new();
    }
    let mut table = Table::new(
        2,
        &[
            "REPLICA", "ADDRESS", "STATE", "SENT", "APPLIED", "DURABLE", "BEHIND", "LAG",
        ],
    );
    for replica in &entry.replicas {
        let short = |position| short(position, entry.database.position);
        table.row([
            replica.name.clone(),
            replica.address.clone(),
            replica.state.to_string(),
            short(replica.sent),
            short(replica.applied),
            short(replica.durable),
            show_size(replica.lag_bytes),
            show_seconds(replica.lag_seconds),
        ]);
    }
    let mut out = table.to_string();
    for ReplicaStatus { name, reason, .. } in &entry.replicas {
        push_reason(&mut out, 4, &format!("{name}: "), reason);
    }
    out
}

/// A position next to the one it is compared with.
fn short(position: Option<Position>, of: Option<Position>) -> String {
    match position {
        None => "-".to_owned(),
        Some(p) if of.is_some_and(|of| of.generation == p.generation) => {
            format!("{:x}:{:x}", p.index, p.offset)
        }
        Some(p) => p.to_string(),
    }
}
