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

impl Entry {
    /// True if the replica has said how far it is.
    fn is_reported(&self) -> bool {
        self.received.is_some() || self.durable.is_some()
    }
}

/// The replicas of one database by their lasting identity.
#[derive(Default)]
pub struct Replicas {
    entries: Mutex<HashMap<String, Streams>>,
}

/// The streams of one replica, the one that is believed last. There are several for as long as the server does not know that
/// the connection of an older one is gone; and a request that was long on its way may open a stream that nobody reads. Once
/// none is open, the one that ended last is left.
type Streams = Vec<Entry>;

/// The newer of two positions; of two generations the later word counts.
fn newer(known: Option<Position>, told: Option<Position>) -> Option<Position> {
    match (known, told) {
        (Some(known), Some(told)) if told < known => Some(known),
        (known, told) => told.or(known),
    }
}

impl Replicas {
    fn entries(&self) -> MutexGuard<'_, HashMap<String, Streams>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A stream begins, of a replica whose readers see `applied`. It is believed before older ones that nobody reported on,
    /// and once it is reported on before all.
    pub fn connect(
        &self,
        start: &StreamStart,
        applied: Option<Position>,
        session: &str,
        state: DatabaseState,
        reason: &str,
    ) {
        let mut entries = self.entries();
        if entries.len() >= REMEMBERED && !entries.contains_key(&start.replica_id) {
            let left = entries
                .iter()
                .filter_map(|(id, streams)| Some((id, streams.last()?)))
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
            applied,
            // What readers see may be newer than what the disk holds: the replica will tell.
            durable: None,
            bytes_sent: 0,
        };
        let streams = entries.entry(start.replica_id.clone()).or_default();
        streams.retain(|stream| stream.connected);
        let unread = streams.iter().take_while(|s| !s.is_reported()).count();
        streams.insert(unread, entry);
    }

    fn with(&self, replica: &str, session: &str, change: impl FnOnce(&mut Entry)) -> bool {
        let mut entries = self.entries();
        let streams = entries.get_mut(replica).into_iter().flatten();
        match streams.into_iter().find(|s| s.session == session) {
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
        self.with(replica, session, |entry| {
            entry.connected = false;
            entry.since_us = clock_us();
            entry.state = DatabaseState::Disconnected;
            reason.clone_into(&mut entry.reason);
        });
        let mut entries = self.entries();
        if let Some(streams) = entries.get_mut(replica) {
            let is_followed = streams.iter().any(|stream| stream.connected);
            streams.retain(|s| s.connected || !(s.transient || is_followed));
            if streams.is_empty() {
                entries.remove(replica);
            }
        }
    }

    /// A replica's own report.
    pub fn progress(&self, progress: &Progress) -> Result<(), PrimaryError> {
        let known = self.with(&progress.replica_id, &progress.session_id, |entry| {
            entry.received = newer(entry.received, progress.received);
            entry.applied = newer(entry.applied, progress.applied);
            entry.durable = newer(entry.durable, progress.durable);
        });
        match known {
            true => {
                // Who reports, reads.
                if let Some(streams) = self.entries().get_mut(&progress.replica_id) {
                    streams.sort_by_key(|stream| stream.session == progress.session_id);
                }
                Ok(())
            }
            false => Err(PrimaryError::UnknownSession(progress.session_id.clone())),
        }
    }

    /// All of them, by name.
    pub fn list(&self, database: &str, hub: &Hub) -> Vec<ReplicaStatus> {
        let entries = self.entries();
        let mut list: Vec<ReplicaStatus> = entries
            .iter()
            .filter_map(|(id, streams)| Some((id, streams.last()?)))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::position::Generation;

    fn at(offset: u64) -> Option<Position> {
        Some(Position {
            generation: Generation(7),
            index: 0,
            offset,
        })
    }

    fn start(applied: Option<Position>) -> StreamStart {
        StreamStart {
            database: "db".to_owned(),
            position: applied,
            dbsum: None,
            frame_cksum: None,
            replica_id: "id".to_owned(),
            replica_name: "replica".to_owned(),
            lz4: true,
            recent: false,
            page_size: 4096,
            address: String::new(),
            transient: false,
            resume_only: false,
        }
    }

    fn report(session: &str, durable: Option<Position>) -> Progress {
        Progress {
            database: "db".to_owned(),
            replica_id: "id".to_owned(),
            session_id: session.to_owned(),
            received: durable,
            applied: durable,
            durable,
            apply_lag_seconds: 0.0,
        }
    }

    fn connect(
        replicas: &Replicas,
        applied: Option<Position>,
        session: &str,
        state: DatabaseState,
    ) {
        replicas.connect(&start(applied), applied, session, state, "");
    }

    fn only(replicas: &Replicas) -> ReplicaStatus {
        let mut list = replicas.list("db", &Hub::new());
        assert_eq!(list.len(), 1);
        list.remove(0)
    }

    #[test]
    fn a_request_that_comes_late_does_not_hide_the_stream_that_is_read() {
        let replicas = Replicas::default();
        connect(&replicas, at(50), "read", DatabaseState::Streaming);
        connect(&replicas, at(40), "late", DatabaseState::CatchingUp);
        let told = replicas.progress(&report("read", at(60)));
        assert!(told.is_ok(), "{told:?}");
        assert_eq!(only(&replicas).applied, at(60));
        replicas.disconnect("id", "late", "the connection ended");
        assert_eq!(only(&replicas).state, DatabaseState::Streaming);
        replicas.disconnect("id", "read", "the connection ended");
        assert_eq!(only(&replicas).state, DatabaseState::Disconnected);
        assert!(replicas.progress(&report("late", at(70))).is_err());
        // Later still, with nothing more to report from the one that is read.
        connect(&replicas, at(60), "read", DatabaseState::Streaming);
        let told = replicas.progress(&report("read", at(60)));
        assert!(told.is_ok(), "{told:?}");
        connect(&replicas, at(40), "later", DatabaseState::CatchingUp);
        assert_eq!(only(&replicas).applied, at(60));
    }

    #[test]
    fn what_a_replica_asks_from_is_not_believed_to_be_durable() {
        let replicas = Replicas::default();
        connect(&replicas, at(50), "first", DatabaseState::Streaming);
        assert_eq!(only(&replicas).applied, at(50));
        assert_eq!(only(&replicas).durable, None);
        let told = replicas.progress(&report("first", at(30)));
        assert!(told.is_ok(), "{told:?}");
        assert_eq!(only(&replicas).durable, at(30));
    }
}
