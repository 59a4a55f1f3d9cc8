//! Why a process that runs databases could not.

use crate::client::ClientError;
use crate::security::{ListenError, SecurityError};
use crate::server::{RegistryError, ServeError};

/// The process could not do what it was told.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The address.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Certificates or tokens.
    #[error(transparent)]
    Security(#[from] SecurityError),
    /// An upstream that cannot even be tried.
    #[error(transparent)]
    Upstream(#[from] ClientError),
    /// Two databases of one name.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// Two databases of one name, or one file twice.
    #[error("{0}")]
    Clash(String),
    /// The system allows too few open files.
    #[error("{0}")]
    Descriptors(String),
    /// The server failed.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// The application's command line.
    #[error("--exec '{command}': {problem}")]
    Command {
        /// As given.
        command: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The application could not be started.
    #[error("start the application '{program}': {source}; check --exec")]
    Spawn {
        /// Its program.
        program: String,
        /// Why not.
        source: std::io::Error,
    },
    /// The system refused.
    #[error("{doing}: {source}")]
    System {
        /// What was tried.
        doing: &'static str,
        /// Why not.
        source: std::io::Error,
    },
}

impl NodeError {
    /// For a failed call to the system.
    pub(super) fn system(doing: &'static str) -> impl FnOnce(std::io::Error) -> NodeError {
        move |source| NodeError::System { doing, source }
    }
}
