//! A replica in memory that proves every message: order, checksum chain, database checksum at each commit.

use crate::format::dbheader::lock_page;
use crate::format::dbsum::{DbSum, page_hash};
use crate::format::lz4;
use crate::format::position::Position;
use crate::format::recent::{self, Window};
use crate::format::wal::{
    Cksum, FRAME_HEADER_SIZE, FrameScanner, ScanEnd, WAL_HEADER_SIZE, WalHeader,
};
use crate::model::{Chunk, Codec, Follows, Message, SnapshotPages};
use std::path::Path;

#[derive(Default)]
pub struct Mirror {
    pub pages: Vec<Vec<u8>>,
    pub position: Option<Position>,
    /// The newest position that a commit record came with.
    pub dbsum: DbSum,
    pub in_snapshot: bool,
    pub follows: Vec<Follows>,
    pub snapshots: u32,
    pub chunks: u32,
    pub heartbeats: u32,
    /// Versions in the order of their commits.
    pub versions: Vec<u64>,
    /// Commits that came without a checksum, outside a snapshot.
    pub merged: u32,
    page_size: usize,
    log: Option<(WalHeader, Cksum)>,
    sum: u64,
    hashes: Vec<u64>,
    pending: Vec<(u32, Vec<u8>)>,
    /// What was sent, and may be referred to.
    window: Window,
    /// Chunks that referred to it.
    pub recent: u32,
}

impl Mirror {
    pub fn apply(&mut self, message: Message) {
        match message {
            Message::Hello(hello) => {
                self.page_size = hello.page_size as usize;
                self.window.forget();
                self.follows.push(hello.follows);
            }
            Message::SnapshotBegin(begin) => {
                self.in_snapshot = true;
                self.pages.clear();
                self.hashes.clear();
                self.sum = 0;
                self.pending.clear();
                self.position = Some(begin.start);
                self.log = begin.log;
                assert_eq!(begin.log.is_none(), begin.start.offset == 0);
            }
            Message::SnapshotPages(pages) => self.snapshot_pages(pages),
            Message::SnapshotEnd(end) => {
                assert!(self.in_snapshot && self.pending.is_empty());
                assert_eq!(self.position, Some(end.position));
                self.resize(end.page_count);
                self.check(end.dbsum, end.page_count);
                self.in_snapshot = false;
                self.snapshots += 1;
            }
            Message::Chunk(chunk) => self.chunk(&chunk),
            Message::Heartbeat { position, .. } => {
                assert!(Some(position) <= self.position.or(Some(position)));
                self.heartbeats += 1;
                self.window.forget();
            }
        }
    }

    fn snapshot_pages(&mut self, pages: SnapshotPages) {
        let data = unpack(pages.codec, &pages.data);
        assert_eq!(data.len(), pages.size as usize);
        for (pgno, page) in (pages.first_page..).zip(data.chunks_exact(self.page_size)) {
            self.set(pgno, page.to_vec());
        }
    }

    fn set(&mut self, pgno: u32, page: Vec<u8>) {
        let at = pgno as usize - 1;
        if self.pages.len() <= at {
            self.resize(pgno);
        }
        if pgno != lock_page(self.page_size as u32) {
            let hash = page_hash(pgno, &page);
            self.sum ^= self.hashes[at] ^ hash;
            self.hashes[at] = hash;
        }
        self.pages[at] = page;
    }

    fn resize(&mut self, pages: u32) {
        let pages = pages as usize;
        for hash in self.hashes.drain(pages.min(self.hashes.len())..) {
            self.sum ^= hash;
        }
        self.hashes.resize(pages, 0);
        self.pages.resize(pages, vec![0; self.page_size]);
    }

    fn check(&mut self, dbsum: DbSum, page_count: u32) {
        assert_eq!(
            self.pages.len(),
            page_count as usize,
            "pages at {:?}",
            self.position
        );
        assert_eq!(DbSum(self.sum), dbsum, "checksum at {:?}", self.position);
        self.dbsum = dbsum;
    }

