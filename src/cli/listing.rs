//! `walcast databases`, `generations`, `snapshots` and `wal`: what archives hold.

use super::archive_source::{self, Archives, SourceArgs, run_blocking};
use super::config::ConfigFileArgs;
use super::exit::{Exit, Failure};
use super::stdout::print;
use super::table::Table;
use super::units::{show_seconds, show_size};
use crate::archive::Key;
use crate::config::Entry;
use crate::format::position::{Generation, Position};
use crate::format::time::write_time;
use crate::model::clock_us;
use crate::ownership;
use crate::restore::{Catalog, History, Newest, Source, newest};
use clap::Args;
use serde::Serialize;
use std::collections::BTreeSet;

/// Show the databases of a configuration file and their archives
#[derive(Args, Debug)]
pub struct DatabasesArgs {
    #[command(flatten)]
    file: ConfigFileArgs,
    /// Print one JSON object for programs
    #[arg(long)]
    json: bool,
}

/// Show the histories that an archive holds, the newest last
///
/// A generation is one unbroken history. LAG is how far the newest state there is behind the database: known only with
/// --config, on the machine of the primary.
#[derive(Args, Debug)]
pub struct GenerationsArgs {
    #[command(flatten)]
    list: ListArgs,
}

/// Show the snapshots that an archive holds
#[derive(Args, Debug)]
pub struct SnapshotsArgs {
    #[command(flatten)]
    list: ListArgs,
}

/// Show the pieces of the log that an archive holds
#[derive(Args, Debug)]
pub struct WalArgs {
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Args, Clone, Debug)]
struct ListArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// Only of this generation
    #[arg(long, value_name = "GENERATION")]
    generation: Option<Generation>,
    /// Print one JSON object for programs
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Databases {
    databases: Vec<Database>,
}

#[derive(Serialize)]
struct Database {
    name: String,
    path: String,
    archives: Vec<String>,
}

#[derive(Serialize)]
struct Row {
    archive: String,
    generation: String,
    created_us: i64,
    updated_us: i64,
    created: String,
    updated: String,
    snapshots: usize,
    first_index: Option<String>,
    last_index: Option<String>,
    size_bytes: u64,
    position: Option<String>,
    time_us: Option<i64>,
    fork: Option<String>,
    lag_seconds: Option<f64>,
    gaps: Vec<String>,
}

#[derive(Serialize)]
struct SnapshotRow {
    archive: String,
    generation: String,
    index: String,
    size_bytes: u64,
    written_us: i64,
    written: String,
    position: Option<String>,
    time_us: Option<i64>,
    page_count: Option<u32>,
    page_size: Option<u32>,
    database_checksum: Option<String>,
}

#[derive(Serialize)]
struct WalRow {
    archive: String,
    generation: String,
    index: String,
    offset: String,
    size_bytes: u64,
    written_us: i64,
    written: String,
    has_document: bool,
}

pub(super) fn databases(args: DatabasesArgs) -> Result<Exit, Failure> {
    let config = args.file.load()?;
    let databases = config.entries.iter().map(|entry| {
        let (name, path, archives) = match entry {
            Entry::Database(one) => (one.name.clone(), &one.path, &one.primary.archives),
            Entry::Directory(all) => (all.pattern.clone(), &all.dir, &all.primary.archives),
        };
        Database {
            name,
            path: path.display().to_string(),
            archives: archives.iter().map(|a| a.location.to_string()).collect(),
        }
    });
    let databases: Vec<Database> = databases.collect();
    if args.json {
        return json(&Databases { databases });
    }
    let mut table = Table::new(0, &["NAME", "PATH", "ARCHIVES"]);
    for one in databases {
        table.row([one.name, one.path, one.archives.join(" ")]);
    }
    print(table.to_string())
}

/// One row of what each history of each archive gives.
fn each<T: Send + 'static>(
    args: &ListArgs,
    rows: impl Fn(&Archives, &Source, &History, bool) -> Result<Vec<T>, Failure> + Send + 'static,
) -> Result<Vec<T>, Failure> {
    let archives = args.source.archives()?;
    let only = args.generation;
    run_blocking(move |runtime, _| {
        let mut all = Vec::new();
        for location in &archives.locations {
            let source = archive_source::open(location, runtime)?;
            let catalog = Catalog::read(&source, &BTreeSet::new())?;
            let last = catalog.histories.len().saturating_sub(1);
            for (number, history) in catalog.histories.iter().enumerate() {
                if only.is_none_or(|only| only == history.generation) {
                    all.extend(rows(&archives, &source, history, number == last)?);
                }
            }
        }
        Ok(all)
    })
}

