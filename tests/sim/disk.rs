//! The disk of a model replica: the states that were published since the last sync, and what a power cut leaves of them.

use crate::rng::Rng;
use std::sync::Arc;
use walcast::format::dbsum::page_hash;
use walcast::replica::parts::Mark;

/// A database's pages by what they hash to, of their bytes.
#[derive(Clone, Debug)]
pub struct Content {
    page_size: u32,
    pages: Vec<u64>,
    sum: u64,
}

impl Content {
    pub fn new(page_size: u32) -> Content {
        Content {
            page_size,
            pages: Vec::new(),
            sum: 0,
        }
    }

    pub fn set(&mut self, pgno: u32, page: &[u8]) {
        assert_eq!(page.len(), self.page_size as usize);
        let at = pgno as usize - 1;
        if at >= self.pages.len() {
            self.pages.resize(at + 1, 0);
        }
        let hash = page_hash(pgno, page);
        self.sum ^= self.pages[at] ^ hash;
        self.pages[at] = hash;
    }

    /// The database has this many pages.
    pub fn resize(&mut self, pages: u32) {
        let cut = self.pages.split_off((pages as usize).min(self.pages.len()));
        self.sum = cut.iter().fold(self.sum, |sum, hash| sum ^ hash);
        self.pages.resize(pages as usize, 0);
    }

    pub fn sum(&self) -> u64 {
        self.sum
    }

    pub fn page_count(&self) -> u32 {
        self.pages.len() as u32
    }
}

/// What a process finds when it starts.
pub struct Found {
    pub mark: Option<Mark>,
    pub proven: bool,
}

#[derive(Clone)]
struct Published {
    content: Arc<Content>,
    mark: Mark,
}

/// The disk. It outlives processes.
#[derive(Default)]
pub struct Disk {
    /// Synced: the oldest state that a power cut may leave, and what `durable` says.
    synced: Option<Published>,
    /// Published since then, the newest last.
    since: Vec<Published>,
    /// No record tells where the database is.
    unproven: bool,
    pub full: bool,
    /// Each piece of work takes long.
    pub slow: bool,
    /// Syncs fail.
    pub failing: bool,
}

impl Disk {
    /// What readers see.
    pub fn visible(&self) -> Option<&Content> {
        let newest = self.since.last().or(self.synced.as_ref());
        newest.map(|published| &*published.content)
    }

    /// What is durable.
    pub fn synced(&self) -> Option<&Content> {
        self.synced.as_ref().map(|published| &*published.content)
    }

    /// A process starts.
    pub fn open(&self) -> Found {
        let newest = self.since.last().or(self.synced.as_ref());
        match (self.unproven, newest) {
            (false, newest) => Found {
                mark: newest.map(|published| published.mark),
                proven: newest.is_some(),
            },
            (true, _) => Found {
                mark: self.synced.as_ref().map(|published| published.mark),
                proven: false,
            },
        }
    }

    /// Readers see this from now on.
    pub fn publish(&mut self, content: Content, mark: Mark) {
        let content = Arc::new(content);
        self.since.push(Published { content, mark });
        self.unproven = false;
    }

    /// What readers see survives a power cut from now on. False: the disk failed.
    pub fn sync(&mut self) -> bool {
        if self.failing {
            return false;
        }
        if let Some(newest) = self.since.pop() {
            self.synced = Some(newest);
            self.since.clear();
        }
        true
    }

    /// Of what is not synced some is left: the log up to some commit, and perhaps a record that tells which.
    pub fn power_cut(&mut self, rng: &mut Rng) {
        let kept = rng.below(self.since.len() as u64 + 1) as usize;
        let was_unproven = self.unproven;
        self.since.truncate(kept);
        self.since.drain(..kept.saturating_sub(1));
        let has_record = rng.one_in(2) && !was_unproven;
        self.unproven = !self.since.is_empty() && !has_record;
        if self.unproven && self.synced.is_none() {
            // A first snapshot gets its name when it is synced.
            self.since.clear();
            self.unproven = false;
        }
    }
}
