//! Listening on the second port, with bounds on what clients may hold, until the server ends.

use super::options::HttpOptions;
use super::process::Began;
use super::routes::{App, Client, router};
use super::sampler::Sampler;
use crate::security::{Protocol, ServerSecurity};
use crate::server::Registry;
use axum::body::Body;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

/// Connections at one time; each costs a task and two small buffers.
const CONNECTIONS: usize = 512;
/// For a TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// A client has this long for a request's head; an idle connection ends after it as well.
const HEAD: Duration = Duration::from_secs(30);
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
    let app = router(Arc::new(app));
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let tasks = TaskTracker::new();
    let accept = async {
        loop {
            let (stream, address) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::debug!("http: accept: {error}");
                    tokio::time::sleep(AGAIN).await;
                    continue;
                }
            };
            // Closed at once where there is no place: a queue would only hide it.
            let Ok(place) = places.clone().try_acquire_owned() else {
                continue;
            };
            let (app, security) = (app.clone(), options.security.clone());
            let closing = closing.clone();
            tasks.spawn(connection(stream, address, app, security, closing, place));
        }
    };
    tokio::select! {
        () = shutdown => {}
        () = accept => {}
        () = sampler.run() => {}
    }
    closing.cancel();
    tasks.close();
    // A peer that does not read its end is left to the end of the process.
    let _ = tokio::time::timeout(CLOSE, tasks.wait()).await;
}

async fn connection(
    stream: TcpStream,
    address: SocketAddr,
    app: axum::Router,
    security: ServerSecurity,
    closing: CancellationToken,
    _place: OwnedSemaphorePermit,
) {
    // Small answers that someone waits for.
    let _ = stream.set_nodelay(true);
    let shaking = tokio::time::timeout(HANDSHAKE, security.accept(stream, Protocol::Http));
    let stream = match shaking.await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(%address, "http: TLS: {error}");
            return;
        }
        Err(_) => return,
    };
    let peer = stream.peer();
    let client = Client { address, peer };
    let service =
        hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(client.clone());
            app.clone().oneshot(request)
        });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(serving);
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = closing.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%address, "http: {error}");
    }
}
