//! What can go wrong between a client and a server, in words that say what to do.

use crate::security::{SecurityError, TlsFailure, describe_alert};
use crate::wire::WireError;
use std::error::Error;
use std::io;
use std::time::Duration;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// The longest pause that a server can ask for: one that asks for more is wrong or hostile.
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// Characters of a server's words that are shown.
const LONGEST_WORDS: usize = 1000;

/// A call to a server failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The URL cannot be used.
    #[error("'{url}' is no server's URL: {problem}, write it like http://127.0.0.1:4040")]
    Url {
        /// As given.
        url: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A certificate, key or token of ours cannot be used.
    #[error(transparent)]
    Security(#[from] SecurityError),
    /// No answer: no connection, or it was lost.
    #[error("{url}: {problem}")]
    Unreachable {
        /// The server.
        url: String,
        /// What happened, and what may be the cause.
        problem: String,
    },
    /// The server answered with an error.
    #[error("{url}: {}", plain(.status.message()))]
    Answer {
        /// The server.
        url: String,
        /// Its answer.
        status: Box<Status>,
    },
    /// The server sent what this build does not accept.
    #[error("{url}: {}", plain(&.source.to_string()))]
    Wire {
        /// The server.
        url: String,
        /// What is wrong.
        source: WireError,
    },
}

/// What a server said, as one line that a terminal only shows: it may be anyone's words.
fn plain(words: &str) -> String {
    let visible = |c: char| if c.is_control() { ' ' } else { c };
    words.chars().take(LONGEST_WORDS).map(visible).collect()
}

impl ClientError {
    pub(super) fn from_status(url: &str, status: Status) -> ClientError {
        // A status that the peer sent has no source; one that stands for a lost connection has.
        match transport_problem(&status) {
            Some(problem) => ClientError::Unreachable {
                url: url.to_owned(),
                problem: plain(&problem),
            },
            None => ClientError::Answer {
                url: url.to_owned(),
                status: Box::new(status),
            },
        }
    }

    pub(super) fn wire(url: &str, source: WireError) -> ClientError {
        ClientError::Wire {
            url: url.to_owned(),
            source,
        }
    }

    /// The status code that this error has, or would have.
    pub fn code(&self) -> Code {
        match self {
            ClientError::Url { .. } | ClientError::Security(_) => Code::InvalidArgument,
            ClientError::Unreachable { .. } => Code::Unavailable,
            ClientError::Answer { status, .. } => status.code(),
            ClientError::Wire {
                source: WireError::Unknown { .. },
                ..
            } => Code::Unimplemented,
            ClientError::Wire {
                source: WireError::Version { .. },
                ..
            } => Code::FailedPrecondition,
            ClientError::Wire { .. } => Code::DataLoss,
        }
    }

    /// The server's own word for the reason, as `DRAINING` (google.rpc.ErrorInfo), if it gave one.
    pub fn reason(&self) -> Option<String> {
        match self {
            ClientError::Answer { status, .. } => {
                status.get_details_error_info().map(|info| info.reason)
            }
            _ => None,
        }
    }

    /// True if the same call may succeed later without a person's help. docs/protocol.md has the table.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self.code(),
            Code::Unavailable
                | Code::ResourceExhausted
                | Code::Aborted
                | Code::DataLoss
                | Code::DeadlineExceeded
                | Code::Cancelled
                | Code::Internal
                | Code::Unknown
        )
    }

    /// How long the server asks to wait before the next try, at most a minute.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            ClientError::Answer { status, .. } => status
                .get_details_retry_info()
                .and_then(|info| info.retry_delay)
                .map(|delay| delay.min(LONGEST_RETRY)),
            _ => None,
        }
    }

    /// True if no server answered.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, ClientError::Unreachable { .. })
    }
}

/// One line for people about a connection that failed, or `None` if the status came from the peer.
fn transport_problem(status: &Status) -> Option<String> {
    let mut error: &dyn Error = status.source()?;
    let mut refused = false;
    let mut timed_out = false;
    let mut garbled = false;
    loop {
        // Says what to do already.
        if let Some(failure) = error.downcast_ref::<TlsFailure>() {
            return Some(failure.to_string());
        }
        if let Some(io) = error.downcast_ref::<io::Error>() {
            refused |= io.kind() == io::ErrorKind::ConnectionRefused;
            timed_out |= io.kind() == io::ErrorKind::TimedOut;
        }
        let text = error.to_string();
        timed_out |= text.contains("timed out") || text.contains("deadline has elapsed");
        // A TLS server's alert and an HTTP/1 server's answer both read as a frame of absurd size.
        garbled |= text.contains("frame with invalid size");
        if text.contains("fatal alert")
            && let Some(problem) = describe_alert(&text)
        {
            return Some(problem);
        }
        // HTTP/2 has no words for it: nothing that the server could say would pass the data that is not taken.
        if text.contains("stream no longer needed") {
            return Some(
                "the server cut this stream off: nothing of it was taken for longer than its stall-timeout".to_owned(),
            );
        }
        match error.source() {
            Some(source) => error = source,
            None => break,
        }
    }
    Some(if refused {
        "connection refused: no server listens there; is it running?".to_owned()
    } else if garbled {
        "something listens there that does not speak plaintext gRPC; is it a TLS port (write https://), or another service?"
            .to_owned()
    } else if timed_out {
        "no answer in time; is the address right, and does a firewall let it through?".to_owned()
    } else {
        format!("the connection failed: {error}")
    })
}
