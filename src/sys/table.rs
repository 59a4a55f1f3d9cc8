//! A table of one 64-bit hash for each page of a database, in a file without a name, mapped into memory.
//!
//! The kernel may write it out and drop it under memory pressure, so a database of any size costs no resident memory.
//! It is made anew at each start: nothing in it is ever trusted after a crash.

use crate::disk::{self, File};
use memmap2::MmapMut;
use std::os::fd::AsFd;
use std::path::Path;

/// Hashes of pages 1 to the number of pages; a page never set has hash 0.
pub struct HashTable {
    file: File,
    map: MmapMut,
}

/// Most databases are small, and a process has hundreds of them: this is enough for 8 MiB of pages of 4 KiB. The kernel maps
/// what lies around a page that is touched, so a larger one would be resident, too.
const FIRST: u64 = 16 * 1024;
/// Grown in steps, so that a growing database does not remap at each page.
const STEP: u64 = 512 * 1024;

impl HashTable {
    /// Makes an empty table next to the other files of a database. The file has no name once this returns.
    pub fn create(directory: &Path) -> disk::Result<HashTable> {
        let path = directory.join("pages.tmp");
        let file = File::create("pages.create", &path, 0o600)?;
        disk::remove_file("pages.unlink", &path)?;
        let map = Self::map(&file, FIRST)?;
        Ok(HashTable { file, map })
    }

    fn map(file: &File, len: u64) -> disk::Result<MmapMut> {
        // Space is reserved first: a full disk is an error here, and no SIGBUS later.
        file.allocate("pages.allocate", len)?;
        // SAFETY: the file has no name and is open only here, so nobody truncates it under the mapping, and nobody else
        // writes it.
        unsafe { MmapMut::map_mut(&file.as_fd()) }
            .map_err(|e| disk::DiskError::new("pages.map", file.path(), e))
    }

    /// Makes room for pages up to `pgno`.
    pub fn reserve(&mut self, pgno: u32) -> disk::Result<()> {
        let (need, has) = (u64::from(pgno) * 8, self.map.len() as u64);
        if need <= has {
            return Ok(());
        }
        let least = need.next_multiple_of(STEP);
        let ample = least.max(has * 3 / 2 / 8 * 8);
        self.map = match Self::map(&self.file, ample) {
            // On a disk that is nearly full half of a large table again may be too much, and a step is enough.
            Err(error) if error.is_full() && least < ample => Self::map(&self.file, least)?,
            mapped => mapped?,
        };
        Ok(())
    }

    /// The hash of page `pgno` (from 1); 0 if it was never set.
    pub fn get(&self, pgno: u32) -> u64 {
        let at = (pgno as usize - 1) * 8;
        match self.map.get(at..at + 8) {
            Some(bytes) => u64::from_le_bytes(bytes.try_into().unwrap_or_default()),
            None => 0,
        }
    }

    /// Sets the hash of page `pgno` and returns the one before. Room must have been reserved.
    pub fn replace(&mut self, pgno: u32, hash: u64) -> u64 {
        let before = self.get(pgno);
        let at = (pgno as usize - 1) * 8;
        self.map[at..at + 8].copy_from_slice(&hash.to_le_bytes());
        before
    }
}