    fn chunk(&mut self, chunk: &Chunk) {
        let data = match chunk.codec {
            Codec::Lz4Recent => self.unpack_recent(chunk),
            codec => unpack(codec, &chunk.data),
        };
        self.window.remember(data.clone().into());
        assert_eq!(data.len() as u64, chunk.size());
        let at = self.position.expect("a position first");
        let mut frames = &data[..];
        if chunk.start.offset == 0 {
            let next = at.index + 1 == chunk.start.index || at == chunk.start;
            assert!(
                next && at.generation == chunk.start.generation,
                "{at} then {}",
                chunk.start
            );
            let (header, rest) = data
                .split_first_chunk::<WAL_HEADER_SIZE>()
                .expect("a header");
            let header = WalHeader::parse(header).expect("a valid header");
            self.log = Some((header, header.cksum));
            frames = rest;
        } else {
            assert_eq!(at, chunk.start, "no gap");
        }
        let (header, cksum) = self.log.expect("a log");
        let mut scanner = FrameScanner::new(&header, cksum, frames);
        let mut commits = 0;
        for frame in scanner.by_ref() {
            self.pending.push((frame.header.pgno, frame.data.to_vec()));
            if frame.header.is_commit() {
                commits += 1;
                self.commit(frame.header.commit_size);
            }
        }
        assert_eq!(scanner.end(), Some(ScanEnd::End));
        self.log = Some((header, scanner.cksum()));
        self.position = Some(chunk.end());
        self.chunks += 1;
        match &chunk.commit {
            Some(commit) => {
                assert!(self.pending.is_empty() && commits > 0);
                self.check_unless_snapshot(commit.dbsum, commit.page_count);
            }
            None if !self.in_snapshot => self.merged += commits,
            None => {}
        }
    }

    fn unpack_recent(&mut self, chunk: &Chunk) -> Vec<u8> {
        self.recent += 1;
        let (frame, size) = (FRAME_HEADER_SIZE + self.page_size, chunk.size() as usize);
        recent::unpack(&chunk.data, &self.window, frame, size)
            .expect("packed against what was sent here")
    }

    fn check_unless_snapshot(&mut self, dbsum: DbSum, page_count: u32) {
        // Inside a snapshot pages of the future may be there.
        if !self.in_snapshot {
            self.check(dbsum, page_count);
        }
    }

    fn commit(&mut self, page_count: u32) {
        let mut version = None;
        for (pgno, page) in std::mem::take(&mut self.pending) {
            version = version_of(&page).or(version);
            if pgno <= page_count {
                self.set(pgno, page);
            }
        }
        if !self.in_snapshot || self.pages.len() > page_count as usize {
            self.resize(page_count);
        }
        self.versions.extend(version);
    }

    /// Writes the database as a file and asks SQLite about it.
    pub fn verify(&self, directory: &Path) -> rusqlite::Connection {
        let path = directory.join("mirror.db");
        let mut bytes = self.pages.concat();
        // Out of WAL mode, since it has no log.
        bytes[18..20].fill(1);
        std::fs::write(&path, bytes).expect("written");
        let connection = rusqlite::Connection::open(&path).expect("opened");
        let check: String = connection
            .query_row("PRAGMA integrity_check", [], |row| row.get(0))
            .expect("checked");
        assert_eq!(check, "ok");
        connection
    }

    /// Every version from the first one seen to `last` is there, in order.
    pub fn assert_complete(&self, last: u64) {
        let seen: Vec<u64> = dedup(&self.versions);
        let first = *seen.first().expect("at least one commit");
        let expected: Vec<u64> = (first..=last).collect();
        let missing: Vec<&u64> = expected
            .iter()
            .filter(|v| seen.binary_search(v).is_err())
            .collect();
        assert!(
            missing.is_empty(),
            "{} of {} versions are missing",
            missing.len(),
            expected.len()
        );
        assert_eq!(seen, expected);
    }
}

fn dedup(versions: &[u64]) -> Vec<u64> {
    let mut versions = versions.to_vec();
    versions.dedup();
    versions
}

fn unpack(codec: Codec, data: &[u8]) -> Vec<u8> {
    match codec {
        Codec::None => data.to_vec(),
        Codec::Lz4 => {
            let mut out = Vec::new();
            lz4::decompress(data, 2 * 1024 * 1024, &mut out).expect("a whole frame");
            out
        }
        Codec::Lz4Recent => panic!("pages are never packed so"),
    }
}

/// The version in a page of the table `meta`: a leaf with one cell.
pub fn version_of(page: &[u8]) -> Option<u64> {
    if page[0] != 0x0d || page[3..5] != [0, 1] {
        return None;
    }
    let at = usize::from(u16::from_be_bytes([page[8], page[9]]));
    let cell = page.get(at..(at + 60).min(page.len()))?;
    let mark = cell.windows(8).position(|w| w == b"VERSION:")?;
    let digits = std::str::from_utf8(cell.get(mark + 8..mark + 24)?).ok()?;
    u64::from_str_radix(digits, 16).ok()
}
