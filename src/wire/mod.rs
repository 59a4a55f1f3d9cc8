//! The wire: generated messages, and nothing of them past this module's callers in `server` and `client`.

/// Messages and services generated from `proto/walcast/v1`.
#[allow(missing_docs, clippy::pedantic)]
pub mod pb {
    tonic::include_proto!("walcast.v1");

    /// The descriptors of all messages, for reflection.
    pub const FILE_DESCRIPTOR_SET: &[u8] =
        include_bytes!(concat!(env!("OUT_DIR"), "/walcast_descriptor.bin"));
}
