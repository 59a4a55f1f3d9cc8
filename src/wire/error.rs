//! What can be wrong with a message.

use crate::format::position::PositionError;
use crate::model::PROTOCOL_VERSION;

/// A message from a peer that this build does not accept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// A text is not a position or generation.
    #[error("{field}: {source}")]
    Position {
        /// Which field.
        field: &'static str,
        /// What is wrong with it.
        source: PositionError,
    },
    /// A field that must be there is not.
    #[error("{field} is missing")]
    Missing {
        /// Which field.
        field: &'static str,
    },
    /// A field holds what it must not.
    #[error("{field} is {got}, expected {expected}")]
    Field {
        /// Which field.
        field: &'static str,
        /// What it holds, for people.
        got: String,
        /// What it may hold.
        expected: &'static str,
    },
    /// A message, or a kind of one, that this build does not know. To skip it could lose data.
    #[error("unknown {what}: the peer is newer than this walcast; upgrade this one")]
    Unknown {
        /// What is unknown.
        what: &'static str,
    },
    /// No protocol version in common.
    #[error(
        "the peer speaks protocol versions {min} to {max}, this walcast speaks {PROTOCOL_VERSION} to {PROTOCOL_VERSION}; \
         upgrade the older one"
    )]
    Version {
        /// The peer's oldest.
        min: u32,
        /// The peer's newest.
        max: u32,
    },
}

impl WireError {
    /// The field that is wrong, if it is one.
    pub fn field(&self) -> Option<&'static str> {
        match self {
            WireError::Position { field, .. }
            | WireError::Missing { field }
            | WireError::Field { field, .. } => Some(field),
            WireError::Unknown { .. } | WireError::Version { .. } => None,
        }
    }

    pub(super) fn new(field: &'static str, got: impl ToString, expected: &'static str) -> Self {
        WireError::Field {
            field,
            got: got.to_string(),
            expected,
        }
    }
}
