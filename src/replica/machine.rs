//! What a replica decides, without doing it: a message comes in, actions come out.
//!
//! [`Machine::step`] checks every message against what came before (order, offsets, the primary's checksum chain) and
//! says what shall be done to the local database. It knows no file and no clock, so each rule can be tested with a list
//! of messages. After an error nothing more may be fed in: the stream ends, and the next begins with
//! [`Machine::connected`].

use crate::format::dbheader::valid_page_size;
use crate::format::position::Position;
use crate::format::wal::{
    Cksum, FRAME_HEADER_SIZE, FrameScanner, ScanEnd, WAL_HEADER_SIZE, WalHeader,
};
use crate::model::{
    Chunk, Commit, Follows, Hello, MAX_CHUNK, Message, Point, SnapshotBegin, SnapshotEnd,
    SnapshotPages,
};
use crate::replica::record::Mark;
use crate::replica::unpack::Unpacker;
use bytes::Bytes;

/// Unpacked bytes of one message at most: a chunk, and what one frame of the largest page may add.
pub const MAX_UNPACKED: usize = MAX_CHUNK + 65536 + FRAME_HEADER_SIZE + WAL_HEADER_SIZE;

/// One page in a [`Pages`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageAt {
    /// Its number.
    pub pgno: u32,
    /// Where it begins in the bytes.
    pub at: usize,
}

/// Pages that arrived together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pages {
    /// The bytes they lie in.
    pub bytes: Bytes,
    /// Where each lies.
    pub list: Vec<PageAt>,
}

/// What shall be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Begin a snapshot with this page size.
    BeginSnapshot {
        /// Bytes in a page.
        page_size: u32,
        /// Pages that will come, about.
        page_count: u32,
    },
    /// Add pages that nobody sees yet.
    Append(Pages),
    /// Add pages and make everything visible, if the checksum is right.
    Publish(Pages, Mark),
    /// Make the snapshot visible, if the checksum is right.
    EndSnapshot(Mark),
    /// A stream begins: the primary is at this position, whatever it was at before, by this clock (µs since 1970).
    Greeted {
        /// Its position.
        position: Position,
        /// Its clock.
        clock_us: i64,
    },
    /// The primary is at this position by this clock (µs since 1970).
    Seen {
        /// Its position.
        position: Position,
        /// Its clock.
        clock_us: i64,
    },
}

/// A stream that cannot be believed or followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// The upstream speaks otherwise than agreed.
    #[error("the upstream broke the protocol: {0}")]
    Protocol(String),
    /// Bytes were changed on the way or on the primary's disk.
    #[error("damaged data from the upstream: {0}; nothing of it was applied")]
    Damaged(String),
    /// The local state cannot be what the primary has: a snapshot must replace it.
    #[error("{0}")]
    Diverged(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    AwaitHello,
    AwaitSnapshot,
    Snapshot { next_page: u32 },
    Wal,
}

/// The decisions of one replica. See the module.
#[derive(Debug)]
pub struct Machine {
    phase: Phase,
    /// What the local database holds; `None`: nothing usable.
    local: Option<Mark>,
    /// Whether the local database is exactly at `local`, or somewhere between it and what it once had.
    proven: bool,
    cursor: Option<Position>,
    log: Option<WalHeader>,
    cksum: Cksum,
    page_size: u32,
    /// Nothing becomes visible before this position.
    hold: Option<Position>,
    unpacker: Unpacker,
}

type Result<T> = std::result::Result<T, StreamError>;

fn protocol<T>(what: impl Into<String>) -> Result<T> {
    Err(StreamError::Protocol(what.into()))
}

impl Machine {
    /// A replica whose database is at `local`: exactly if `proven`, else at some commit from there on.
    pub fn new(local: Option<Mark>, proven: bool) -> Machine {
        Machine {
            phase: Phase::AwaitHello,
            local,
            proven,
            cursor: None,
            log: None,
            cksum: Cksum::default(),
            page_size: 0,
            hold: None,
            unpacker: Unpacker::default(),
        }
    }

    /// What to ask the upstream for.
    pub fn local(&self) -> Option<Mark> {
        self.local
    }

    /// Whether the local database is exactly at [`Machine::local`].
    pub fn is_proven(&self) -> bool {
        self.proven
    }

    /// Where the local database is, if it is exactly there.
    pub fn proven(&self) -> Option<Mark> {
        self.local.filter(|_| self.proven)
    }

    /// Bytes in a page of the stream; 0 before its hello.
    pub fn page_size(&self) -> u32 {
        self.page_size
    }

    /// The end of what has arrived.
    pub fn received(&self) -> Option<Position> {
        self.cursor
    }

    /// True while a snapshot is coming in.
    pub fn in_snapshot(&self) -> bool {
        matches!(self.phase, Phase::Snapshot { .. } | Phase::AwaitSnapshot)
    }

