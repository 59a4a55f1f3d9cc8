//! What capture does with a wal-index: it looks, and it takes the locks of readers. A trait, so that a simulation can put an
//! index without SQLite in its place.

use crate::format::walindex::{IndexHeader, IndexHeaderError};
use crate::sqlite::{CheckpointInfo, SqliteError, WalIndex};
use crate::sys::LockKind;

/// A wal-index that is looked at. The methods are those of [`WalIndex`].
pub trait Index: Send {
    /// See [`WalIndex::header`].
    fn header(&self) -> Result<IndexHeader, IndexHeaderError>;
    /// See [`WalIndex::glance`].
    fn glance(&self) -> [u32; 4];
    /// See [`WalIndex::checkpoint_info`].
    fn checkpoint_info(&self) -> CheckpointInfo;
    /// See [`WalIndex::set_mark`].
    fn set_mark(&self, slot: u32, mark: u32);
    /// See [`WalIndex::lock`].
    fn lock(&mut self, slot: u32, kind: LockKind) -> Result<bool, SqliteError>;
    /// See [`WalIndex::unlock`].
    fn unlock(&mut self, slot: u32, kind: LockKind) -> Result<(), SqliteError>;
    /// See [`WalIndex::barrier`].
    fn barrier(&self);
}

impl Index for WalIndex {
    fn header(&self) -> Result<IndexHeader, IndexHeaderError> {
        WalIndex::header(self)
    }

    fn glance(&self) -> [u32; 4] {
        WalIndex::glance(self)
    }

    fn checkpoint_info(&self) -> CheckpointInfo {
        WalIndex::checkpoint_info(self)
    }

    fn set_mark(&self, slot: u32, mark: u32) {
        WalIndex::set_mark(self, slot, mark);
    }

    fn lock(&mut self, slot: u32, kind: LockKind) -> Result<bool, SqliteError> {
        WalIndex::lock(self, slot, kind)
    }

    fn unlock(&mut self, slot: u32, kind: LockKind) -> Result<(), SqliteError> {
        WalIndex::unlock(self, slot, kind)
    }

    fn barrier(&self) {
        WalIndex::barrier(self);
    }
}
