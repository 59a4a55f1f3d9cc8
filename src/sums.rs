//! The rolling checksum of a whole database: one hash for each page, and their XOR.
//!
//! Changes are pending until [`Sums::commit`], so a transaction that arrives in pieces and is then abandoned leaves
//! nothing behind. Memory: 12 bytes for each page of a pending transaction; the table itself is file-backed.

use crate::disk;
use crate::format::dbheader::lock_page;
use crate::format::dbsum::DbSum;
use crate::sys::HashTable;
use std::path::Path;

/// Page hashes of one database and their XOR.
pub struct Sums {
    table: HashTable,
    sum: u64,
    pages: u32,
    /// No page above this one has a hash.
    high: u32,
    lock_page: u32,
    undo_pages: Vec<u32>,
    undo_hashes: Vec<u64>,
    before: Before,
}

#[derive(Clone, Copy, Default)]
struct Before {
    sum: u64,
    pages: u32,
    high: u32,
}

impl Sums {
    /// An empty database of this page size; its table lies, nameless, in `directory`.
    pub fn create(directory: &Path, page_size: u32) -> disk::Result<Sums> {
        Ok(Sums {
            table: HashTable::create(directory)?,
            sum: 0,
            pages: 0,
            high: 0,
            lock_page: lock_page(page_size),
            undo_pages: Vec::new(),
            undo_hashes: Vec::new(),
            before: Before::default(),
        })
    }

    /// The checksum with all pending changes.
    pub fn sum(&self) -> DbSum {
        DbSum(self.sum)
    }

    /// The number of pages with all pending changes.
    pub fn pages(&self) -> u32 {
        self.pages
    }

    /// The hash of a page, 0 if it has none.
    pub fn get(&self, pgno: u32) -> u64 {
        self.table.get(pgno)
    }

    /// Sets a page's hash, pending. The lock-byte page has none. Fails only where the table cannot grow.
    pub fn set(&mut self, pgno: u32, hash: u64) -> disk::Result<()> {
        if pgno == self.lock_page {
            return Ok(());
        }
        self.table.reserve(pgno)?;
        let before = self.table.replace(pgno, hash);
        self.sum ^= before ^ hash;
        self.high = self.high.max(pgno);
        self.undo_pages.push(pgno);
        self.undo_hashes.push(before);
        Ok(())
    }

    /// Sets the database's size, pending: pages behind it no longer count.
    pub fn resize(&mut self, pages: u32) {
        while self.high > pages {
            let pgno = self.high;
            let before = self.table.replace(pgno, 0);
            if before != 0 {
                self.sum ^= before;
                self.undo_pages.push(pgno);
                self.undo_hashes.push(before);
            }
            self.high -= 1;
        }
        self.pages = pages;
    }

    /// Makes pending changes final.
    pub fn commit(&mut self) {
        self.undo_pages.clear();
        self.undo_hashes.clear();
        // A huge transaction must not leave its memory behind.
        self.undo_pages.shrink_to(4096);
        self.undo_hashes.shrink_to(4096);
        self.before = Before {
            sum: self.sum,
            pages: self.pages,
            high: self.high,
        };
    }

    /// Pages that could be taken back.
    #[cfg(test)]
    pub fn pending(&self) -> usize {
        self.undo_pages.len()
    }

    /// Takes pending changes back.
    pub fn rollback(&mut self) {
        while let (Some(pgno), Some(hash)) = (self.undo_pages.pop(), self.undo_hashes.pop()) {
            self.table.replace(pgno, hash);
        }
        self.sum = self.before.sum;
        self.pages = self.before.pages;
        self.high = self.before.high;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_abandoned_transaction_leaves_nothing() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut sums = Sums::create(directory.path(), 4096).expect("a table");
        for pgno in 1..=10 {
            sums.set(pgno, u64::from(pgno) * 7).expect("room");
        }
        sums.resize(10);
        sums.commit();
        let whole = sums.sum();
        sums.set(3, 99).expect("room");
        sums.set(200_000, 5).expect("room");
        sums.set(3, 98).expect("room");
        sums.resize(2);
        assert_eq!(sums.sum(), DbSum(7 ^ 14));
        sums.rollback();
        assert_eq!((sums.sum(), sums.pages()), (whole, 10));
        assert_eq!((sums.get(3), sums.get(200_000)), (21, 0));
    }

    #[test]
    fn the_lock_byte_page_does_not_count() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut sums = Sums::create(directory.path(), 65536).expect("a table");
        sums.set(lock_page(65536), 1).expect("room");
        assert_eq!(sums.sum(), DbSum(0));
    }
}
