//! What a replica remembers of itself in `<db>-walcast/`.
//!
//! - `replica`: text, replaced atomically. Its identity, the constant added to the schema cookie, and whether a detach began.
//! - `applied`: two sectors of 512 bytes, each with its own checksum. One names the state that is visible, the other the next,
//!   **before** its last frame is written: after a kill the database is at one of the two, and its checksum tells which. They
//!   are not synced: the page cache outlives a kill, and after a power cut they fail the comparison and are not used.
//! - `durable`: two such sectors, written in turn, for the durable state, synced.
//! - `inode`: text, replaced atomically: the number of the database's file, so that another that was put in its place is not
//!   taken for ours.
//! - `position`: text, replaced atomically: the durable position, for people and scripts.

pub use super::slots::Mark;
use super::slots::{SECTOR, Slots};
use crate::disk::{self, ReplaceOps};
use std::path::{Path, PathBuf};

/// What the thread that applies remembers.
pub struct Record {
    directory: PathBuf,
    applied: Slots,
    /// The slot of the state that is visible, once that is known.
    visible: Option<usize>,
    /// The lasting identity, 32 hex digits.
    pub id: String,
    /// The constant added to the schema cookie of page 1.
    pub cookie_delta: u32,
    /// The constant that a seed under way will use.
    pub pending_delta: Option<u32>,
    /// A detach began: if applications can write to the database, it is theirs.
    pub detached: bool,
}

/// What the thread that syncs remembers.
pub struct Durable {
    directory: PathBuf,
    slots: Slots,
}

impl Durable {
    /// Reads what is there, or begins. The directory exists.
    pub fn open(directory: &Path) -> disk::Result<Durable> {
        let slots = Slots::open("durable.open", &directory.join("durable"))?;
        Ok(Durable {
            directory: directory.to_owned(),
            slots,
        })
    }

    /// The state that survives a power cut.
    pub fn mark(&self) -> Option<Mark> {
        self.slots.newest_first().next()
    }

    /// The same, if `position` says it, too: then a start has nothing to make durable.
    pub fn published(&self) -> Option<Mark> {
        let text = disk::read_if_exists("position.read", &self.directory.join("position"));
        let text = String::from_utf8(text.ok()??).ok()?;
        self.mark()
            .filter(|mark| text.trim_end() == mark.point.position.to_string())
    }

    /// There is no database any more, so nothing of it is durable.
    pub fn forget(&mut self) -> disk::Result<()> {
        let position = self.directory.join("position");
        if self.slots.marks == [None; 2] && !position.exists() {
            return Ok(());
        }
        disk::remove_file("position.remove", &position)?;
        self.slots.forget("durable.forget")?;
        self.slots.file.sync_all("durable.sync")?;
        disk::sync_dir("position.remove", &self.directory)
    }

    /// Names a durable state: the caller has synced what it stands on. Then publishes it in `position`.
    pub fn note(&mut self, mark: Mark) -> disk::Result<()> {
        self.slots
            .write("durable.write", self.slots.older(), mark)?;
        self.slots.file.sync_data("durable.sync")?;
        let ops = ReplaceOps {
            write: "position.write",
            sync: "position.sync",
            rename: "position.rename",
        };
        let text = format!("{}\n", mark.point.position);
        disk::replace(ops, &self.directory.join("position"), text.as_bytes(), true)
    }
}

/// A file of the replica's directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] disk::DiskError),
    /// The file is not what this version writes.
    #[error("{path}: {what}; move the directory away to begin anew with a snapshot", path = path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
}

/// The text of `replica`.
#[derive(Default)]
struct Identity {
    id: String,
    cookie_delta: u32,
    pending_delta: Option<u32>,
    detached: bool,
}

