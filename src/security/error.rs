//! What can be wrong with the files and words that security is made of.

use std::io;
use std::path::{Path, PathBuf};

/// One line for a person who set it up.
#[derive(Debug, thiserror::Error)]
pub enum SecurityError {
    /// A file cannot be read.
    #[error("read {}: {source}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file holds something else than it should.
    #[error("{}: {problem}", .path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what is expected.
        problem: String,
    },
    /// Settings that contradict each other, or mean what nobody can want.
    #[error("{0}")]
    Setting(String),
}

impl SecurityError {
    pub(super) fn read(path: &Path, source: io::Error) -> SecurityError {
        SecurityError::Read {
            path: path.to_owned(),
            source,
        }
    }

    pub(super) fn content(path: &Path, problem: impl Into<String>) -> SecurityError {
        SecurityError::Content {
            path: path.to_owned(),
            problem: problem.into(),
        }
    }
}
