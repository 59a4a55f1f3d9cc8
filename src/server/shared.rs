//! What all services of one server share: its databases, its limits, and how it ends.

use super::errors::{Reason, Refusal, draining};
use super::guard::Admitted;
use super::registry::{Entry, Registry};
use crate::config::Limits;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// Shared by all services of one server.
pub(super) struct Shared {
    pub(super) registry: Registry,
    /// No new work; what waits is told so; streams go on to the drain's position.
    pub(super) draining: CancellationToken,
    /// The time for streams is up.
    pub(super) cut: CancellationToken,
    /// Everything ends now.
    pub(super) closing: CancellationToken,
    /// Counts streams, so that a drain can wait for them.
    pub(super) streams: TaskTracker,
    /// Counts reports: a replica ends its report when it has read its stream's end.
    pub(super) reports: TaskTracker,
    stream_slots: Arc<Semaphore>,
    report_slots: Arc<Semaphore>,
    wait_slots: Arc<Semaphore>,
    clients: Clients,
}

/// A long call's place; gives it back when dropped.
pub(super) struct Slot {
    _permit: OwnedSemaphorePermit,
    _of_client: ClientPlace,
    _token: Option<TaskTrackerToken>,
}

/// The long calls of each client, by kind.
#[derive(Clone)]
struct Clients {
    counts: Arc<Mutex<Counts>>,
    limit: usize,
}

type Key = (Arc<str>, &'static str);
type Counts = HashMap<Key, usize>;

/// One of a client's; given back when dropped.
struct ClientPlace {
    counts: Arc<Mutex<Counts>>,
    key: Key,
}

fn lock(counts: &Mutex<Counts>) -> MutexGuard<'_, Counts> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Clients {
    fn enter(&self, client: &Arc<str>, what: &'static str) -> Result<ClientPlace, Refusal> {
        let key = (client.clone(), what);
        let mut counts = lock(&self.counts);
        let count = counts.entry(key.clone()).or_default();
        if *count >= self.limit {
            let message =
                format!("'{client}' has as many {what} as one client may have at one time");
            return Err(Refusal::new(Reason::TooManyCalls, message));
        }
        *count += 1;
        Ok(ClientPlace {
            counts: self.counts.clone(),
            key,
        })
    }
}

impl Drop for ClientPlace {
    fn drop(&mut self) {
        let mut counts = lock(&self.counts);
        if let Some(count) = counts.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.key);
            }
        }
    }
}

impl Shared {
    /// Streams, as many reports, and calls that wait for a position, up to the limits.
    pub(super) fn new(registry: Registry, limits: &Limits) -> Shared {
        let slots = |count: usize| Arc::new(Semaphore::new(count.min(Semaphore::MAX_PERMITS)));
        Shared {
            registry,
            draining: CancellationToken::new(),
            cut: CancellationToken::new(),
            closing: CancellationToken::new(),
            streams: TaskTracker::new(),
            reports: TaskTracker::new(),
            stream_slots: slots(limits.streams),
            report_slots: slots(limits.streams),
            wait_slots: slots(limits.waits),
            clients: Clients {
                counts: Arc::default(),
                limit: limits.streams_per_client,
            },
        }
    }

    /// The database, for a caller that may do with it what it asks for. One that it may not know of is not there.
    pub(super) fn find(&self, by: &Admitted, name: &str) -> Result<Entry, Refusal> {
        let entry = self.registry.entry(name, &|name| by.sees(name))?;
        by.check(name)?;
        Ok(entry)
    }

    pub(super) fn refuse_if_draining(&self) -> Result<(), Refusal> {
        if self.draining.is_cancelled() {
            Err(draining())
        } else {
            Ok(())
        }
    }

    pub(super) fn stream_slot(&self, by: &Admitted) -> Result<Slot, Refusal> {
        // The token first: a drain that begins now waits for this stream.
        let token = self.streams.token();
        self.refuse_if_draining()?;
        self.slot(&self.stream_slots, "streams", by, Some(token))
    }

    /// A place among the streams, for a call that a drain does not wait for.
    pub(super) fn copy_slot(&self, by: &Admitted) -> Result<Slot, Refusal> {
        self.refuse_if_draining()?;
        self.slot(&self.stream_slots, "streams", by, None)
    }

    pub(super) fn report_slot(&self, by: &Admitted) -> Result<Slot, Refusal> {
        let token = self.reports.token();
        self.slot(&self.report_slots, "reports of progress", by, Some(token))
    }

    pub(super) fn wait_slot(&self, by: &Admitted) -> Result<Slot, Refusal> {
        self.refuse_if_draining()?;
        self.slot(&self.wait_slots, "calls that wait for a position", by, None)
    }

    fn slot(
        &self,
        slots: &Arc<Semaphore>,
        what: &'static str,
        by: &Admitted,
        token: Option<TaskTrackerToken>,
    ) -> Result<Slot, Refusal> {
        let of_client = self.clients.enter(by.client(), what)?;
        let permit = slots.clone().try_acquire_owned().map_err(|_| {
            let message = format!("this server has as many {what} as it takes at one time");
            Refusal::new(Reason::TooManyCalls, message)
        })?;
        Ok(Slot {
            _permit: permit,
            _of_client: of_client,
            _token: token,
        })
    }
}
