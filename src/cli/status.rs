//! `walcast status`.

mod json;
mod text;
mod watch;

use super::client::ServerArg;
use super::exit::{Exit, Failure};
use super::process::run_client;
use super::stdout::print;
use super::units::parse_duration;
use crate::client::Admin;
use crate::model::{DatabaseStatus, ReplicaStatus};
use clap::Args;
use std::time::Duration;

/// Show the databases of a server, and the replicas of each
///
/// Positions of replicas that are in the same generation as the database are cut to index:offset, without leading zeros.
#[derive(Args, Debug)]
pub struct StatusArgs {
    #[command(flatten)]
    server: ServerArg,
    /// Print one JSON object for programs
    #[arg(long)]
    json: bool,
    /// Show it again and again until Ctrl-C, each INTERVAL (1s if none is given)
    #[arg(long, value_name = "INTERVAL", num_args = 0..=1, default_missing_value = "1s", value_parser = parse_interval)]
    watch: Option<Duration>,
}

fn parse_interval(text: &str) -> Result<Duration, String> {
    let interval = parse_duration(text)?;
    if interval < Duration::from_millis(100) {
        return Err("the interval must be at least 100ms".to_owned());
    }
    Ok(interval)
}

/// A database and its replicas.
struct Entry {
    database: DatabaseStatus,
    replicas: Vec<ReplicaStatus>,
}

pub(super) fn run(args: StatusArgs) -> Result<Exit, Failure> {
    run_client(async {
        let admin = args.server.connect()?;
        match args.watch {
            Some(interval) => watch::run(&admin, interval, args.json).await,
            None => print(show(&admin, args.json).await?),
        }
    })
}

/// The status of a server, as it is printed.
async fn show(admin: &Admin, json: bool) -> Result<String, Failure> {
    let databases = admin.databases().await?;
    let replicas = admin.replicas("").await?;
    let entries = join(databases, replicas);
    Ok(if json {
        json::render(&entries) + "\n"
    } else {
        text::render(&entries)
    })
}

fn join(databases: Vec<DatabaseStatus>, replicas: Vec<ReplicaStatus>) -> Vec<Entry> {
    databases
        .into_iter()
        .map(|database| {
            let of_it = |replica: &&ReplicaStatus| replica.database == database.name;
            let replicas = replicas.iter().filter(of_it).cloned().collect();
            Entry { database, replicas }
        })
        .collect()
}

#[cfg(test)]
mod tests;
