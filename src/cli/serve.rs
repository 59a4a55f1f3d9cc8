//! What `run`, `primary` and `replica` have in common: a configuration that runs.

use super::exit::{Exit, Failure};
use super::process;
use super::units::parse_duration;
use crate::config::{Config, Entry, LogConfig, ServerOptions, parse_listen};
use crate::node::{self, Ended, NodeError, Source};
use crate::server::Drained;
use clap::Args;
use std::process::ExitCode;
use std::time::Duration;

/// Options of a server beside its databases.
#[derive(Args, Debug)]
pub struct ServeArgs {
    /// Address and port for metrics, probes and the status page; port 0 takes a free one; default: not served
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = parse_listen)]
    http_listen: Option<String>,
    /// How long replicas may take to reach the last position when this server shuts down
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = parse_duration)]
    drain_timeout: Duration,
    /// Run the application as a child: once its databases are captured, or the copies have caught up. Signals are passed
    /// on, and its exit code is this command's
    #[arg(long, value_name = "COMMAND")]
    exec: Option<String>,
}

impl ServeArgs {
    /// A configuration with these and the defaults.
    pub(super) fn config(self, listen: String, log: LogConfig, entries: Vec<Entry>) -> Config {
        Config {
            server: ServerOptions {
                listen,
                http_listen: self.http_listen,
                drain_timeout: self.drain_timeout,
                log,
                ..ServerOptions::default()
            },
            entries,
            exec: self.exec,
            take_over: false,
        }
    }
}

impl From<NodeError> for Failure {
    fn from(error: NodeError) -> Failure {
        let message = error.to_string();
        match error {
            NodeError::Listen(error) => error.into(),
            NodeError::Security(error) => error.into(),
            NodeError::Upstream(error) => error.into(),
            NodeError::Registry(_) | NodeError::Clash(_) | NodeError::Command { .. } => {
                Failure::new(Exit::Usage, message)
            }
            NodeError::Serve(_)
            | NodeError::Spawn { .. }
            | NodeError::Descriptors(_)
            | NodeError::System { .. } => Failure::new(Exit::Failed, message),
        }
    }
}

/// Runs a configuration to its end. With an application the exit code is the application's.
pub(super) fn run(config: Config, source: Option<Source>) -> Result<ExitCode, Failure> {
    let ended = process::run_server(async { Ok(node::run(config, source).await?) })?;
    Ok(match ended {
        Ended {
            application: Some(code),
            ..
        } => ExitCode::from(code),
        Ended {
            drained: Drained::Complete,
            ..
        } => Exit::Done.into(),
        Ended {
            drained: Drained::TimedOut,
            ..
        } => Exit::DrainTimedOut.into(),
    })
}
