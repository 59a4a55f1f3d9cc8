//! A real history to feed a replica with: an application database written by SQLite, cut into the messages that a primary
//! would send.

mod access;
mod apply;
mod at_once;
mod bare;
mod damaged;
mod detach;
mod faults;
mod foreign;
mod full;
mod gather;
mod gone;
mod held;
mod killed;
mod opening;
mod queue;
mod recent;
mod room;
mod stream;
mod theirs;

use super::applier::Applier;
use super::record::Mark;
use super::shared::Shared;
use super::worker::{Work as _, Worker};
use super::{Command, ReplicaConfig};
use crate::format::dbheader::lock_page;
use crate::format::dbsum::{DbSum, page_hash};
use crate::format::position::{Generation, Position};
use crate::format::wal::{FRAME_HEADER_SIZE, FrameScanner, WAL_HEADER_SIZE, WalHeader};
use crate::format::walindex::{HEADER_SIZE, IndexHeader};
use crate::model::{
    Chunk, Codec, Commit, Follows, Hello, Message, SnapshotBegin, SnapshotEnd, SnapshotPages,
};
use bytes::Bytes;
use rusqlite::Connection;
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// The application's side.
pub(super) struct Source {
    directory: TempDir,
    pub(super) sql: Connection,
    base: Vec<u8>,
    pub(super) page_size: u32,
    pub(super) generation: Generation,
}

impl Source {
    pub(super) fn new(page_size: u32) -> Source {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("app.db");
        let sql = Connection::open(&path).expect("a database");
        sql.execute_batch(&format!(
            "PRAGMA page_size={page_size}; PRAGMA journal_mode=WAL"
        ))
        .expect("WAL mode");
        drop(sql);
        let base = std::fs::read(&path).expect("the file");
        let sql = Connection::open(&path).expect("a database");
        sql.execute_batch("PRAGMA wal_autocheckpoint=0")
            .expect("no checkpoints");
        Source {
            directory,
            sql,
            base,
            page_size,
            generation: Generation(0xabc),
        }
    }

    pub(super) fn run(&self, sql: &str) {
        self.sql.execute_batch(sql).expect("SQL that works");
    }

    fn wal(&self) -> Vec<u8> {
        std::fs::read(self.directory.path().join("app.db-wal")).expect("the log")
    }

    pub(super) fn at(&self, offset: u64) -> Position {
        Position {
            generation: self.generation,
            index: 0,
            offset,
        }
    }

    /// The whole history as chunks of at most `most` frames, each ending at a commit or holding none.
    pub(super) fn chunks(&self, most: usize) -> Vec<Chunk> {
        let wal = self.wal();
        let header: [u8; WAL_HEADER_SIZE] = wal[..WAL_HEADER_SIZE].try_into().expect("a header");
        let header = WalHeader::parse(&header).expect("a header");
        let mut hashes = BTreeMap::new();
        for (i, page) in self.base.chunks(self.page_size as usize).enumerate() {
            hashes.insert(i as u32 + 1, page_hash(i as u32 + 1, page));
        }
        let mut chunks = Vec::new();
        let (mut start, mut frames) = (0, 0);
        for frame in FrameScanner::new(&header, header.cksum, &wal[WAL_HEADER_SIZE..]) {
            let (pgno, pages) = (frame.header.pgno, frame.header.commit_size);
            if pgno != lock_page(self.page_size) {
                hashes.insert(pgno, page_hash(pgno, frame.data));
            }
            frames += 1;
            let end = WAL_HEADER_SIZE + frame.offset_in_buf + FRAME_HEADER_SIZE + frame.data.len();
            if pages == 0 && frames < most {
                continue;
            }
            let commit = (pages != 0).then(|| {
                hashes.retain(|pgno, _| *pgno <= pages);
                let dbsum = DbSum(hashes.values().fold(0, |a, b| a ^ b));
                Commit {
                    dbsum,
                    page_count: pages,
                    time_us: 5,
                }
            });
            let data = Bytes::copy_from_slice(&wal[start as usize..end]);
            let start_at = self.at(start);
            chunks.push(Chunk {
                start: start_at,
                end_offset: end as u64,
                codec: Codec::None,
                data,
                commit,
            });
            start = end as u64;
            frames = 0;
        }
        chunks
    }

