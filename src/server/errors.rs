//! Why a call is refused: one table for the code, for retrying, and for the details that tools print.
//!
//! docs/protocol.md shows the same table to people; a test compares the two.

use std::time::Duration;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// The domain of every `google.rpc.ErrorInfo`.
const DOMAIN: &str = "walcast";

/// Why a call is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Nobody knows who calls.
    Unauthenticated,
    /// Who calls may not do that.
    PermissionDenied,
    /// A field of the request is missing or wrong.
    FieldInvalid,
    /// No database of that name here.
    DatabaseUnknown,
    /// No protocol version in common.
    ProtocolVersion,
    /// Only a primary can do that.
    NotAPrimary,
    /// Only a replica can do that.
    NotAReplica,
    /// The position belongs to another history.
    GenerationDiffers,
    /// The database is in a state in which that makes no sense.
    WrongState,
    /// The database has no position yet, or waits for something.
    DatabaseNotReady,
    /// The database's files are let go.
    DatabasePaused,
    /// The database was taken off this server while it was used.
    DatabaseRemoved,
    /// The server is about to end.
    Draining,
    /// A new history began.
    GenerationChanged,
    /// The stream that is reported on has ended.
    SessionUnknown,
    /// The stream fell behind what is kept.
    TooSlow,
    /// A limit on calls at one time.
    TooManyCalls,
    /// The kept log is damaged.
    LogDamaged,
    /// A disk operation failed.
    DiskFailed,
    /// A fault of walcast's own.
    Internal,
}

impl Reason {
    /// All of them, in the order of the documentation.
    pub const ALL: [Reason; 20] = [
        Reason::Unauthenticated,
        Reason::PermissionDenied,
        Reason::FieldInvalid,
        Reason::DatabaseUnknown,
        Reason::ProtocolVersion,
        Reason::NotAPrimary,
        Reason::NotAReplica,
        Reason::GenerationDiffers,
        Reason::WrongState,
        Reason::DatabaseNotReady,
        Reason::DatabasePaused,
        Reason::DatabaseRemoved,
        Reason::Draining,
        Reason::GenerationChanged,
        Reason::SessionUnknown,
        Reason::TooSlow,
        Reason::TooManyCalls,
        Reason::LogDamaged,
        Reason::DiskFailed,
        Reason::Internal,
    ];

    /// The word in `google.rpc.ErrorInfo`.
    pub fn word(self) -> &'static str {
        match self {
            Reason::Unauthenticated => "UNAUTHENTICATED",
            Reason::PermissionDenied => "PERMISSION_DENIED",
            Reason::FieldInvalid => "FIELD_INVALID",
            Reason::DatabaseUnknown => "DATABASE_UNKNOWN",
            Reason::ProtocolVersion => "PROTOCOL_VERSION",
            Reason::NotAPrimary => "NOT_A_PRIMARY",
            Reason::NotAReplica => "NOT_A_REPLICA",
            Reason::GenerationDiffers => "GENERATION_DIFFERS",
            Reason::WrongState => "WRONG_STATE",
            Reason::DatabaseNotReady => "DATABASE_NOT_READY",
            Reason::DatabasePaused => "DATABASE_PAUSED",
            Reason::DatabaseRemoved => "DATABASE_REMOVED",
            Reason::Draining => "DRAINING",
            Reason::GenerationChanged => "GENERATION_CHANGED",
            Reason::SessionUnknown => "SESSION_UNKNOWN",
            Reason::TooSlow => "TOO_SLOW",
            Reason::TooManyCalls => "TOO_MANY_CALLS",
            Reason::LogDamaged => "LOG_DAMAGED",
            Reason::DiskFailed => "DISK_FAILED",
            Reason::Internal => "INTERNAL",
        }
    }

    /// The status code.
    pub fn code(self) -> Code {
        match self {
            Reason::Unauthenticated => Code::Unauthenticated,
            Reason::PermissionDenied => Code::PermissionDenied,
            Reason::FieldInvalid => Code::InvalidArgument,
            Reason::DatabaseUnknown => Code::NotFound,
            Reason::ProtocolVersion
            | Reason::NotAPrimary
            | Reason::NotAReplica
            | Reason::GenerationDiffers
            | Reason::WrongState => Code::FailedPrecondition,
            Reason::DatabaseNotReady
            | Reason::DatabasePaused
            | Reason::DatabaseRemoved
            | Reason::Draining
            | Reason::DiskFailed => Code::Unavailable,
            Reason::GenerationChanged | Reason::SessionUnknown => Code::Aborted,
            Reason::TooSlow | Reason::TooManyCalls => Code::ResourceExhausted,
            Reason::LogDamaged => Code::DataLoss,
            Reason::Internal => Code::Internal,
        }
    }

    /// When the same call may be tried again (`google.rpc.RetryInfo`); `None`: not without a person's help.
    pub fn retry(self) -> Option<Duration> {
        match self {
            Reason::GenerationChanged | Reason::SessionUnknown => Some(Duration::from_millis(50)),
            Reason::DatabaseNotReady
            | Reason::DatabasePaused
            | Reason::DatabaseRemoved
            | Reason::Draining
            | Reason::TooSlow
            | Reason::TooManyCalls
            | Reason::LogDamaged
            | Reason::DiskFailed
            | Reason::Internal => Some(Duration::from_secs(1)),
            _ => None,
        }
    }
}

/// A call that is refused: becomes a [`Status`] with details.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    reason: Reason,
    message: String,
    database: Option<String>,
    field: Option<&'static str>,
}

impl Refusal {
    /// A refusal with one line for people.
    pub fn new(reason: Reason, message: impl Into<String>) -> Refusal {
        Refusal {
            reason,
            message: message.into(),
            database: None,
            field: None,
        }
    }

    /// Names the database that it is about.
    pub fn about(mut self, database: &str) -> Refusal {
        self.database = Some(database.to_owned());
        self
    }

    /// Names the field that is wrong.
    pub(super) fn field(mut self, field: &'static str) -> Refusal {
        self.field = Some(field);
        self
    }

    /// Why.
    pub fn reason(&self) -> Reason {
        self.reason
    }

    /// The same for people.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Status {
        let Refusal {
            reason,
            message,
            database,
            field,
        } = refusal;
        let mut details = ErrorDetails::new();
        let metadata = database
            .iter()
            .map(|name| ("database".to_owned(), name.clone()));
        details.set_error_info(
            reason.word(),
            DOMAIN,
            metadata.collect::<std::collections::HashMap<_, _>>(),
        );
        if let Some(delay) = reason.retry() {
            details.set_retry_info(Some(delay));
        }
        if let (Reason::DatabaseUnknown, Some(name)) = (reason, &database) {
            details.set_resource_info(
                "database",
                name,
                "",
                "no database of this name is served here",
            );
        }
        if let Some(field) = field {
            details.add_bad_request_violation(field, message.clone());
        }
        Status::with_error_details(reason.code(), message, details)
    }
}

impl From<crate::wire::WireError> for Refusal {
    fn from(error: crate::wire::WireError) -> Refusal {
        let reason = match error {
            crate::wire::WireError::Version { .. } => Reason::ProtocolVersion,
            _ => Reason::FieldInvalid,
        };
        let refusal = Refusal::new(reason, error.to_string());
        match error.field() {
            Some(field) => refusal.field(field),
            None => refusal,
        }
    }
}

/// The status with which everything ends when the server does.
pub(super) fn draining() -> Refusal {
    Refusal::new(
        Reason::Draining,
        "the server is shutting down; try again when it is back",
    )
}
