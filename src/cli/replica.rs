//! `walcast replica`.

use super::database::{DatabaseArg, refuse_duplicates};
use super::exit::{Exit, Failure};
use super::logging::LogArgs;
use super::security::{ServerSecurityArgs, UpstreamSecurityArgs};
use super::serve::{self, ServeArgs};
use super::units::{parse_duration, parse_mode, parse_size};
use crate::archive::{ArchiveSource, Location};
use crate::config::{
    DatabaseEntry, Entry, PrimaryOptions, ReplicaOptions, parse_label, parse_listen,
};
use clap::Args;
use std::process::ExitCode;
use std::time::Duration;

/// Keep copies of a primary's databases that other programs read
///
/// Programs open the file like any SQLite database and see each of the primary's commits soon after it was made. SQLite
/// refuses to write to it. If the primary goes away, the copy stays readable and catches up later.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  walcast replica --upstream http://10.0.0.1:4040 --db app.db=/replica/app.db
  walcast replica --upstream http://10.0.0.1:4040 --archive s3://bucket/app --db /replica/app.db
  walcast replica --archive s3://bucket/app --db /standby/app.db
  sqlite3 /replica/app.db 'SELECT count(*) FROM orders'")]
pub struct ReplicaArgs {
    /// The primary's address, such as http://127.0.0.1:4040
    #[arg(long, value_name = "URL", required_unless_present = "archive")]
    upstream: Option<String>,
    /// The primary's archive: a new copy, or one that was away for too long, starts from it and not with a snapshot of the
    /// primary's. Without --upstream it is all that the copy follows. For one --db; a configuration file has archives for
    /// many
    #[arg(long, value_name = "URL")]
    archive: Option<Location>,
    /// Time between two looks into the archive, without --upstream; default: 1s
    #[arg(long, value_name = "DURATION", value_parser = parse_poll, requires = "archive", conflicts_with = "upstream")]
    archive_poll: Option<Duration>,
    /// A database to follow and the file for its copy; repeat it for more. NAME is its name on the primary; default: the
    /// file's name
    #[arg(long = "db", value_name = "[NAME=]PATH", required = true)]
    databases: Vec<DatabaseArg>,
    /// Address and port for commands and probes; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:4041", value_parser = parse_listen)]
    listen: String,
    /// This replica's name in the primary's status; default: the host's name
    #[arg(long, value_name = "NAME", value_parser = parse_label)]
    name: Option<String>,
    /// Report NOT_SERVING when a database was not level with its primary for this long; default: never
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    max_staleness: Option<Duration>,
    /// Time between two searches of the whole file for damage; default: never
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    scrub_interval: Option<Duration>,
    /// Size of a copy's -wal file that short pauses of applying try to keep it below
    #[arg(long, value_name = "SIZE", default_value = "16MiB", value_parser = parse_size)]
    wal_soft_limit: u64,
    /// Size of a copy's -wal file from which nothing is applied before readers end
    #[arg(long, value_name = "SIZE", default_value = "1GiB", value_parser = parse_size)]
    wal_hard_limit: u64,
    /// Mode of a copy that does not exist yet, in octal; its group is its directory's
    #[arg(long, value_name = "MODE", default_value = "0640", value_parser = parse_mode)]
    mode: u32,
    #[command(flatten)]
    serve: ServeArgs,
    #[command(flatten)]
    security: ServerSecurityArgs,
    #[command(flatten)]
    upstream_security: UpstreamSecurityArgs,
    #[command(flatten)]
    log: LogArgs,
}

fn parse_poll(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        Duration::ZERO => Err("a time between two looks is more than none".to_owned()),
        poll => Ok(poll),
    }
}

pub(super) fn run(args: ReplicaArgs) -> Result<ExitCode, Failure> {
    refuse_duplicates(&args.databases)?;
    if args.wal_soft_limit > args.wal_hard_limit {
        return Err(Failure::new(
            Exit::Usage,
            "--wal-soft-limit is above --wal-hard-limit",
        ));
    }
    if args.databases.len() > 1 && args.archive.is_some() {
        let message = "--archive is for one --db, since an archive holds one database; a configuration file has archives \
                       for many: walcast run --config FILE";
        return Err(Failure::new(Exit::Usage, message));
    }
    args.log.start();
    let security = &args.upstream_security;
    let upstream = match &args.upstream {
        Some(url) => Some(security.entry(url)?),
        None => None,
    };
    let archive = args.archive.map(|location| ArchiveSource {
        location,
        poll: args.archive_poll.unwrap_or(ArchiveSource::POLL),
    });
    let options = ReplicaOptions {
        name: args.name,
        scrub_interval: args.scrub_interval,
        wal_soft_limit: args.wal_soft_limit,
        wal_hard_limit: args.wal_hard_limit,
        mode: args.mode,
        archive,
    };
    let entry = |database: DatabaseArg| {
        Entry::Database(DatabaseEntry {
            upstream: upstream.clone().map(|entry| (entry, database.name.clone())),
            name: database.name,
            path: database.path,
            primary: PrimaryOptions::default(),
            replica: options.clone(),
        })
    };
    let entries = args.databases.into_iter().map(entry).collect();
    let mut config = args.serve.config(args.listen, args.log.config(), entries);
    args.security.apply(&mut config.server);
    config.server.max_staleness = args.max_staleness;
    serve::run(config, None)
}
