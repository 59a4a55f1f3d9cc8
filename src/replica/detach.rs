//! The end of a replica: what is left is an ordinary database.

use super::local::LocalError;
use super::open::{OpenError, Opened, open_local};
use super::record::{Durable, Record};
use crate::disk::{self, File};
use crate::format::position::Position;
use crate::ownership::{self, OwnershipError};
use crate::sqlite::checkpoint_connection;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Detaching failed; the replica is as it was, except for [`DetachError::LeftBehind`].
#[derive(Debug, thiserror::Error)]
pub enum DetachError {
    /// A walcast serves it.
    #[error(transparent)]
    Owned(#[from] OwnershipError),
    /// The database cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The database failed.
    #[error(transparent)]
    Local(#[from] LocalError),
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] disk::DiskError),
    /// It is detached, and something is still there.
    #[error(transparent)]
    LeftBehind(#[from] LeftBehind),
    /// There is no replica.
    #[error("{0} is no replica of walcast: there is nothing to detach")]
    Nothing(String),
}

/// Detaches a replica that no walcast serves at the moment. Answers with the position that it holds, if that is known.
pub fn detach_offline(path: &Path) -> Result<Option<Position>, DetachError> {
    let directory = ownership::directory_of(path);
    if !directory.join("replica").is_file() || !path.is_file() {
        return Err(DetachError::Nothing(path.display().to_string()));
    }
    let lock = ownership::take(&directory)?;
    let mut record = Record::open(&directory).map_err(OpenError::from)?;
    let durable = Durable::open(&directory)?.mark();
    let db = File::open_rw("db.open", path).map(Arc::new);
    let mark = match open_local(path, db, &directory, &mut record, durable, &|_| {}) {
        Ok(Opened::Database {
            local,
            mark,
            proven,
        }) => {
            local.release_writable(&mut record)?;
            mark.filter(|_| proven)
        }
        Ok(Opened::Nothing) => return Err(DetachError::Nothing(path.display().to_string())),
        // One before this was killed, or could not remove all.
        Err(OpenError::Detached { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    finish(path)?;
    // Not before: who waits for it would find what is being removed.
    drop(lock);
    Ok(mark.map(|m| m.point.position))
}

/// What walcast kept beside a database that is detached could not be removed.
#[derive(Debug, thiserror::Error)]
#[error(
    "{path} is an ordinary database now, but what walcast kept beside it could not be removed ({source}): remove {directory}",
    path = path.display(),
    directory = ownership::directory_of(path).display()
)]
pub struct LeftBehind {
    /// The database.
    path: PathBuf,
    /// Why.
    source: disk::DiskError,
}

/// Removes what walcast kept beside the database. No connection of ours is open on it any more, and its lock is still held.
pub(super) fn finish(path: &Path) -> Result<(), LeftBehind> {
    // The page that makes it writable is in the log: into the file with it, for whoever looks there (`walcast primary`).
    // Readers may be in the way; then the application's own checkpoint does it.
    let copied = checkpoint_connection(path)
        .map(|connection| connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())));
    if !matches!(copied, Ok(Ok(()))) {
        tracing::info!(database = %path.display(), "detached; its log is not in the file yet");
    }
    remove_notes(&ownership::directory_of(path)).map_err(|source| LeftBehind {
        path: path.to_owned(),
        source,
    })
}

/// What says that it is detached goes last. With the notes of the copy alone a replica would take the database back.
fn remove_notes(directory: &Path) -> disk::Result<()> {
    for name in disk::list("detach.list", directory)? {
        let path = directory.join(&name);
        match name.as_str() {
            "replica" | "lock" => {}
            _ if path.is_dir() => disk::remove_dir_all("detach.remove", &path)?,
            _ => disk::remove_file("detach.remove", &path)?,
        }
    }
    disk::sync_dir("detach.sync-names", directory)?;
    disk::remove_dir_all("detach.remove", directory)
}
