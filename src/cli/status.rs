//! `walcast status`.

mod json;
mod text;

use super::client::ServerArg;
use super::exit::{Exit, Failure};
use super::process::run_client;
use crate::model::{DatabaseStatus, ReplicaStatus};
use clap::Args;

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
}

/// A database and its replicas.
struct Entry {
    database: DatabaseStatus,
    replicas: Vec<ReplicaStatus>,
}

pub(super) fn run(args: StatusArgs) -> Result<Exit, Failure> {
    let entries = run_client(async {
        let admin = args.server.connect()?;
        let databases = admin.databases().await?;
        let replicas = admin.replicas("").await?;
        Ok(join(databases, replicas))
    })?;
    if args.json {
        println!("{}", json::render(&entries));
    } else {
        print!("{}", text::render(&entries));
    }
    Ok(Exit::Done)
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
