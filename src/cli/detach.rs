//! `walcast detach`.

use super::exit::{Exit, Failure};
use super::process::run_client;
use super::security::ClientSecurityArgs;
use super::table::visible;
use crate::client::Admin;
use crate::format::position::Position;
use crate::replica::{DetachError, detach_offline};
use clap::Args;
use std::path::Path;

/// End a database's replication and leave an ordinary, writable database
///
/// With --server a running replica lets the database go; without it, --db is the path of a copy that no walcast serves.
/// What remains is the state of its last position. To follow again, start from an empty path.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  walcast detach --server http://127.0.0.1:4041 --db app.db
  walcast detach --db /replica/app.db")]
pub struct DetachArgs {
    /// The database's name on the server; without --server: the path of the file
    #[arg(long, value_name = "NAME|PATH")]
    db: String,
    /// The running replica, such as http://127.0.0.1:4041
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    #[command(flatten)]
    security: ClientSecurityArgs,
}

pub(super) fn run(args: DetachArgs) -> Result<Exit, Failure> {
    let (position, path) = match &args.server {
        Some(server) => run_client(async {
            let entry = args.security.entry(server)?;
            let admin = Admin::connect_to(&entry, args.security.insecure())?;
            Ok(admin.detach(&args.db).await?)
        })?,
        None => (offline(Path::new(&args.db))?, args.db),
    };
    let path = visible(&path);
    match position {
        Some(position) => println!("{path} is an ordinary database now, as of {position}"),
        None => println!("{path} is an ordinary database now"),
    }
    Ok(Exit::Done)
}

fn offline(path: &Path) -> Result<Option<Position>, Failure> {
    detach_offline(path).map_err(|error| {
        let exit = match error {
            DetachError::Owned(_) | DetachError::Nothing(_) => Exit::Refused,
            _ => Exit::Failed,
        };
        Failure::new(exit, error.to_string())
    })
}
