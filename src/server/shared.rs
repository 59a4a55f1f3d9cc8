//! What all services of one server share: its databases, its limits, and how it ends.

use super::database::Registry;
use super::errors::{Reason, Refusal, draining};
use std::sync::Arc;
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
}

/// A long call's place; gives it back when dropped.
pub(super) struct Slot {
    _permit: OwnedSemaphorePermit,
    _token: TaskTrackerToken,
}

impl Shared {
    /// At most `streams` streams and as many reports at one time, and `waits` calls that wait for a position.
    pub(super) fn new(registry: Registry, streams: usize, waits: usize) -> Shared {
        Shared {
            registry,
            draining: CancellationToken::new(),
            cut: CancellationToken::new(),
            closing: CancellationToken::new(),
            streams: TaskTracker::new(),
            reports: TaskTracker::new(),
            stream_slots: Arc::new(Semaphore::new(streams)),
            report_slots: Arc::new(Semaphore::new(streams)),
            wait_slots: Arc::new(Semaphore::new(waits)),
        }
    }

    pub(super) fn refuse_if_draining(&self) -> Result<(), Refusal> {
        if self.draining.is_cancelled() {
            Err(draining())
        } else {
            Ok(())
        }
    }

    pub(super) fn stream_slot(&self) -> Result<Slot, Refusal> {
        // The token first: a drain that begins now waits for this stream.
        let token = self.streams.token();
        self.refuse_if_draining()?;
        let permit = take(&self.stream_slots, "streams")?;
        Ok(Slot {
            _permit: permit,
            _token: token,
        })
    }

    /// A place among the streams, for a call that a drain does not wait for.
    pub(super) fn copy_slot(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        self.refuse_if_draining()?;
        take(&self.stream_slots, "streams")
    }

    pub(super) fn report_slot(&self) -> Result<Slot, Refusal> {
        let token = self.reports.token();
        let permit = take(&self.report_slots, "reports of progress")?;
        Ok(Slot {
            _permit: permit,
            _token: token,
        })
    }

    pub(super) fn wait_slot(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        self.refuse_if_draining()?;
        take(&self.wait_slots, "calls that wait for a position")
    }
}

fn take(slots: &Arc<Semaphore>, what: &str) -> Result<OwnedSemaphorePermit, Refusal> {
    slots.clone().try_acquire_owned().map_err(|_| {
        let message = format!("this server has as many {what} as it takes at one time");
        Refusal::new(Reason::TooManyCalls, message)
    })
}
