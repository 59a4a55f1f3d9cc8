//! `walcast replica`.

use super::database::{DatabaseArg, refuse_duplicates};
use super::exit::{Exit, Failure};
use super::logging::LogArgs;
use super::units::{parse_duration, parse_size};
use super::{process, serve};
use crate::client::Upstream;
use crate::replica::{Replica, ReplicaConfig};
use crate::server::{Registry, Served, ServerConfig};
use clap::Args;
use std::sync::Arc;
use std::time::Duration;

/// Keep copies of a primary's databases that other programs read
///
/// Programs open the file like any SQLite database and see each of the primary's commits soon after it was made. SQLite
/// refuses to write to it. If the primary goes away, the copy stays readable and catches up later.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  walcast replica --upstream http://10.0.0.1:4040 --db app.db=/replica/app.db
  sqlite3 /replica/app.db 'SELECT count(*) FROM orders'")]
pub struct ReplicaArgs {
    /// The primary's address, such as http://127.0.0.1:4040
    #[arg(long, value_name = "URL")]
    upstream: String,
    /// A database to follow and the file for its copy; repeat it for more. NAME is its name on the primary; default: the
    /// file's name
    #[arg(long = "db", value_name = "[NAME=]PATH", required = true)]
    databases: Vec<DatabaseArg>,
    /// Address and port for commands and probes; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:4041")]
    listen: String,
    /// This replica's name in the primary's status; default: the host's name
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Report NOT_SERVING when a database was not level with its primary for this long; default: never
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    max_staleness: Option<Duration>,
    /// Time between two searches of the whole file for damage; default: never
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    scrub_interval: Option<Duration>,
    /// Size of a copy's -wal file from which short pauses of applying try to begin it anew
    #[arg(long, value_name = "SIZE", default_value = "16MiB", value_parser = parse_size)]
    wal_soft_limit: u64,
    /// Size of a copy's -wal file from which applying waits for readers to end
    #[arg(long, value_name = "SIZE", default_value = "1GiB", value_parser = parse_size)]
    wal_hard_limit: u64,
    /// How long ending may take when this server shuts down
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = parse_duration)]
    drain_timeout: Duration,
    #[command(flatten)]
    http: serve::HttpArgs,
    #[command(flatten)]
    log: LogArgs,
}

impl ReplicaArgs {
    fn config(&self, database: &DatabaseArg) -> ReplicaConfig {
        let mut config = ReplicaConfig::new(&database.name, database.path.clone(), &self.upstream);
        if let Some(name) = &self.name {
            config.replica_name.clone_from(name);
        }
        config.max_staleness = self.max_staleness;
        config.scrub_interval = self.scrub_interval;
        config.wal_soft_limit = self.wal_soft_limit;
        config.wal_hard_limit = self.wal_hard_limit;
        config
    }
}

pub(super) fn run(args: ReplicaArgs) -> Result<Exit, Failure> {
    refuse_duplicates(&args.databases)?;
    if args.wal_soft_limit > args.wal_hard_limit {
        return Err(Failure::new(
            Exit::Usage,
            "--wal-soft-limit is above --wal-hard-limit",
        ));
    }
    args.log.start();
    process::run_server(async move {
        let upstream = Upstream::connect_lazy(&args.upstream)?;
        let listener = serve::bind(&args.listen).await?;
        let registry = Registry::new(args.max_staleness);
        for database in &args.databases {
            let replica = Replica::start(args.config(database), upstream.clone());
            registry
                .add(Served::Replica(Arc::new(replica)))
                .map_err(|error| Failure::new(Exit::Usage, error.to_string()))?;
        }
        let config = ServerConfig {
            drain_timeout: args.drain_timeout,
            ..ServerConfig::default()
        };
        serve::run(listener, registry, config, &args.http).await
    })
}
