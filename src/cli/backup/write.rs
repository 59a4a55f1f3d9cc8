//! A database file, written page by page and proven at its end.

use super::super::exit::{Exit, Failure};
use crate::disk::{DiskError, File};
use crate::format::dbheader::lock_page;
use crate::format::dbsum::{DbSum, page_hash};
use crate::format::lz4;
use crate::model::{Codec, Point, SnapshotPages};
use std::path::{Path, PathBuf};

/// A file in the making.
pub(super) struct Writer {
    file: File,
    path: PathBuf,
    page_size: u32,
    /// The page that is due, counted wider than page numbers so that it cannot wrap.
    next: u64,
    page1: u64,
    others: DbSum,
}

fn disk(error: DiskError) -> Failure {
    Failure::new(Exit::Failed, error.to_string())
}

impl Writer {
    pub(super) fn create(directory: &Path, page_size: u32) -> Result<Writer, Failure> {
        let path = directory.join("copy.tmp");
        Ok(Writer {
            file: File::create("backup.create", &path, super::PRIVATE).map_err(disk)?,
            path,
            page_size,
            next: 1,
            page1: 0,
            others: DbSum(0),
        })
    }

    /// Writes a message's pages, which must be those that are due.
    pub(super) fn pages(&mut self, pages: &SnapshotPages) -> Result<(), Failure> {
        let damaged =
            |what: String| Failure::new(Exit::Failed, format!("damaged data came: {what}"));
        if u64::from(pages.first_page) != self.next || !pages.size.is_multiple_of(self.page_size) {
            return Err(damaged(format!("page {} is missing", self.next)));
        }
        match pages.codec {
            Codec::None => self.bytes(pages.first_page, &pages.data),
            Codec::Lz4 => {
                let size = pages.size as usize;
                let mut bytes = Vec::with_capacity(size);
                lz4::decompress(&pages.data, size, &mut bytes)
                    .map_err(|error| damaged(error.to_string()))?;
                if bytes.len() != size {
                    return Err(damaged(format!("{} bytes for {size}", bytes.len())));
                }
                self.bytes(pages.first_page, &bytes)
            }
            // `wire` refuses it before.
            Codec::Lz4Recent => Err(damaged("pages packed as a piece of log".to_owned())),
        }
    }

    /// Writes whole pages from `first` on.
    pub(super) fn bytes(&mut self, first: u32, bytes: &[u8]) -> Result<(), Failure> {
        let size = self.page_size as usize;
        for (pgno, page) in (first..).zip(bytes.chunks_exact(size)) {
            match page_hash(pgno, page) {
                hash if pgno == 1 => self.page1 = hash,
                hash if pgno != lock_page(self.page_size) => self.others ^= hash,
                _ => {}
            }
        }
        let offset = u64::from(first - 1) * size as u64;
        self.file
            .write_all_at("backup.write", bytes, offset)
            .map_err(disk)?;
        self.next = u64::from(first) + (bytes.len() / size) as u64;
        Ok(())
    }

    pub(super) fn sum_without_page1(&self) -> DbSum {
        self.others
    }

    pub(super) fn page1(&self) -> Result<Vec<u8>, Failure> {
        let mut page = vec![0; self.page_size as usize];
        self.file
            .read_exact_at("backup.read", &mut page, 0)
            .map_err(disk)?;
        Ok(page)
    }

    pub(super) fn set_page1(&mut self, page: &[u8]) -> Result<(), Failure> {
        self.page1 = page_hash(1, page);
        self.file
            .write_all_at("backup.write", page, 0)
            .map_err(disk)
    }

    /// Proves the file and makes it durable. Its path.
    pub(super) fn finish(self, point: &Point) -> Result<PathBuf, Failure> {
        let pages = self.next - 1;
        let got = self.others ^ self.page1;
        if pages != u64::from(point.page_count) || got != point.dbsum {
            let message = format!(
                "{pages} pages with the checksum {got} came, and {} with {} are at {}: the copy there is damaged; see: \
                 walcast verify",
                point.page_count, point.dbsum, point.position
            );
            return Err(Failure::new(Exit::Failed, message));
        }
        self.file.sync_all("backup.sync").map_err(disk)?;
        Ok(self.path)
    }
}
