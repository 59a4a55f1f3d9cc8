//! Pages of the log on their way to the file: of each page only its last state in a batch is written.
//!
//! What is committed is written when there is much of it. What is not committed yet waits, beyond a limit in a file: a
//! transaction may be larger than memory, and one that never ends must leave nothing in the database.

use super::error::RestoreError;
use super::image::Image;
use crate::disk::{File, Result};
use crate::format::wal::{FRAME_HEADER_SIZE, FrameHeader};
use std::path::{Path, PathBuf};

/// Bytes of log that are gathered before they are written.
const BATCH_BYTES: usize = 8 << 20;

/// A page in the buffer.
#[derive(Clone, Copy, Debug)]
struct Page {
    pgno: u32,
    at: usize,
}

/// Frames between the log and the file.
pub(super) struct Frames {
    page_size: usize,
    /// The log's bytes; the pages lie in it.
    bytes: Vec<u8>,
    pages: Vec<Page>,
    /// How many of them are committed.
    committed: usize,
    /// Places in `pages` before which the database was cut to so many pages.
    cuts: Vec<(usize, u32)>,
    /// No page above is in the file or in `pages`: as of the last commit, and now.
    committed_high: u32,
    high: u32,
    spill: Spill,
}

/// Frames of one transaction that were too many to keep.
struct Spill {
    path: PathBuf,
    file: Option<File>,
    length: u64,
}

impl Frames {
    /// `pages`: what is in the file. A transaction that is too large lies in `directory` meanwhile.
    pub(super) fn new(directory: &Path, page_size: u32, pages: u32) -> Frames {
        Frames {
            page_size: page_size as usize,
            bytes: Vec::new(),
            pages: Vec::new(),
            committed: 0,
            cuts: Vec::new(),
            committed_high: pages,
            high: pages,
            spill: Spill {
                path: directory.join("transaction.tmp"),
                file: None,
                length: 0,
            },
        }
    }

    /// Adds a frame: its header's bytes and its page.
    pub(super) fn push(&mut self, header: &FrameHeader, page: &[u8]) {
        self.bytes.extend_from_slice(&header.encode());
        self.pages.push(Page {
            pgno: header.pgno,
            at: self.bytes.len(),
        });
        self.bytes.extend_from_slice(page);
        self.high = self.high.max(header.pgno);
    }

    /// The frames so far are committed, and the database has so many pages.
    pub(super) fn commit(&mut self, image: &mut Image, pages: u32) -> Result<()> {
        self.replay(image)?;
        self.committed = self.pages.len();
        if pages < self.high {
            self.cuts.push((self.committed, pages));
        }
        self.high = pages;
        self.committed_high = pages;
        if self.bytes.len() >= BATCH_BYTES {
            self.flush(image)?;
        }
        Ok(())
    }

    /// To be called between commits: moves what is too much out of memory.
    pub(super) fn relieve(&mut self, image: &mut Image) -> Result<()> {
        if self.bytes.len() < 2 * BATCH_BYTES {
            return Ok(());
        }
        self.flush(image)?;
        if self.bytes.len() < BATCH_BYTES {
            return Ok(());
        }
        let file = match &self.spill.file {
            Some(file) => file,
            None => {
                let file = File::create("restore.spill", &self.spill.path, 0o600)?;
                self.spill.file.insert(file)
            }
        };
        file.write_all_at("restore.spill", &self.bytes, self.spill.length)?;
        self.spill.length += self.bytes.len() as u64;
        self.bytes.clear();
        self.pages.clear();
        Ok(())
    }

    /// The frames since the last commit never came to be.
    pub(super) fn abandon(&mut self) {
        self.spill.length = 0;
        self.pages.truncate(self.committed);
        let end = self.pages.last().map_or(0, |page| page.at + self.page_size);
        self.bytes.truncate(end);
        self.high = self.committed_high;
    }

    /// Writes the part of a transaction, now committed, that was moved out. All before it was written then.
    fn replay(&mut self, image: &mut Image) -> Result<()> {
        let (Some(file), length) = (&self.spill.file, std::mem::take(&mut self.spill.length))
        else {
            return Ok(());
        };
        let frame = FRAME_HEADER_SIZE + self.page_size;
        let step = BATCH_BYTES / frame * frame;
        let mut at = 0;
        let mut bytes = Vec::new();
        while at < length {
            bytes.resize(step.min((length - at) as usize), 0);
            file.read_exact_at("restore.spill", &mut bytes, at)?;
            at += bytes.len() as u64;
            let mut pages: Vec<Page> = Vec::new();
            for (number, frame_bytes) in bytes.chunks_exact(frame).enumerate() {
                if let Some(header) = frame_bytes.first_chunk() {
                    pages.push(Page {
                        pgno: FrameHeader::parse(header).pgno,
                        at: number * frame + FRAME_HEADER_SIZE,
                    });
                }
            }
            write(image, &bytes, self.page_size, pages)?;
        }
        Ok(())
    }

    /// Writes all that is committed.
    pub(super) fn flush(&mut self, image: &mut Image) -> Result<()> {
        let mut pages: Vec<Page> = Vec::with_capacity(self.committed);
        let mut from = 0;
        let mut floor = u32::MAX;
        for (until, size) in std::mem::take(&mut self.cuts) {
            pages.extend_from_slice(&self.pages[from..until]);
            // What was cut off is gone, even if the database grows again.
            pages.retain(|page| page.pgno <= size);
            floor = floor.min(size);
            from = until;
        }
        pages.extend_from_slice(&self.pages[from..self.committed]);
        image.cut(floor)?;
        write(image, &self.bytes, self.page_size, pages)?;
        // What is not committed moves to the front.
        let end = match self.committed {
            0 => 0,
            n => self.pages[n - 1].at + self.page_size,
        };
        self.bytes.drain(..end);
        self.pages.drain(..self.committed);
        for page in &mut self.pages {
            page.at -= end;
        }
        self.committed = 0;
        Ok(())
    }

    /// Writes the rest; what is not committed goes.
    pub(super) fn finish(mut self, image: &mut Image) -> std::result::Result<(), RestoreError> {
        self.abandon();
        self.flush(image)?;
        if let Some(file) = self.spill.file.take() {
            drop(file);
            crate::disk::remove_file("restore.spill", &self.spill.path)?;
        }
        Ok(())
    }
}

/// Writes the last state of each page.
fn write(image: &mut Image, bytes: &[u8], page_size: usize, mut pages: Vec<Page>) -> Result<()> {
    pages.sort_by_key(|page| (page.pgno, page.at));
    let last = pages
        .iter()
        .zip(pages.iter().skip(1).map(|next| next.pgno).chain([0]))
        .filter(|(page, next)| page.pgno != *next)
        .map(|(page, _)| (page.pgno, &bytes[page.at..page.at + page_size]));
    image.write(last)
}
