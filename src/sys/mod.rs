//! All `unsafe` of the crate, each block with its argument: SQLite's shared memory and settings, and a memory-mapped table.

mod frugal;
mod shm;
mod table;

pub use frugal::frugal_connections;
pub use shm::{LockKind, Shm, ShmError};
pub use table::HashTable;
