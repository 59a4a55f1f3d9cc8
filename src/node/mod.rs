//! One process that runs a configuration: all of its databases, on one port, with or without an application as its child.
//!
//! ```text
//! config ──> `plan`: which databases there should be <── `finding` <── `finder`, one for each directory and mirror
//!               │ `diff`                                                  (`directory`, `mirror`)
//!               v
//! `databases`: starts and stops ──> registry ──> server (gRPC), http
//! ```
//!
//! [`keeper`] has all of this in one task, and the reload (SIGHUP). `walcast primary` and `walcast replica` run the same.

mod announce;
mod application;
mod databases;
mod descriptors;
mod directory;
mod error;
mod finder;
mod finding;
mod keeper;
#[cfg(test)]
mod keeper_tests;
mod mirror;
mod placeholder;
mod places;
mod plan;
mod reload;
mod second_port;
mod signals;

pub use announce::announce;
pub use application::abandon as abandon_application;
pub use error::NodeError;
pub use reload::Source;

use crate::config::{Config, LogFormat, ServerOptions};
use crate::model::ProcessMeters;
use crate::security::{self, ServerSecurity};
use crate::server::{Drained, Registry, ServeError, ServerConfig, serve};
use application::{Application, Asked};
use databases::Databases;
use keeper::Keeper;
use second_port::{SecondPort, Shown};
use signals::EndSignals;
use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// How a process ended that could run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Whether replicas have all.
    pub drained: Drained,
    /// The application's exit code, if one was run.
    pub application: Option<u8>,
}

/// Runs until SIGTERM or SIGINT comes, or until the application ends, and drains. `source`: where SIGHUP reads the
/// configuration again. Nothing of a database is touched before the address is bound and all that was said is checked.
pub async fn run(config: Config, source: Option<Source>) -> Result<Ended, NodeError> {
    let (mut signals, hangups) = signals::listen()?;
    let mut application = config.exec.as_deref().map(Application::parse).transpose()?;
    let options = config.server.clone();
    let security = ServerSecurity::load(&options)?;
    let tls = options.tls.is_some();
    let listener = security::bind(&options.listen, "--listen", tls, options.insecure).await?;
    let second = second_port::bind(&options).await?;
    let upstreams = databases::connect(&config, &HashMap::new())?;
    let (mut named, mut clashes) = plan::plan(&config.entries, &HashMap::new());
    if let Some(clash) = clashes.pop() {
        return Err(NodeError::Clash(clash));
    }
    if let Some(problem) = descriptors::fit(&mut named, descriptors::allowed()) {
        return Err(NodeError::Descriptors(problem));
    }
    let registry = Registry::new(options.max_staleness);
    let databases = Databases::new(
        registry.clone(),
        server_id(&options),
        upstreams,
        config.take_over,
    );
    let meters = Arc::new(ProcessMeters::default());
    let keeper = Keeper::start(
        config,
        source,
        registry.clone(),
        security.clone(),
        databases,
        meters.clone(),
    );
    let settled = keeper.settled();
    say_address(&listener, options.log.format)?;
    let stop = CancellationToken::new();
    let shown = Shown {
        registry: registry.clone(),
        readiness: keeper.readiness(),
        security: security.clone(),
        meters: meters.clone(),
        server_id: server_id(&options),
        limits: options.limits.clone(),
        listen: options.http_listen.clone().unwrap_or_default(),
        grpc: listener.local_addr().ok(),
        draining: stop.clone(),
    };
    let second = second
        .map(|bound| SecondPort::start(bound, shown, options.log.format))
        .transpose()?;
    let kept = tokio::spawn(keeper.run(hangups, stop.clone()));
    let serving = serve(
        listener,
        registry.clone(),
        server_config(&options, security, meters),
        stop.clone().cancelled_owned(),
    );
    let ended = supervise(
        serving,
        &mut application,
        &registry,
        settled,
        &mut signals,
        &stop,
    )
    .await;
    stop.cancel();
    if ended.is_err()
        && let Some(application) = &mut application
    {
        application.terminate().await;
    }
    // A panic in there ends the process. What a disk that hangs holds up there is not waited for.
    if timeout(2 * databases::LAST, kept).await.is_err() {
        tracing::warn!("the configuration's databases took too long to be let go");
    }
    if let Some(second) = second {
        second.finish().await;
    }
    ended
}

/// Serves until the end is asked for.
async fn supervise(
    serving: impl Future<Output = Result<Drained, ServeError>>,
    application: &mut Option<Application>,
    registry: &Registry,
    settled: watch::Receiver<bool>,
    signals: &mut EndSignals,
    stop: &CancellationToken,
) -> Result<Ended, NodeError> {
    tokio::pin!(serving);
    let asked = async {
        match application {
            Some(application) => application.run(registry, settled, signals).await,
            None => {
                signals.next().await;
                Ok(Asked::by_signal())
            }
        }
    };
    let Asked {
        application,
        mut signalled,
    } = tokio::select! {
        // It ends by itself only when it failed.
        drained = &mut serving => {
            let drained = drained?;
            return Ok(Ended { drained, application: None });
        }
        asked = asked => asked?,
    };
    stop.cancel();
    loop {
        tokio::select! {
            drained = &mut serving => return Ok(Ended { drained: drained?, application }),
            signal = signals.next() => {
                if !std::mem::replace(&mut signalled, true) {
                    // To the application it may have come sooner: whoever ends a service tells all of its processes.
                    tracing::info!("{signal}: ending already; another one ends at once");
                    continue;
                }
                // As a kill would: it costs nothing but the drain.
                tracing::warn!("{signal} again: ending now");
                return Ok(Ended { drained: Drained::TimedOut, application });
            }
        }
    }
}

fn say_address(listener: &TcpListener, format: LogFormat) -> Result<(), NodeError> {
    let address = listener.local_addr();
    let address = address.map_err(NodeError::system("read the address"))?;
    announce(format, "INFO", &format!("listening on {address}"));
    Ok(())
}

fn server_config(
    options: &ServerOptions,
    security: ServerSecurity,
    meters: Arc<ProcessMeters>,
) -> ServerConfig {
    ServerConfig {
        drain_timeout: options.drain_timeout,
        security,
        limits: options.limits.clone(),
        reflection: options.reflection,
        meters,
    }
}

/// As configured, or the host's name.
fn server_id(options: &ServerOptions) -> String {
    let host = || {
        let name = nix::unistd::gethostname().ok()?.into_string().ok()?;
        (!name.is_empty()).then_some(name)
    };
    let id = options.server_id.clone().or_else(host);
    id.unwrap_or_else(|| "walcast".to_owned())
}
