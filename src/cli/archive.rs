//! `walcast archive`.

use super::archive_source::{self, SourceArgs, run_blocking};
use super::exit::{Exit, Failure};
use super::restore::Bar;
use super::scratch::Scratch;
use crate::format::time::write_time;
use crate::restore::{Options, Restored, Target, restore};
use clap::{Args, Subcommand};
use serde::Serialize;
use std::path::PathBuf;

/// Look after archives
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  walcast archive verify /backup/app
  walcast archive verify --config walcast.yml /data/app.db")]
pub struct ArchiveArgs {
    #[command(subcommand)]
    command: ArchiveCommand,
}

#[derive(Debug, Subcommand)]
enum ArchiveCommand {
    Verify(VerifyArgs),
}

/// Restore the newest state to a scratch place, and compare its checksum with the recorded one
///
/// Where none is recorded (an ancestor's archive), SQLite looks through the result instead. Exit code 1: an object is missing
/// or damaged, and is named.
#[derive(Args, Debug)]
struct VerifyArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// The directory in which a scratch directory is made; it must have room for the database. Default: the system's for
    /// temporary files
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
    /// Objects to read and unpack at one time; each may take 16 MiB of memory
    #[arg(long, value_name = "N", default_value = "4", value_parser = clap::value_parser!(u16).range(1..=64))]
    parallelism: u16,
    /// Have SQLite look through the result as well
    #[arg(long)]
    integrity_check: bool,
    /// Print one JSON object for programs
    #[arg(long)]
    json: bool,
    /// Show no progress
    #[arg(long)]
    quiet: bool,
}

#[derive(Serialize)]
struct Verified {
    archive: String,
    position: String,
    time_us: Option<i64>,
    database_checksum: String,
    is_recorded: bool,
    page_count: u32,
    page_size: u32,
    notes: Vec<String>,
}

pub(super) fn run(args: ArchiveArgs) -> Result<Exit, Failure> {
    let ArchiveCommand::Verify(args) = args.command;
    let json = args.json;
    let archives = args.source.archives()?;
    let verified = run_blocking(move |runtime, cancel| {
        let parent = args.scratch.clone().unwrap_or_else(std::env::temp_dir);
        let mut verified = Vec::new();
        for location in &archives.locations {
            let source = archive_source::open(location, runtime)?;
            let scratch = Scratch::new(&parent, "walcast-verify")?;
            let path = scratch.path().join("restored.db");
            let mut options = Options {
                path: &path,
                parallelism: args.parallelism.into(),
                integrity_check: args.integrity_check,
                sound: false,
                cancel,
            };
            let mut bar = Bar::new("verify", args.quiet);
            let target = Target::Newest;
            let mut outcome = restore(&source, target, &options, &mut |done, of| bar.at(done, of))?;
            if !outcome.restored.is_recorded && !args.integrity_check {
                options.integrity_check = true;
                outcome = restore(&source, target, &options, &mut |_, _| {})?;
            }
            verified.push(shown(location.to_string(), outcome.restored));
        }
        Ok(verified)
    })?;
    for one in verified {
        if json {
            let text = serde_json::to_string(&one);
            println!(
                "{}",
                text.map_err(|e| Failure::new(Exit::Failed, e.to_string()))?
            );
            continue;
        }
        for note in &one.notes {
            eprintln!("walcast: warning: {}: {note}", one.archive);
        }
        let how = match one.is_recorded {
            true => format!("checksum {} as recorded", one.database_checksum),
            false => "no checksum is recorded; SQLite finds it whole".to_owned(),
        };
        let time = one.time_us.map(write_time);
        let time = time.map_or(String::new(), |time| format!(" of {time}"));
        println!("{}: sound: {}{time}, {how}", one.archive, one.position);
    }
    Ok(Exit::Done)
}

fn shown(archive: String, restored: Restored) -> Verified {
    Verified {
        archive,
        position: restored.position.to_string(),
        time_us: restored.time_us,
        database_checksum: restored.dbsum.to_string(),
        is_recorded: restored.is_recorded,
        page_count: restored.page_count,
        page_size: restored.page_size,
        notes: restored.notes,
    }
}
