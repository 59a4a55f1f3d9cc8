//! An archive: a database's snapshots and WAL in a directory or a bucket, from which it comes back without walcast.
//!
//! ```text
//! ARCHIVE/generations/<gen>/snapshots/<index>.snapshot.lz4       the bytes of the database file, one lz4 frame
//!         generations/<gen>/wal/<index>/<offset>.wal.lz4         bytes of that WAL file from there on, one lz4 frame
//!         walcast/owner/<epoch>.json                             who writes here; the highest epoch does
//!         walcast/generations/<gen>/generation.json              where a generation came from
//!         walcast/generations/<gen>/snapshots/<index>.json       what a snapshot is of
//!         walcast/generations/<gen>/wal/<index>/<offset>.commits what a segment holds: commits, times, checksums
//! ```
//!
//! `generations/` is the ancestor's layout, exactly. What is in `walcast/` makes a restore exact and proven; without it a
//! restore to the newest state still works. Each object is written once, whole, and never changed.
//!
//! This module knows the names, the formats and the store. `archiver` writes, `restore` reads.

mod bucket;
mod docs;
mod error;
mod key;
mod location;
mod options;
mod owner;
mod segment;
mod staged;
mod store;
#[cfg(test)]
mod tests;

pub use docs::{GenerationDoc, OwnerDoc, SnapshotDoc, VERSION as DOC_VERSION};
pub use error::{ArchiveError, DocError};
pub use key::{GenerationKey, Key};
pub use location::{Location, LocationError};
pub use options::{ArchiveOptions, ArchiveSource};
pub use owner::{Claim, Owned};
pub use segment::{SegmentDoc, SegmentError};
pub use store::{Bytestream, Object, Opened, Store};
