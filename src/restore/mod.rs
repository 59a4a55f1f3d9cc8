//! A database from its archive, at its newest state or an earlier one.
//!
//! ```text
//! catalog   what the archive has: histories, snapshots, segments
//! plan      which snapshot, and which segments up to where
//! fetch     objects read and unpacked by a few threads, handed over in order
//! walk      the log's bytes: every frame's salt and checksum verified, every segment in its place
//! image     the file: pages written, hashed, cut at commits
//! feed      the same as a primary's stream, for a replica
//! run       the four together; `sound` again without what is damaged
//! ```
//!
//! A restore believes nothing that it has not verified: each object by its lz4 checksum, the log by SQLite's own chain, the
//! database by the checksums that the archive's documents record. What does not verify is named, and no file is made of it.

mod catalog;
mod error;
mod feed;
mod fetch;
mod frames;
mod image;
mod object;
mod plan;
mod run;
mod search;
mod sound;
mod stream_reader;
mod walk;

pub use catalog::{Catalog, Gap, History, Listed, Segment};
pub use error::RestoreError;
pub use feed::{Deliver, Feed, FeedOptions};
pub use object::Source;
pub use plan::{Newest, Target};
pub use run::{Options, Restored};
pub use search::newest;
pub use sound::{Outcome, restore};
