//! `walcast restore`.

use super::archive_source::{self, Archives, SourceArgs, run_blocking};
use super::exit::{Exit, Failure};
use super::place::{Place, WriteArgs};
use super::progress::Progress;
use super::scratch::Scratch;
use crate::archive::Location;
use crate::format::position::Position;
use crate::format::time::{parse_time, write_time};
use crate::restore::{Catalog, Options, Outcome, RestoreError, Target, newest, restore};
use clap::Args;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use tokio::runtime::Handle;

/// Restore a database from its archive
///
/// To the newest state, to a position, or to a time. The file is made beside its place, verified and synced, and only then
/// gets its name: lz4's checksums of every object, SQLite's own checksums over the whole log, and the checksum of the
/// database that was recorded when it was archived. An object that is missing or damaged is named, and nothing is restored;
/// with --sound, the newest state that needs no such object. The position is printed.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  walcast restore -o app.db /backup/app
  walcast restore -o app.db s3://bucket/app
  walcast restore --config walcast.yml /data/app.db
  walcast restore -o then.db --to-time 2026-11-27T23:04:11Z /backup/app")]
pub struct RestoreArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// Restore this position, as `walcast position` prints it
    #[arg(long, value_name = "POSITION", conflicts_with = "to_time")]
    to_position: Option<Position>,
    /// Restore the last commit that was captured at this time or before, such as 2026-11-27T23:04:11.5Z. Exact by the
    /// primary's clock: a commit is captured within milliseconds while walcast runs, those captured at once have one time, and
    /// those made while it did not run have the time of its start. Without walcast's documents: to the segment
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    to_time: Option<i64>,
    /// The file to write; it must not exist. Default with --config: the database's own path
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Do nothing, and succeed, if the file exists
    #[arg(long)]
    if_db_not_exists: bool,
    /// Do nothing, and succeed, if there is no archive or nothing in it
    #[arg(long, alias = "if-replica-exists")]
    if_archive_exists: bool,
    /// Objects to read and unpack at one time; each may take 16 MiB of memory
    #[arg(long, value_name = "N", default_value = "4", value_parser = clap::value_parser!(u16).range(1..=64))]
    parallelism: u16,
    /// Have SQLite look through the result as well
    #[arg(long)]
    integrity_check: bool,
    /// Where objects are missing or damaged: the newest sound state without them, instead of an error
    #[arg(long)]
    sound: bool,
    #[command(flatten)]
    write: WriteArgs,
}

pub(super) fn run(args: RestoreArgs) -> Result<Exit, Failure> {
    let archives = args.source.archives()?;
    let output = args.output.as_ref().or(archives.database.as_ref());
    let Some(output) = output.cloned() else {
        let message = "name the file to write with -o FILE";
        return Err(Failure::new(Exit::Usage, message));
    };
    if args.if_db_not_exists && std::fs::symlink_metadata(&output).is_ok() {
        eprintln!("walcast: {} exists; nothing is restored", output.display());
        return Ok(Exit::Done);
    }
    let place = Place::check(&output, args.write.force)?;
    let done =
        run_blocking(move |runtime, cancel| from_any(&args, &archives, &place, runtime, cancel))?;
    let Some(outcome) = done else {
        return Ok(Exit::Done);
    };
    let restored = &outcome.restored;
    for error in &outcome.left_out {
        eprintln!("walcast: warning: left out: {error}");
    }
    for note in &restored.notes {
        eprintln!("walcast: warning: {note}");
    }
    if !restored.is_recorded {
        eprintln!(
            "walcast: warning: no checksum of the database is recorded for this state; proven are its log's own checksums"
        );
    }
    let time = restored.time_us.map(write_time);
    let time = time.map_or(String::new(), |time| format!(", captured at {time}"));
    eprintln!("walcast: restored {}{time}", output.display());
    println!("{}", restored.position);
    Ok(Exit::Done)
}

