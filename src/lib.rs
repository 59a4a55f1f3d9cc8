//! walcast: live read replicas for SQLite, over gRPC.

pub mod wire;
