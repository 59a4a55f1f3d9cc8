//! `walcast primary`.

use super::database::{DatabaseArg, refuse_duplicates};
use super::exit::{Exit, Failure};
use super::logging::LogArgs;
use super::security::ServerSecurityArgs;
use super::serve::{self, ServeArgs};
use super::units::{parse_duration, parse_size};
use crate::archive::ArchiveOptions;
use crate::archive::Location;
use crate::config::{
    DatabaseEntry, Entry, PrimaryOptions, ReplicaOptions, parse_label, parse_listen,
};
use clap::Args;
use std::collections::HashSet;
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
  walcast primary --db app.db --archive /backup/app --archive s3://bucket/app
  walcast primary --db /data/app.db --db billing=/data/b.db --listen 10.0.0.1:4040")]
pub struct PrimaryArgs {
    /// A database to capture; repeat it for more. NAME is what replicas ask for; default: the file's name
    #[arg(long = "db", value_name = "[NAME=]PATH", required = true)]
    databases: Vec<DatabaseArg>,
    /// Address and port for replicas and commands; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:4040", value_parser = parse_listen)]
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
    /// Archive the database in a directory, or in a bucket: s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://CONTAINER/PREFIX;
    /// repeat it for more. Credentials come from the environment. For one --db; a configuration file has archives for many
    #[arg(long = "archive", value_name = "URL")]
    archives: Vec<Location>,
    /// Take archives that belong to another primary, which will then write there no more
    #[arg(long, requires = "archives")]
    take_over: bool,
    #[command(flatten)]
    serve: ServeArgs,
    /// The lasting identity of this server; default: the host's name
    #[arg(long, value_name = "NAME", value_parser = parse_label)]
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

/// An archive holds one database, and is written once.
fn refuse_shared(args: &PrimaryArgs) -> Result<(), Failure> {
    if args.databases.len() > 1 && !args.archives.is_empty() {
        let message = "--archive is for one --db, since an archive holds one database; a configuration file has archives \
                       for many: walcast run --config FILE";
        return Err(Failure::new(Exit::Usage, message));
    }
    let mut seen = HashSet::new();
    if let Some(twice) = args.archives.iter().find(|archive| !seen.insert(*archive)) {
        return Err(Failure::new(
            Exit::Usage,
            format!("--archive {twice} is there twice"),
        ));
    }
    Ok(())
}

pub(super) fn run(args: PrimaryArgs) -> Result<ExitCode, Failure> {
    refuse_duplicates(&args.databases)?;
    refuse_shared(&args)?;
    args.log.start();
    let options = PrimaryOptions {
        retain_size: args.retain_size,
        retain_age: args.retain_age,
        heartbeat: args.heartbeat,
        archives: args.archives.into_iter().map(ArchiveOptions::new).collect(),
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
    config.take_over = args.take_over;
    serve::run(config, None)
}
