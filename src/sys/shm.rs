//! SQLite's shared memory and its locks, reached through SQLite itself.
//!
//! A connection of ours that runs no SQL lends us its `sqlite3_file`; the `xShm…` methods of that file (SQLite, "The
//! Virtual File System Object", `sqlite3_io_methods` version 2) then take locks that agree with SQLite's own, in this
//! process and in others. Locks of our own by `fcntl` would be dropped by any `close` of the same file.

use crate::format::walindex::REGION_SIZE;
use rusqlite::Connection;
use rusqlite::ffi;
use std::ffi::c_int;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU16, AtomicU32};

/// Shared locks go together, an exclusive one stands alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockKind {
    /// Many holders.
    Shared,
    /// One holder.
    Exclusive,
}

/// The shared memory could not be used.
#[derive(Debug, thiserror::Error)]
pub enum ShmError {
    /// The connection's file has no shared-memory methods: a VFS or a filesystem that cannot share memory.
    #[error("this filesystem or VFS has no shared memory, which WAL mode needs")]
    Unsupported,
    /// SQLite returned an error code.
    #[error("SQLite's shared memory: {0} failed with code {1}")]
    Code(&'static str, c_int),
}

/// Shared memory of one database through one connection, which must never run SQL while this lives.
pub struct Shm {
    file: NonNull<ffi::sqlite3_file>,
    map: unsafe extern "C" fn(
        *mut ffi::sqlite3_file,
        c_int,
        c_int,
        c_int,
        *mut *mut std::ffi::c_void,
    ) -> c_int,
    lock: unsafe extern "C" fn(*mut ffi::sqlite3_file, c_int, c_int, c_int) -> c_int,
    barrier: unsafe extern "C" fn(*mut ffi::sqlite3_file),
    read: unsafe extern "C" fn(
        *mut ffi::sqlite3_file,
        *mut std::ffi::c_void,
        c_int,
        ffi::sqlite3_int64,
    ) -> c_int,
    regions: Vec<NonNull<u32>>,
    held: Vec<(u32, u32, LockKind)>,
    // Last, so that it closes after all that points into it.
    _connection: Connection,
}

// SAFETY: the pointers lead into memory that `connection` keeps alive, and every use of the file goes through `&mut
// self` or through methods of SQLite that take its own mutex (the connection is opened in serialized mode). The mapped
// words are only touched as atomics.
unsafe impl Send for Shm {}

const WORDS: usize = REGION_SIZE / 4;

impl Shm {
    /// Takes a connection that has read the database once in WAL mode, and holds no transaction.
    pub fn new(connection: Connection) -> Result<Shm, ShmError> {
        let mut file: *mut ffi::sqlite3_file = ptr::null_mut();
        // SAFETY: the handle is open for as long as `connection` lives; FILE_POINTER writes one pointer to `file`.
        let code = unsafe {
            ffi::sqlite3_file_control(
                connection.handle(),
                c"main".as_ptr(),
                ffi::SQLITE_FCNTL_FILE_POINTER,
                (&raw mut file).cast(),
            )
        };
        if code != ffi::SQLITE_OK {
            return Err(ShmError::Code("file control", code));
        }
        let file = NonNull::new(file).ok_or(ShmError::Unsupported)?;
        // SAFETY: FILE_POINTER gave the connection's open file; its methods table is static once the file is open, and
        // null before that.
        let methods = unsafe { file.as_ref().pMethods.as_ref() }.ok_or(ShmError::Unsupported)?;
        if methods.iVersion < 2 {
            return Err(ShmError::Unsupported);
        }
        match (
            methods.xShmMap,
            methods.xShmLock,
            methods.xShmBarrier,
            methods.xRead,
        ) {
            (Some(map), Some(lock), Some(barrier), Some(read)) => Ok(Shm {
                file,
                map,
                lock,
                barrier,
                read,
                regions: Vec::new(),
                held: Vec::new(),
                _connection: connection,
            }),
            _ => Err(ShmError::Unsupported),
        }
    }