pub(super) fn generations(args: GenerationsArgs) -> Result<Exit, Failure> {
    let rows = each(&args.list, |archives, source, history, is_last| {
        let end = newest(source, history, &BTreeSet::new())?;
        let lag = match is_last {
            true => lag(archives, end),
            false => None,
        };
        let indexes = history.segments.iter().map(|s| s.index);
        let indexes: Vec<u64> = indexes.chain(history.snapshots.keys().copied()).collect();
        let index = |index: Option<&u64>| index.map(|index| format!("{index:016x}"));
        Ok(vec![Row {
            archive: source.name(),
            generation: history.generation.to_string(),
            created_us: history.created_us(),
            updated_us: history.updated_us(),
            created: write_time(history.created_us()),
            updated: write_time(history.updated_us()),
            snapshots: history.snapshots.len(),
            first_index: index(indexes.iter().min()),
            last_index: index(indexes.iter().max()),
            size_bytes: history.size(),
            position: end.map(|end| end.position.to_string()),
            time_us: end.and_then(|end| end.time_us),
            fork: history
                .doc
                .as_ref()
                .and_then(|doc| doc.fork)
                .map(|fork| fork.to_string()),
            lag_seconds: lag,
            gaps: history.gaps().iter().map(ToString::to_string).collect(),
        }])
    })?;
    if args.list.json {
        #[derive(Serialize)]
        struct Generations {
            generations: Vec<Row>,
        }
        return json(&Generations { generations: rows });
    }
    let mut table = Table::new(
        0,
        &[
            "GENERATION",
            "CREATED",
            "UPDATED",
            "SNAPSHOTS",
            "SIZE",
            "LAG",
            "NEWEST POSITION",
            "ARCHIVE",
        ],
    );
    let mut gaps = String::new();
    for row in rows {
        for gap in &row.gaps {
            gaps.push_str(&format!("gap: {gap}\n"));
        }
        table.row([
            row.generation,
            row.created,
            row.updated,
            row.snapshots.to_string(),
            show_size(row.size_bytes),
            row.lag_seconds.map_or("-".to_owned(), show_seconds),
            row.position.unwrap_or_else(|| "-".to_owned()),
            row.archive,
        ]);
    }
    print(format!("{table}{gaps}"))
}

/// How far the archive's newest state is behind the database's newest: 0 if it is the same, else the age of the archive's.
fn lag(archives: &Archives, end: Option<Newest>) -> Option<f64> {
    let database = archives.database.as_ref()?;
    let path = ownership::directory_of(database).join("position");
    let text = crate::disk::read_if_exists("archive.position", &path).ok()??;
    let position: Position = String::from_utf8(text).ok()?.trim_end().parse().ok()?;
    let end = end?;
    match position == end.position {
        true => Some(0.0),
        false => Some((clock_us() - end.time_us?).max(0) as f64 / 1e6),
    }
}

pub(super) fn snapshots(args: SnapshotsArgs) -> Result<Exit, Failure> {
    let rows = each(&args.list, |_, source, history, _| {
        let row = |(&index, listed): (&u64, &crate::restore::Listed)| {
            let key = Key::snapshot(history.generation, index);
            // A document that cannot be read is for a restore to name; here it is as if there were none.
            let doc = source.snapshot(key).ok().flatten();
            SnapshotRow {
                archive: source.name(),
                generation: history.generation.to_string(),
                index: format!("{index:016x}"),
                size_bytes: listed.size,
                written_us: listed.modified_us,
                written: write_time(listed.modified_us),
                position: doc.as_ref().map(|doc| doc.position.to_string()),
                time_us: doc.as_ref().map(|doc| doc.time_us),
                page_count: doc.as_ref().map(|doc| doc.page_count),
                page_size: doc.as_ref().map(|doc| doc.page_size),
                database_checksum: doc.map(|doc| doc.dbsum),
            }
        };
        Ok(history.snapshots.iter().map(row).collect())
    })?;
    if args.list.json {
        #[derive(Serialize)]
        struct Snapshots {
            snapshots: Vec<SnapshotRow>,
        }
        return json(&Snapshots { snapshots: rows });
    }
    let mut table = Table::new(
        0,
        &[
            "GENERATION",
            "INDEX",
            "SIZE",
            "WRITTEN",
            "POSITION",
            "ARCHIVE",
        ],
    );
    for row in rows {
        table.row([
            row.generation,
            row.index,
            show_size(row.size_bytes),
            row.written,
            row.position.unwrap_or_else(|| "-".to_owned()),
            row.archive,
        ]);
    }
    print(table.to_string())
}

pub(super) fn wal(args: WalArgs) -> Result<Exit, Failure> {
    let rows = each(&args.list, |_, source, history, _| {
        let row = |segment: &crate::restore::Segment| WalRow {
            archive: source.name(),
            generation: history.generation.to_string(),
            index: format!("{:016x}", segment.index),
            offset: format!("{:016x}", segment.offset),
            size_bytes: segment.listed.size,
            written_us: segment.listed.modified_us,
            written: write_time(segment.listed.modified_us),
            has_document: segment.listed.has_doc,
        };
        Ok(history.segments.iter().map(row).collect())
    })?;
    if args.list.json {
        #[derive(Serialize)]
        struct Wal {
            wal: Vec<WalRow>,
        }
        return json(&Wal { wal: rows });
    }
    let mut table = Table::new(
        0,
        &[
            "GENERATION",
            "INDEX",
            "OFFSET",
            "SIZE",
            "WRITTEN",
            "ARCHIVE",
        ],
    );
    for row in rows {
        table.row([
            row.generation,
            row.index,
            row.offset,
            show_size(row.size_bytes),
            row.written,
            row.archive,
        ]);
    }
    print(table.to_string())
}

fn json(value: &impl Serialize) -> Result<Exit, Failure> {
    let text = serde_json::to_string_pretty(value);
    let text = text.map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
    print(format!("{text}\n"))
}
