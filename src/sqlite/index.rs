//! The wal-index of a live database: its header, its checkpoint record, its hash tables and its locks.
//!
//! Layout and protocol are those of SQLite's `wal.c` ("WAL-INDEX FORMAT" and the comments at `WalCkptInfo`). A writer
//! here is bound by the same rules as SQLite's own: hold WRITE, append behind `mxFrame`, publish the second header copy,
//! a barrier, then the first.

use super::connect::{SqliteError, index_connection};
use crate::disk::fault;
use crate::format::walindex::{
    CKPT_INFO_OFFSET, FIRST_REGION_PAGES, HASH_SLOTS, IndexHeader, IndexHeaderError,
    PGNO_OFFSET_FIRST, READMARK_NOT_USED, REGION_PAGES, hash, next_slot, region_of, zero_frame,
};
use crate::sys::{LockKind, Shm, ShmError};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

const CKPT_WORD: usize = CKPT_INFO_OFFSET / 4;
const ATTEMPTED_WORD: usize = CKPT_WORD + 8;
/// A region's page numbers take 4096 words; the hash slots follow, 16 bits each.
const HASH_SLOT_BASE: usize = REGION_PAGES as usize * 2;

/// `WalCkptInfo`, without its locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckpointInfo {
    /// Frames that a checkpoint has copied into the database, and synced.
    pub backfill: u32,
    /// Frames that a checkpoint has begun to copy.
    pub attempted: u32,
    /// `aReadMark`: the frame that readers of each slot see.
    pub marks: [u32; 5],
}

/// The wal-index of one database. Its connection runs no SQL.
pub struct WalIndex {
    shm: Shm,
    path: PathBuf,
}

type Result<T> = std::result::Result<T, SqliteError>;

impl WalIndex {
    /// Opens the database, lets SQLite recover its wal-index where needed, and maps it.
    pub fn open(path: &Path) -> Result<WalIndex> {
        let connection = index_connection(path)?;
        let wrap = |source| SqliteError::Shm {
            path: path.to_owned(),
            source,
        };
        let mut shm = Shm::new(connection).map_err(wrap)?;
        if !shm.map(0, true).map_err(wrap)? {
            return Err(wrap(ShmError::Unsupported));
        }
        Ok(WalIndex {
            shm,
            path: path.to_owned(),
        })
    }

