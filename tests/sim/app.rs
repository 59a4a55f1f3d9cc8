//! The application: its database file and its log, with the bytes that SQLite would write, and what a power cut leaves of
//! them. `synchronous=NORMAL`: the log is synced when it begins anew and before a checkpoint copies it.

mod recovery;

use crate::history::{History, StateId};
use crate::rng::Rng;
use crate::shm::{Memory, Owner};
use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use walcast::format::dbsum::page_hash;
use walcast::format::wal::{
    Cksum, FRAME_HEADER_SIZE, WAL_HEADER_SIZE, WalHeader, frame_size, seal_frame,
};
use walcast::format::walindex::{IndexHeader, READ0};
use walcast::primary::parts::LiveLog;
use walcast::sys::LockKind::Exclusive;

/// Beyond 6 MiB capture hurries by the real clock, which a simulation must not meet.
pub const LONGEST_LOG: u64 = 5 << 20;

/// One page that is being changed by a checkpoint and is not synced: its number, and its bytes before.
type Undo = (u32, Option<Vec<u8>>);

/// The application and its two files.
pub struct App {
    pub path: PathBuf,
    pub page_size: u32,
    pub memory: Memory,
    pub history: History,
    db: File,
    log: File,
    /// The newest content.
    pages: Vec<Vec<u8>>,
    hashes: Vec<u64>,
    header: Option<WalHeader>,
    cksum: Cksum,
    /// The page of each frame, and the state that it commits, if it does.
    frames: Vec<(u32, Option<StateId>)>,
    log_bytes: Vec<u8>,
    log_synced: Vec<u8>,
    undo: Vec<Undo>,
    /// Frames of the transactions that a power cut took, if the application is asked for the same again.
    pub again: VecDeque<u32>,
    next_content: u64,
    /// How often the log began anew.
    pub restarts: u64,
    is_large: bool,
    rng: Rng,
}

/// Page 1 of a database without tables, in WAL mode, that SQLite opens.
fn page_one(page_size: u32) -> Vec<u8> {
    let mut page = vec![0; page_size as usize];
    page[..16].copy_from_slice(b"SQLite format 3\0");
    page[16..18].copy_from_slice(&(page_size as u16).to_be_bytes());
    page[18..24].copy_from_slice(&[2, 2, 0, 64, 32, 32]);
    page[27] = 1;
    page[47] = 4;
    page[59] = 1;
    // An empty leaf of a table's tree; its cells would begin at the end of the page.
    page[100] = 0x0d;
    page[105..107].copy_from_slice(&(page_size as u16).to_be_bytes());
    page
}

impl App {
    /// A new database of some pages.
    pub fn create(path: &Path, page_size: u32, pages: u32, rng: Rng) -> App {
        let file = |path: &Path| {
            let mut options = File::options();
            options.read(true).write(true).create(true).truncate(true);
            options.open(path).expect("a file of the application")
        };
        let mut app = App {
            path: path.to_owned(),
            page_size,
            memory: Memory::recovered(Self::no_log(0)),
            history: History::default(),
            db: file(path),
            log: file(&LiveLog::path_of(path)),
            pages: Vec::new(),
            hashes: Vec::new(),
            header: None,
            cksum: Cksum::default(),
            frames: Vec::new(),
            log_bytes: Vec::new(),
            log_synced: Vec::new(),
            undo: Vec::new(),
            again: VecDeque::new(),
            next_content: 0,
            restarts: 0,
            is_large: u64::from(pages) * u64::from(page_size) > 1 << 20,
            rng,
        };
        for pgno in 1..=pages {
            let page = app.content(pgno);
            app.set(pgno, page);
        }
        app.db.write_all_at(&app.pages.concat(), 0).expect("write");
        let sum = app.dbsum();
        app.history.commit(sum, pages);
        app
    }

    fn no_log(pages: u32) -> IndexHeader {
        IndexHeader {
            change: 0,
            is_init: true,
            big_endian: cfg!(target_endian = "big"),
            page_size: 0,
            mx_frame: 0,
            page_count: pages,
            frame_cksum: Cksum::default(),
            salt: [0, 0],
        }
    }

    /// New bytes of a page, no two alike.
    fn content(&mut self, pgno: u32) -> Vec<u8> {
        self.next_content += 1;
        let mut page = page_one(self.page_size);
        let free = match pgno {
            1 => &mut page[112..],
            _ => &mut page[..],
        };
        free[..8].copy_from_slice(&self.next_content.to_le_bytes());
        free[8] = 1;
        // In a large one nothing shrinks, so that much is on its way.
        if self.is_large || self.rng.one_in(2) {
            let noise = if self.is_large {
                free.len()
            } else {
                free.len() / 2
            };
            let noise = self.rng.bytes(noise);
            free[16..16 + noise.len() - 16].copy_from_slice(&noise[16..]);
        }
        page
    }

    fn set(&mut self, pgno: u32, page: Vec<u8>) {
        let at = pgno as usize - 1;
        if at >= self.pages.len() {
            self.pages.resize(at + 1, vec![0; self.page_size as usize]);
            self.hashes.resize(at + 1, 0);
        }
        self.hashes[at] = page_hash(pgno, &page);
        self.pages[at] = page;
    }

    fn dbsum(&self) -> u64 {
        self.hashes.iter().fold(0, |sum, hash| sum ^ hash)
    }

    /// Pages of the newest state.
    pub fn page_count(&self) -> u32 {
        self.pages.len() as u32
    }

    /// Bytes of the log that count.
    pub fn log_len(&self) -> u64 {
        self.len_of(self.frames.len())
    }

    /// Bytes of a log of so many frames.
    pub fn len_of(&self, frames: usize) -> u64 {
        WAL_HEADER_SIZE as u64 + frames as u64 * frame_size(self.page_size)
    }

