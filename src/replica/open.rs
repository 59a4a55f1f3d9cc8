//! What lies at a replica's path, and whether it may be touched.

use super::local::{Local, LocalError};
use super::record::{Mark, Record, RecordError};
use crate::disk::{self, File};
use crate::format::dbheader::{DbHeader, HEADER_SIZE};
use crate::sqlite::SqliteError;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What was found.
pub enum Opened {
    /// Nothing: a snapshot makes it.
    Nothing,
    /// A replica's database.
    Database {
        /// It, with WRITE held.
        local: Box<Local>,
        /// Where it is, `None` if that is not known.
        mark: Option<Mark>,
        /// Whether its checksum proves that it is exactly there.
        proven: bool,
    },
}

/// The database cannot be opened as a replica.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It belongs to somebody.
    #[error(
        "{path} exists and is no replica made by walcast; it is left as it is: move it away, or give another path",
        path = path.display()
    )]
    NotOurs {
        /// The database.
        path: PathBuf,
    },
    /// It was a replica, and belongs to an application now.
    #[error(
        "{path} was detached and is an ordinary database: it is left as it is; stop replicating it (remove its entry), then: \
         walcast detach --db {path}, which removes {directory}",
        path = path.display(),
        directory = directory.display()
    )]
    Detached {
        /// The database.
        path: PathBuf,
        /// What walcast kept beside it.
        directory: PathBuf,
    },
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] disk::DiskError),
    /// The record failed.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The database failed.
    #[error(transparent)]
    Local(#[from] LocalError),
}

/// Opens the database at `path`, of which `db` is a descriptor. `durable` is the state that must at least be in it; `grew`
/// hears of the bytes that were verified.
pub fn open_local(
    path: &Path,
    db: disk::Result<Arc<File>>,
    directory: &Path,
    record: &mut Record,
    durable: Option<Mark>,
    grew: &dyn Fn(u64),
) -> Result<Opened, OpenError> {
    let db = match db {
        Ok(db) => db,
        Err(error) if error.is_missing() => return Ok(Opened::Nothing),
        Err(error) => return Err(error.into()),
    };
    if db.len("db.size")? == 0 {
        return Ok(Opened::Nothing);
    }
    let known = (durable.is_some() || record.candidates().next().is_some())
        && record.may_be(db.inode("db.stat")?)?;
    let mut bytes = [0; HEADER_SIZE];
    let read = db.read_at("db.read", &mut bytes, 0)?;
    let theirs = || OpenError::Detached {
        path: path.to_owned(),
        directory: directory.to_owned(),
    };
    let header = match DbHeader::parse(&bytes[..read]) {
        // Nor is it attached to: its application writes, and would meet our locks each time that this is tried.
        Ok(header) if record.detached && !header.is_replica() => return Err(theirs()),
        Err(_) if record.detached => return Err(theirs()),
        Ok(header) if known || header.write_version == 3 => header,
        Ok(_) => {
            return Err(OpenError::NotOurs {
                path: path.to_owned(),
            });
        }
        Err(error) if known => return set_aside(path, directory, &error.to_string()),
        Err(_) => {
            return Err(OpenError::NotOurs {
                path: path.to_owned(),
            });
        }
    };
    let delta = record.cookie_delta;
    let mut local = match Local::attach(path, db, directory, header.page_size, delta) {
        Ok(local) => local,
        Err(LocalError::Sqlite(error)) if is_broken(&error) && record.detached => {
            return Err(theirs());
        }
        Err(LocalError::Sqlite(error)) if is_broken(&error) => {
            return set_aside(path, directory, &error.to_string());
        }
        Err(error) => return Err(error.into()),
    };
    // A detach writes its page 1 to the log, and a reader may keep it from the file for long: what the file says of itself is
    // of before. Where there are notes of a copy and none of a detach, somebody took the mark off, and the copy is healed.
    if (record.detached || !known) && local.is_writable()? {
        return Err(theirs());
    }
    record.note_detached(false)?;
    local.scan(grew)?;
    let (mark, proven) = locate(&mut local, record, durable)?;
    Ok(Opened::Database {
        local: Box::new(local),
        mark,
        proven,
    })
}

fn is_broken(error: &SqliteError) -> bool {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    match error {
        SqliteError::Call { source, .. } => {
            matches!(
                source.sqlite_error_code(),
                Some(DatabaseCorrupt | NotADatabase)
            )
        }
        SqliteError::NotWal { .. } => true,
        SqliteError::Shm { .. } => false,
    }
}

/// SQLite cannot open it, so no reader can come to it and nothing can be mended in place: keep it for whoever wants to look,
/// and begin anew. Who has read its schema before may go on with the file that is moved, and sees nothing new.
fn set_aside(path: &Path, directory: &Path, why: &str) -> Result<Opened, OpenError> {
    let aside = directory.join("damaged.db");
    tracing::error!(database = %path.display(), kept_as = %aside.display(), "damaged ({why}); a snapshot replaces it; programs that have it open must open it anew: they may see the old file for ever");
    disk::rename("damaged.rename", path, &aside)?;
    Ok(Opened::Nothing)
}

/// Finds the recorded state whose checksum the database has. If there is none (a power cut), it is at some commit after
/// the durable state.
fn locate(
    local: &mut Local,
    record: &mut Record,
    durable: Option<Mark>,
) -> Result<(Option<Mark>, bool), OpenError> {
    let candidates: Vec<Mark> = record.candidates().chain(durable).collect();
    let find = |local: &Local| {
        let (sum, pages, size) = (local.sums().sum(), local.sums().pages(), local.page_size());
        candidates.iter().copied().find(|mark| {
            mark.point.dbsum == sum
                && mark.point.page_count == pages
                && mark.point.page_size == size
        })
    };
    if let Some(mark) = find(local) {
        record.is_visible(&mark);
        return Ok((Some(mark), true));
    }
    let Some(pending) = record.pending_delta else {
        let usable = durable.filter(|mark| mark.point.page_size == local.page_size());
        return Ok((usable, false));
    };
    // A kill came between a seed's publication and the note that its cookie constant is the one now.
    local.use_cookie_delta(pending)?;
    let found = find(local);
    if found.is_some() {
        record.cookie_delta = pending;
        record.pending_delta = None;
        record.save_identity()?;
    }
    if let Some(mark) = &found {
        record.is_visible(mark);
    }
    Ok((found, found.is_some()))
}
