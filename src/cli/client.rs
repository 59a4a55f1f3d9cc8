//! The small commands that call one RPC each.

use super::exit::{Exit, Failure};
use super::process::run_client;
use super::security::ClientSecurityArgs;
use super::units::parse_duration;
use crate::client::{Admin, Health, Upstream};
use crate::format::position::Position;
use clap::Args;
use std::time::Duration;

/// The server that a command talks to.
#[derive(Args, Debug)]
pub struct ServerArg {
    /// The server, such as http://127.0.0.1:4040
    #[arg(long, value_name = "URL", env = "WALCAST_SERVER")]
    pub server: String,
    #[command(flatten)]
    security: ClientSecurityArgs,
}

impl ServerArg {
    /// A client of that server. Call it inside a tokio runtime.
    pub fn connect(&self) -> Result<Admin, Failure> {
        let entry = self.security.entry(&self.server)?;
        Ok(Admin::connect_to(&entry, self.security.insecure())?)
    }
}

/// A client of the calls that move whole databases; its `admin` is one of the others. Call it inside a tokio runtime.
pub(super) fn upstream(url: &str, security: &ClientSecurityArgs) -> Result<Upstream, Failure> {
    let entry = security.entry(url)?;
    Ok(Upstream::connect_to(&entry, security.insecure())?)
}

/// A database of a server.
#[derive(Args, Debug)]
pub struct ServedArgs {
    #[command(flatten)]
    server: ServerArg,
    /// The database's name there
    #[arg(long, value_name = "NAME")]
    db: String,
}

/// Print a database's position
///
/// On a primary it covers every commit made before: hand it to `walcast wait` on a replica to read your own writes. On a
/// replica it is what its readers see.
#[derive(Args, Debug)]
pub struct PositionArgs {
    #[command(flatten)]
    at: ServedArgs,
}

pub(super) fn position(args: PositionArgs) -> Result<Exit, Failure> {
    let position = run_client(async {
        let admin = args.at.server.connect()?;
        Ok(admin.position(&args.at.db).await?)
    })?;
    match position {
        Some(position) => {
            println!("{position}");
            Ok(Exit::Done)
        }
        None => {
            let message = format!("'{}' has no position yet; see: walcast status", args.at.db);
            Err(Failure::new(Exit::Refused, message))
        }
    }
}

/// Wait until a database has reached a position
///
/// Prints the position that it is at; exit code 0 if that is the wanted one or past it, 4 if it was not reached in time.
#[derive(Args, Debug)]
#[command(after_help = "\
Example: read your own writes on a replica
  P=$(walcast position --server http://127.0.0.1:4040 --db app.db)
  walcast wait --server http://127.0.0.1:4041 --db app.db --position $P --max-wait 5s")]
pub struct WaitArgs {
    #[command(flatten)]
    at: ServedArgs,
    /// The position, as `walcast position` prints it
    #[arg(long)]
    position: Position,
    /// How long to wait at most, up to 1h
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = parse_duration)]
    max_wait: Duration,
}

pub(super) fn wait(args: WaitArgs) -> Result<Exit, Failure> {
    let waited = run_client(async {
        let admin = args.at.server.connect()?;
        Ok(admin
            .wait(&args.at.db, args.position, args.max_wait)
            .await?)
    })?;
    if let Some(position) = waited.position {
        println!("{position}");
    }
    Ok(if waited.reached {
        Exit::Done
    } else {
        Exit::NotReached
    })
}

/// Let go of a database's files on a primary
///
/// For what needs the files alone: PRAGMA journal_mode, locking_mode=EXCLUSIVE, replacing the file. Replicas keep what
/// they have until `walcast resume`.
#[derive(Args, Debug)]
pub struct PauseArgs {
    #[command(flatten)]
    at: ServedArgs,
}

pub(super) fn pause(args: PauseArgs) -> Result<Exit, Failure> {
    let position = run_client(async {
        let admin = args.at.server.connect()?;
        Ok(admin.pause(&args.at.db).await?)
    })?;
    println!("paused at {position}");
    Ok(Exit::Done)
}

/// Capture a paused database again
#[derive(Args, Debug)]
pub struct ResumeArgs {
    #[command(flatten)]
    at: ServedArgs,
}

pub(super) fn resume(args: ResumeArgs) -> Result<Exit, Failure> {
    let (position, continuous) = run_client(async {
        let admin = args.at.server.connect()?;
        Ok(admin.resume(&args.at.db).await?)
    })?;
    if continuous {
        println!("resumed at {position}, same generation");
    } else {
        println!("resumed at {position}, a new generation: replicas take a snapshot");
    }
    Ok(Exit::Done)
}

/// Ask whether a server, or one of its databases, is healthy
///
/// For probes: exit code 0 if it is, 1 if not. A replica is healthy once it was level with its primary, and stays so
/// unless it was started with --max-staleness.
#[derive(Args, Debug)]
pub struct HealthArgs {
    #[command(flatten)]
    server: ServerArg,
    /// One database; default: the server as a whole
    #[arg(
        long,
        value_name = "NAME",
        default_value = "",
        hide_default_value = true
    )]
    db: String,
}

pub(super) fn health(args: HealthArgs) -> Result<Exit, Failure> {
    let health = run_client(async {
        let admin = args.server.connect()?;
        Ok(admin.health(&args.db).await?)
    })?;
    match health {
        Health::Serving => {
            println!("SERVING");
            Ok(Exit::Done)
        }
        Health::NotServing => {
            println!("NOT_SERVING");
            Ok(Exit::Failed)
        }
        Health::Unknown => {
            let message = format!("{}: no database '{}' there", args.server.server, args.db);
            Err(Failure::new(Exit::Refused, message))
        }
    }
}
