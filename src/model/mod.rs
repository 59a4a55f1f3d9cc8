//! The words that all parts share: a point in a history, the messages of a stream, the state of a database.
//! No I/O, and no generated types: those stop at `wire`.

mod long_work;
mod message;
mod metrics;
pub mod outside;
mod status;

pub use long_work::{LongWork, Told};
pub use message::{
    Chunk, Codec, Commit, CopyBegin, CopyMessage, CopyRequest, Follows, Hello, Message,
    SnapshotBegin, SnapshotEnd, SnapshotPages, StreamStart,
};
pub use metrics::{ArchiveMeters, Counter, Histogram, LogHolder, Meters, ProcessMeters};
pub use outside::{clock_us, random_u64};
pub use status::{ArchiveStatus, DatabaseState, DatabaseStatus, Progress, ReplicaStatus, Role};

use crate::format::dbsum::DbSum;
use crate::format::position::Position;
use crate::format::wal::Cksum;

/// The protocol version that this build speaks.
pub const PROTOCOL_VERSION: u32 = 1;
/// Bytes of a name or an identity, at most.
pub const MAX_NAME: usize = 255;
/// WAL bytes in one chunk, and page bytes in one snapshot message, at most (a frame of the largest page fits).
pub const MAX_CHUNK: usize = 1024 * 1024;
/// Page hashes in one message, at most.
pub const MAX_HASHES: usize = 65_536;

/// A committed state of a database: where in its history, and what proves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// The end of the transaction.
    pub position: Position,
    /// The checksum of the whole database there.
    pub dbsum: DbSum,
    /// Its number of pages.
    pub page_count: u32,
    /// Bytes in a page.
    pub page_size: u32,
    /// The cumulative checksum of the frame that ends there; `None` at the start of an empty log.
    pub frame_cksum: Option<Cksum>,
    /// When it was captured, on the primary's clock, µs since 1970-01-01 UTC.
    pub time_us: i64,
}
