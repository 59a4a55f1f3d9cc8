//! The promise between versions: a replica of version N reads primaries of N-1 and N+1.
//!
//! A recorded transcript of protocol version 1 is played to today's replica, and its requests to today's primary, over real
//! connections to the real program; and stubs that speak a later version stand on either side. README.md has the
//! transcript's format, and how to record one. `forged` plays it with lies in it.

mod forged;
mod grpc;
mod messages;
mod newer_listing;
mod newer_primary;
mod newer_replica;
mod player;
mod protobuf;
mod reader;
mod record;
mod recorded;
mod stage;
mod transcript;

#[path = "../common/bytes_codec.rs"]
mod bytes_codec;
#[allow(dead_code)]
#[path = "../common/server.rs"]
mod server;
#[allow(dead_code)]
#[path = "../e2e/support/walfile.rs"]
mod walfile;
