//! Exit codes. docs/exit-codes.md shows the same table; a test compares the two.

use crate::client::ClientError;
use crate::security::{ListenError, SecurityError};
use std::fmt;
use std::process::ExitCode;
use tonic::Code;

/// The end of `--help`.
pub(super) const HELP: &str = "\
Exit codes:
  0  done
  1  failed
  2  wrong arguments
  3  the server is not reachable, or is shutting down
  4  not reached in time
  5  refused: no such database, not in a state for that, or not permitted
  6  the time to drain was up before replicas had reached the last position
  7  it could not be found out whether they differ";

/// How a command ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// Failed.
    Failed = 1,
    /// Wrong arguments; clap uses the same code.
    Usage = 2,
    /// The server is not reachable, or is shutting down.
    Unreachable = 3,
    /// `walcast wait`: not reached in time.
    NotReached = 4,
    /// The server refuses: no such database, not in its state, or not permitted.
    Refused = 5,
    /// The time to drain was up before replicas had reached the last position.
    DrainTimedOut = 6,
    /// `walcast verify`: it could not be found out.
    Undecided = 7,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// A command that failed: the code and one line for people.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    message: String,
}

impl Failure {
    /// A failure with one line for people.
    pub fn new(exit: Exit, message: impl Into<String>) -> Failure {
        Failure {
            exit,
            message: message.into(),
        }
    }

    /// Its code.
    pub fn exit(&self) -> Exit {
        self.exit
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<SecurityError> for Failure {
    fn from(error: SecurityError) -> Failure {
        Failure::new(Exit::Usage, error.to_string())
    }
}

impl From<ListenError> for Failure {
    fn from(error: ListenError) -> Failure {
        let exit = match error {
            ListenError::Plaintext { .. } => Exit::Usage,
            ListenError::Bind { .. } => Exit::Failed,
        };
        Failure::new(exit, error.to_string())
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Failure {
        let draining = error.reason().is_some_and(|reason| reason == "DRAINING");
        let exit = match (&error, error.code()) {
            (ClientError::Url { .. } | ClientError::Security(_), _) => Exit::Usage,
            (ClientError::Unreachable { .. }, _) => Exit::Unreachable,
            _ if draining => Exit::Unreachable,
            (
                ClientError::Answer { .. },
                Code::NotFound
                | Code::FailedPrecondition
                | Code::Unavailable
                | Code::Unauthenticated
                | Code::PermissionDenied,
            ) => Exit::Refused,
            _ => Exit::Failed,
        };
        Failure::new(exit, error.to_string())
    }
}
