//! Which archive is meant, and how commands read it.

use super::config::ConfigFileArgs;
use super::exit::{Exit, Failure};
use super::process::{run_client, shutdown};
use crate::archive::{ArchiveError, Location, LocationError, Store};
use crate::config::{DirectoryEntry, Entry, identity, parse_name, parse_pattern};
use crate::restore::{RestoreError, Source};
use clap::Args;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::runtime::Handle;

/// An archive, by its place or by its database.
#[derive(Args, Clone, Debug)]
pub struct SourceArgs {
    /// The archive: a directory, or s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://CONTAINER/PREFIX; with --config the name or the
    /// path of a database
    #[arg(value_name = "SOURCE")]
    pub source: String,
    /// The configuration file that says which archives the database SOURCE has
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Take $NAME and ${NAME} in the file as they are, instead of replacing them from the environment
    #[arg(long, requires = "config")]
    pub no_expand_env: bool,
}

/// Archives of one database.
#[derive(Clone, Debug)]
pub struct Archives {
    /// Where they are.
    pub locations: Vec<Location>,
    /// The database's file, if that is known.
    pub database: Option<PathBuf>,
}

impl SourceArgs {
    /// The archives that are meant.
    pub fn archives(&self) -> Result<Archives, Failure> {
        let Some(config) = &self.config else {
            let location = self.source.parse();
            let location = location
                .map_err(|error: LocationError| Failure::new(Exit::Usage, error.to_string()))?;
            return Ok(Archives {
                locations: vec![location],
                database: None,
            });
        };
        let file = ConfigFileArgs {
            config: Some(config.clone()),
            no_expand_env: self.no_expand_env,
        };
        let entries = file.load()?.entries;
        let found = entries.iter().find_map(|entry| of(entry, &self.source));
        let found = found.or_else(|| entries.iter().find_map(|entry| below(entry, &self.source)));
        let (database, locations) = found.ok_or_else(|| {
            let message = format!(
                "{} has no database '{}'; `walcast databases` shows those that it has",
                config.display(),
                self.source
            );
            Failure::new(Exit::Refused, message)
        })?;
        if locations.is_empty() {
            let message = format!("{} has no archives for {}", config.display(), self.source);
            return Err(Failure::new(Exit::Refused, message));
        }
        Ok(Archives {
            locations,
            database: Some(database),
        })
    }
}

/// The file and the archives of a database, if it is one of this entry's.
fn of(entry: &Entry, source: &str) -> Option<(PathBuf, Vec<Location>)> {
    match entry {
        Entry::Database(database) => {
            let same_file = || identity(&database.path) == identity(Path::new(source));
            let is_meant = database.name == source || same_file();
            let archives = database.primary.archives.iter();
            let locations = archives.map(|archive| archive.location.clone());
            is_meant.then(|| (database.path.clone(), locations.collect()))
        }
        Entry::Directory(directory) => {
            let path = identity(Path::new(source));
            let name = path.strip_prefix(identity(&directory.dir)).ok()?;
            in_directory(directory, name.to_str()?)
        }
    }
}

/// The same, where the source is the name of one of a directory's databases.
fn below(entry: &Entry, source: &str) -> Option<(PathBuf, Vec<Location>)> {
    match entry {
        Entry::Directory(directory) => in_directory(directory, &parse_name(source).ok()?),
        Entry::Database(_) => None,
    }
}

/// A database need not be there any more: that is why somebody restores.
fn in_directory(directory: &DirectoryEntry, name: &str) -> Option<(PathBuf, Vec<Location>)> {
    let pattern = parse_pattern(&directory.pattern).ok()?;
    let archives = directory.primary.archives.iter();
    let locations = archives.map(|archive| archive.of(name).location);
    pattern
        .is_match(name)
        .then(|| (directory.dir.join(name), locations.collect()))
}

/// Opens an archive to read it.
pub fn open(location: &Location, runtime: &Handle) -> Result<Source, Failure> {
    match Store::open(location) {
        Ok(store) => Ok(Source::new(store, runtime.clone())),
        Err(ArchiveError::Disk(error)) if error.is_missing() => Err(Failure::new(
            Exit::Refused,
            format!("there is no archive at {location}: no such directory"),
        )),
        Err(error) => Err(RestoreError::from(error).into()),
    }
}

impl From<RestoreError> for Failure {
    fn from(error: RestoreError) -> Failure {
        let exit = match &error {
            RestoreError::Archive(ArchiveError::Location(_)) => Exit::Usage,
            RestoreError::Archive(ArchiveError::Store { .. }) => Exit::Unreachable,
            RestoreError::Empty { .. }
            | RestoreError::NoGeneration { .. }
            | RestoreError::TooEarly { .. }
            | RestoreError::TooEarlyTime { .. }
            | RestoreError::Beyond { .. }
            | RestoreError::NotCommit { .. } => Exit::Refused,
            _ => Exit::Failed,
        };
        Failure::new(exit, error.to_string())
    }
}

/// Runs work that blocks, on a thread. A signal asks it to end, and it is waited for: it cleans up. A second signal does not
/// wait.
pub fn run_blocking<T: Send + 'static>(
    work: impl FnOnce(&Handle, &AtomicBool) -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    run_client(async {
        let stop = shutdown()?;
        let cancel = Arc::new(AtomicBool::new(false));
        let runtime = Handle::current();
        let asked = cancel.clone();
        let mut task = tokio::task::spawn_blocking(move || work(&runtime, &asked));
        let done = tokio::select! {
            done = &mut task => done,
            () = stop => {
                cancel.store(true, Ordering::Relaxed);
                task.await
            }
        };
        // A thread that panicked has ended the process.
        done.map_err(|error| Failure::new(Exit::Failed, error.to_string()))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_of_a_directory_is_known_by_its_name_and_by_any_way_to_its_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let tenants = dir.path().join("tenants");
        std::fs::create_dir_all(tenants.join("eu")).expect("directories");
        let file = dir.path().join("walcast.yml");
        let text = format!(
            "dbs:\n  - dir: {}\n    pattern: '**/*.db'\n    archives:\n      - url: {}\n",
            tenants.display(),
            dir.path().join("archive").display()
        );
        std::fs::write(&file, text).expect("written");
        let path = tenants.join("eu/a.db");
        let other_way = dir.path().join("tenants/../tenants/eu/a.db");
        for source in ["eu/a.db".into(), path.clone(), other_way] {
            let args = SourceArgs {
                source: source.to_str().expect("UTF-8").to_owned(),
                config: Some(file.clone()),
                no_expand_env: true,
            };
            let found = args.archives().expect("archives");
            let found_file = found.database.as_deref().expect("a file");
            assert_eq!(identity(found_file), identity(&path), "{source:?}");
            assert!(found.locations[0].to_string().ends_with("archive/eu/a.db"));
        }
        let args = SourceArgs {
            source: "eu/a.txt".to_owned(),
            config: Some(file.clone()),
            no_expand_env: true,
        };
        args.archives().expect_err("no name of one");
    }
}
