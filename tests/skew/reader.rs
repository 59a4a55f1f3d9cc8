//! A replica of version 1, as its documentation has it and without walcast's code: it takes messages in order, follows each
//! rule that docs/protocol.md gives, and has the pages of the database. Like [`crate::messages`] it does not change when
//! walcast does.

use crate::messages::*;
use crate::transcript::unpack;
use crate::walfile;
use bytes::Bytes;
use prost::Message as _;
use std::collections::BTreeMap;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    AwaitHello,
    AwaitSnapshot,
    Snapshot,
    Wal,
}

/// The chain of frame checksums in one WAL file.
#[derive(Clone, Copy)]
struct Chain {
    big_endian: bool,
    salts: [u8; 8],
    sum: (u32, u32),
}

pub struct Reader {
    phase: Phase,
    page_size: usize,
    pages: BTreeMap<u32, Vec<u8>>,
    /// Frames of a transaction that has not ended.
    open: Vec<(u32, Vec<u8>)>,
    chain: Option<Chain>,
    /// The end of what came.
    cursor: String,
    /// Of the newest stream.
    pub hello: Option<Hello>,
    /// Where the pages are the database.
    pub position: String,
    pub page_count: u32,
    pub heartbeats: usize,
    /// Transactions that were proven.
    pub commits: usize,
    /// WAL files that began.
    pub indexes: usize,
    /// Chunks within a snapshot, and chunks that are in the middle of a transaction.
    pub chunks_in_snapshot: usize,
    pub chunks_without_end: usize,
}

