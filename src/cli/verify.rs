//! `walcast verify`.

mod files;
mod report;
mod servers;

use super::exit::{Exit, Failure};
use super::security::ClientSecurityArgs;
use super::units::parse_duration;
use clap::Args;
use report::Report;
use std::path::PathBuf;
use std::time::Duration;

/// Compare a replica with its primary, page by page, at one position
///
/// With two servers it reads every page of the primary as a replica would, follows it to the position at which the replica
/// holds its copy, and compares the hash of each page; both go on meanwhile. With two files nobody may write to them. The
/// bytes in which a replica must differ (the read-only mark and the schema cookie, in page 1) do not count.
#[derive(Args, Debug)]
#[command(after_help = "\
Exit code 0: equal; 1: pages differ, and are named; 7: it could not be found out.

Examples:
  walcast verify --primary http://127.0.0.1:4040 --replica http://127.0.0.1:4041 --db app.db
  walcast verify --primary /data/app.db --replica /replica/app.db")]
pub struct VerifyArgs {
    /// The primary: its server, or a database file
    #[arg(long, value_name = "URL|FILE")]
    primary: String,
    /// The replica: its server, or a database file
    #[arg(long, value_name = "URL|FILE")]
    replica: String,
    /// The database's name on both servers
    #[arg(long, value_name = "NAME")]
    db: Option<String>,
    /// Its name on the replica, where that is another
    #[arg(long, value_name = "NAME")]
    replica_db: Option<String>,
    /// How long the replica may take to reach the primary's position
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = parse_duration)]
    max_wait: Duration,
    /// Print one JSON object for programs
    #[arg(long)]
    json: bool,
    /// Show no progress
    #[arg(long)]
    quiet: bool,
    #[command(flatten)]
    security: ClientSecurityArgs,
    /// The replica's token in its first line, where that is another than the primary's
    #[arg(long, value_name = "FILE", help_heading = "Security")]
    replica_token_file: Option<PathBuf>,
}

fn is_url(text: &str) -> bool {
    text.contains("://")
}

pub(super) fn run(args: VerifyArgs) -> Result<Exit, Failure> {
    let report = match (is_url(&args.primary), is_url(&args.replica)) {
        (true, true) => servers::compare(&args),
        (false, false) => files::compare(&args),
        _ => {
            let message = "--primary and --replica must be two servers or two files; a server's database as a file is \
                           what `walcast backup` writes";
            Err(Failure::new(Exit::Usage, message))
        }
    };
    // 1 is "they differ": what could not be found out must not look like it.
    let report = report.map_err(|failure| match failure.exit() {
        Exit::Failed => Failure::new(Exit::Undecided, failure.to_string()),
        _ => failure,
    })?;
    print(&report, args.json);
    Ok(if report.is_equal() {
        Exit::Done
    } else {
        Exit::Failed
    })
}

fn print(report: &Report, json: bool) {
    if json {
        println!("{}", report.json());
    } else {
        println!("{}", report.text());
    }
}
