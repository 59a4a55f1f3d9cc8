//! Listening on the second port, with the bounds of `limits` on what clients may hold, until the server ends.

use super::options::HttpOptions;
use super::process::Began;
use super::routes::{App, Client, router};
use super::sampler::Sampler;
use super::seat::Seat;
use super::stall::Stall;
use crate::config::Limits;
use crate::security::{Protocol, Seldom, ServerSecurity};
use crate::server::{Registry, Strangers};
use axum::body::Body;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

/// Bytes of a request's head.
const HEAD_BYTES: usize = 16 << 10;
/// What connections may take to end with the server.
const CLOSE: Duration = Duration::from_secs(1);
/// After a failure to accept (no descriptors) the next try waits.
const AGAIN: Duration = Duration::from_millis(100);

/// Serves until `shutdown` completes. Nothing that goes wrong on this port ends the server.
pub async fn serve(
    listener: TcpListener,
    registry: Registry,
    options: HttpOptions,
    shutdown: impl Future<Output = ()>,
) {
    let began = Began::now();
    let upstream = match options.grpc {
        Some(address) if !address.ip().is_unspecified() => address.to_string(),
        _ => "HOST:4040".to_owned(),
    };
    let scheme = if options.security.has_tls() {
        "https"
    } else {
        "http"
    };
    let sampler = Arc::new(Sampler::new(
        registry.clone(),
        options.recent.clone(),
        options.server_id.clone(),
        format!("{scheme}://{upstream}"),
        began,
    ));
    let closing = CancellationToken::new();
    let app = App::new(registry, &options, sampler.clone(), began, closing.clone());
    let port = Arc::new(Port {
        app: router(Arc::new(app)),
        security: options.security.clone(),
        limits: options.limits.clone().bounded(),
        strangers: Strangers::new(options.limits.unauthenticated_connections),
        closing: closing.clone(),
        full: Seldom::default(),
        crowded: Seldom::default(),
    });
    let tasks = TaskTracker::new();
    tokio::select! {
        () = shutdown => {}
        () = port.accept(listener, &tasks) => {}
        () = sampler.run() => {}
    }
    closing.cancel();
    tasks.close();
    // A peer that does not read its end is left to the end of the process.
    let _ = timeout(CLOSE, tasks.wait()).await;
}

/// What connections share.
struct Port {
    app: axum::Router,
    security: ServerSecurity,
    limits: Limits,
    strangers: Strangers,
    closing: CancellationToken,
    full: Seldom,
    crowded: Seldom,
}

impl Port {
    async fn accept(self: &Arc<Self>, listener: TcpListener, tasks: &TaskTracker) {
        let most = self.limits.connections;
        let places = Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS)));
        loop {
            let (stream, address) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    if let Some(others) = self.full.now() {
                        tracing::error!(others, "http: accept a connection: {error}");
                    }
                    sleep(AGAIN).await;
                    continue;
                }
            };
            // Closed at once where there is no place: a queue would only hide it.
            let Ok(place) = places.clone().try_acquire_owned() else {
                if let Some(others) = self.full.now() {
                    tracing::warn!(client = %address, others,
                        "http: a connection was refused: there are {most} already, as many as limits.connections allows");
                }
                continue;
            };
            let port = self.clone();
            tasks.spawn(async move {
                let _place = place;
                port.welcome(stream, address).await;
            });
        }
    }

    async fn welcome(&self, stream: TcpStream, address: SocketAddr) {
        let (stranger, evicted, crowded) = self.strangers.enter();
        if crowded && let Some(others) = self.crowded.now() {
            tracing::warn!(
                others,
                "http: too many connections without authentication: the oldest is closed; see limits.unauthenticated-connections"
            );
        }
        tokio::select! {
            () = evicted.cancelled() => {}
            () = self.connection(stream, address, Seat::new(stranger)) => {}
        }
    }

    async fn connection(&self, stream: TcpStream, address: SocketAddr, seat: Seat) {
        let deadline = Instant::now() + self.limits.handshake_timeout;
        // Small answers that someone waits for.
        let _ = stream.set_nodelay(true);
        let shaking = timeout_at(deadline, self.security.accept(stream, Protocol::Http));
        let stream = match shaking.await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                tracing::debug!(%address, "http: TLS: {error}");
                return;
            }
            Err(_) => return,
        };
        let client = Client {
            address,
            peer: stream.peer(),
            seat: seat.clone(),
        };
        let app = self.app.clone();
        let service =
            hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
                client.seat.ask();
                let mut request = request.map(Body::new);
                request.extensions_mut().insert(client.clone());
                app.clone().oneshot(request)
            });
        let stream = Stall::new(stream, self.limits.stall_timeout);
        let serving = http1::Builder::new()
            .timer(TokioTimer::new())
            // It counts from the last answer on: a client that is idle ends with it as well.
            .header_read_timeout(self.limits.idle_timeout)
            .max_buf_size(HEAD_BYTES)
            .serve_connection(TokioIo::new(stream), service);
        tokio::pin!(serving);
        let late = async {
            tokio::select! {
                () = seat.asked() => std::future::pending().await,
                () = sleep_until(deadline) => {}
            }
        };
        let ended = tokio::select! {
            ended = serving.as_mut() => ended,
            () = late => return,
            () = self.closing.cancelled() => {
                serving.as_mut().graceful_shutdown();
                serving.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%address, "http: {error}");
        }
    }
}
