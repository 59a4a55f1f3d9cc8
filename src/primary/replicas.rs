//! What a primary knows of its replicas, for status and metrics.

use super::error::PrimaryError;
use super::hub::Hub;
use crate::format::position::Position;
use crate::model::{DatabaseState, Progress, ReplicaStatus, StreamStart, clock_us};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Replicas remembered; the one that left longest ago goes first.
const REMEMBERED: usize = 1000;

struct Entry {
    session: String,
    name: String,
    address: String,
    connected: bool,
    /// A command that reads the database once.
    transient: bool,
    /// Since when it is connected, or when it left.
    since_us: i64,
    state: DatabaseState,
    reason: String,
    sent: Option<Position>,
    received: Option<Position>,
    applied: Option<Position>,
    durable: Option<Position>,
    bytes_sent: u64,
}

/// The replicas of one database by their lasting identity.
#[derive(Default)]
pub struct Replicas {
    entries: Mutex<HashMap<String, Entry>>,
}

/// The newer of two positions; of two generations the later word counts.
fn newer(known: Option<Position>, told: Option<Position>) -> Option<Position> {
    match (known, told) {
        (Some(known), Some(told)) if told < known => Some(known),
        (known, told) => told.or(known),
    }
}

impl Replicas {
    fn entries(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A stream begins. A replica that comes again takes the place of its own older stream.
    pub fn connect(&self, start: &StreamStart, session: &str, state: DatabaseState, reason: &str) {
        let mut entries = self.entries();
        if entries.len() >= REMEMBERED && !entries.contains_key(&start.replica_id) {
            let left = entries
                .iter()
                .filter(|(_, e)| !e.connected)
                .min_by_key(|(_, e)| e.since_us);
            if let Some(id) = left.map(|(id, _)| id.clone()) {
                entries.remove(&id);
            }
        }
        let entry = Entry {
            session: session.to_owned(),
            name: start.replica_name.clone(),
            address: start.address.clone(),
            connected: true,
            transient: start.transient,
            since_us: clock_us(),
            state,
            reason: reason.to_owned(),
            sent: None,
            received: None,
            applied: start.position,
            durable: start.position,
            bytes_sent: 0,
        };
        entries.insert(start.replica_id.clone(), entry);
    }

    fn with(&self, replica: &str, session: &str, change: impl FnOnce(&mut Entry)) -> bool {
        let mut entries = self.entries();
        match entries
            .get_mut(replica)
            .filter(|entry| entry.session == session)
        {
            Some(entry) => {
                change(entry);
                true
            }
            None => false,
        }
    }

    /// A message was handed to the connection.
    pub fn sent(&self, replica: &str, session: &str, position: Option<Position>, bytes: u64) {
        self.with(replica, session, |entry| {
            entry.sent = newer(entry.sent, position);
            entry.bytes_sent += bytes;
        });
    }

    /// What the stream does now.
    pub fn state(&self, replica: &str, session: &str, state: DatabaseState, reason: &str) {
        self.with(replica, session, |entry| {
            entry.state = state;
            reason.clone_into(&mut entry.reason);
        });
    }

    /// The stream ended. A command that read the database once is not missed.
    pub fn disconnect(&self, replica: &str, session: &str, reason: &str) {
        self.entries()
            .retain(|id, entry| !(entry.transient && id == replica && entry.session == session));
        self.with(replica, session, |entry| {
            entry.connected = false;
            entry.since_us = clock_us();
            entry.state = DatabaseState::Disconnected;
            reason.clone_into(&mut entry.reason);
        });
    }

    /// A replica's own report.
    pub fn progress(&self, progress: &Progress) -> Result<(), PrimaryError> {
        let known = self.with(&progress.replica_id, &progress.session_id, |entry| {
            entry.received = newer(entry.received, progress.received);
            entry.applied = newer(entry.applied, progress.applied);
            entry.durable = newer(entry.durable, progress.durable);
        });
        match known {
            true => Ok(()),
            false => Err(PrimaryError::UnknownSession(progress.session_id.clone())),
        }
    }

    /// All of them, by name.
    pub fn list(&self, database: &str, hub: &Hub) -> Vec<ReplicaStatus> {
        let entries = self.entries();
        let mut list: Vec<ReplicaStatus> = entries
            .iter()
            .map(|(id, entry)| (id, entry, hub.lag(entry.applied)))
            .map(|(id, entry, lag)| ReplicaStatus {
                database: database.to_owned(),
                replica_id: id.clone(),
                name: entry.name.clone(),
                address: entry.address.clone(),
                state: entry.state,
                reason: entry.reason.clone(),
                sent: entry.sent,
                received: entry.received,
                applied: entry.applied,
                durable: entry.durable,
                lag_bytes: lag.bytes,
                lag_seconds: lag.since_us.map_or(0.0, seconds_since),
                connected_since_us: if entry.connected { entry.since_us } else { 0 },
                bytes_sent: entry.bytes_sent,
            })
            .collect();
        list.sort_by(|a, b| (&a.name, &a.replica_id).cmp(&(&b.name, &b.replica_id)));
        list
    }
}

/// Both times are this machine's clock; a step backwards must not show a negative lag.
fn seconds_since(time_us: i64) -> f64 {
    (clock_us() - time_us).max(0) as f64 / 1e6
}
