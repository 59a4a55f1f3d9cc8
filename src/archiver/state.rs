//! What an archiver shows of itself.

use crate::format::position::Position;
use crate::model::{ArchiveMeters, ArchiveStatus, DatabaseState, clock_us};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

struct Shown {
    state: DatabaseState,
    reason: String,
    /// What is done beside the log: a snapshot, the retention.
    beside: String,
    /// What was lost and is not healed yet.
    gap: String,
    /// True once the newest state can be restored.
    restorable: bool,
    sent: Option<Position>,
    durable: Option<Position>,
    since_us: i64,
}

/// Shared between the archiver and those who ask.
pub struct State {
    database: String,
    archive: String,
    shown: Mutex<Shown>,
    /// Its counters.
    pub meters: Arc<ArchiveMeters>,
}

impl State {
    /// Nothing is known yet.
    pub fn new(database: &str, archive: String) -> State {
        State {
            database: database.to_owned(),
            archive,
            shown: Mutex::new(Shown {
                state: DatabaseState::Starting,
                reason: "has just begun".into(),
                beside: String::new(),
                gap: String::new(),
                restorable: false,
                sent: None,
                durable: None,
                since_us: 0,
            }),
            meters: Arc::default(),
        }
    }

    fn shown(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What becomes of the log. Each change is one line in the log.
    pub fn set(&self, state: DatabaseState, reason: &str) {
        let mut shown = self.shown();
        if shown.state == state && shown.reason == reason {
            return;
        }
        let (database, archive) = (&self.database, &self.archive);
        match state {
            DatabaseState::Failed | DatabaseState::Disconnected => {
                tracing::warn!(database, archive, "archive {state}: {reason}");
            }
            // Level, behind, level: that is for who asks.
            DatabaseState::Streaming | DatabaseState::CatchingUp if is_well(shown.state) => {}
            _ if reason.is_empty() => tracing::info!(database, archive, "archive {state}"),
            _ => tracing::info!(database, archive, "archive {state}: {reason}"),
        }
        shown.state = state;
        reason.clone_into(&mut shown.reason);
        shown.since_us = match is_well(state) {
            true if shown.since_us == 0 => clock_us(),
            true => shown.since_us,
            false => 0,
        };
    }

    /// What is done beside the log; empty: nothing.
    pub fn beside(&self, what: &str) {
        what.clone_into(&mut self.shown().beside);
    }

    /// Whether the newest state can be restored.
    pub fn set_restorable(&self, is: bool) {
        self.shown().restorable = is;
    }

    /// A stretch that will never be in the archive; empty: healed by a snapshot.
    pub fn set_gap(&self, gap: &str) {
        if !gap.is_empty() {
            let (database, archive) = (&self.database, &self.archive);
            tracing::error!(database, archive, "archive: {gap}");
        }
        gap.clone_into(&mut self.shown().gap);
    }

    /// Up to here it is on its way.
    pub fn sent(&self, position: Position) {
        self.shown().sent = Some(position);
    }

    /// Up to here it is in the archive.
    pub fn durable(&self, position: Position) {
        let mut shown = self.shown();
        shown.durable = Some(position);
        shown.sent = Some(position);
    }

    /// All of it; the lag is the caller's.
    pub fn status(&self) -> ArchiveStatus {
        let shown = self.shown();
        let reasons = [&shown.reason, &shown.beside, &shown.gap].map(String::as_str);
        let reasons: Vec<&str> = reasons.into_iter().filter(|r| !r.is_empty()).collect();
        ArchiveStatus {
            database: self.database.clone(),
            archive: self.archive.clone(),
            state: match shown.state {
                state if is_well(state) && !shown.restorable => DatabaseState::Snapshot,
                state => state,
            },
            reason: reasons.join("; "),
            sent: shown.sent,
            durable: shown.durable,
            lag_bytes: 0,
            lag_seconds: 0.0,
            since_us: shown.since_us,
            meters: Arc::clone(&self.meters),
        }
    }
}

fn is_well(state: DatabaseState) -> bool {
    matches!(state, DatabaseState::Streaming | DatabaseState::CatchingUp)
}
