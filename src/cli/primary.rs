//! `walcast primary`.

use super::database::{DatabaseArg, refuse_duplicates};
use super::exit::{Exit, Failure};
use super::logging::LogArgs;
use super::units::{parse_duration, parse_size};
use super::{process, serve};
use crate::primary::{Primary, PrimaryConfig};
use crate::server::{Registry, Served, ServerConfig};
use clap::Args;
use std::sync::Arc;
use std::time::Duration;

/// Capture databases and stream them to replicas
///
/// Runs beside the application, as the same user, and needs no change of it. A database that does not exist yet is waited
/// for; one that is not in WAL mode is left as it is, and a line says how to switch it.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  walcast primary --db app.db
  walcast primary --db /data/app.db --db billing=/data/b.db --listen 10.0.0.1:4040")]
pub struct PrimaryArgs {
    /// A database to capture; repeat it for more. NAME is what replicas ask for; default: the file's name
    #[arg(long = "db", value_name = "[NAME=]PATH", required = true)]
    databases: Vec<DatabaseArg>,
    /// Address and port for replicas and commands; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:4040")]
    listen: String,
    /// Log to keep for replicas that were away, for each database, compressed
    #[arg(long, value_name = "SIZE", default_value = "1GiB", value_parser = parse_size)]
    retain_size: u64,
    /// How long to keep it
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = parse_duration)]
    retain_age: Duration,
    /// How often replicas hear from an idle primary, 10ms to 1h
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = parse_heartbeat)]
    heartbeat: Duration,
    /// How long replicas may take to reach the last position when this server shuts down
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = parse_duration)]
    drain_timeout: Duration,
    /// The lasting identity of this server; default: the host's name
    #[arg(long, value_name = "NAME")]
    server_id: Option<String>,
    #[command(flatten)]
    http: serve::HttpArgs,
    #[command(flatten)]
    log: LogArgs,
}

fn parse_heartbeat(text: &str) -> Result<Duration, String> {
    let heartbeat = parse_duration(text)?;
    if (Duration::from_millis(10)..=Duration::from_secs(3600)).contains(&heartbeat) {
        Ok(heartbeat)
    } else {
        Err("a heartbeat is 10ms to 1h".to_owned())
    }
}

/// The host's name.
fn host_name() -> String {
    let name = nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok());
    name.filter(|name| !name.is_empty())
        .unwrap_or_else(|| "walcast".to_owned())
}

pub(super) fn run(args: PrimaryArgs) -> Result<Exit, Failure> {
    refuse_duplicates(&args.databases)?;
    args.log.start();
    process::run_server(async move {
        let listener = serve::bind(&args.listen).await?;
        let server_id = args.server_id.unwrap_or_else(host_name);
        let registry = Registry::new(None);
        for database in args.databases {
            let primary = Primary::start(PrimaryConfig {
                name: database.name,
                path: database.path,
                retain_bytes: args.retain_size,
                retain_age: args.retain_age,
                heartbeat: args.heartbeat,
                server_id: server_id.clone(),
            });
            registry
                .add(Served::Primary(Arc::new(primary)))
                .map_err(|error| Failure::new(Exit::Usage, error.to_string()))?;
        }
        let config = ServerConfig {
            drain_timeout: args.drain_timeout,
            ..ServerConfig::default()
        };
        serve::run(listener, registry, config, &args.http).await
    })
}