/// The archives in the order in which they are tried. For the newest state, the one that has it comes first, and those that
/// cannot be read come last.
fn ordered(args: &RestoreArgs, archives: &Archives, runtime: &Handle) -> Vec<Location> {
    let mut locations = archives.locations.clone();
    let is_newest = args.to_position.is_none() && args.to_time.is_none();
    if locations.len() > 1 && is_newest {
        locations.sort_by_cached_key(|location| {
            std::cmp::Reverse(
                archive_source::open(location, runtime)
                    .ok()
                    .and_then(|source| {
                        let catalog = Catalog::read(&source, &BTreeSet::new()).ok()?;
                        let history = catalog.histories.last()?;
                        let end = newest(&source, history, &BTreeSet::new()).ok()??;
                        Some(end.time_us.unwrap_or(history.updated_us()))
                    }),
            )
        });
    }
    locations
}

/// From the first archive that has it. What is wrong with one before it is said.
fn from_any(
    args: &RestoreArgs,
    archives: &Archives,
    place: &Place,
    runtime: &Handle,
    cancel: &AtomicBool,
) -> Result<Option<Outcome>, Failure> {
    let scratch = Scratch::new(place.parent(), "walcast-restore")?;
    let path = scratch.path().join("restored.db");
    let mut last = None;
    for location in &ordered(args, archives, runtime) {
        let failure = match from(args, location, &path, runtime, cancel) {
            Ok(outcome) => {
                if let Some((before, _)) = last {
                    eprintln!("walcast: warning: {before}; taken from {location} instead");
                }
                place.install(&path, args.write.mode)?;
                return Ok(Some(outcome));
            }
            Err(failure) => failure,
        };
        if let Some((before, _)) = last.replace(failure) {
            eprintln!("walcast: warning: {before}; the next archive is tried");
        }
    }
    match last {
        Some((failure, true)) if args.if_archive_exists => {
            eprintln!("walcast: {failure}; nothing is restored");
            Ok(None)
        }
        Some((failure, _)) => Err(failure),
        None => Err(Failure::new(Exit::Refused, "there is no archive")),
    }
}

/// The failure comes with whether there was nothing at all.
fn from(
    args: &RestoreArgs,
    location: &Location,
    path: &Path,
    runtime: &Handle,
    cancel: &AtomicBool,
) -> Result<Outcome, (Failure, bool)> {
    let source = archive_source::open(location, runtime).map_err(|failure| {
        let is_nothing = failure.exit() == Exit::Refused;
        (failure, is_nothing)
    })?;
    let target = match (args.to_position, args.to_time) {
        (Some(position), _) => Target::Position(position),
        (_, Some(time_us)) => Target::Time(time_us),
        _ => Target::Newest,
    };
    let options = Options {
        path,
        parallelism: args.parallelism.into(),
        integrity_check: args.integrity_check,
        sound: args.sound,
        cancel,
    };
    let mut bar = Bar::new("restore", args.write.quiet);
    restore(&source, target, &options, &mut |done, of| bar.at(done, of)).map_err(|error| {
        let is_nothing = error.is_empty();
        (told(error, args.sound), is_nothing)
    })
}

/// The error, and what can be done.
fn told(error: RestoreError, sound: bool) -> Failure {
    let hint = match error.object() {
        Some(_) if !sound => "; --sound gives the newest state that does not need it",
        _ => "",
    };
    let failure = Failure::from(error);
    Failure::new(failure.exit(), format!("{failure}{hint}"))
}

/// Progress that may begin anew.
pub(super) struct Bar {
    progress: Progress,
    done: u64,
}

impl Bar {
    pub(super) fn new(what: &str, quiet: bool) -> Bar {
        Bar {
            progress: Progress::new(what, quiet),
            done: 0,
        }
    }

    /// So much of so much is done.
    pub(super) fn at(&mut self, done: u64, of: u64) {
        self.progress.of(of.max(self.done));
        self.progress.add(done.saturating_sub(self.done));
        self.done = self.done.max(done);
    }
}
