//! All `unsafe` of the crate, each block with its argument: SQLite's shared memory, and a memory-mapped table.

mod shm;
mod table;

pub use shm::{LockKind, Shm, ShmError};
pub use table::HashTable;
