//! What `primary` and `replica` have in common: listen, serve, drain.

use super::exit::{Exit, Failure};
use super::process::shutdown;
use crate::config::Readiness;
use crate::http::{self, HttpOptions, Recent};
use crate::server::{Drained, Registry, ServerConfig, serve};
use clap::Args;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// `--http-listen`.
#[derive(Args, Debug)]
pub struct HttpArgs {
    /// Address and port for metrics, probes and the status page; default: none
    #[arg(long, value_name = "ADDRESS:PORT")]
    http_listen: Option<String>,
}

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
    http: &HttpArgs,
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
    let draining = CancellationToken::new();
    let ended = CancellationToken::new();
    if let Some(listen) = &http.http_listen {
        let second = bind(listen).await?;
        let bound = second.local_addr().map_err(|error| fail(error.to_string()))?;
        eprintln!("status page on http://{bound}/");
        let options = HttpOptions {
            readiness: watch::channel(Readiness::All).1,
            server_id: nix::unistd::gethostname().ok().and_then(|n| n.into_string().ok()).unwrap_or_default(),
            grpc: Some(address),
            meters: Arc::default(),
            recent: Recent::of_the_process(),
            security: Default::default(),
            draining: draining.clone(),
        };
        let (registry, ended) = (registry.clone(), ended.clone());
        tokio::spawn(async move { http::serve(second, registry, options, ended.cancelled()).await });
    }
    let shutdown = async move {
        shutdown.await;
        draining.cancel();
    };
    let _ended = ended.drop_guard();
    match serve(listener, registry, config, shutdown).await {
        Ok(Drained::Complete) => Ok(Exit::Done),
        Ok(Drained::TimedOut) => Ok(Exit::DrainTimedOut),
        Err(error) => Err(fail(error.to_string())),
    }
}
