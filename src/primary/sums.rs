//! The checksum of the whole database, kept with each captured commit: a table of page hashes and their XOR.
//!
//! The table is made at the start: pages in the live log from there, all others from the database file, in steps between
//! captures. A page of the file may be read while a checkpoint writes it, torn or newer than what was captured; such a
//! page has a frame in the log that is captured later and replaces the hash. So the sum is right once the scan is over
//! and everything that was in the log by then is captured.

use crate::disk::{self, File};
use crate::format::dbheader::lock_page;
use crate::format::dbsum::{DbSum, page_hash};
use crate::sys::HashTable;
use std::path::Path;

/// Bytes of the file read in one step of the scan.
pub const STEP: usize = 1024 * 1024;

/// Stands for "a page of zeros, from the log" while the scan runs, since 0 then means "not known yet". A page whose hash
/// is this very number would be read from the file instead: one in 2^64.
const ZEROS: u64 = u64::MAX;

/// The page table and the sum.
pub struct Sums {
    table: HashTable,
    sum: DbSum,
    page_size: u32,
    page_count: u32,
    /// No page beyond this has a hash.
    highest: u32,
    lock_page: u32,
    /// The page that the scan reads next, `None` once it is over.
    scan: Option<u32>,
    buf: Vec<u8>,
}

impl Sums {
    /// An empty table for a database of `page_count` pages, all of which are still to be scanned.
    pub fn new(directory: &Path, page_size: u32, page_count: u32) -> disk::Result<Sums> {
        let mut table = HashTable::create(directory)?;
        table.reserve(page_count.max(1))?;
        Ok(Sums {
            table,
            sum: DbSum::default(),
            page_size,
            page_count,
            highest: page_count,
            lock_page: lock_page(page_size),
            scan: Some(1),
            buf: Vec::new(),
        })
    }

    /// Makes room for pages up to `pgno`. Needed before [`Sums::frame`].
    pub fn reserve(&mut self, pgno: u32) -> disk::Result<()> {
        self.table.reserve(pgno)
    }

    /// A frame of the log: the page has this content from now on. Doing the same twice changes nothing.
    pub fn frame(&mut self, pgno: u32, page: &[u8]) {
        if pgno != self.lock_page {
            self.highest = self.highest.max(pgno);
            self.set(pgno, page_hash(pgno, page));
        }
    }

    fn set(&mut self, pgno: u32, hash: u64) {
        let ahead_of_scan = self.scan.is_some_and(|next| pgno >= next);
        let stored = if hash == 0 && ahead_of_scan {
            ZEROS
        } else {
            hash
        };
        let before = self.table.replace(pgno, stored);
        let before = if before == ZEROS && self.scan.is_some() {
            0
        } else {
            before
        };
        self.sum = self.sum.replaced(before, hash);
    }

    /// A commit: the database has this many pages.
    pub fn commit(&mut self, page_count: u32) {
        self.page_count = page_count;
        while self.highest > page_count {
            let before = self.table.replace(self.highest, 0);
            let before = if before == ZEROS && self.scan.is_some() {
                0
            } else {
                before
            };
            self.sum = self.sum.replaced(before, 0);
            self.highest -= 1;
        }
    }

    /// Pages at the last commit.
    pub fn page_count(&self) -> u32 {
        self.page_count
    }

    /// True once every page of the file was looked at.
    pub fn is_scanned(&self) -> bool {
        self.scan.is_none()
    }

    /// Bytes of the file that were looked at, and in all.
    pub fn scanned_bytes(&self) -> (u64, u64) {
        let bytes = |pages: u32| u64::from(pages) * u64::from(self.page_size);
        let total = bytes(self.page_count);
        let done = self.scan.map_or(total, |next| bytes(next - 1));
        (done, total)
    }

    /// The checksum at the last commit; right only after the scan (see above).
    pub fn sum(&self) -> DbSum {
        self.sum
    }

