//! What can go wrong with an archive.

use super::key::Key;
use super::location::LocationError;
use super::owner::Owned;

/// An operation on an archive failed.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The location cannot be used.
    #[error(transparent)]
    Location(#[from] LocationError),
    /// The directory or the provider answered with an error. Worth trying again later.
    #[error("{verb} {object} in {archive}: {}", said(.source))]
    Store {
        /// What was tried: `read`, `write`, `list`, `remove`.
        verb: &'static str,
        /// The object, or the prefix that was listed.
        object: String,
        /// The archive.
        archive: String,
        /// What the provider said.
        source: Box<object_store::Error>,
    },
    /// The object is not there.
    #[error("{key} is missing in {archive}")]
    Missing {
        /// The object.
        key: Key,
        /// The archive.
        archive: String,
    },
    /// The object is not what was written.
    #[error("{key} in {archive} is damaged: {what}")]
    Damaged {
        /// The object.
        key: Key,
        /// The archive.
        archive: String,
        /// What is wrong with it.
        what: String,
    },
    /// Another primary writes to this archive.
    #[error(
        "{archive} belongs to {owner}; give this database an archive of its own, or, if that one will never write again, start \
         once with --take-over"
    )]
    Owned {
        /// The archive.
        archive: String,
        /// Who writes there.
        owner: Owned,
    },
    /// A local file failed.
    #[error(transparent)]
    Disk(#[from] crate::disk::DiskError),
}

impl ArchiveError {
    /// True if trying again later may help without anybody doing anything else.
    pub fn is_transient(&self) -> bool {
        match self {
            // What is not mounted now may be later.
            ArchiveError::Store { .. } | ArchiveError::Missing { .. } => true,
            ArchiveError::Disk(error) => error.is_full(),
            _ => false,
        }
    }
}

/// One line of what a provider said, however many it was, and what to do where that is known.
fn said(error: &object_store::Error) -> String {
    let mut text = match error {
        object_store::Error::PermissionDenied { .. } => {
            "permission denied; check the credentials' rights".to_owned()
        }
        object_store::Error::Unauthenticated { .. } => {
            "not authenticated; check the credentials in the environment".to_owned()
        }
        other => other.to_string(),
    };
    // What is below says more, such as "connection refused".
    let mut below = std::error::Error::source(error);
    while let Some(error) = below {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        below = error.source();
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A document in `walcast/` that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DocError {
    /// It is no JSON, or not of this kind.
    #[error("it is not what walcast writes there: {0}")]
    Json(#[from] serde_json::Error),
    /// It is not as it was written.
    #[error("its checksum does not match")]
    Checksum,
    /// Written by a newer walcast.
    #[error("it has version {0}, and this walcast knows version {known}", known = super::docs::VERSION)]
    Version(u32),
    /// The page size is not one that SQLite uses.
    #[error("its page size is {0}, which no database has")]
    PageSize(u32),
    /// It is of a snapshot without pages.
    #[error("it is of a database without pages")]
    NoPages,
}
