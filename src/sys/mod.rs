//! All `unsafe` of the crate, each block with its argument: SQLite's shared memory and settings, a memory-mapped table,
//! the heap, and what a child does before it is another program.

mod frugal;
mod heap;
mod open_files;
mod shm;
mod table;

pub use frugal::frugal_connections;
pub use heap::give_memory_back;
pub use open_files::{allow_many_files, with_limit_as_it_was};
pub use shm::{LockKind, Shm, ShmError};
pub use table::HashTable;
