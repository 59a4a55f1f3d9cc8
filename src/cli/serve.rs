//! What `primary` and `replica` have in common: listen, serve, drain.

use super::exit::{Exit, Failure};
use super::process::shutdown;
use super::security::ServerSecurityArgs;
use crate::config::ServerOptions;
use crate::security::{ServerSecurity, bind};
use crate::server::{Drained, Registry, ServerConfig, serve};
use tokio::net::TcpListener;

/// Reads certificates and tokens and binds the address before any database is touched: what is wrong changes nothing.
pub(super) async fn open(
    listen: &str,
    args: &ServerSecurityArgs,
) -> Result<(TcpListener, ServerConfig), Failure> {
    let mut options = ServerOptions::default();
    args.apply(&mut options);
    let security = ServerSecurity::load(&options)?;
    let listener = bind(listen, "--listen", security.has_tls(), options.insecure).await?;
    let config = ServerConfig {
        security,
        reflection: options.reflection,
        ..ServerConfig::default()
    };
    Ok((listener, config))
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
    // For people and programs, whatever the log level is.
    eprintln!("listening on {address}");
    match serve(listener, registry, config, shutdown).await {
        Ok(Drained::Complete) => Ok(Exit::Done),
        Ok(Drained::TimedOut) => Ok(Exit::DrainTimedOut),
        Err(error) => Err(fail(error.to_string())),
    }
}
