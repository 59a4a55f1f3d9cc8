//! `walcast primary`.

use super::database::{DatabaseArg, refuse_duplicates};
use super::exit::Failure;
use super::logging::LogArgs;
use super::security::ServerSecurityArgs;
use super::serve::{self, ServeArgs};
use super::units::{parse_duration, parse_size};
use crate::config::{DatabaseEntry, Entry, PrimaryOptions, ReplicaOptions};
use clap::Args;
use std::process::ExitCode;
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
    #[command(flatten)]
    serve: ServeArgs,
    /// The lasting identity of this server; default: the host's name
    #[arg(long, value_name = "NAME")]
    server_id: Option<String>,
    #[command(flatten)]
    security: ServerSecurityArgs,
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

pub(super) fn run(args: PrimaryArgs) -> Result<ExitCode, Failure> {
    refuse_duplicates(&args.databases)?;
    args.log.start();
    let options = PrimaryOptions {
        retain_size: args.retain_size,
        retain_age: args.retain_age,
        heartbeat: args.heartbeat,
    };
    let entry = |database: DatabaseArg| {
        Entry::Database(DatabaseEntry {
            name: database.name,
            path: database.path,
            upstream: None,
            primary: options.clone(),
            replica: ReplicaOptions::default(),
        })
    };
    let entries = args.databases.into_iter().map(entry).collect();
    let mut config = args.serve.config(args.listen, args.log.config(), entries);
    args.security.apply(&mut config.server);
    config.server.server_id = args.server_id;
    serve::run(config, None)
}
