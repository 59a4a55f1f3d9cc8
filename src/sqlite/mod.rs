//! SQLite as a neighbour: its wal-index and its locks, and connections that leave no trace.

mod connect;
mod file_view;
mod index;
mod view;

pub use crate::sys::frugal_connections;
pub use connect::{SqliteError, checkpoint_connection, index_connection};
pub use file_view::FileView;
pub use index::{CheckpointInfo, WalIndex};
pub use view::{View, ViewError};
