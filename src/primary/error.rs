//! What a caller of a primary database can meet.

use crate::format::position::Generation;
use crate::model::DatabaseState;

/// A primary database could not do what was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PrimaryError {
    /// There is no position yet: the database is waited for, or is still being read.
    #[error("the database is {state}: {reason}")]
    NotReady {
        /// What it is doing.
        state: DatabaseState,
        /// Why, and what to do.
        reason: String,
    },
    /// An operator let walcast let go of the files.
    #[error("the database is paused; go on with: walcast resume")]
    Paused,
    /// The primary began a new generation while this stream was open.
    #[error("a new generation began on the primary: {0}")]
    GenerationChanged(Generation),
    /// Bytes of the shadow WAL are not what was written.
    #[error("the shadow WAL is damaged: {0}")]
    Damaged(String),
    /// The server is ending.
    #[error("the server is draining")]
    Draining,
    /// The stream could not keep up with what the primary may keep for it.
    #[error("the replica is too slow: {0}")]
    TooSlow(String),
    /// A report names a stream that is not open.
    #[error("no open stream has the session '{0}'")]
    UnknownSession(String),
    /// A disk operation failed.
    #[error("{0}")]
    Disk(String),
}

impl From<crate::disk::DiskError> for PrimaryError {
    fn from(error: crate::disk::DiskError) -> PrimaryError {
        PrimaryError::Disk(error.to_string())
    }
}
