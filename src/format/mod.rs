//! Bytes and formats: what SQLite and walcast write, without I/O and without async.
//!
//! Everything here is a function of bytes. Input is never trusted: parsers answer arbitrary
//! bytes with an error, never with a panic.

pub mod base64;
pub mod commits;
pub mod dbheader;
pub mod dbsum;
pub mod lz4;
pub mod position;
pub mod recent;
pub mod time;
pub mod wal;
pub mod walindex;

pub use dbsum::DbSum;
pub use position::{Generation, Position, PositionError};
pub use wal::Cksum;