    /// The database's path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn wrap<T>(&self, result: std::result::Result<T, ShmError>) -> Result<T> {
        result.map_err(|source| SqliteError::Shm {
            path: self.path.clone(),
            source,
        })
    }

    fn copy(&self, which: usize) -> [u32; 12] {
        std::array::from_fn(|i| self.shm.word(0, which * 12 + i).load(Relaxed))
    }

    /// The header, if both copies agree and are sound; `Err` tells what is wrong with it now. It may be in the middle of
    /// being written: ask again.
    pub fn header(&self) -> std::result::Result<IndexHeader, IndexHeaderError> {
        let first = self.copy(0);
        self.shm.barrier();
        let second = self.copy(1);
        if first != second {
            return Err(IndexHeaderError::BadChecksum);
        }
        IndexHeader::from_words(&first)
    }

    /// The words of the first header copy that change with each commit and each restart (`iChange`, `mxFrame`, salts):
    /// a cheap look whether anything happened. It proves nothing.
    pub fn glance(&self) -> [u32; 4] {
        // WalIndexHdr: iChange is word 2, mxFrame word 4, aSalt words 8 and 9.
        [2, 4, 8, 9].map(|word| self.shm.word(0, word).load(Relaxed))
    }

    /// `WalCkptInfo` as it is now.
    pub fn checkpoint_info(&self) -> CheckpointInfo {
        let word = |i: usize| self.shm.word(0, CKPT_WORD + i).load(Acquire);
        CheckpointInfo {
            backfill: word(0),
            marks: std::array::from_fn(|i| word(1 + i)),
            attempted: self.shm.word(0, ATTEMPTED_WORD).load(Acquire),
        }
    }

    /// Sets a read mark. The caller holds that slot exclusively, or WRITE and all read slots.
    pub fn set_mark(&self, slot: u32, mark: u32) {
        self.shm
            .word(0, CKPT_WORD + 1 + slot as usize)
            .store(mark, Release);
    }

    /// Reads the database file past its log; zeros where it ends.
    pub fn read_file(&mut self, buf: &mut [u8], offset: u64) -> Result<()> {
        let read = self.shm.read_file(buf, offset);
        self.wrap(read)
    }

    /// Takes one lock; `false` if another connection is in the way.
    pub fn lock(&mut self, slot: u32, kind: LockKind) -> Result<bool> {
        self.lock_range(slot, 1, kind)
    }

    /// Takes `count` locks from `first` on, all or none.
    pub fn lock_range(&mut self, first: u32, count: u32, kind: LockKind) -> Result<bool> {
        let locked = self.shm.lock(first, count, kind);
        self.wrap(locked)
    }

    /// Gives one lock back.
    pub fn unlock(&mut self, slot: u32, kind: LockKind) -> Result<()> {
        self.unlock_range(slot, 1, kind)
    }

    /// Gives locks back that [`WalIndex::lock_range`] took.
    pub fn unlock_range(&mut self, first: u32, count: u32, kind: LockKind) -> Result<()> {
        let unlocked = self.shm.unlock(first, count, kind);
        self.wrap(unlocked)
    }

    /// A full barrier.
    pub fn barrier(&self) {
        self.shm.barrier();
    }

    fn pgno_word(region: u32, index: u32) -> usize {
        let base = if region == 0 {
            PGNO_OFFSET_FIRST / 4
        } else {
            0
        };
        base + index as usize
    }

    /// The page of a frame, as the index has it.
    pub fn page_of(&mut self, frame: u32) -> Result<u32> {
        let region = region_of(frame);
        let mapped = self.shm.map(region, true);
        self.wrap(mapped)?;
        let index = frame - zero_frame(region) - 1;
        Ok(self
            .shm
            .word(region, Self::pgno_word(region, index))
            .load(Relaxed))
    }

    /// Enters frame `frame` (from 1), which holds page `pgno`. Holds WRITE. Readers ignore it until it is published.
    /// Frames are entered in order: `walIndexAppend`.
    pub fn append(&mut self, frame: u32, pgno: u32) -> Result<()> {
        let region = region_of(frame);
        let mapped = self.shm.map(region, true);
        self.wrap(mapped)?;
        let index = frame - zero_frame(region);
        if index == 1 {
            self.clear_region(region);
        } else if self
            .shm
            .word(region, Self::pgno_word(region, index - 1))
            .load(Relaxed)
            != 0
        {
            // A writer died between here and its commit: what it left would make a chain without end.
            self.cleanup(frame - 1)?;
        }
        let mut key = hash(pgno);
        for _ in 0..HASH_SLOTS {
            if self.shm.slot(region, HASH_SLOT_BASE + key).load(Relaxed) == 0 {
                self.shm
                    .word(region, Self::pgno_word(region, index - 1))
                    .store(pgno, Relaxed);
                self.shm
                    .slot(region, HASH_SLOT_BASE + key)
                    .store(index as u16, Release);
                return Ok(());
            }
            key = next_slot(key);
        }
        // Cannot be: 4096 entries in 8192 slots.
        self.wrap(Err(ShmError::Code(
            "hash table is full",
            rusqlite::ffi::SQLITE_CORRUPT,
        )))
    }

    fn clear_region(&self, region: u32) {
        let first = if region == 0 {
            PGNO_OFFSET_FIRST / 4
        } else {
            0
        };
        for word in first..crate::format::walindex::REGION_SIZE / 4 {
            self.shm.word(region, word).store(0, Relaxed);
        }
    }

    /// Forgets all entries behind frame `keep` in its region, and with it those of later regions (they are cleared when
    /// their first frame is entered): `walCleanupHash`. Holds WRITE.
    pub fn cleanup(&mut self, keep: u32) -> Result<()> {
        if keep == 0 {
            return Ok(());
        }
        let region = region_of(keep);
        let mapped = self.shm.map(region, true);
        self.wrap(mapped)?;
        let limit = keep - zero_frame(region);
        for slot in 0..HASH_SLOTS {
            let entry = self.shm.slot(region, HASH_SLOT_BASE + slot);
            if u32::from(entry.load(Relaxed)) > limit {
                entry.store(0, Relaxed);
            }
        }
        let capacity = if region == 0 {
            FIRST_REGION_PAGES
        } else {
            REGION_PAGES
        };
        for index in limit..capacity {
            self.shm
                .word(region, Self::pgno_word(region, index))
                .store(0, Relaxed);
        }
        Ok(())
    }

    /// The newest frame at or before `max_frame` that holds page `pgno`: `walFindFrame`.
    pub fn find(&mut self, pgno: u32, max_frame: u32) -> Result<Option<u32>> {
        if max_frame == 0 {
            return Ok(None);
        }
        for region in (0..=region_of(max_frame)).rev() {
            let mapped = self.shm.map(region, true);
            self.wrap(mapped)?;
            let zero = zero_frame(region);
            let mut found = None;
            let mut key = hash(pgno);
            for _ in 0..HASH_SLOTS {
                let index = u32::from(self.shm.slot(region, HASH_SLOT_BASE + key).load(Acquire));
                if index == 0 {
                    break;
                }
                let here = self
                    .shm
                    .word(region, Self::pgno_word(region, index - 1))
                    .load(Relaxed);
                // Later frames sit later in the chain, so the last match is the newest.
                if zero + index <= max_frame && here == pgno {
                    found = Some(zero + index);
                }
                key = next_slot(key);
            }
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// Makes a header visible: copy 1, barrier, copy 0 (`walIndexWriteHdr`). Holds WRITE. Nothing in here can block.
    pub fn publish(&self, header: &IndexHeader) {
        let words = header.to_words();
        for (i, word) in words.iter().enumerate() {
            self.shm.word(0, 12 + i).store(*word, Relaxed);
        }
        self.shm.barrier();
        fault::point("publish.between-copies");
        for (i, word) in words.iter().enumerate() {
            self.shm.word(0, i).store(*word, Relaxed);
        }
        self.shm.barrier();
    }

    /// Begins the log anew in shared memory: no frames, nothing backfilled (`walRestartHdr`). Holds WRITE, CKPT and,
    /// exclusive, READ1 to READ4 (READ0 too unless all frames were backfilled).
    ///
    /// Not in the order of `walRestartHdr`, which leaves to the next writer what a kill leaves in between: a log without
    /// frames of which some are in the database, so that readers would not see the first that come. In this order it is a
    /// log that has to be checkpointed once more.
    pub fn restart(&self, header: &IndexHeader) {
        self.forget_backfill();
        self.shm.word(0, ATTEMPTED_WORD).store(0, Release);
        // Mark 1 stays usable for readers that cannot write the shared memory: with no mark they could not read at all.
        self.set_mark(1, 0);
        for slot in 2..5 {
            self.set_mark(slot, READMARK_NOT_USED);
        }
        self.shm.barrier();
        fault::point("restart.between");
        self.publish(header);
    }

    /// Nothing of the log counts as copied into the database: a checkpoint copies all of it once more. Holds CKPT.
    pub fn forget_backfill(&self) {
        self.shm.word(0, CKPT_WORD).store(0, Release);
    }
}