    /// Scans up to [`STEP`] bytes of the file.
    pub fn scan_step(&mut self, file: &File) -> disk::Result<()> {
        let Some(first) = self.scan else {
            return Ok(());
        };
        if first > self.page_count {
            self.scan = None;
            self.buf = Vec::new();
            return Ok(());
        }
        let page_size = self.page_size as usize;
        let pages = (self.page_count - first + 1).min((STEP / page_size) as u32);
        self.table.reserve(self.page_count)?;
        self.buf.resize(pages as usize * page_size, 0);
        let mut buf = std::mem::take(&mut self.buf);
        let offset = u64::from(first - 1) * u64::from(self.page_size);
        let read = file.read_at("scan.read", &mut buf, offset)?;
        for (pgno, page) in (first..).zip(buf[..read].chunks_exact(page_size)) {
            self.scan_page(pgno, page);
        }
        // Pages behind the end of the file are in the log, or there are none.
        for pgno in first + (read / page_size) as u32..first + pages {
            if self.table.get(pgno) == ZEROS {
                self.table.replace(pgno, 0);
            }
        }
        self.buf = buf;
        self.scan = Some(first + pages);
        Ok(())
    }

    fn scan_page(&mut self, pgno: u32, page: &[u8]) {
        match self.table.get(pgno) {
            0 if pgno != self.lock_page => {
                // The file may have more pages than the log said that the database has.
                self.highest = self.highest.max(pgno);
                let hash = page_hash(pgno, page);
                self.table.replace(pgno, hash);
                self.sum = self.sum.replaced(0, hash);
            }
            ZEROS => {
                self.table.replace(pgno, 0);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PAGE: u32 = 512;

    fn page(fill: u8) -> Vec<u8> {
        vec![fill; PAGE as usize]
    }

    fn expected(pages: &[Vec<u8>]) -> DbSum {
        let hashes = (1..).zip(pages).map(|(pgno, page)| page_hash(pgno, page));
        DbSum(hashes.fold(0, |sum, hash| sum ^ hash))
    }

    /// One step of a database that changes while it is scanned.
    #[derive(Clone, Debug)]
    enum Step {
        /// A transaction: pages (number, fill), then the new size.
        Commit(Vec<(u32, u8)>, u32),
        /// All is copied into the file.
        Checkpoint,
        Scan,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (
                proptest::collection::vec((1u32..6000, 0u8..3), 1..20),
                1u32..6000
            )
                .prop_map(|(pages, size)| Step::Commit(pages, size)),
            Just(Step::Checkpoint),
            Just(Step::Scan),
        ]
    }

    /// As where the proof by content reads a file that the live log then shrinks.
    #[test]
    fn pages_of_a_file_that_is_longer_than_the_database_go_with_a_shrink() {
        let dir = tempfile::tempdir().unwrap();
        let file = File::create("test", &dir.path().join("db"), 0o600).unwrap();
        let pages: Vec<Vec<u8>> = (0..9).map(page).collect();
        file.write_all_at("test", &pages.concat(), 0).unwrap();
        let mut sums = Sums::new(dir.path(), PAGE, 4).unwrap();
        sums.commit(9);
        while !sums.is_scanned() {
            sums.scan_step(&file).unwrap();
        }
        assert_eq!(sums.sum(), expected(&pages));
        sums.frame(2, &pages[1]);
        sums.commit(4);
        assert_eq!(sums.sum(), expected(&pages[..4]));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]
        #[test]
        fn a_scan_between_commits_gives_the_sum_of_the_final_pages(
            steps in proptest::collection::vec(step(), 1..30),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let file = File::create("test", &dir.path().join("db"), 0o600).unwrap();
            let mut pages: Vec<Vec<u8>> = (0..5000).map(|i| page((i % 3) as u8)).collect();
            let write = |pages: &[Vec<u8>]| {
                file.set_len("test", 0).unwrap();
                file.write_all_at("test", &pages.concat(), 0).unwrap();
            };
            write(&pages);
            let mut sums = Sums::new(dir.path(), PAGE, 5000).unwrap();
            for step in steps {
                match step {
                    Step::Commit(changes, size) => {
                        // As SQLite does: a page that comes with growth is in the log.
                        let grown = (pages.len() as u32 + 1)..=size;
                        let all = changes.iter().copied().chain(grown.map(|p| (p, 1)));
                        pages.resize(size as usize, page(0));
                        for (pgno, fill) in all.filter(|(pgno, _)| *pgno <= size) {
                            sums.reserve(pgno).unwrap();
                            sums.frame(pgno, &page(fill));
                            pages[pgno as usize - 1] = page(fill);
                        }
                        sums.commit(size);
                    }
                    Step::Checkpoint => write(&pages),
                    Step::Scan => sums.scan_step(&file).unwrap(),
                }
            }
            while !sums.is_scanned() {
                sums.scan_step(&file).unwrap();
            }
            prop_assert_eq!(sums.sum(), expected(&pages));
        }
    }
}