    /// Maps the regions up to `region`. Without `extend`, answers `false` where the file is not that long yet.
    pub fn map(&mut self, region: u32, extend: bool) -> Result<bool, ShmError> {
        while self.regions.len() <= region as usize {
            let next = self.regions.len() as c_int;
            let mut address = ptr::null_mut();
            // SAFETY: `file` is the open file of `connection`; xShmMap writes the region's address or null. The address
            // stays valid until the file's shared memory is unmapped, which happens when `connection` closes: after us.
            let code = unsafe {
                (self.map)(
                    self.file.as_ptr(),
                    next,
                    REGION_SIZE as c_int,
                    c_int::from(extend),
                    &raw mut address,
                )
            };
            if code != ffi::SQLITE_OK {
                return Err(ShmError::Code("map", code));
            }
            match NonNull::new(address.cast::<u32>()) {
                Some(address) => self.regions.push(address),
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Regions mapped so far.
    pub fn mapped(&self) -> u32 {
        self.regions.len() as u32
    }

    /// Takes `count` locks from `first` on, all or none; `false` if another connection is in the way.
    pub fn lock(&mut self, first: u32, count: u32, kind: LockKind) -> Result<bool, ShmError> {
        match self.call_lock(first, count, kind, ffi::SQLITE_SHM_LOCK) {
            ffi::SQLITE_OK => {
                self.held.push((first, count, kind));
                Ok(true)
            }
            ffi::SQLITE_BUSY => Ok(false),
            code => Err(ShmError::Code("lock", code)),
        }
    }

    /// Gives locks back that were taken by one call of [`Shm::lock`] with the same arguments.
    pub fn unlock(&mut self, first: u32, count: u32, kind: LockKind) -> Result<(), ShmError> {
        self.held.retain(|held| *held != (first, count, kind));
        match self.call_lock(first, count, kind, ffi::SQLITE_SHM_UNLOCK) {
            ffi::SQLITE_OK => Ok(()),
            code => Err(ShmError::Code("unlock", code)),
        }
    }

    fn call_lock(&mut self, first: u32, count: u32, kind: LockKind, what: c_int) -> c_int {
        let flags = what
            | match kind {
                LockKind::Shared => ffi::SQLITE_SHM_SHARED,
                LockKind::Exclusive => ffi::SQLITE_SHM_EXCLUSIVE,
            };
        // SAFETY: `file` is open, and SQLite checks nothing but slot ranges, which are ours to keep: 8 slots.
        debug_assert!(first + count <= 8);
        unsafe { (self.lock)(self.file.as_ptr(), first as c_int, count as c_int, flags) }
    }

    /// Reads the database file itself, past the log; zeros where it ends. It is the connection's own descriptor: one of
    /// ours would, when it is closed, drop the locks that other connections of this process have on the file.
    pub fn read_file(&mut self, buf: &mut [u8], offset: u64) -> Result<(), ShmError> {
        let (Ok(length), Ok(offset)) = (c_int::try_from(buf.len()), i64::try_from(offset)) else {
            return Err(ShmError::Code("read", ffi::SQLITE_TOOBIG));
        };
        // SAFETY: `file` is open; xRead writes `length` bytes to `buf`, which is that long, and fills what the file does
        // not have with zeros.
        let code =
            unsafe { (self.read)(self.file.as_ptr(), buf.as_mut_ptr().cast(), length, offset) };
        match code {
            ffi::SQLITE_OK | ffi::SQLITE_IOERR_SHORT_READ => Ok(()),
            code => Err(ShmError::Code("read", code)),
        }
    }

    /// A full memory barrier, as SQLite makes it.
    pub fn barrier(&self) {
        // SAFETY: `file` is open.
        unsafe { (self.barrier)(self.file.as_ptr()) }
    }

    /// A 32-bit word of a mapped region. Panics if the region is not mapped or the word is not in it.
    pub fn word(&self, region: u32, word: usize) -> &AtomicU32 {
        assert!(word < WORDS, "a word inside the region");
        let base = self.regions[region as usize];
        // SAFETY: the region is mapped and REGION_SIZE long, the word is inside and aligned (mmap gives page alignment);
        // other processes touch it at the same time, which is why it is only ever seen as an atomic.
        unsafe { AtomicU32::from_ptr(base.as_ptr().add(word)) }
    }

    /// A 16-bit slot of a mapped region, counted in 16-bit units from its start.
    pub fn slot(&self, region: u32, slot: usize) -> &AtomicU16 {
        assert!(slot < WORDS * 2, "a slot inside the region");
        let base = self.regions[region as usize];
        // SAFETY: as for `word`; a 16-bit unit of the region is aligned to 2.
        unsafe { AtomicU16::from_ptr(base.as_ptr().cast::<u16>().add(slot)) }
    }
}

impl Drop for Shm {
    fn drop(&mut self) {
        // SQLite does not expect a connection to close with locks, and would leave them to the other connections of
        // this process for ever.
        for (first, count, kind) in std::mem::take(&mut self.held) {
            let _ = self.call_lock(first, count, kind, ffi::SQLITE_SHM_UNLOCK);
        }
    }
}
