//! The wire: generated messages, and their translation to and from [`crate::model`].
//!
//! Generated types are used by this module's callers in `server` and `client`, and by nobody else. What comes from a
//! peer is checked here, once and completely: every size is bounded before anything is allocated for it, every number
//! lies in the range its user may rely on. What goes out is not checked.

mod copy;
mod error;
mod field;
mod message;
mod request;
mod status;

pub use error::WireError;
pub use field::{MAX_NAME, MAX_OFFSET, MAX_PACKED, MAX_TEXT, parse_position};

/// Messages and services generated from `proto/walcast/v1`.
#[allow(missing_docs, clippy::pedantic)]
pub mod pb {
    tonic::include_proto!("walcast.v1");

    /// The descriptors of all messages, for reflection.
    pub const FILE_DESCRIPTOR_SET: &[u8] =
        include_bytes!(concat!(env!("OUT_DIR"), "/walcast_descriptor.bin"));
}

#[cfg(test)]
mod tests;
