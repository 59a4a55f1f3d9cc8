//! An archive in a directory, from a real database and the bytes of its log.

use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
use rusqlite::Connection;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use walcast::archive::{GenerationDoc, Key, OwnerDoc, SegmentDoc, SnapshotDoc};
use walcast::format::commits::CommitRecord;
use walcast::format::dbheader::lock_page;
use walcast::format::dbsum::{DbSum, page_hash};
use walcast::format::position::{Generation, Position};
use walcast::format::wal::{Cksum, FRAME_HEADER_SIZE, FrameHeader, frame_size};

/// The first commit's time; each one after it comes a second later.
pub const START_US: i64 = 1_700_000_000_000_000;
pub const STEP_US: i64 = 1_000_000;

/// A committed state.
#[derive(Clone)]
pub struct State {
    pub position: Position,
    pub time_us: i64,
    /// The database as SQLite itself hands it out.
    pub bytes: Vec<u8>,
}

/// An archive in the making, or made.
pub struct Maker {
    pub dir: tempfile::TempDir,
    pub root: PathBuf,
    pub generation: Generation,
    pub states: Vec<State>,
    pub snapshots: Vec<Position>,
    connection: Connection,
    page_size: u32,
    index: u64,
    /// Bytes of the log that are archived.
    archived: u64,
    previous_end: u64,
    records: Vec<CommitRecord>,
}

pub fn sum(bytes: &[u8], page_size: u32) -> DbSum {
    let pages = (1..).zip(bytes.chunks_exact(page_size as usize));
    let pages = pages.filter(|(pgno, _)| *pgno != lock_page(page_size));
    pages.fold(DbSum::default(), |sum, (pgno, page)| {
        sum ^ page_hash(pgno, page)
    })
}

/// As the `lz4` tool packs, with what it may choose chosen in turn.
pub fn pack(bytes: &[u8], turn: usize) -> Vec<u8> {
    let info = FrameInfo::new()
        .content_checksum(true)
        .block_checksums(turn % 3 == 1)
        .block_mode([BlockMode::Independent, BlockMode::Linked][turn % 2])
        .block_size([BlockSize::Max64KB, BlockSize::Max1MB, BlockSize::Max4MB][turn % 3])
        .content_size((turn % 4 == 2).then_some(bytes.len() as u64));
    let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
    encoder.write_all(bytes).expect("packed");
    encoder.finish().expect("packed")
}

pub fn write(root: &Path, key: Key, bytes: &[u8]) {
    let path = root.join(key.to_string());
    std::fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
    // Whole or not at all, as a store does it.
    let temporary = root.with_extension("tmp");
    std::fs::write(&temporary, bytes).expect("written");
    std::fs::rename(temporary, path).expect("renamed");
}

impl Maker {
    /// A database, its first snapshot, and an owner.
    pub fn new(page_size: u32) -> Maker {
        let dir = tempfile::tempdir().expect("a directory");
        let connection = Connection::open(dir.path().join("app.db")).expect("a database");
        let setup = format!(
            "PRAGMA page_size={page_size}; PRAGMA auto_vacuum=INCREMENTAL; PRAGMA journal_mode=WAL; \
             PRAGMA wal_autocheckpoint=0; PRAGMA synchronous=OFF; \
             CREATE TABLE t(id INTEGER PRIMARY KEY, a, b); CREATE INDEX i ON t(a);"
        );
        connection.execute_batch(&setup).expect("a table");
        let root = dir.path().join("archive");
        let mut maker = Maker {
            dir,
            root,
            generation: Generation(0xaaaa_0000_0000_0001),
            states: Vec::new(),
            snapshots: Vec::new(),
            connection,
            page_size,
            index: 0,
            archived: 0,
            previous_end: 0,
            records: Vec::new(),
        };
        maker.truncate();
        let owner = OwnerDoc {
            version: 1,
            id: "a".repeat(32),
            server: "host".to_owned(),
            database: "app.db".to_owned(),
            since_us: START_US,
        };
        write(&maker.root, Key::Owner { epoch: 1 }, &owner.encode());
        maker.describe(None);
        maker.remember(0);
        maker.snapshot();
        maker
    }

