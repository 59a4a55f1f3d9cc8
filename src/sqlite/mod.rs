//! SQLite as a neighbour: its wal-index and its locks, and connections that leave no trace.

mod connect;
mod index;

pub use connect::{SqliteError, checkpoint_connection, index_connection};
pub use index::{CheckpointInfo, WalIndex};
