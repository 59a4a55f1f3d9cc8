//! Accepting connections: limits before anything is read, the handshake, then HTTP/2 until one side has had enough.

use super::connection::Connection;
use super::flow::CallTasks;
use super::guard::Guard;
use super::lanes::Lanes;
use super::strangers::{StrangerPlace, Strangers};
use crate::config::Limits;
use crate::model::ProcessMeters;
use crate::security::{Protocol, Seldom, ServerSecurity};
use hyper::server::conn::http2;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::service::Routes;

/// What clients may have under way: requests are small, and what is not read yet is memory.
const STREAM_WINDOW: u32 = 64 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;
/// HTTP/2's smallest largest frame; it bounds what clients send, not what we send.
const FRAME: u32 = 16 << 10;
/// Calls at one time on one connection beside those that are limited by themselves: short ones.
const SHORT_CALLS: usize = 64;
/// A request's headers are a path and a few words; the largest token fits.
const HEADERS: u32 = 16 << 10;
/// Calls that were opened and reset before they were looked at ("rapid reset"): beyond it the connection is closed.
const RESETS: usize = 20;
/// A dead peer is noticed after the two together, and a little for the timers: within 15 s.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(8);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(4);
/// A connection that is told to end has this long for the calls on it.
const GOODBYE: Duration = Duration::from_secs(10);
/// After a failure to accept, as when there are no descriptors left.
const BREATH: Duration = Duration::from_millis(100);

/// Everything that connections of one server share.
pub(super) struct Door {
    routes: Routes,
    security: ServerSecurity,
    limits: Limits,
    lanes: Lanes,
    meters: Arc<ProcessMeters>,
    places: Arc<Semaphore>,
    strangers: Strangers,
    calls: TaskTracker,
    refused: Arc<Seldom>,
    crowded: Seldom,
    full: Seldom,
    handshakes: Seldom,
}

impl Door {
    pub(super) fn new(
        routes: Routes,
        security: ServerSecurity,
        limits: Limits,
        meters: Arc<ProcessMeters>,
    ) -> io::Result<Door> {
        let limits = limits.bounded();
        Ok(Door {
            routes: routes.prepare(),
            security,
            places: Arc::new(Semaphore::new(
                limits.connections.min(Semaphore::MAX_PERMITS),
            )),
            strangers: Strangers::new(limits.unauthenticated_connections),
            limits,
            lanes: Lanes::start()?,
            meters,
            calls: TaskTracker::new(),
            refused: Arc::default(),
            crowded: Seldom::default(),
            full: Seldom::default(),
            handshakes: Seldom::default(),
        })
    }