    /// True while commits become visible one by one.
    pub fn is_level(&self) -> bool {
        self.phase == Phase::Wal && self.hold.is_none()
    }

    /// A stream begins: a hello must come first.
    pub fn connected(&mut self) {
        self.phase = Phase::AwaitHello;
        self.cursor = None;
        self.hold = None;
        self.unpacker.forget();
    }

    /// The local database is not usable any more: the next request asks for a snapshot.
    pub fn forget_local(&mut self) {
        self.local = None;
        self.proven = false;
    }

    /// The local database now is at this mark, exactly.
    pub fn published(&mut self, mark: Mark) {
        self.local = Some(mark);
        self.proven = true;
        self.hold = None;
    }

    /// Decides what one message means.
    pub fn step(&mut self, message: Message) -> Result<Vec<Action>> {
        match (self.phase, message) {
            (Phase::AwaitHello, Message::Hello(hello)) => self.hello(&hello),
            (Phase::AwaitHello, _) => protocol("the first message is no hello"),
            (_, Message::Hello(_)) => protocol("a second hello"),
            (_, Message::Heartbeat { position, clock_us }) => {
                // As the primary does, so that a database at rest costs no memory.
                self.unpacker.forget();
                Ok(vec![Action::Seen { position, clock_us }])
            }
            (Phase::AwaitSnapshot, Message::SnapshotBegin(begin)) => self.begin(&begin),
            (Phase::AwaitSnapshot, _) => protocol("a snapshot was announced and did not begin"),
            (Phase::Snapshot { next_page }, Message::SnapshotPages(pages)) => {
                self.pages(next_page, pages)
            }
            (Phase::Snapshot { .. }, Message::SnapshotEnd(end)) => self.end(&end),
            (Phase::Snapshot { .. } | Phase::Wal, Message::Chunk(chunk)) => self.chunk(chunk),
            (_, Message::SnapshotBegin(_)) => protocol("a snapshot begins out of place"),
            (_, Message::SnapshotPages(_)) => protocol("snapshot pages without a snapshot"),
            (_, Message::SnapshotEnd(_)) => protocol("a snapshot ends that did not begin"),
        }
    }

    fn hello(&mut self, hello: &Hello) -> Result<Vec<Action>> {
        if !valid_page_size(hello.page_size) {
            return protocol(format!("page size {}", hello.page_size));
        }
        if hello.position.generation != hello.generation {
            return protocol("the hello names two generations");
        }
        let greeted = Action::Greeted {
            position: hello.position,
            clock_us: hello.clock_us,
        };
        self.page_size = hello.page_size;
        if hello.follows != Follows::Resume {
            self.phase = Phase::AwaitSnapshot;
            return Ok(vec![greeted]);
        }
        let Some(mark) = self.local else {
            return protocol("it resumes a replica that has nothing");
        };
        let from = mark.point.position;
        if from.generation != hello.generation || mark.point.page_size != hello.page_size {
            return protocol("it resumes another generation or page size than was asked for");
        }
        if !self.proven {
            if hello.position <= from {
                // All that the primary has is what we asked from, and the database is at something else.
                return Err(StreamError::Diverged(
                    "the local database is not at its recorded position, and the primary has nothing newer".to_owned(),
                ));
            }
            self.hold = Some(hello.position);
        }
        self.cursor = Some(from);
        self.log = mark.log;
        self.cksum = mark.point.frame_cksum.unwrap_or_default();
        self.phase = Phase::Wal;
        Ok(vec![greeted])
    }

    fn begin(&mut self, begin: &SnapshotBegin) -> Result<Vec<Action>> {
        match begin.log {
            Some((header, cksum)) => {
                if header.page_size != self.page_size {
                    return protocol("the snapshot's log has another page size");
                }
                self.log = Some(header);
                self.cksum = cksum;
            }
            None if begin.start.offset != 0 => {
                return protocol("a snapshot without its log's header");
            }
            None => self.log = None,
        }
        self.cursor = Some(begin.start);
        self.hold = None;
        self.phase = Phase::Snapshot { next_page: 1 };
        // From here on the local database is given up.
        self.local = None;
        self.proven = false;
        Ok(vec![Action::BeginSnapshot {
            page_size: self.page_size,
            page_count: begin.page_count,
        }])
    }

    fn pages(&mut self, next_page: u32, pages: SnapshotPages) -> Result<Vec<Action>> {
        let size = self.page_size as usize;
        let count = pages.size as usize / size;
        if pages.first_page != next_page {
            return protocol(format!(
                "snapshot page {} came, {next_page} was due",
                pages.first_page
            ));
        }
        if count == 0 || !(pages.size as usize).is_multiple_of(size) {
            return protocol("snapshot pages that are not whole");
        }
        let after = u32::try_from(count)
            .ok()
            .and_then(|n| next_page.checked_add(n));
        let Some(after) = after else {
            return protocol("more pages than a database can have");
        };
        let bytes = self.unpacker.pages(&pages)?;
        let list = (0..count)
            .map(|i| PageAt {
                pgno: next_page + i as u32,
                at: i * size,
            })
            .collect();
        self.phase = Phase::Snapshot { next_page: after };
        Ok(vec![Action::Append(Pages { bytes, list })])
    }