    fn log(&self) -> Vec<u8> {
        std::fs::read(self.dir.path().join("app.db-wal")).expect("a log")
    }

    fn truncate(&self) {
        let sql = "PRAGMA wal_checkpoint(TRUNCATE)";
        let busy: i64 = self
            .connection
            .query_row(sql, [], |row| row.get(0))
            .expect("a checkpoint");
        assert_eq!(busy, 0);
    }

    fn describe(&self, fork: Option<Position>) {
        let doc = GenerationDoc {
            version: 1,
            page_size: self.page_size,
            created_us: self.next_time(),
            fork,
            epoch: 1,
        };
        let key = Key::GenerationDoc {
            generation: self.generation.into(),
        };
        write(&self.root, key, &doc.encode());
    }

    fn next_time(&self) -> i64 {
        START_US + self.states.len() as i64 * STEP_US
    }

    fn remember(&mut self, offset: u64) -> &State {
        let bytes = self.connection.serialize("main").expect("bytes").to_vec();
        let state = State {
            position: Position {
                generation: self.generation,
                index: self.index,
                offset,
            },
            time_us: self.next_time(),
            bytes,
        };
        self.states.push(state);
        self.states.last().expect("just pushed")
    }

    /// Runs statements, which must be one transaction that changes something.
    pub fn commit(&mut self, sql: &str) {
        self.connection.execute_batch(sql).expect(sql);
        let log = self.log();
        let frame = frame_size(self.page_size) as usize;
        let head = log[log.len() - frame..]
            .first_chunk::<FRAME_HEADER_SIZE>()
            .expect("a frame");
        let header = FrameHeader::parse(head);
        assert!(header.is_commit(), "{sql}");
        let page_size = self.page_size;
        let state = self.remember(log.len() as u64);
        let record = CommitRecord {
            end_offset: log.len() as u64,
            dbsum: sum(&state.bytes, page_size),
            page_count: header.commit_size,
            time_us: state.time_us,
            cksum: Cksum(header.cksum.0, header.cksum.1),
        };
        assert_eq!(
            state.bytes.len() as u64,
            u64::from(header.commit_size) * u64::from(page_size)
        );
        self.records.push(record);
    }

    /// The same, by a primary that does not know the database's checksum yet.
    pub fn commit_unproven(&mut self, sql: &str) {
        self.commit(sql);
        let record = self.records.last_mut().expect("just pushed");
        (record.page_count, record.dbsum) = (0, DbSum::default());
    }

    /// Archives what was committed since, in one segment; a large transaction in several, of which the last has the commit.
    pub fn segment(&mut self) {
        self.segments(u64::MAX);
    }

    /// The same with a segment for each so many frames, as long as there is no commit.
    pub fn segments(&mut self, frames: u64) {
        let log = self.log();
        let step = frames.saturating_mul(frame_size(self.page_size));
        let first_commit = self.records.first().map_or(0, |record| record.end_offset);
        while self.archived.saturating_add(step) < first_commit {
            let end = if self.archived == 0 {
                32
            } else {
                self.archived
            } + step;
            self.put(&log, end, Vec::new());
        }
        let records = std::mem::take(&mut self.records);
        if !records.is_empty() {
            self.put(&log, log.len() as u64, records);
        }
    }

    fn put(&mut self, log: &[u8], end: u64, records: Vec<CommitRecord>) {
        let start = self.archived;
        let key = Key::wal(self.generation, self.index, start);
        let turn = (self.index + start) as usize;
        let packed = pack(&log[start as usize..end as usize], turn);
        write(&self.root, key, &packed);
        let doc = SegmentDoc {
            page_size: self.page_size,
            start,
            end,
            previous_end: if start == 0 { self.previous_end } else { 0 },
            records,
        };
        write(&self.root, key.doc().expect("one"), &doc.encode());
        self.archived = end;
    }

