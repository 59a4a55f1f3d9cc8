//! The messages of a replication stream, as both sides understand them. `wire` checks and translates.

use crate::format::dbsum::DbSum;
use crate::format::position::{Generation, Position};
use crate::format::wal::{Cksum, WalHeader};
use bytes::Bytes;

/// How data is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// As it is.
    None,
    /// One standard LZ4 frame.
    Lz4,
    /// Packed against what the stream has sent, see [`recent`](crate::format::recent). Chunks alone, and on the wire alone.
    Lz4Recent,
}

/// A replica's request.
#[derive(Clone, Debug)]
pub struct StreamStart {
    /// The database's name on the primary.
    pub database: String,
    /// Where to go on; `None`: from nothing.
    pub position: Option<Position>,
    /// The checksum of the whole database there; `None`: not known, the frame's is all that proves it. Never by the wire.
    pub dbsum: Option<DbSum>,
    /// The cumulative checksum of the frame that ends there.
    pub frame_cksum: Option<Cksum>,
    /// The replica's lasting identity.
    pub replica_id: String,
    /// Its name, for people.
    pub replica_name: String,
    /// Whether it takes LZ4.
    pub lz4: bool,
    /// Whether it also takes chunks packed against those before ([`Codec::Lz4Recent`]); of no meaning without LZ4.
    pub recent: bool,
    /// Page size of its copy, 0 if it has none.
    pub page_size: u32,
    /// The peer's address as the server sees it (filled in by the server).
    pub address: String,
    /// No replica, but a command that reads the database once: forgotten when its stream ends.
    pub transient: bool,
    /// Where the log after the position is no longer kept, no snapshot is wanted: there is an archive.
    pub resume_only: bool,
}

/// A request for a replica's copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyRequest {
    /// The database's name there.
    pub database: String,
    /// Hashes of pages instead of pages.
    pub hashes_only: bool,
    /// Whether the caller takes LZ4.
    pub lz4: bool,
}

/// What a copy is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyBegin {
    /// Where it stands.
    pub position: Position,
    /// The checksum of the whole database there, as the primary said.
    pub dbsum: DbSum,
    /// Its pages.
    pub page_count: u32,
    /// Bytes in a page.
    pub page_size: u32,
}

/// One message of a copy.
#[derive(Clone, Debug)]
pub enum CopyMessage {
    /// The first, before a page is read.
    Begin(CopyBegin),
    /// Pages as the primary has them.
    Pages(SnapshotPages),
    /// Hashes of consecutive pages.
    Hashes {
        /// Number of the first page, from 1.
        first_page: u32,
        /// One for each page, at most [`MAX_HASHES`](super::MAX_HASHES).
        hashes: Vec<u64>,
    },
}

/// What follows the hello, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follows {
    /// WAL from the requested position.
    Resume,
    /// A snapshot: the replica has nothing.
    NewReplica,
    /// A snapshot: the position is of another generation.
    OtherGeneration,
    /// A snapshot: the log after the position is gone.
    NotRetained,
    /// A snapshot: the replica is ahead of the primary.
    ReplicaAhead,
    /// A snapshot: the histories differ at that position.
    ChecksumDiffers,
    /// A snapshot: the page size differs.
    PageSizeDiffers,
}

impl Follows {
    /// True if what the replica holds is of no history that the primary has (any more): positions here and there cannot be
    /// compared, not even within one generation, whose last commits a power cut may have taken from the primary.
    pub fn is_foreign(self) -> bool {
        match self {
            Follows::Resume | Follows::NewReplica | Follows::NotRetained => false,
            Follows::OtherGeneration
            | Follows::ReplicaAhead
            | Follows::ChecksumDiffers
            | Follows::PageSizeDiffers => true,
        }
    }
}

/// The first message.
#[derive(Clone, Debug)]
pub struct Hello {
    /// Protocol version of this stream.
    pub protocol: u32,
    /// The server's lasting identity.
    pub server_id: String,
    /// Names this stream.
    pub session_id: String,
    /// Bytes in a page.
    pub page_size: u32,
    /// The generation.
    pub generation: Generation,
    /// The generation before.
    pub parent: Option<Generation>,
    /// The last known position of the parent.
    pub fork: Option<Position>,
    /// What follows.
    pub follows: Follows,
    /// The same for people.
    pub reason: String,
    /// The primary's position.
    pub position: Position,
    /// The primary's clock, µs since 1970.
    pub clock_us: i64,
    /// Interval of heartbeats in ms.
    pub heartbeat_ms: u32,
}

/// A snapshot begins. Its pages may be torn; the WAL from `start` to the snapshot's end mends them.
#[derive(Clone, Debug)]
pub struct SnapshotBegin {
    /// Pages that follow, about.
    pub page_count: u32,
    /// Where the WAL begins that follows the pages.
    pub start: Position,
    /// Header of the WAL file of `start.index` and the cumulative checksum at `start`; `None` if `start.offset` is 0.
    pub log: Option<(WalHeader, Cksum)>,
}

/// Consecutive pages of a snapshot.
#[derive(Clone, Debug)]
pub struct SnapshotPages {
    /// Number of the first, from 1.
    pub first_page: u32,
    /// Packing of `data`.
    pub codec: Codec,
    /// Unpacked bytes.
    pub size: u32,
    /// The pages.
    pub data: Bytes,
}

/// A snapshot is complete.
#[derive(Clone, Copy, Debug)]
pub struct SnapshotEnd {
    /// What the database now is.
    pub position: Position,
    /// Its checksum.
    pub dbsum: DbSum,
    /// Its pages.
    pub page_count: u32,
    /// When the last commit in it was captured, µs since 1970, the primary's clock.
    pub time_us: i64,
}

/// What is known at a transaction's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commit {
    /// The checksum of the whole database.
    pub dbsum: DbSum,
    /// Its pages.
    pub page_count: u32,
    /// When it was captured, µs since 1970, the primary's clock.
    pub time_us: i64,
}

/// A piece of WAL: ends at a transaction's end, or holds none.
#[derive(Clone, Debug)]
pub struct Chunk {
    /// Where its first byte stands. Offset 0: it begins with a WAL header.
    pub start: Position,
    /// Offset of the byte after its last.
    pub end_offset: u64,
    /// Packing of `data`.
    pub codec: Codec,
    /// The bytes of the primary's `-wal` file, packed.
    pub data: Bytes,
    /// Present where it ends at a transaction's end.
    pub commit: Option<Commit>,
}

impl Chunk {
    /// Unpacked bytes.
    pub fn size(&self) -> u64 {
        self.end_offset - self.start.offset
    }

    /// Where it ends.
    pub fn end(&self) -> Position {
        Position {
            offset: self.end_offset,
            ..self.start
        }
    }
}

/// One message of a stream.
#[derive(Clone, Debug)]
pub enum Message {
    /// The first.
    Hello(Hello),
    /// A snapshot begins.
    SnapshotBegin(SnapshotBegin),
    /// Pages of it.
    SnapshotPages(SnapshotPages),
    /// It is complete.
    SnapshotEnd(SnapshotEnd),
    /// A piece of WAL.
    Chunk(Chunk),
    /// The primary is alive.
    Heartbeat {
        /// Its position.
        position: Position,
        /// Its clock, µs since 1970.
        clock_us: i64,
    },
}