    pub(super) fn hello(&self, follows: Follows) -> Message {
        let end = self.chunks(usize::MAX).last().map_or(0, |c| c.end_offset);
        Message::Hello(Hello {
            protocol: 1,
            server_id: "test".to_owned(),
            session_id: "1".to_owned(),
            page_size: self.page_size,
            generation: self.generation,
            parent: None,
            fork: None,
            follows,
            reason: "a test".to_owned(),
            position: self.at(end),
            clock_us: 5,
            heartbeat_ms: 1000,
        })
    }

    /// A snapshot: the base, then all of the log.
    pub(super) fn snapshot(&self) -> Vec<Message> {
        let chunks = self.chunks(100);
        let last = chunks.last().expect("a commit");
        let commit = last.commit.expect("the last chunk ends at a commit");
        let pages = SnapshotPages {
            first_page: 1,
            codec: Codec::None,
            size: self.base.len() as u32,
            data: Bytes::copy_from_slice(&self.base),
        };
        let begin = SnapshotBegin {
            page_count: 1,
            start: self.at(0),
            log: None,
        };
        let end = SnapshotEnd {
            position: last.end(),
            dbsum: commit.dbsum,
            page_count: commit.page_count,
            time_us: 5,
        };
        let mut messages = vec![
            self.hello(Follows::NewReplica),
            Message::SnapshotBegin(begin),
            Message::SnapshotPages(pages),
        ];
        messages.extend(chunks.into_iter().map(Message::Chunk));
        messages.push(Message::SnapshotEnd(end));
        messages
    }

    /// What follows a mark.
    pub(super) fn since(&self, mark: &Mark, most: usize) -> Vec<Message> {
        let from = mark.point.position.offset;
        let rest = self
            .chunks(most)
            .into_iter()
            .filter(|c| c.start.offset >= from);
        std::iter::once(self.hello(Follows::Resume))
            .chain(rest.map(Message::Chunk))
            .collect()
    }
}

/// The replica's side.
pub(super) struct Target {
    pub(super) directory: TempDir,
    pub(super) path: PathBuf,
    pub(super) shared: Arc<Shared>,
}

impl Target {
    pub(super) fn new() -> Target {
        Target::with_soft_limit(64 << 20)
    }

    pub(super) fn with_soft_limit(wal_soft_limit: u64) -> Target {
        Target::with_limits(wal_soft_limit, 1 << 30)
    }

    pub(super) fn with_limits(wal_soft_limit: u64, wal_hard_limit: u64) -> Target {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("copy.db");
        let mut config = ReplicaConfig::new("copy", path.clone(), "http://test");
        config.wal_soft_limit = wal_soft_limit;
        config.wal_hard_limit = wal_hard_limit;
        let shared = Arc::new(Shared::new(config));
        Target {
            directory,
            path,
            shared,
        }
    }

    /// From here on a round of the scrub follows the other at once.
    pub(super) fn scrub(&mut self) {
        let mut config = self.shared.config.clone();
        config.scrub_interval = Some(std::time::Duration::ZERO);
        self.shared = Arc::new(Shared::new(config));
    }

    /// From the next opening on.
    pub(super) fn soft_limit(&mut self, bytes: u64) {
        let mut config = self.shared.config.clone();
        config.wal_soft_limit = bytes;
        self.shared = Arc::new(Shared::new(config));
    }

    pub(super) fn side(&self) -> PathBuf {
        let side = crate::ownership::directory_of(&self.path);
        std::fs::create_dir_all(&side).expect("a directory");
        side
    }

    pub(super) fn open(&self) -> Applier {
        Applier::open(self.shared.clone(), self.side()).expect("an applier")
    }

