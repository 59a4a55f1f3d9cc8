//! The file in the making: a snapshot's pages, then those of the log.

use super::error::RestoreError;
use crate::disk::{File, Result};
use crate::format::dbheader::{DbHeader, HEADER_SIZE};
use crate::format::dbsum::{DbSum, page_hash};
use crate::sums::Sums;
use std::path::Path;

/// Until it has its name nobody else may look.
const PRIVATE: u32 = 0o600;
/// Bytes written at a time. The kernel keeps what is written at once in one large folio, and ext4 looks at every block of that
/// for each page that is written into it later: with 512 KiB that was a third of the time of a restore.
const WRITE_BYTES: usize = 32 << 10;

/// A database file, and the hashes of what it will hold once all that is known of is written.
pub(super) struct Image {
    file: File,
    pub(super) page_size: u32,
    sums: Sums,
    /// Bytes of the file.
    length: u64,
    run: Vec<u8>,
}

impl Image {
    /// Begins with the first bytes of a snapshot, which must hold a database's header; `Err` says what is wrong with it.
    pub(super) fn begin(path: &Path, first: &[u8]) -> std::result::Result<Result<Image>, String> {
        let header = DbHeader::parse(first).map_err(|error| error.to_string())?;
        if header.is_replica() {
            return Err("it carries a replica's mark".to_owned());
        }
        let directory = path.parent().unwrap_or(Path::new("."));
        let make = || {
            Ok(Image {
                file: File::create("restore.create", path, PRIVATE)?,
                page_size: header.page_size,
                sums: Sums::create(directory, header.page_size)?,
                length: 0,
                run: Vec::new(),
            })
        };
        Ok(make())
    }

    /// Adds a snapshot's next pages. What is no whole page is left out, and `false` returned: nothing may follow it.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<bool> {
        let size = self.page_size as usize;
        let first = (self.length / size as u64) as u32 + 1;
        for (pgno, page) in (first..).zip(bytes.chunks_exact(size)) {
            self.sums.set(pgno, page_hash(pgno, page))?;
        }
        self.sums.resize(first - 1 + (bytes.len() / size) as u32);
        self.sums.commit();
        for part in bytes.chunks(WRITE_BYTES) {
            self.file.write_all_at("restore.write", part, self.length)?;
            self.length += part.len() as u64;
        }
        Ok(bytes.len().is_multiple_of(size))
    }

    /// Notes a page of a transaction that is not committed yet.
    pub(super) fn note(&mut self, pgno: u32, page: &[u8]) -> Result<()> {
        self.sums.set(pgno, page_hash(pgno, page))
    }

    /// All that was noted is committed, and the database has so many pages.
    pub(super) fn commit(&mut self, pages: u32) {
        self.sums.resize(pages);
        self.sums.commit();
    }

    /// What was noted since the last commit never came to be.
    pub(super) fn abandon(&mut self) {
        self.sums.rollback();
    }

    /// The checksum of all that is noted.
    pub(super) fn sum(&self) -> DbSum {
        self.sums.sum()
    }

    /// Pages of the database.
    pub(super) fn pages(&self) -> u32 {
        self.sums.pages()
    }

    /// Cuts the file, if it is longer.
    pub(super) fn cut(&mut self, pages: u32) -> Result<()> {
        let length = u64::from(pages) * u64::from(self.page_size);
        if length < self.length {
            self.file.set_len("restore.truncate", length)?;
            self.length = length;
        }
        Ok(())
    }

    /// Writes pages, ascending and each once.
    pub(super) fn write<'a>(&mut self, pages: impl Iterator<Item = (u32, &'a [u8])>) -> Result<()> {
        let mut start = 0;
        for (pgno, page) in pages {
            let next = start + self.run.len() as u64;
            let offset = u64::from(pgno - 1) * u64::from(self.page_size);
            if offset != next || self.run.len() >= WRITE_BYTES {
                self.write_run(start)?;
                start = offset;
            }
            self.run.extend_from_slice(page);
        }
        self.write_run(start)
    }

    fn write_run(&mut self, offset: u64) -> Result<()> {
        if !self.run.is_empty() {
            self.file.write_all_at("restore.write", &self.run, offset)?;
            self.length = self.length.max(offset + self.run.len() as u64);
            self.run.clear();
        }
        Ok(())
    }

    /// Gives the file its length, makes it durable, and looks once more at its header.
    pub(super) fn finish(mut self) -> std::result::Result<(), RestoreError> {
        let pages = self.pages();
        self.cut(pages)?;
        // A last page that was never written is zeros.
        let length = u64::from(pages) * u64::from(self.page_size);
        if self.length < length {
            self.file.set_len("restore.truncate", length)?;
        }
        let mut header = [0; HEADER_SIZE];
        let read = self.file.read_at("restore.read", &mut header, 0)?;
        let header = DbHeader::parse(&header[..read])
            .map_err(|error| RestoreError::Unsound(error.to_string()))?;
        if header.is_replica() || header.page_size != self.page_size {
            let what = "its first page is not that of an ordinary database";
            return Err(RestoreError::Unsound(what.to_owned()));
        }
        self.file.sync_all("restore.sync")?;
        Ok(())
    }
}