    fn end(&mut self, end: &SnapshotEnd) -> Result<Vec<Action>> {
        if self.cursor != Some(end.position) {
            return protocol("the snapshot ends at another position than its log");
        }
        if end.page_count == 0 {
            return protocol("a snapshot of no pages");
        }
        let commit = Commit {
            dbsum: end.dbsum,
            page_count: end.page_count,
            time_us: end.time_us,
        };
        self.phase = Phase::Wal;
        Ok(vec![Action::EndSnapshot(self.mark(end.position, &commit))])
    }

    fn mark(&self, position: Position, commit: &Commit) -> Mark {
        let point = Point {
            position,
            dbsum: commit.dbsum,
            page_count: commit.page_count,
            page_size: self.page_size,
            frame_cksum: self.log.map(|_| self.cksum),
            time_us: commit.time_us,
        };
        Mark {
            point,
            log: self.log,
        }
    }

    fn chunk(&mut self, chunk: Chunk) -> Result<Vec<Action>> {
        self.check_order(&chunk)?;
        let bytes = self.unpacker.chunk(&chunk, self.page_size)?;
        let (pages, last_commit) = self.scan(&chunk, &bytes)?;
        self.unpacker.remember(bytes.clone());
        let end = chunk.end();
        self.cursor = Some(end);
        let pages = Pages { bytes, list: pages };
        match (chunk.commit, last_commit) {
            // With a commit: one that the primary captured before it knew the database's checksum, as it does when it
            // starts on a log that is already there. Nothing proves it, so it becomes visible with the next that is proven.
            (None, _) => Ok(vec![Action::Append(pages)]),
            (Some(commit), Some(pages_after)) if commit.page_count == pages_after => {
                let held = self.hold.is_some_and(|hold| end < hold);
                if held || self.in_snapshot() {
                    return Ok(vec![Action::Append(pages)]);
                }
                let mark = self.mark(end, &commit);
                let seen = Action::Seen {
                    position: end,
                    clock_us: commit.time_us,
                };
                Ok(vec![seen, Action::Publish(pages, mark)])
            }
            _ => protocol("a chunk whose commit is not where it says"),
        }
    }

    fn check_order(&self, chunk: &Chunk) -> Result<()> {
        let Some(cursor) = self.cursor else {
            return protocol("WAL before its place is known");
        };
        let start = chunk.start;
        let follows = start == cursor
            || (start.generation == cursor.generation
                && start.offset == 0
                && cursor.index.checked_add(1) == Some(start.index));
        if !follows {
            return protocol(format!("WAL at {start} came after {cursor}"));
        }
        if chunk.end_offset <= start.offset || chunk.size() > MAX_UNPACKED as u64 {
            return protocol(format!(
                "a chunk from {start} to offset {:x}",
                chunk.end_offset
            ));
        }
        Ok(())
    }

    /// Follows the primary's checksum chain over the chunk. Returns its pages, and the database's size at the commit
    /// that ends it.
    fn scan(&mut self, chunk: &Chunk, bytes: &[u8]) -> Result<(Vec<PageAt>, Option<u32>)> {
        let damaged =
            |what: String| Err(StreamError::Damaged(format!("at {}: {what}", chunk.start)));
        let mut at = 0;
        let (header, seed) = if chunk.start.offset == 0 {
            let Some(Ok(header)) = bytes.first_chunk::<WAL_HEADER_SIZE>().map(WalHeader::parse)
            else {
                return damaged("the header of the WAL is not one".to_owned());
            };
            if header.page_size != self.page_size {
                return protocol("the page size changed within a generation");
            }
            at = WAL_HEADER_SIZE;
            (header, header.cksum)
        } else if let Some(header) = self.log {
            (header, self.cksum)
        } else {
            return protocol("WAL frames without the header of their log");
        };
        let mut scanner = FrameScanner::new(&header, seed, &bytes[at..]);
        let (mut pages, mut cksum, mut last_commit) = (Vec::new(), seed, None);
        for frame in scanner.by_ref() {
            let pgno = frame.header.pgno;
            pages.push(PageAt {
                pgno,
                at: at + frame.offset_in_buf + FRAME_HEADER_SIZE,
            });
            last_commit = (frame.header.commit_size != 0).then_some(frame.header.commit_size);
            cksum = frame.cksum_after;
        }
        match scanner.finish() {
            ScanEnd::End => {}
            other => return damaged(format!("frame {} of the chunk: {other}", pages.len() + 1)),
        }
        self.log = Some(header);
        self.cksum = cksum;
        Ok((pages, last_commit))
    }
}
