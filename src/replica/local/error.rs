//! Why the local database failed.

use crate::disk;
use crate::sqlite::SqliteError;
use std::path::PathBuf;

/// Applying failed; [`LocalError::is_diverged`] tells whether a snapshot must heal it.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] disk::DiskError),
    /// SQLite failed.
    #[error(transparent)]
    Sqlite(#[from] SqliteError),
    /// The result would not be what the primary has.
    #[error("{path}: the checksum of the database would be {got}, the primary has {want}", path = path.display())]
    Checksum {
        /// The database.
        path: PathBuf,
        /// What applying would give.
        got: crate::format::dbsum::DbSum,
        /// What the primary says.
        want: crate::format::dbsum::DbSum,
    },
    /// The file is not what was written.
    #[error("{path}: {what}", path = path.display())]
    Damaged {
        /// The database.
        path: PathBuf,
        /// Where.
        what: String,
    },
    /// Somebody else wrote. What is there now has to be read anew.
    #[error("{path} was changed by another program ({what})", path = path.display())]
    Foreign {
        /// The database.
        path: PathBuf,
        /// What was seen.
        what: String,
    },
    /// A file was deleted or replaced under us.
    #[error("{path}: {what} was deleted or replaced while walcast used it", path = path.display())]
    Gone {
        /// The database.
        path: PathBuf,
        /// Which file.
        what: &'static str,
    },
    /// Another connection is in the way.
    #[error("{path}: {what}", path = path.display())]
    Busy {
        /// The database.
        path: PathBuf,
        /// Who or what.
        what: &'static str,
    },
}

impl LocalError {
    /// True if the local database is not what it should be: only a snapshot heals it.
    pub fn is_diverged(&self) -> bool {
        matches!(
            self,
            LocalError::Checksum { .. } | LocalError::Damaged { .. }
        )
    }
}
