//! What a power cut leaves of the application's files, and what SQLite makes of that.

use super::App;
use crate::rng::chance;
use crate::shm::Memory;
use std::os::unix::fs::FileExt;
use walcast::format::dbsum::page_hash;
use walcast::format::wal::{FrameScanner, WAL_HEADER_SIZE, WalHeader};

const SECTOR: usize = 512;

impl App {
    /// The machine loses power: what was not synced is there or not, by sectors. Then the application opens the database
    /// again, and SQLite recovers it. Returns the number of commits that are gone.
    pub fn power_cut(&mut self) -> usize {
        self.lose_unsynced_pages();
        self.lose_unsynced_log();
        self.recover()
    }

    /// The same, of a disk that has the log as it was when it had so many frames, and of what came later at most some sectors.
    pub fn power_cut_since(&mut self, frames: usize) -> usize {
        let lost = self.commit_ends();
        let lost = lost.windows(2).filter(|ends| ends[0] >= frames);
        let lost = lost.map(|ends| (ends[1] - ends[0]) as u32).collect();
        if self.rng.one_in(2) {
            self.again = lost;
        }
        self.lose_unsynced_pages();
        self.lose_log_since(frames);
        self.recover()
    }

    /// The end of a commit since when nothing is synced, in frames; not the newest.
    pub fn some_moment(&mut self) -> Option<usize> {
        let synced = self.synced_frames();
        let ends = self.commit_ends();
        let first = ends.iter().rposition(|end| *end <= synced)?;
        let most = (ends.len() - 1)
            .checked_sub(first)
            .filter(|most| *most > 0)?;
        // Of the newest commits readers have only some, of all there are more than are asked for at once.
        let most = most.min([1, 4, 30, usize::MAX][self.rng.below(4) as usize]);
        let lost = self.rng.between(1, most as u64) as usize;
        Some(ends[ends.len() - 1 - lost])
    }

    /// Where commits end in the log, and its beginning.
    fn commit_ends(&self) -> Vec<usize> {
        let ends = (1..).zip(&self.frames);
        let ends = ends.filter_map(|(end, (_, state))| state.is_some().then_some(end));
        std::iter::once(0).chain(ends).collect()
    }

    /// What is synced may be of a log before, or of commits that are gone: only the same bytes are the same frames.
    fn synced_frames(&self) -> usize {
        let same = |frames: usize| {
            let range = self.len_of(frames - 1) as usize..self.len_of(frames) as usize;
            self.log_synced.get(range.clone()) == Some(&self.log_bytes[range])
        };
        (1..=self.frames.len())
            .take_while(|frames| same(*frames))
            .count()
    }

    /// The log as it was written at a commit, and nothing sure behind it.
    fn lose_log_since(&mut self, frames: usize) {
        let end = self.len_of(frames) as usize;
        let kept = [0, 0, 50][self.rng.below(3) as usize];
        let mut image = self.log_synced.clone();
        image.resize(self.log_bytes.len().max(image.len()), 0);
        image[..end].copy_from_slice(&self.log_bytes[..end]);
        // Not the sector that was written before this moment as well.
        for at in (0..self.log_bytes.len()).step_by(SECTOR) {
            let sector = at..(at + SECTOR).min(self.log_bytes.len());
            if at > end && chance(&mut self.rng, kept) {
                image[sector.clone()].copy_from_slice(&self.log_bytes[sector]);
            }
        }
        self.keep_log(image);
    }

    fn keep_log(&mut self, image: Vec<u8>) {
        self.log.set_len(0).expect("truncate");
        self.log.write_all_at(&image, 0).expect("write");
        self.log_synced.clone_from(&image);
        self.log_bytes = image;
    }

    fn lose_unsynced_pages(&mut self) {
        for (pgno, before) in std::mem::take(&mut self.undo).into_iter().rev() {
            let offset = u64::from(pgno - 1) * u64::from(self.page_size);
            if let Some(before) = before.filter(|_| self.rng.one_in(2)) {
                self.db.write_all_at(&before, offset).expect("write");
            }
        }
    }

    fn lose_unsynced_log(&mut self) {
        let kept = [0, 50, 90, 99, 100][self.rng.below(5) as usize];
        let mut image = self.log_synced.clone();
        image.resize(self.log_bytes.len().max(image.len()), 0);
        for at in (0..self.log_bytes.len()).step_by(SECTOR) {
            let end = (at + SECTOR).min(self.log_bytes.len());
            if chance(&mut self.rng, kept) {
                image[at..end].copy_from_slice(&self.log_bytes[at..end]);
            }
        }
        self.keep_log(image);
    }

    /// `walIndexRecover`, and what the database is then. Returns the number of commits that are gone.
    fn recover(&mut self) -> usize {
        let size = self.page_size as usize;
        let len = self.db.metadata().expect("metadata").len() as usize;
        let mut file = vec![0; len];
        self.db.read_exact_at(&mut file, 0).expect("read");
        self.pages = file.chunks_exact(size).map(<[u8]>::to_vec).collect();
        self.frames.clear();
        let bytes = self.log_bytes.first_chunk::<WAL_HEADER_SIZE>();
        self.header = bytes.and_then(|bytes| WalHeader::parse(bytes).ok());
        let mut header = Self::no_log(self.pages.len() as u32);
        if let Some(log) = self.header {
            let mut frames = Vec::new();
            let (mut committed, mut cksum) = (0, log.cksum);
            for frame in FrameScanner::new(&log, log.cksum, &self.log_bytes[WAL_HEADER_SIZE..]) {
                frames.push((frame.header.pgno, frame.data.to_vec()));
                if frame.header.is_commit() {
                    committed = frames.len();
                    cksum = frame.cksum_after;
                    header.page_count = frame.header.commit_size;
                }
            }
            frames.truncate(committed);
            for (pgno, page) in frames {
                let at = pgno as usize - 1;
                self.pages
                    .resize(self.pages.len().max(at + 1), vec![0; size]);
                self.pages[at] = page;
                self.frames.push((pgno, None));
            }
            if committed > 0 {
                self.pages.truncate(header.page_count as usize);
            }
            self.cksum = cksum;
            header.mx_frame = committed as u32;
            header.page_size = self.page_size;
            header.frame_cksum = cksum;
            header.salt = log.salt;
            if committed == 0 {
                // The next writer makes a header of its own.
                self.header = None;
                header.salt = [0, 0];
            }
        }
        let hashes = (1..)
            .zip(&self.pages)
            .map(|(pgno, page)| page_hash(pgno, page));
        self.hashes = hashes.collect();
        let found = self.history.find(self.dbsum(), self.page_count());
        let state = found.expect("the application's own recovery gives one of its states");
        if let Some(last) = self.frames.last_mut() {
            last.1 = Some(state);
        }
        self.memory = Memory::recovered(header);
        self.history.back_to(state)
    }
}