    fn write_log(&mut self, at: usize, bytes: &[u8]) {
        let end = at + bytes.len();
        if self.log_bytes.len() < end {
            self.log_bytes.resize(end, 0);
        }
        self.log_bytes[at..end].copy_from_slice(bytes);
        self.log.write_all_at(bytes, at as u64).expect("write");
    }

    /// `walRestartLog`: all is copied and nobody is on the log, so it begins anew. True if it did.
    pub fn try_restart(&mut self) -> bool {
        let mut shm = self.memory.get();
        let frames = shm.header.mx_frame;
        if frames == 0 || shm.info.backfill != frames || !shm.lock_readers(Owner::Application) {
            return false;
        }
        let salt = [shm.header.salt[0].wrapping_add(1), self.rng.next() as u32];
        let header = IndexHeader {
            mx_frame: 0,
            salt,
            change: shm.header.change,
            ..shm.header
        };
        shm.restart(header);
        shm.unlock_readers(Owner::Application);
        drop(shm);
        self.frames.clear();
        self.header = None;
        self.restarts += 1;
        true
    }

    /// A transaction that writes these many frames; the database then has `size` pages. Returns its state.
    pub fn commit(&mut self, frames: u32, size: u32) -> StateId {
        self.try_restart();
        let shm_header = self.memory.get().header;
        let header = match self.header {
            Some(header) => header,
            None => {
                let salt = match shm_header.salt {
                    [0, 0] => [self.rng.next() as u32, self.rng.next() as u32],
                    salt => salt,
                };
                let header = WalHeader::new(self.page_size, self.rng.next() as u32 & 0xff, salt);
                self.write_log(0, &header.encode());
                self.log_synced.clone_from(&self.log_bytes);
                self.header = Some(header);
                self.cksum = header.cksum;
                header
            }
        };
        let grown: Vec<u32> = (self.page_count() + 1..=size).collect();
        let rest = (frames as usize).saturating_sub(grown.len()).max(1);
        let mut list = grown;
        for _ in 0..rest {
            list.push(self.rng.between(1, u64::from(size)) as u32);
        }
        let state = self.history.len();
        let last = list.len() - 1;
        let mut bytes = Vec::new();
        for (i, pgno) in list.into_iter().enumerate() {
            let page = self.content(pgno);
            let commit_size = if i == last { size } else { 0 };
            let at = bytes.len();
            bytes.resize(at + FRAME_HEADER_SIZE, 0);
            bytes.extend_from_slice(&page);
            let frame = &mut bytes[at..];
            let big = header.big_endian;
            self.cksum = seal_frame(frame, big, pgno, commit_size, header.salt, self.cksum);
            self.set(pgno, page);
            self.frames.push((pgno, (i == last).then_some(state)));
        }
        let at = self.log_len() as usize - bytes.len();
        self.write_log(at, &bytes);
        self.pages.truncate(size as usize);
        self.hashes.truncate(size as usize);
        let mut shm = self.memory.get();
        shm.header = IndexHeader {
            change: shm.header.change.wrapping_add(1),
            page_size: self.page_size,
            mx_frame: self.frames.len() as u32,
            page_count: size,
            frame_cksum: self.cksum,
            salt: header.salt,
            ..shm.header
        };
        drop(shm);
        let sum = self.dbsum();
        self.history.commit(sum, size)
    }

    /// A PASSIVE checkpoint begins: the frames that it will copy; `None` if there is nothing to do or walcast is in the way.
    pub fn begin_checkpoint(&mut self) -> Option<u32> {
        let mut shm = self.memory.get();
        let safe = shm.safe_frames();
        if safe <= shm.info.backfill || !shm.lock(READ0, Exclusive, Owner::Application) {
            return None;
        }
        shm.info.attempted = safe;
        drop(shm);
        self.log_synced.clone_from(&self.log_bytes);
        Some(safe)
    }

    /// The pages that a checkpoint up to `safe` copies: each with its newest frame.
    pub fn to_copy(&self, safe: u32) -> Vec<(u32, u32)> {
        let backfill = self.memory.get().info.backfill;
        let mut newest = std::collections::BTreeMap::new();
        for frame in backfill..safe {
            newest.insert(self.frames[frame as usize].0, frame);
        }
        newest.into_iter().collect()
    }

    /// Copies one page.
    pub fn copy_page(&mut self, pgno: u32, frame: u32) {
        let size = self.page_size as usize;
        let at = WAL_HEADER_SIZE + frame as usize * frame_size(self.page_size) as usize;
        let at = at + FRAME_HEADER_SIZE;
        let offset = u64::from(pgno - 1) * size as u64;
        let mut before = vec![0; size];
        let there = self.db.read_exact_at(&mut before, offset).is_ok();
        self.undo.push((pgno, there.then_some(before)));
        let page = &self.log_bytes[at..at + size];
        self.db.write_all_at(page, offset).expect("write");
    }

    /// The copied pages are synced; a log that is copied whole gives the file its size.
    pub fn end_checkpoint(&mut self, safe: u32) {
        let mut shm = self.memory.get();
        if safe == shm.header.mx_frame {
            let len = u64::from(shm.header.page_count) * u64::from(self.page_size);
            self.db.set_len(len).expect("truncate");
        }
        shm.info.backfill = safe;
        shm.unlock(READ0, Exclusive, Owner::Application);
        drop(shm);
        self.undo.clear();
    }

    /// A TRUNCATE checkpoint's end: everything is copied, nobody reads the log, and the file becomes empty.
    pub fn truncate_log(&mut self) -> bool {
        if !self.try_restart() {
            return false;
        }
        self.log_bytes.clear();
        self.log_synced.clear();
        self.log.set_len(0).expect("truncate");
        true
    }
}