    /// An applier that has taken the source's snapshot.
    pub(super) fn seeded(&self, source: &Source) -> Applier {
        let mut applier = self.open();
        assert!(applier.request().mark.is_none(), "nothing is there yet");
        feed(&mut applier, source.snapshot());
        applier
    }

    pub(super) fn reader(&self) -> Connection {
        reader(&self.path)
    }
}

pub(super) fn reader(path: &Path) -> Connection {
    Connection::open(path).expect("a reader")
}

pub(super) fn feed(applier: &mut Applier, messages: Vec<Message>) {
    for message in messages {
        applier.message(message).expect("a message that applies");
    }
}

/// Brings the replica level, as a reconnect does.
pub(super) fn catch_up(applier: &mut Applier, source: &Source) {
    let mark = applier.request().mark;
    match mark {
        Some(mark) => feed(applier, source.since(&mark, 100)),
        None => feed(applier, source.snapshot()),
    }
}

pub(super) fn rows(connection: &Connection) -> Vec<(i64, String)> {
    let mut statement = connection
        .prepare("SELECT a, b FROM t ORDER BY a")
        .expect("a table");
    let rows = statement
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
        .expect("rows");
    rows.map(|row| row.expect("a row")).collect()
}

pub(super) fn check(connection: &Connection) -> String {
    connection
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .expect("a check")
}

pub(super) fn tick_until(applier: &mut Applier, done: impl Fn(&Applier) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !done(applier) {
        applier.last_sync -= Duration::from_secs(1);
        applier.tick(true).expect("house kept");
        assert!(Instant::now() < deadline, "it does not come to that");
    }
}

/// A stream from where the replica is; true if it was taken to its end.
pub(super) fn stream(worker: &mut Worker, target: &Target, source: &Source) -> bool {
    let (reply, mut request) = oneshot::channel();
    worker.command(Command::Begin(reply));
    let Ok(Ok(request)) = request.try_recv() else {
        panic!("the database does not open")
    };
    let messages = match request.mark {
        Some(mark) => source.since(&mark, 100),
        None => source.snapshot(),
    };
    let session = CancellationToken::new();
    target.shared.set_session(session.clone());
    for message in messages {
        worker.command(Command::Message {
            message,
            session: session.clone(),
            permit: None,
        });
    }
    worker.settle();
    !session.is_cancelled()
}

/// Publishes another header, past all locks.
pub(super) fn change_header(shm: &File, change: impl Fn(IndexHeader) -> IndexHeader) {
    let mut bytes = [0; HEADER_SIZE];
    shm.read_exact_at(&mut bytes, 0).expect("read");
    let word = |at: usize| u32::from_ne_bytes([0, 1, 2, 3].map(|i| bytes[4 * at + i]));
    let header = IndexHeader::from_words(&std::array::from_fn(word)).expect("a header");
    let other = change(header).to_words().map(u32::to_ne_bytes).concat();
    for at in [HEADER_SIZE, 0] {
        shm.write_all_at(&other, at as u64).expect("written");
    }
}

pub(super) fn source_with_rows(page_size: u32, rows: u32) -> Source {
    let source = Source::new(page_size);
    source.run("CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT)");
    for i in 0..rows {
        source.run(&format!("INSERT INTO t(b) VALUES('row {i}')"));
    }
    source
}

/// Follows nobody, and asks `work` each time that a stream would begin; until the token is cancelled.
fn followed(
    shared: &Arc<Shared>,
    work: impl super::worker::Work + 'static,
) -> (tokio::task::JoinHandle<()>, CancellationToken) {
    let cancel = CancellationToken::new();
    let follower = super::follow::Follower {
        shared: shared.clone(),
        upstream: None,
        queue: super::queue::Queue::new(
            Box::new(work),
            Box::new(|work| drop(tokio::spawn(async move { work() }))),
        ),
    };
    let following = tokio::spawn(super::follow::run(follower, cancel.clone()));
    (following, cancel)
}