impl Identity {
    fn parse(path: &Path, text: &[u8]) -> Result<Identity, RecordError> {
        let mut found = Identity::default();
        let wrong = |what: String| RecordError::Format {
            path: path.to_owned(),
            what,
        };
        let text = String::from_utf8_lossy(text);
        let mut lines = text.lines();
        match lines.next() {
            Some("walcast-replica 1") => {}
            other => return Err(wrong(format!("unknown format '{}'", other.unwrap_or("")))),
        }
        for line in lines {
            let (key, value) = line.split_once(' ').unwrap_or((line, ""));
            let number = || {
                value
                    .parse()
                    .map_err(|_| wrong(format!("'{line}' is not a number")))
            };
            match key {
                "id" => found.id = value.to_owned(),
                "cookie-delta" => found.cookie_delta = number()?,
                "cookie-delta-pending" => found.pending_delta = Some(number()?),
                "detached" => found.detached = true,
                _ => return Err(wrong(format!("unknown line '{line}'"))),
            }
        }
        if found.id.is_empty() {
            return Err(wrong("the line 'id' is missing".to_owned()));
        }
        Ok(found)
    }
}

/// What a replica's directory says, without a change to it: the constants that may be in the schema cookie, and the states
/// that the copy may be at.
pub fn look(directory: &Path) -> Result<(Vec<u32>, Vec<Mark>), RecordError> {
    let path = directory.join("replica");
    let identity = match disk::read_if_exists("look.read", &path)? {
        Some(text) => Identity::parse(&path, &text)?,
        None => Identity::default(),
    };
    let deltas = [Some(identity.cookie_delta), identity.pending_delta];
    let mut marks = Vec::new();
    for name in ["applied", "durable"] {
        let bytes = disk::read_if_exists("look.read", &directory.join(name))?.unwrap_or_default();
        let sectors = (0..2).filter_map(|i| bytes.get(i * SECTOR..).and_then(Mark::decode));
        marks.extend(sectors.map(|(_, mark)| mark));
    }
    Ok((deltas.into_iter().flatten().collect(), marks))
}

impl Record {
    /// Reads what is there, or begins. The directory exists.
    pub fn open(directory: &Path) -> Result<Record, RecordError> {
        let mut record = Record {
            directory: directory.to_owned(),
            applied: Slots::open("applied.open", &directory.join("applied"))?,
            visible: None,
            id: String::new(),
            cookie_delta: 0,
            pending_delta: None,
            detached: false,
        };
        let path = directory.join("replica");
        match disk::read_if_exists("replica.read", &path)? {
            Some(text) => {
                let identity = Identity::parse(&path, &text)?;
                record.id = identity.id;
                record.cookie_delta = identity.cookie_delta;
                record.pending_delta = identity.pending_delta;
                record.detached = identity.detached;
            }
            None => {
                record.id = format!("{:016x}{:016x}", super::random_u64(), super::random_u64());
                record.save_identity()?;
            }
        }
        Ok(record)
    }

    /// Notes durably whether a detach began.
    pub fn note_detached(&mut self, detached: bool) -> disk::Result<()> {
        if self.detached == detached {
            return Ok(());
        }
        self.detached = detached;
        self.save_identity()
    }

    /// Writes identity and cookie constants, durably.
    pub fn save_identity(&self) -> disk::Result<()> {
        let mut text = format!(
            "walcast-replica 1\nid {}\ncookie-delta {}\n",
            self.id, self.cookie_delta
        );
        if let Some(pending) = self.pending_delta {
            text.push_str(&format!("cookie-delta-pending {pending}\n"));
        }
        if self.detached {
            text.push_str("detached\n");
        }
        let ops = ReplaceOps {
            write: "replica.write",
            sync: "replica.sync",
            rename: "replica.rename",
        };
        disk::replace(ops, &self.directory.join("replica"), text.as_bytes(), true)
    }

    /// Whether the file with this number may be the one that was noted last; also if none was.
    pub fn may_be(&self, inode: u64) -> disk::Result<bool> {
        let text = disk::read_if_exists("inode.read", &self.directory.join("inode"))?;
        let noted = text.and_then(|text| String::from_utf8(text).ok()?.trim_end().parse().ok());
        Ok(noted.is_none_or(|noted: u64| noted == inode))
    }

