//! What `primary` and `replica` have in common: listen, serve, drain.

use super::exit::{Exit, Failure};
use super::process::shutdown;
use crate::server::{Drained, Registry, ServerConfig, serve};
use tokio::net::TcpListener;

/// Binds the address before any database is touched: a wrong one changes nothing.
pub(super) async fn bind(listen: &str) -> Result<TcpListener, Failure> {
    TcpListener::bind(listen).await.map_err(|error| {
        let message =
            format!("listen on {listen}: {error}; choose another with --listen ADDRESS:PORT");
        Failure::new(Exit::Failed, message)
    })
}

/// Serves until a signal comes, and drains.
pub(super) async fn run(
    listener: TcpListener,
    registry: Registry,
    config: ServerConfig,
) -> Result<Exit, Failure> {
    let fail = |error: String| Failure::new(Exit::Failed, error);
    let shutdown = shutdown()?;
    let address = listener
        .local_addr()
        .map_err(|error| fail(error.to_string()))?;
    if !address.ip().is_loopback() {
        tracing::warn!(%address, "whoever reaches this address can read the databases: no TLS and no tokens yet");
    }
    // For people and programs, whatever the log level is.
    eprintln!("listening on {address}");
    match serve(listener, registry, config, shutdown).await {
        Ok(Drained::Complete) => Ok(Exit::Done),
        Ok(Drained::TimedOut) => Ok(Exit::DrainTimedOut),
        Err(error) => Err(fail(error.to_string())),
    }
}
