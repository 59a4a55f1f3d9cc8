//! The gRPC services over primaries and replicas, their health, and the way they end.
//!
//! The services know databases as trait objects ([`PrimaryDatabase`], [`ReplicaDatabase`]): the same services serve
//! both roles, and tests can serve a database that does exactly what a row of docs/protocol.md is about.

mod admin;
mod archived;
mod connection;
mod copy;
mod database;
mod door;
mod errors;
mod flow;
mod guard;
mod health;
mod lanes;
mod listen;
mod outgoing;
mod position;
mod primary;
mod registry;
mod replica;
mod replication;
mod shared;
mod strangers;
mod unguarded;

pub use archived::Archived;
pub use database::{Copies, Database, Messages, PrimaryDatabase, ReplicaDatabase, Served};
pub use errors::{Reason, Refusal};
pub use lanes::limit_blocking;
pub use listen::{Drained, ServeError, ServerConfig, serve};
pub use outgoing::{Source, outgoing};
pub use registry::{Outlook, Registry, RegistryError};
pub use strangers::{StrangerPlace, Strangers};
#[doc(hidden)]
pub use unguarded::Unguarded;