    /// Accepts until `closing`; returns when every connection has ended. Dropping it ends those that are left.
    pub(super) async fn run(self, listener: TcpListener, closing: CancellationToken) {
        let door = Arc::new(self);
        let connections = TaskTracker::new();
        let end = CancellationToken::new();
        let _at_the_latest = end.clone().drop_guard();
        loop {
            let accepted = tokio::select! {
                () = closing.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, address)) => {
                    let lane = door.lanes.next().clone();
                    let (door, closing, end) = (door.clone(), closing.clone(), end.clone());
                    let connection = async move {
                        let _counted = Counted::new(&door.meters);
                        tokio::select! {
                            () = end.cancelled() => {}
                            () = door.welcome(stream, address, closing) => {}
                        }
                    };
                    connections.spawn_on(connection, &lane);
                }
                Err(error) => {
                    if let Some(others) = door.full.now() {
                        tracing::error!(others, "accept a connection: {error}");
                    }
                    sleep(BREATH).await;
                }
            }
        }
        // New clients are refused at once, instead of waiting for an answer that does not come.
        drop(listener);
        connections.close();
        connections.wait().await;
    }

    async fn welcome(&self, accepted: TcpStream, address: SocketAddr, closing: CancellationToken) {
        let Ok(place) = self.places.clone().try_acquire_owned() else {
            if let Some(others) = self.full.now() {
                tracing::warn!(client = %address, others,
                    "a connection was refused: there are {} already, as many as limits.connections allows", self.limits.connections);
            }
            return;
        };
        let (stranger, evicted, crowded) = self.strangers.enter();
        if crowded && let Some(others) = self.crowded.now() {
            tracing::warn!(
                others,
                "too many connections without authentication: the oldest is closed; see limits.unauthenticated-connections"
            );
        }
        // Its events come to the thread that it lives on from now on.
        let Ok(stream) = accepted.into_std().and_then(TcpStream::from_std) else {
            return;
        };
        tokio::select! {
            () = evicted.cancelled() => {}
            () = self.serve(stream, address, place, stranger, closing) => {}
        }
    }

    async fn serve(
        &self,
        stream: TcpStream,
        address: SocketAddr,
        _place: OwnedSemaphorePermit,
        stranger: StrangerPlace,
        closing: CancellationToken,
    ) {
        let accepted = Instant::now();
        // A peer that is gone already.
        if stream.set_nodelay(true).is_err() {
            return;
        }
        let local = stream.local_addr().ok();
        let deadline = accepted + self.limits.handshake_timeout;
        let handshake = timeout_at(deadline, self.security.accept(stream, Protocol::Grpc));
        let stream = match handshake.await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return self.no_handshake(address, &error),
            Err(_) => {
                let slow = io::Error::new(io::ErrorKind::TimedOut, "it took too long");
                return self.no_handshake(address, &slow);
            }
        };
        let peer = stream.peer();
        let connection = Arc::new(Connection::new(address, local, peer, accepted, stranger));
        let guard = Guard {
            routes: self.routes.clone(),
            security: self.security.clone(),
            connection: connection.clone(),
            prompt: self.limits.handshake_timeout,
            refused: self.refused.clone(),
        };
        let http = self.http().serve_connection(TokioIo::new(stream), guard);
        tokio::pin!(http);
        let goodbye = tokio::select! {
            result = http.as_mut() => {
                if let Err(error) = result {
                    tracing::debug!(client = %address, "a connection ended: {error}");
                }
                return;
            }
            reason = connection.outlive(&self.limits) => {
                tracing::debug!(client = %address, "a connection is closed: {reason}");
                Some(GOODBYE)
            }
            // How long that may take the server decides, which ends at once what is left.
            () = closing.cancelled() => None,
        };
        http.as_mut().graceful_shutdown();
        match goodbye {
            Some(limit) => drop(timeout(limit, http).await),
            None => drop(http.await),
        }
    }

    fn no_handshake(&self, address: SocketAddr, error: &io::Error) {
        if let Some(others) = self.handshakes.now() {
            tracing::warn!(client = %address, others, "no TLS connection: {error}");
        }
    }

    fn http(&self) -> http2::Builder<CallTasks> {
        let mut http = http2::Builder::new(CallTasks(self.calls.clone()));
        http.timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(FRAME)
            .max_concurrent_streams(calls_per_connection(&self.limits))
            .max_header_list_size(HEADERS)
            .max_pending_accept_reset_streams(RESETS)
            .keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT);
        http
    }
}

/// Enough for one client to have all that it may: a stream, a report of its progress for each, and waits. What is
/// beyond it waits in the client, which is not told why.
fn calls_per_connection(limits: &Limits) -> u32 {
    let streams = limits.streams_per_client.min(limits.streams);
    let calls = streams.saturating_mul(2).saturating_add(limits.waits);
    u32::try_from(calls.saturating_add(SHORT_CALLS)).unwrap_or(u32::MAX)
}

/// Counts a connection for as long as it lives, however it ends.
struct Counted(Arc<ProcessMeters>);

impl Counted {
    fn new(meters: &Arc<ProcessMeters>) -> Counted {
        meters.connections_opened.add(1);
        Counted(meters.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.connections_closed.add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_connection_has_room_for_all_that_a_client_may_have() {
        let limits = Limits::default();
        let streams = u32::try_from(limits.streams_per_client).expect("a number");
        assert!(calls_per_connection(&limits) > 2 * streams);
        let none = Limits {
            streams_per_client: 0,
            waits: 0,
            ..limits.clone()
        };
        assert!(calls_per_connection(&none) > 0, "health and lists");
        let most = Limits {
            streams: usize::MAX,
            streams_per_client: usize::MAX,
            ..limits
        };
        assert_eq!(calls_per_connection(&most), u32::MAX);
    }
}
