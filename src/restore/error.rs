//! What can go wrong with a restore.

use crate::archive::{ArchiveError, Key};
use crate::disk::DiskError;
use crate::format::position::{Generation, Position};
use crate::format::time::write_time;

/// No database came out of it; nothing was left behind.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// An object is missing or damaged, or the archive cannot be read.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// A local file failed.
    #[error("{}", said_disk(.0))]
    Disk(#[from] DiskError),
    /// There is nothing to restore.
    #[error("{archive} holds no snapshot of a database; is that the right place?")]
    Empty {
        /// The archive.
        archive: String,
    },
    /// The position's history is not there.
    #[error(
        "{archive} holds nothing of generation {generation}; `walcast generations` shows what is there"
    )]
    NoGeneration {
        /// The archive.
        archive: String,
        /// The generation.
        generation: Generation,
    },
    /// The position is older than every snapshot from which it could be reached.
    #[error("no snapshot in {archive} leads to {wanted}; {}", said_oldest(.oldest))]
    TooEarly {
        /// The archive.
        archive: String,
        /// What was asked for.
        wanted: Position,
        /// The oldest that is there.
        oldest: Option<Position>,
    },
    /// There was nothing at that time.
    #[error("{archive} holds no state from before {}; `walcast snapshots` shows the oldest", write_time(*.time_us))]
    TooEarlyTime {
        /// The archive.
        archive: String,
        /// What was asked for.
        time_us: i64,
    },
    /// The position is beyond what was archived.
    #[error("{wanted} is not in {archive}, whose log ends at {end}")]
    Beyond {
        /// The archive.
        archive: String,
        /// What was asked for.
        wanted: Position,
        /// The last position there.
        end: Position,
    },
    /// The position is within a transaction.
    #[error("{wanted} is not the end of a transaction; the one before it ends at {before}")]
    NotCommit {
        /// What was asked for.
        wanted: Position,
        /// The last position before it.
        before: Position,
    },
    /// A replica needs the checksums that an ancestor's archive does not have.
    #[error(
        "{archive} does not record what a replica needs; restore it, and start a primary on that"
    )]
    Undocumented {
        /// The archive.
        archive: String,
    },
    /// A replica has all that is there already.
    #[error("{archive} ends at {end}, before {have}, which is here already")]
    Behind {
        /// The archive.
        archive: String,
        /// What the replica has.
        have: Position,
        /// The last position there.
        end: Position,
    },
    /// The archive is being begun.
    #[error("the log that completes the snapshot in {archive} is not archived yet")]
    Unready {
        /// The archive.
        archive: String,
    },
    /// Without what is damaged, nothing is left.
    #[error("nothing sound is left: {0}")]
    NothingSound(Box<RestoreError>),
    /// The result is not a database that SQLite takes.
    #[error("the restored database is not whole: {0}")]
    Unsound(String),
    /// Somebody said stop.
    #[error("interrupted; nothing is left of it")]
    Cancelled,
}

fn said_oldest(oldest: &Option<Position>) -> String {
    match oldest {
        Some(position) => format!("the oldest position that can be restored there is {position}"),
        None => "the oldest position that can be restored there is not recorded".to_owned(),
    }
}

/// Nothing goes on by itself here when there is space again.
fn said_disk(error: &DiskError) -> String {
    let DiskError { op, path, source } = error;
    match error.is_full() {
        true => format!(
            "{op} {}: {source}; free some space and try again",
            path.display()
        ),
        false => error.to_string(),
    }
}

impl RestoreError {
    /// The object that is missing or damaged, if that is what went wrong.
    pub fn object(&self) -> Option<Key> {
        match self {
            RestoreError::Archive(
                ArchiveError::Missing { key, .. } | ArchiveError::Damaged { key, .. },
            ) => Some(*key),
            _ => None,
        }
    }

    /// True if the archive has nothing, not even something damaged.
    pub fn is_empty(&self) -> bool {
        matches!(self, RestoreError::Empty { .. })
    }
}