/// Index and offset of a position.
fn place(position: &str) -> (u64, u64) {
    let (_, place) = position.split_once('/').expect("generation/index:offset");
    let (index, offset) = place.split_once(':').expect("generation/index:offset");
    let number = |text| u64::from_str_radix(text, 16).expect("16 hexadecimal digits");
    (number(index), number(offset))
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn unpacked(codec: i32, size: u32, data: &Bytes) -> Vec<u8> {
    let bytes = match codec {
        CODEC_NONE => data.to_vec(),
        CODEC_LZ4 => unpack(data),
        other => panic!("codec {other} is not of version 1"),
    };
    assert_eq!(bytes.len(), size as usize, "size is what it is unpacked");
    bytes
}

impl Reader {
    pub fn new() -> Reader {
        Reader {
            phase: Phase::AwaitHello,
            page_size: 0,
            pages: BTreeMap::new(),
            open: Vec::new(),
            chain: None,
            cursor: String::new(),
            hello: None,
            position: String::new(),
            page_count: 0,
            heartbeats: 0,
            commits: 0,
            indexes: 0,
            chunks_in_snapshot: 0,
            chunks_without_end: 0,
        }
    }

    /// A new stream begins.
    pub fn connected(&mut self) {
        self.phase = Phase::AwaitHello;
        self.open.clear();
        self.hello = None;
    }

    /// Takes one answer of `Stream`.
    pub fn take(&mut self, answer: &Bytes) {
        let response = StreamResponse::decode(answer.clone()).expect("protobuf");
        let body = response.body;
        // To skip it could lose data.
        let body = body.expect("a message that a replica of version 1 knows");
        match (self.phase, body) {
            (Phase::AwaitHello, Body::Hello(hello)) => self.hello(hello),
            (Phase::AwaitHello, other) => panic!("{other:?} came before the hello"),
            (_, Body::Heartbeat(beat)) => {
                place(&beat.position);
                self.heartbeats += 1;
            }
            (Phase::AwaitSnapshot, Body::SnapshotBegin(begin)) => self.begin(&begin),
            (Phase::Snapshot, Body::SnapshotPages(pages)) => self.snapshot_pages(&pages),
            (Phase::Snapshot, Body::SnapshotEnd(end)) => self.end(&end),
            (Phase::Snapshot | Phase::Wal, Body::WalChunk(chunk)) => self.chunk(&chunk),
            (phase, other) => panic!("{other:?} in {phase:?}"),
        }
    }

    fn hello(&mut self, hello: Hello) {
        assert_eq!(hello.protocol, 1, "the version that was asked for");
        let algorithm = hello.checksum_algorithm;
        assert_eq!(algorithm, CHECKSUM_ALGORITHM_XXH3_XOR);
        assert!((1..=3_600_000).contains(&hello.heartbeat_ms));
        assert!(!hello.session_id.is_empty() && !hello.server_id.is_empty());
        assert!(hello.position.starts_with(&hello.generation));
        self.phase = match hello.follows {
            FOLLOWS_RESUME => {
                assert_eq!(hello.page_size as usize, self.page_size);
                assert!(self.position.starts_with(&hello.generation));
                self.cursor.clone_from(&self.position);
                Phase::Wal
            }
            follows if FOLLOWS_SNAPSHOT.contains(&follows) => Phase::AwaitSnapshot,
            other => panic!("follows {other} is not of version 1"),
        };
        self.page_size = hello.page_size as usize;
        self.hello = Some(hello);
    }

    fn begin(&mut self, begin: &SnapshotBegin) {
        assert_eq!(begin.kind, SNAPSHOT_KIND_FULL);
        self.chain = match place(&begin.start).1 {
            0 => {
                assert!(begin.wal_header.is_empty() && begin.frame_checksum.is_none());
                None
            }
            _ => {
                let sum = begin.frame_checksum.as_ref().expect("a frame checksum");
                let mut chain = self.header(&begin.wal_header);
                chain.sum = (sum.first, sum.second);
                Some(chain)
            }
        };
        self.pages.clear();
        self.cursor.clone_from(&begin.start);
        self.phase = Phase::Snapshot;
    }

    fn snapshot_pages(&mut self, pages: &SnapshotPages) {
        let due = self.pages.last_key_value().map_or(1, |(last, _)| last + 1);
        assert_eq!(pages.first_page, due, "pages come in order");
        assert!(pages.size <= 1 << 20);
        let bytes = unpacked(pages.codec, pages.size, &pages.data);
        assert!(bytes.len().is_multiple_of(self.page_size));
        let numbered = (due..).zip(bytes.chunks_exact(self.page_size));
        self.pages
            .extend(numbered.map(|(number, page)| (number, page.to_vec())));
    }

    fn end(&mut self, end: &SnapshotEnd) {
        assert_eq!(end.position, self.cursor, "the end of the log that came");
        self.pages.split_off(&(end.page_count + 1));
        self.proven(end.page_count, end.database_checksum, &end.position);
        self.phase = Phase::Wal;
    }

    fn header(&self, header: &[u8]) -> Chain {
        let big_endian = match word(header, 0) {
            0x377f_0682 => false,
            0x377f_0683 => true,
            other => panic!("{other:x} does not begin a WAL"),
        };
        assert_eq!(word(header, 8) as usize, self.page_size);
        let sum = walfile::sum((0, 0), &header[..24], big_endian);
        assert_eq!(sum, (word(header, 24), word(header, 28)));
        let salts = header[16..24].try_into().expect("eight bytes");
        Chain {
            big_endian,
            salts,
            sum,
        }
    }

    fn chunk(&mut self, chunk: &WalChunk) {
        let (index, offset) = place(&chunk.start);
        let (last_index, last_offset) = place(&self.cursor);
        let follows =
            (index, offset) == (last_index, last_offset) || (index, offset) == (last_index + 1, 0);
        assert!(follows, "{} came after {}", chunk.start, self.cursor);
        assert_eq!(chunk.end_offset, offset + u64::from(chunk.size));
        let mut bytes = &unpacked(chunk.codec, chunk.size, &chunk.data)[..];
        if offset == 0 {
            let (header, frames) = bytes.split_at(walfile::HEADER as usize);
            self.chain = Some(self.header(header));
            self.indexes += 1;
            bytes = frames;
        }
        let generation = chunk.start.split('/').next().unwrap_or_default();
        self.cursor = format!("{generation}/{index:016x}:{:016x}", chunk.end_offset);
        let end = self.frames(bytes);
        self.chunks_in_snapshot += usize::from(self.phase == Phase::Snapshot);
        self.chunks_without_end += usize::from(end.is_none());
        let Some(commit) = &chunk.commit else { return };
        assert_eq!(end, Some(commit.page_count), "commit is of the last frame");
        if self.phase == Phase::Wal {
            let at = self.cursor.clone();
            self.proven(commit.page_count, commit.database_checksum, &at);
            self.commits += 1;
        }
    }

    /// Follows the chain over whole frames; the database's size where the last of them ends a transaction.
    fn frames(&mut self, bytes: &[u8]) -> Option<u32> {
        let mut chain = self.chain.expect("the header of the WAL");
        let frame_size = walfile::FRAME_HEADER as usize + self.page_size;
        let mut end = None;
        assert!(bytes.len().is_multiple_of(frame_size), "whole frames");
        for frame in bytes.chunks_exact(frame_size) {
            let (header, page) = frame.split_at(walfile::FRAME_HEADER as usize);
            assert_eq!(header[8..16], chain.salts);
            chain.sum = walfile::sum(chain.sum, &header[..8], chain.big_endian);
            chain.sum = walfile::sum(chain.sum, page, chain.big_endian);
            assert_eq!(chain.sum, (word(header, 16), word(header, 20)));
            self.open.push((word(header, 0), page.to_vec()));
            let size = word(header, 4);
            end = (size != 0).then_some(size);
            if size != 0 {
                self.pages.extend(self.open.drain(..));
                self.pages.split_off(&(size + 1));
            }
        }
        self.chain = Some(chain);
        end
    }

    /// What came is the database at this position, by its checksum.
    fn proven(&mut self, page_count: u32, checksum: u64, position: &str) {
        assert_eq!(self.pages.len(), page_count as usize, "every page");
        assert_eq!(checksum_of(self.pages.values()), checksum, "at {position}");
        self.page_count = page_count;
        position.clone_into(&mut self.position);
    }

    /// The database as a file.
    pub fn image(&self) -> Vec<u8> {
        self.pages.values().flatten().copied().collect()
    }
}

/// CHECKSUM_ALGORITHM_XXH3_XOR, of a database that is too small for a lock-byte page.
pub fn checksum_of<P: AsRef<[u8]>>(pages: impl Iterator<Item = P>) -> u64 {
    let hash = |(number, page): (u64, P)| match page.as_ref() {
        page if page.iter().all(|byte| *byte == 0) => 0,
        page => xxhash_rust::xxh3::xxh3_64_with_seed(page, number),
    };
    (1..).zip(pages).map(hash).fold(0, |sum, hash| sum ^ hash)
}
