//! Why applying stopped.

use super::local::LocalError;
use super::machine::StreamError;
use super::open::OpenError;
use crate::disk;
use crate::sqlite::ViewError;

/// Why a message could not be applied.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The stream cannot be believed.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// The local database failed.
    #[error(transparent)]
    Local(#[from] LocalError),
    /// The local database cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A state could not be held for someone who reads the copy.
    #[error(transparent)]
    View(#[from] ViewError),
    /// The local log is at its hard limit.
    #[error(
        "the local log is at its limit (wal-hard-limit); the stream has ended, and begins again once the log can"
    )]
    Full,
}

impl From<disk::DiskError> for ApplyError {
    fn from(error: disk::DiskError) -> ApplyError {
        ApplyError::Local(LocalError::Disk(error))
    }
}

impl ApplyError {
    /// True if only a snapshot heals it.
    pub fn is_diverged(&self) -> bool {
        match self {
            ApplyError::Stream(error) => matches!(error, StreamError::Diverged(_)),
            ApplyError::Local(error) => error.is_diverged(),
            ApplyError::Open(_) | ApplyError::View(_) | ApplyError::Full => false,
        }
    }

    /// True if the disk has no room.
    pub fn is_disk_full(&self) -> bool {
        match self {
            ApplyError::Local(LocalError::Disk(error)) => error.is_full(),
            ApplyError::Local(LocalError::Sqlite(error)) => error.is_full(),
            _ => false,
        }
    }

    /// True if somebody else wrote to the files.
    pub fn is_foreign(&self) -> bool {
        matches!(self, ApplyError::Local(LocalError::Foreign { .. }))
    }

    /// True if the database is an application's, since a detach.
    pub fn is_detached(&self) -> bool {
        matches!(self, ApplyError::Open(OpenError::Detached { .. }))
    }

    /// True if the files must be opened again: those at the path are others, or hold what is not known here.
    pub fn must_reopen(&self) -> bool {
        self.is_foreign() || matches!(self, ApplyError::Local(LocalError::Gone { .. }))
    }
}
