//! walcast: live read replicas for SQLite, over gRPC.
//!
//! `docs/architecture.md` shows the way of a commit through these modules; `tests/layering.rs` says who may use whom.

pub mod archive;
pub mod archiver;
pub mod cli;
pub mod client;
pub mod config;
pub mod demo;
pub mod disk;
pub mod format;
pub mod http;
pub mod model;
pub mod node;
pub mod ownership;
pub mod primary;
pub mod replica;
pub mod restore;
pub mod security;
pub mod server;
pub mod sqlite;
pub mod sums;
pub mod sys;
pub mod wire;