    /// A snapshot of the last state, whose segments are archived.
    pub fn snapshot(&mut self) {
        assert!(self.records.is_empty());
        let state = self.states.last().expect("a state");
        let key = Key::snapshot(self.generation, state.position.index);
        write(&self.root, key, &pack(&state.bytes, self.snapshots.len()));
        let doc = SnapshotDoc {
            version: 1,
            position: state.position,
            dbsum: sum(&state.bytes, self.page_size).to_string(),
            page_count: (state.bytes.len() / self.page_size as usize) as u32,
            page_size: self.page_size,
            time_us: state.time_us,
            taken_us: state.time_us + 500,
        };
        write(&self.root, key.doc().expect("one"), &doc.encode());
        self.snapshots.push(state.position);
    }

    /// The log ends, and the next commit begins a new one.
    pub fn restart(&mut self) {
        assert!(self.records.is_empty());
        self.previous_end = self.archived;
        self.archived = 0;
        self.index += 1;
        self.truncate();
    }

    /// A new history, from the state as it is.
    pub fn fork(&mut self) {
        self.restart();
        let fork = self.states.last().map(|state| state.position);
        self.generation = Generation(self.generation.0 - 1);
        self.index = 0;
        self.previous_end = 0;
        self.describe(fork);
        self.remember(0);
        self.snapshot();
    }

    /// As an ancestor would have left it.
    pub fn without_documents(&self) {
        std::fs::remove_dir_all(self.root.join("walcast")).expect("removed");
    }

    pub fn newest(&self) -> &State {
        self.states.last().expect("a state")
    }

    /// The state at a position.
    pub fn at(&self, position: Position) -> &State {
        let found = self.states.iter().find(|s| s.position == position);
        found.unwrap_or_else(|| panic!("{position} is no state"))
    }

    /// All objects, by name.
    pub fn objects(&self) -> Vec<Key> {
        let mut names = Vec::new();
        let mut open = vec![self.root.clone()];
        while let Some(dir) = open.pop() {
            for entry in std::fs::read_dir(dir).expect("a directory") {
                let path = entry.expect("an entry").path();
                match path.is_dir() {
                    true => open.push(path),
                    false => {
                        let name = path.strip_prefix(&self.root).expect("below");
                        let name = name.to_str().expect("UTF-8");
                        names.push(name.parse::<Key>().unwrap_or_else(|_| panic!("{name}")));
                    }
                }
            }
        }
        names.sort();
        names
    }
}

/// Histories with everything in them that happens to a database.
pub fn made(histories: u32, logs: u32, rounds: u32) -> Maker {
    let mut maker = Maker::new(1024);
    for history in 0..histories {
        for log in 0..logs {
            for round in 0..rounds {
                for commit in 0..3 {
                    maker.commit(&format!(
                        "BEGIN; INSERT INTO t(a, b) VALUES ({commit}, randomblob(900)), ({round}, randomblob(20)); \
                         UPDATE t SET b = randomblob(300) WHERE id % 7 = {round}; COMMIT"
                    ));
                }
                maker.segment();
                // One for each log: they are named by it.
                if round == rounds / 2 && log > 0 {
                    maker.snapshot();
                }
            }
            // Larger than a segment.
            maker.commit(
                "INSERT INTO t(a, b) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 300) \
                 SELECT i, randomblob(700) FROM n",
            );
            maker.segments(80);
            // Smaller, and larger again.
            maker.commit(
                "BEGIN; DELETE FROM t WHERE id % 3 != 0; PRAGMA incremental_vacuum; COMMIT",
            );
            maker.commit("INSERT INTO t(a, b) VALUES (1, zeroblob(40000))");
            maker.segment();
            if log + 1 < logs {
                maker.restart();
            }
        }
        if history + 1 < histories {
            maker.fork();
        }
    }
    maker
}

/// More than 100 states.
pub fn eventful() -> Maker {
    made(2, 3, 6)
}
