//! Reading the local database page by page: the table of hashes, the scrub, a detach.

use super::{Local, Result};
use crate::disk;
use crate::format::dbheader::{
    REPLICA_WRITE_VERSION, WRITE_VERSION_OFFSET, to_primary, to_replica,
};
use crate::format::dbsum::page_hash;
use crate::sums::Sums;
use std::collections::HashSet;

impl Local {
    /// Takes the hashes that a fresh seed made while it wrote the file, instead of a scan.
    pub fn adopt(&mut self, sums: Sums, page1: Vec<u8>) {
        self.sums = sums;
        self.page1 = page1;
    }

    /// Reads every page and makes the table of hashes. `grew` hears of the bytes of the file that were read.
    pub fn scan(&mut self, grew: &dyn Fn(u64)) -> Result<()> {
        let pages = self.page_count()?;
        let size = self.page_size as usize;
        let in_log = self.scan_log(pages)?;
        let step = (1 << 20) / size;
        let mut buffer = vec![0; step * size];
        let mut first = 1;
        while first <= pages {
            let count = step.min((pages - first + 1) as usize);
            let offset = u64::from(first - 1) * size as u64;
            let read = self
                .db
                .read_at("db.scan", &mut buffer[..count * size], offset)?;
            buffer[read..count * size].fill(0);
            for (i, page) in buffer[..count * size].chunks_exact_mut(size).enumerate() {
                let pgno = first + i as u32;
                if !in_log.contains(&pgno) {
                    enter(
                        &mut self.sums,
                        &mut self.page1,
                        self.cookie_delta,
                        pgno,
                        page,
                    )?;
                }
            }
            first += count as u32;
            grew((count * size) as u64);
            // Nothing here is taken back, and a large database must not fill the memory with what could be.
            self.sums.commit();
        }
        self.sums.resize(pages);
        self.sums.commit();
        Ok(())
    }

    /// Enters the pages of the log into the table, and proves the log's chain. Returns the pages that it has.
    fn scan_log(&mut self, pages: u32) -> Result<HashSet<u32>> {
        let mut in_log = HashSet::new();
        let delta = self.cookie_delta;
        self.log.verify(|frame, page| {
            let pgno = self.index.page_of(frame)?;
            if pgno <= pages {
                in_log.insert(pgno);
                enter(&mut self.sums, &mut self.page1, delta, pgno, page)?;
            }
            Result::Ok(())
        })?;
        Ok(in_log)
    }

    /// Counts page 1 with another constant of the schema cookie, after [`Local::scan`].
    pub fn use_cookie_delta(&mut self, delta: u32) -> disk::Result<()> {
        to_replica(&mut self.page1, self.cookie_delta);
        to_primary(&mut self.page1, delta);
        self.cookie_delta = delta;
        self.sums.set(1, page_hash(1, &self.page1))?;
        self.sums.commit();
        Ok(())
    }

    /// True if applications may write: page 1, as they see it now, has not the mark of a replica.
    pub fn is_writable(&mut self) -> Result<bool> {
        let mut page1 = vec![0; self.page_size as usize];
        self.read_raw(1, &mut page1)?;
        Ok(page1[WRITE_VERSION_OFFSET] != REPLICA_WRITE_VERSION)
    }

    /// The primary's bytes of a page as readers see it now.
    pub fn read_page(&mut self, pgno: u32, page: &mut [u8]) -> Result<()> {
        self.read_raw(pgno, page)?;
        if pgno == 1 {
            to_primary(page, self.cookie_delta);
        }
        Ok(())
    }

    fn read_raw(&mut self, pgno: u32, page: &mut [u8]) -> Result<()> {
        match self.index.find(pgno, self.published.mx_frame)? {
            Some(frame) => self.log.read_page(frame, page)?,
            None => {
                let offset = u64::from(pgno - 1) * u64::from(self.page_size);
                let read = self.db.read_at("db.read", page, offset)?;
                page[read..].fill(0);
            }
        }
        Ok(())
    }
}

fn enter(
    sums: &mut Sums,
    page1: &mut Vec<u8>,
    cookie_delta: u32,
    pgno: u32,
    page: &mut [u8],
) -> disk::Result<()> {
    if pgno == 1 {
        to_primary(page, cookie_delta);
        page1.clear();
        page1.extend_from_slice(page);
    }
    sums.set(pgno, page_hash(pgno, page))
}
