//! The locks that keep the application's log from being overwritten before it is captured.
//!
//! Two locks take turns, and one of them is always held ("unbroken hold"):
//!
//! - **The log**: READ(k), k = 4, 3 or 2, shared, while its mark is `READMARK_NOT_USED`. Such a mark limits no
//!   checkpoint (`walCheckpoint` skips marks beyond `mxFrame`), but nobody gets READ(1..4) exclusive, which every restart
//!   of the log needs (`walRestartLog`, and `walCheckpoint` for RESTART and TRUNCATE). So no frame is overwritten.
//! - **The file**: READ(0), shared. Nobody gets it exclusive, which every checkpoint needs to copy anything. A restart
//!   needs `nBackfill == mxFrame`; so from a log that was captured and copied whole, exactly one restart that is followed
//!   by frames can happen, and then no second one.
//!
//! The log is let go, and the file taken, only at a moment when all frames are captured and copied. The application's
//! next writer then restarts the log as if walcast were not there. WRITE and CKPT are never taken: the application
//! never waits for us.

use super::index::Index;
use crate::format::walindex::{READ0, READMARK_NOT_USED};
use crate::sqlite::SqliteError;
use crate::sys::LockKind::{Exclusive, Shared};

/// Slots to try. READ(1) is left to readers: SQLite resets its mark to 0 at a restart.
const SLOTS: [u32; 3] = [4, 3, 2];

/// The lock of READ(`slot`).
fn read_slot(slot: u32) -> u32 {
    READ0 + slot
}

/// What is held. Dropping it releases nothing: the locks go when index closes.
#[derive(Debug, Default)]
pub struct Hold {
    log: Option<u32>,
    file: bool,
}

impl Hold {
    /// True if the log cannot be restarted.
    pub fn has_log(&self) -> bool {
        self.log.is_some()
    }

    /// True if nothing can be copied into the file.
    pub fn has_file(&self) -> bool {
        self.file
    }

    /// Takes the log. `false` if readers stand on every slot now: ask again.
    pub fn take_log(&mut self, index: &mut dyn Index) -> Result<bool, SqliteError> {
        if self.log.is_some() {
            return Ok(true);
        }
        for slot in SLOTS {
            if Self::take_slot(index, slot)? {
                self.log = Some(slot);
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn take_slot(index: &mut dyn Index, slot: u32) -> Result<bool, SqliteError> {
        let mark = |index: &dyn Index| index.checkpoint_info().marks[slot as usize];
        if mark(index) != READMARK_NOT_USED {
            // A mark that no reader uses any more. A reader who is just about to use it looks again after its lock.
            if !index.lock(read_slot(slot), Exclusive)? {
                return Ok(false);
            }
            index.set_mark(slot, READMARK_NOT_USED);
            index.unlock(read_slot(slot), Exclusive)?;
        }
        if !index.lock(read_slot(slot), Shared)? {
            return Ok(false);
        }
        // With our shared lock on it the mark cannot change any more. A reader may have set it before.
        index.barrier();
        if mark(index) == READMARK_NOT_USED {
            return Ok(true);
        }
        index.unlock(read_slot(slot), Shared)?;
        Ok(false)
    }

    /// Lets the log go.
    pub fn release_log(&mut self, index: &mut dyn Index) -> Result<(), SqliteError> {
        match self.log.take() {
            Some(slot) => index.unlock(read_slot(slot), Shared),
            None => Ok(()),
        }
    }

    /// Takes the file. `false` if a checkpoint is copying now: ask again.
    pub fn take_file(&mut self, index: &mut dyn Index) -> Result<bool, SqliteError> {
        if !self.file {
            self.file = index.lock(read_slot(0), Shared)?;
            index.barrier();
        }
        Ok(self.file)
    }

    /// Lets the file go.
    pub fn release_file(&mut self, index: &mut dyn Index) -> Result<(), SqliteError> {
        if std::mem::take(&mut self.file) {
            index.unlock(read_slot(0), Shared)?;
        }
        Ok(())
    }
}
