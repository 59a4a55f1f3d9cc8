//! A replica's copy, read from beginning to end at one position, for verification and backups.

use crate::disk::File;
use crate::format::dbheader::{lock_page, to_primary};
use crate::format::dbsum::page_hash;
use crate::model::Point;
use crate::sqlite::{View, ViewError, WalIndex};
use std::sync::Arc;

/// One state of the copy, held as an open read transaction holds it. Pages are the primary's.
pub struct CopyView {
    view: View,
    #[expect(
        dead_code,
        reason = "it is held, not read: closed before the view it would take the view's locks"
    )]
    raw: Arc<File>,
    point: Point,
    cookie_delta: u32,
}

impl CopyView {
    pub(super) fn hold(
        index: WalIndex,
        raw: Arc<File>,
        point: Point,
        cookie_delta: u32,
    ) -> Result<CopyView, ViewError> {
        Ok(CopyView {
            view: View::hold(index)?,
            raw,
            point,
            cookie_delta,
        })
    }

    pub(super) fn frames(&self) -> u32 {
        self.view.header().mx_frame
    }

    /// What is held. Its page count and page size say what can be read.
    pub fn point(&self) -> Point {
        self.point
    }

    /// Reads consecutive pages from `first` on, as many as `buf` holds. It reads the disk.
    pub fn read(&mut self, first: u32, buf: &mut [u8]) -> Result<(), ViewError> {
        self.view.read(first, buf)?;
        let size = self.point.page_size as usize;
        if first == 1 {
            to_primary(&mut buf[..size], self.cookie_delta);
        }
        // It has no content, and SQLite never reads it.
        let lock = lock_page(self.point.page_size);
        if let Some(at) = lock.checked_sub(first) {
            let at = at as usize * size;
            if let Some(page) = buf.get_mut(at..at + size) {
                page.fill(0);
            }
        }
        Ok(())
    }

    /// The hashes of `count` pages from `first` on, as the database's checksum counts them.
    pub fn hashes(&mut self, first: u32, count: u32) -> Result<Vec<u64>, ViewError> {
        let size = self.point.page_size as usize;
        let mut buf = vec![0; count as usize * size];
        self.read(first, &mut buf)?;
        let pages = (first..).zip(buf.chunks_exact(size));
        Ok(pages.map(|(pgno, page)| page_hash(pgno, page)).collect())
    }
}