    /// Notes the number of the database's file.
    pub fn note_inode(&self, inode: u64) -> disk::Result<()> {
        let path = self.directory.join("inode");
        let text = format!("{inode}\n");
        if disk::read_if_exists("inode.read", &path)?.as_deref() == Some(text.as_bytes()) {
            return Ok(());
        }
        let ops = ReplaceOps {
            write: "inode.write",
            sync: "inode.sync",
            rename: "inode.rename",
        };
        disk::replace(ops, &path, text.as_bytes(), false)
    }

    /// The states that the database may be at, the newest first.
    pub fn candidates(&self) -> impl Iterator<Item = Mark> + use<> {
        self.applied.newest_first()
    }

    /// Names the state that the next publication makes, before its last frame is written. The name of what is visible stays,
    /// however many of these were never published.
    pub fn note_next(&mut self, mark: Mark) -> disk::Result<()> {
        let slot = match self.visible {
            Some(visible) => 1 - visible,
            None => self.applied.older(),
        };
        self.applied.write("applied.write", slot, mark)
    }

    /// This state is visible: it was published, or found.
    pub fn is_visible(&mut self, mark: &Mark) {
        let named = |noted: &Option<(u64, Mark)>| noted.is_some_and(|(_, noted)| noted == *mark);
        self.visible = self.applied.marks.iter().position(named);
    }

    /// There is no database that a name here would be of.
    pub fn forget(&mut self) -> disk::Result<()> {
        self.visible = None;
        self.applied.forget("applied.forget")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::dbsum::DbSum;
    use crate::format::position::{Generation, Position};
    use crate::format::wal::{Cksum, WalHeader};
    use crate::model::Point;

    fn mark(offset: u64) -> Mark {
        let position = Position {
            generation: Generation(7),
            index: 3,
            offset,
        };
        let mut log = WalHeader::new(4096, 9, [1, 2]);
        log.cksum = WalHeader::new(4096, 9, [1, 2]).cksum;
        Mark {
            point: Point {
                position,
                dbsum: DbSum(offset),
                page_count: 5,
                page_size: 4096,
                frame_cksum: Some(Cksum(4, 5)),
                time_us: -3,
            },
            log: Some(log),
        }
    }

    #[test]
    fn states_survive_and_a_torn_sector_is_not_believed() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut record = Record::open(directory.path()).expect("a record");
        let id = record.id.clone();
        Durable::open(directory.path())
            .expect("a record")
            .note(mark(100))
            .expect("written");
        record.note_next(mark(200)).expect("written");
        record.note_next(mark(300)).expect("written");
        drop(record);
        let record = Record::open(directory.path()).expect("a record");
        assert_eq!(record.id, id);
        assert_eq!(
            Durable::open(directory.path()).expect("a record").mark(),
            Some(mark(100))
        );
        let all: Vec<u64> = record
            .candidates()
            .map(|m| m.point.position.offset)
            .collect();
        assert_eq!(all, [300, 200]);
        let text = std::fs::read_to_string(directory.path().join("position")).expect("a file");
        assert_eq!(text, format!("{}\n", mark(100).point.position));

        Durable::open(directory.path())
            .and_then(|mut durable| durable.forget())
            .expect("forgotten");
        let durable = Durable::open(directory.path()).expect("a record");
        assert_eq!((durable.mark(), durable.published()), (None, None));
        assert!(!directory.path().join("position").exists());

        // What is visible keeps its name, however often the next one fails.
        let mut record = record;
        record.is_visible(&mark(300));
        for next in [400, 500, 600] {
            record.note_next(mark(next)).expect("written");
        }
        drop(record);
        let record = Record::open(directory.path()).expect("a record");
        let all: Vec<u64> = record
            .candidates()
            .map(|m| m.point.position.offset)
            .collect();
        assert_eq!(all, [600, 300]);
        drop(record);

        let path = directory.path().join("applied");
        let mut bytes = std::fs::read(&path).expect("a file");
        bytes[40] ^= 1;
        std::fs::write(&path, bytes).expect("written");
        let record = Record::open(directory.path()).expect("a record");
        assert_eq!(record.candidates().count(), 1);
    }
}
