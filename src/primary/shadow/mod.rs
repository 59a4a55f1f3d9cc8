//! The shadow WAL: every captured byte of the application's log, next to the database.
//!
//! ```text
//! <db>-walcast/lock                                          flock; holder's pid inside
//!              generation                                    16 hex digits and a line feed
//!              lineage                                       where the generation came from, versioned text
//!              position                                      the captured position, text, at most a second old
//!              generations/<gen>/wal/<index>/<offset>.wal.lz4  concatenated lz4 frames, one for each chunk
//!              commits/<gen>/<index>                         `format::commits`: one record for each chunk with a commit
//!              next.wal/, next.commits                       of the index that begins next, empty: `next`
//! ```
//!
//! `lz4 -d` of an index's files, one after the other, gives a WAL that SQLite accepts. A chunk is written before its
//! record, and both before it is published; readers never look beyond what was published. A record whose page count is
//! 0 says "committed here, checksum of the database not known": while the page table is still being made.

mod housekeeping;
mod lineage;
mod next;
mod reader;
mod recovery;
mod retention;
mod segment;
mod sidecar;
mod writer;

use housekeeping::Backlog;
pub use housekeeping::{Housekeeping, Job, work};
pub use lineage::{Base, Lineage, OPS as LINEAGE_OPS};
use next::NextIndex;
pub use reader::ShadowReader;
pub use recovery::{IndexSize, LastIndex, Recovered, recover};
pub use retention::{Needed, Retention};
pub use writer::{Piece, ShadowWriter};

use crate::disk::{self, DiskError, ReplaceOps};
use crate::format::lz4::Lz4Error;
use crate::format::position::Generation;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// A segment is closed once it has this many bytes.
pub const SEGMENT_BYTES: u64 = 1024 * 1024;
/// A segment is closed once it is this old, in seconds.
pub const SEGMENT_SECONDS: u64 = 1;

/// The largest content of a lz4 frame here: a chunk, or one that holds a single large frame.
pub const MAX_CONTENT: usize = crate::model::MAX_CHUNK + 65536 + 24 + 32;

const SUFFIX: &str = ".wal.lz4";

/// Why the shadow WAL could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ShadowError {
    /// A disk operation failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Bytes are not what was written.
    #[error("{path} at byte {at}: {what}", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where in it.
        at: u64,
        /// What is wrong.
        what: String,
    },
    /// The position is not kept any more (or never was), or a part of its index is missing.
    #[error("index {index:016x} is missing, or a part of it")]
    Gone {
        /// The index asked for.
        index: u64,
    },
}

impl ShadowError {
    fn damaged(path: &Path, at: u64, what: impl ToString) -> ShadowError {
        ShadowError::Damaged {
            path: path.to_owned(),
            at,
            what: what.to_string(),
        }
    }

    fn lz4(path: &Path, at: u64, error: Lz4Error) -> ShadowError {
        ShadowError::damaged(path, at, error)
    }
}

/// The directory of one database and the names in it.
#[derive(Clone, Debug)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// For the database at `path`.
    pub fn of(database: &Path) -> Layout {
        Layout {
            root: crate::ownership::directory_of(database),
        }
    }

    /// `<db>-walcast`.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The file that names the current generation.
    pub fn generation(&self) -> PathBuf {
        self.root.join("generation")
    }

    /// The file that tells where the generation came from.
    pub fn lineage(&self) -> PathBuf {
        self.root.join("lineage")
    }

    /// The file with the captured position.
    pub fn position(&self) -> PathBuf {
        self.root.join("position")
    }

    /// The directory of all generations.
    pub fn generations(&self) -> PathBuf {
        self.root.join("generations")
    }

    /// The directory of all generations' sidecars.
    pub fn all_commits(&self) -> PathBuf {
        self.root.join("commits")
    }

    /// The directory of a generation's indexes.
    pub fn wal(&self, generation: Generation) -> PathBuf {
        self.generations().join(generation.to_string()).join("wal")
    }

    /// The directory of an index.
    pub fn index(&self, generation: Generation, index: u64) -> PathBuf {
        self.wal(generation).join(format!("{index:016x}"))
    }

    /// A segment.
    pub fn segment(&self, generation: Generation, index: u64, offset: u64) -> PathBuf {
        self.index(generation, index)
            .join(format!("{offset:016x}{SUFFIX}"))
    }

    /// The directory of a generation's sidecars.
    pub fn commits(&self, generation: Generation) -> PathBuf {
        self.all_commits().join(generation.to_string())
    }

    /// An index's sidecar.
    pub fn sidecar(&self, generation: Generation, index: u64) -> PathBuf {
        self.commits(generation).join(format!("{index:016x}"))
    }

    /// What becomes the directory of the next index: whichever that is, of whatever generation.
    pub fn next_index(&self) -> PathBuf {
        self.root.join("next.wal")
    }

    /// Its first segment.
    pub fn next_segment(&self) -> PathBuf {
        self.next_index().join(format!("{:016x}{SUFFIX}", 0))
    }

    /// Its sidecar.
    pub fn next_sidecar(&self) -> PathBuf {
        self.root.join("next.commits")
    }

    /// Indexes of a generation on disk, ascending. Names that are not ours are ignored.
    pub fn list_indexes(&self, generation: Generation) -> disk::Result<Vec<u64>> {
        let names = disk::list("shadow.list", &self.wal(generation))?;
        Ok(names.iter().filter_map(|name| hex16(name)).collect())
    }

    /// Offsets of an index's segments, ascending.
    pub fn list_segments(&self, generation: Generation, index: u64) -> disk::Result<Vec<u64>> {
        let names = disk::list("shadow.list", &self.index(generation, index))?;
        Ok(names
            .iter()
            .filter_map(|name| hex16(name.strip_suffix(SUFFIX)?))
            .collect())
    }

    /// The current generation, `None` if there is none (or its file is not readable as one).
    pub fn read_generation(&self) -> disk::Result<Option<Generation>> {
        let bytes = disk::read_if_exists("generation.read", &self.generation())?;
        Ok(bytes.and_then(|bytes| {
            let text = String::from_utf8(bytes).ok()?;
            Generation::from_str(text.trim_end()).ok()
        }))
    }

    /// Makes a generation the current one, durably.
    pub fn write_generation(&self, generation: Generation) -> disk::Result<()> {
        const OPS: ReplaceOps = ReplaceOps {
            write: "generation.write",
            sync: "generation.sync",
            rename: "generation.rename",
        };
        disk::replace(
            OPS,
            &self.generation(),
            format!("{generation}\n").as_bytes(),
            true,
        )
    }
}

fn hex16(name: &str) -> Option<u64> {
    let ours = name.len() == 16 && name.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    ours.then(|| u64::from_str_radix(name, 16).ok()).flatten()
}

#[cfg(test)]
mod next_tests;
#[cfg(test)]
mod tests;
