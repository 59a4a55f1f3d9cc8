//! Commits that wait behind each other become visible together: who is behind writes a page that came a thousand times
//! once, and asks the disk once.

use super::local::PageRef;
use super::machine::Pages;
use super::record::Mark;

/// Bytes that are gathered at most, about: what readers see must not stand still for long.
const MOST: usize = 1 << 20;

/// Pages of commits that follow each other, and the state at the end of the last.
#[derive(Default)]
pub struct Gathered {
    parts: Vec<Pages>,
    bytes: usize,
    mark: Option<Mark>,
}

impl Gathered {
    /// One commit more. True if it is enough now.
    pub fn add(&mut self, pages: Pages, mark: Mark) -> bool {
        self.bytes += pages.bytes.len();
        self.parts.push(pages);
        self.mark = Some(mark);
        self.bytes >= MOST
    }

    /// The state after all of it; `None`: there is nothing.
    pub fn mark(&self) -> Option<Mark> {
        self.mark
    }

    /// Bytes that came.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// All pages in the order in which they came.
    pub fn pages(&self, page_size: u32) -> Vec<PageRef<'_>> {
        let parts = self.parts.iter();
        parts.flat_map(|part| page_refs(part, page_size)).collect()
    }
}

/// The pages that came together.
pub fn page_refs(pages: &Pages, page_size: u32) -> Vec<PageRef<'_>> {
    let size = page_size as usize;
    pages
        .list
        .iter()
        .map(|p| PageRef {
            pgno: p.pgno,
            page: &pages.bytes[p.at..p.at + size],
        })
        .collect()
}
