//! One connection: what it does now, for whom, and when it has done nothing for too long.

use super::flow::Flow;
use super::strangers::StrangerPlace;
use crate::config::Limits;
use crate::security::Peer;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// Shared by a connection's task and its calls.
pub(super) struct Connection {
    pub(super) address: SocketAddr,
    pub(super) local: Option<SocketAddr>,
    /// Whose certificate it showed.
    pub(super) peer: Option<Peer>,
    accepted: Instant,
    calls: AtomicUsize,
    asked: AtomicBool,
    /// Given back when a call was let in.
    stranger: Mutex<Option<StrangerPlace>>,
    state: Mutex<State>,
    /// A first call after none: there is something to watch again.
    busy: Notify,
}

struct State {
    quiet_since: Instant,
    flows: Vec<Weak<Flow>>,
}

/// A call's place on its connection; given back when its answer was sent, or its peer is gone.
pub(super) struct CallPlace(Arc<Connection>);

impl Drop for CallPlace {
    fn drop(&mut self) {
        self.0.state().quiet_since = Instant::now();
        self.0.calls.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Connection {
    pub(super) fn new(
        address: SocketAddr,
        local: Option<SocketAddr>,
        peer: Option<Peer>,
        accepted: Instant,
        stranger: StrangerPlace,
    ) -> Connection {
        Connection {
            address,
            local,
            peer,
            accepted,
            calls: AtomicUsize::new(0),
            asked: AtomicBool::new(false),
            stranger: Mutex::new(Some(stranger)),
            state: Mutex::new(State {
                quiet_since: accepted,
                flows: Vec::new(),
            }),
            busy: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A call begins.
    pub(super) fn begin(self: &Arc<Self>) -> CallPlace {
        self.asked.store(true, Ordering::SeqCst);
        if self.calls.fetch_add(1, Ordering::SeqCst) == 0 {
            self.busy.notify_one();
        }
        CallPlace(self.clone())
    }

    /// Calls now.
    pub(super) fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    /// Watches what a call sends.
    pub(super) fn watch_flow(&self, flow: &Arc<Flow>) {
        let mut state = self.state();
        // Those that have ended are forgotten when the room is needed.
        if state.flows.len() == state.flows.capacity() {
            state.flows.retain(|flow| flow.strong_count() > 0);
        }
        state.flows.push(Arc::downgrade(flow));
    }

    /// Someone on it is known now: it counts no more among those that are not.
    pub(super) fn is_known(&self) {
        self.stranger
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
    }

    /// True if nobody on it was let in yet.
    pub(super) fn is_stranger(&self) -> bool {
        self.stranger
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some()
    }

    /// Returns why the connection is to be closed, once it is. Meanwhile it cuts off the calls whose client takes nothing.
    pub(super) async fn outlive(&self, limits: &Limits) -> &'static str {
        loop {
            if let Some(reason) = self.over(limits, Instant::now()) {
                return reason;
            }
            self.cut_stalled(limits.stall_timeout);
            tokio::select! {
                () = sleep_until(self.next_look(limits)) => {}
                () = self.busy.notified() => {}
            }
        }
    }

    fn over(&self, limits: &Limits, now: Instant) -> Option<&'static str> {
        if !self.asked.load(Ordering::SeqCst) {
            let late = now >= self.accepted + limits.handshake_timeout;
            return late.then_some("no request came in time");
        }
        // In this order: a call that begins in between is counted before the time is looked at.
        let quiet = now.saturating_duration_since(self.state().quiet_since);
        let idle = self.calls() == 0 && quiet >= limits.idle_timeout;
        idle.then_some("it was idle")
    }

    fn next_look(&self, limits: &Limits) -> Instant {
        let now = Instant::now();
        if !self.asked.load(Ordering::SeqCst) {
            return self.accepted + limits.handshake_timeout;
        }
        if self.calls() == 0 {
            return self.state().quiet_since + limits.idle_timeout;
        }
        now + (limits.stall_timeout / 4).clamp(Duration::from_millis(10), Duration::from_secs(15))
    }

    fn cut_stalled(&self, limit: Duration) {
        let mut stalled = 0;
        self.state().flows.retain(|flow| match flow.upgrade() {
            None => false,
            Some(flow) if flow.stalled_for() >= limit => {
                flow.cut();
                stalled += 1;
                false
            }
            Some(_) => true,
        });
        if stalled > 0 {
            tracing::warn!(client = %self.address, streams = stalled,
                "cut off: the client took nothing for {} s", limit.as_secs());
        }
    }
}
