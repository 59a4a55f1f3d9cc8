//! The wal-index of the application's database, as SQLite has it, without SQLite: header, checkpoint record, locks.

use std::sync::{Arc, Mutex, MutexGuard};
use walcast::format::walindex::{
    IndexHeader, IndexHeaderError, READ0, READERS, READMARK_NOT_USED, read_slot,
};
use walcast::primary::parts::Index;
use walcast::sqlite::{CheckpointInfo, SqliteError};
use walcast::sys::LockKind;

/// Who holds locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    Application,
    /// A reader of the application, by a number.
    Reader(u64),
    /// A walcast process, by a number.
    Walcast(u64),
}

/// What lies in shared memory.
pub struct Shm {
    pub header: IndexHeader,
    pub info: CheckpointInfo,
    locks: Vec<(u32, LockKind, Owner)>,
}

/// The memory, shared by those who have the database open.
#[derive(Clone)]
pub struct Memory(Arc<Mutex<Shm>>);

impl Memory {
    /// As a recovery leaves it.
    pub fn recovered(header: IndexHeader) -> Memory {
        let mut marks = [READMARK_NOT_USED; READERS];
        marks[0] = 0;
        marks[1] = header.mx_frame;
        let info = CheckpointInfo {
            backfill: 0,
            // How much of it was copied, nobody knows.
            attempted: header.mx_frame,
            marks,
        };
        Memory(Arc::new(Mutex::new(Shm {
            header,
            info,
            locks: Vec::new(),
        })))
    }

    pub fn get(&self) -> MutexGuard<'_, Shm> {
        self.0.lock().expect("no panic")
    }

    /// A walcast process opens the database.
    pub fn open(&self, process: u64) -> Box<dyn Index> {
        Box::new(Opened {
            memory: self.clone(),
            owner: Owner::Walcast(process),
        })
    }
}

impl Shm {
    /// Takes a lock if nobody else is in the way.
    pub fn lock(&mut self, slot: u32, kind: LockKind, owner: Owner) -> bool {
        let in_the_way = |(held, by, whose): &(u32, LockKind, Owner)| {
            *held == slot
                && *whose != owner
                && (kind == LockKind::Exclusive || *by == LockKind::Exclusive)
        };
        if self.locks.iter().any(in_the_way) {
            return false;
        }
        self.locks.push((slot, kind, owner));
        true
    }

    pub fn unlock(&mut self, slot: u32, kind: LockKind, owner: Owner) {
        let found = self.locks.iter().position(|l| *l == (slot, kind, owner));
        self.locks.swap_remove(found.expect("the lock is held"));
    }

    /// READ(1) to READ(4), exclusive: what a restart of the log needs.
    pub fn lock_readers(&mut self, owner: Owner) -> bool {
        for slot in 1..READERS as u32 {
            if !self.lock(read_slot(slot), LockKind::Exclusive, owner) {
                for taken in 1..slot {
                    self.unlock(read_slot(taken), LockKind::Exclusive, owner);
                }
                return false;
            }
        }
        true
    }

    pub fn unlock_readers(&mut self, owner: Owner) {
        for slot in 1..READERS as u32 {
            self.unlock(read_slot(slot), LockKind::Exclusive, owner);
        }
    }

    /// `walRestartHdr`.
    pub fn restart(&mut self, header: IndexHeader) {
        self.header = header;
        self.info.backfill = 0;
        self.info.attempted = 0;
        self.info.marks[1] = 0;
        self.info.marks[2..].fill(READMARK_NOT_USED);
    }

    /// `walTryBeginRead` of one reader: the slot that it holds now.
    pub fn begin_read(&mut self, reader: u64) -> Option<u32> {
        let owner = Owner::Reader(reader);
        let frames = self.header.mx_frame;
        if frames == self.info.backfill && self.lock(READ0, LockKind::Shared, owner) {
            return Some(0);
        }
        let slots = 1..READERS as u32;
        let there = slots
            .clone()
            .find(|s| self.info.marks[*s as usize] == frames);
        let slot = there.or_else(|| {
            slots.into_iter().find(|slot| {
                let mine = self.lock(read_slot(*slot), LockKind::Exclusive, owner);
                if mine {
                    self.info.marks[*slot as usize] = frames;
                    self.unlock(read_slot(*slot), LockKind::Exclusive, owner);
                }
                mine
            })
        })?;
        self.lock(read_slot(slot), LockKind::Shared, owner)
            .then_some(slot)
    }

    pub fn end_read(&mut self, reader: u64, slot: u32) {
        self.unlock(read_slot(slot), LockKind::Shared, Owner::Reader(reader));
    }

    /// The frames that a checkpoint may copy (`walCheckpoint`).
    pub fn safe_frames(&mut self) -> u32 {
        let mut safe = self.header.mx_frame;
        for slot in 1..READERS as u32 {
            let mark = self.info.marks[slot as usize];
            if safe <= mark {
                continue;
            }
            if self.lock(read_slot(slot), LockKind::Exclusive, Owner::Application) {
                self.info.marks[slot as usize] = match slot {
                    1 => safe,
                    _ => READMARK_NOT_USED,
                };
                self.unlock(read_slot(slot), LockKind::Exclusive, Owner::Application);
            } else {
                safe = mark;
            }
        }
        safe
    }
}

/// The memory as one walcast process has it open; what it holds goes with it.
struct Opened {
    memory: Memory,
    owner: Owner,
}

impl Index for Opened {
    fn header(&self) -> Result<IndexHeader, IndexHeaderError> {
        Ok(self.memory.get().header)
    }

    fn glance(&self) -> [u32; 4] {
        let header = self.memory.get().header;
        [
            header.change,
            header.mx_frame,
            header.salt[0],
            header.salt[1],
        ]
    }

    fn checkpoint_info(&self) -> CheckpointInfo {
        self.memory.get().info
    }

    fn set_mark(&self, slot: u32, mark: u32) {
        self.memory.get().info.marks[slot as usize] = mark;
    }

    fn lock(&mut self, slot: u32, kind: LockKind) -> Result<bool, SqliteError> {
        Ok(self.memory.get().lock(slot, kind, self.owner))
    }

    fn unlock(&mut self, slot: u32, kind: LockKind) -> Result<(), SqliteError> {
        self.memory.get().unlock(slot, kind, self.owner);
        Ok(())
    }

    fn barrier(&self) {}
}

impl Drop for Opened {
    fn drop(&mut self) {
        let owner = self.owner;
        self.memory
            .get()
            .locks
            .retain(|(_, _, whose)| *whose != owner);
    }
}
