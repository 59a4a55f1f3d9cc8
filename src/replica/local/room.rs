//! Room for the checkpoint: what the log adds to the database has its blocks in the database file before it is visible.
//!
//! Else a log that a reader holds could fill the disk, and nothing could ever empty it: the checkpoint, which lets the log
//! begin anew, would have no room to grow the database file. The blocks lie beyond the file's end, where nobody sees them.
//! Pages that exist are written in place; on a file system that copies on write that takes room all the same, and nothing
//! here helps.

use crate::disk::{self, File};

/// Reserved beyond what is needed, so that not each growing commit asks the file system.
const SLACK: u64 = 64 << 10;

/// How far the database file has its blocks.
pub struct Room {
    end: u64,
    /// The log's backfill when it was looked last: a checkpoint of the whole log cuts what lies beyond the end.
    backfill: u32,
}

impl Room {
    /// What a file has that nothing was reserved for.
    pub fn of(db: &File, backfill: u32) -> disk::Result<Room> {
        let end = db.len("db.size")?;
        Ok(Room { end, backfill })
    }

    /// Makes sure of room for `bytes`. `backfill`: frames of the log that a checkpoint has copied by now.
    ///
    /// # Errors
    /// Where the disk is full, before anything changed: also where it never had so much, as a commit may claim that is
    /// damaged or forged.
    pub fn reserve(&mut self, db: &File, bytes: u64, backfill: u32) -> disk::Result<()> {
        if backfill != self.backfill {
            *self = Room::of(db, backfill)?;
        }
        if bytes <= self.end {
            return Ok(());
        }
        let end = bytes + SLACK;
        db.reserve("db.reserve", self.end, end - self.end)?;
        self.end = end;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt as _;
    use std::path::{Path, PathBuf};

    fn of_two_pages() -> (tempfile::TempDir, PathBuf, File) {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("db");
        std::fs::write(&path, vec![1; 8192]).expect("written");
        let db = File::open_rw("db.open", &path).expect("open");
        (directory, path, db)
    }

    /// Its size, and the bytes that it has of the disk.
    fn on_disk(path: &Path) -> (u64, u64) {
        let metadata = std::fs::metadata(path).expect("it is there");
        (metadata.len(), metadata.blocks() * 512)
    }

    #[test]
    fn blocks_are_there_and_the_size_stays_and_a_cut_is_noticed() {
        let (_directory, path, db) = of_two_pages();
        let on_disk = || on_disk(&path);
        let mut room = Room::of(&db, 0).expect("a size");
        room.reserve(&db, 8192, 0).expect("nothing to do");
        room.reserve(&db, 1 << 20, 0).expect("room");
        let (size, blocks) = on_disk();
        assert_eq!(size, 8192);
        assert!(blocks >= 1 << 20, "{blocks}");
        // As SQLite does behind a checkpoint of everything.
        db.set_len("db.cut", 8192).expect("cut");
        std::fs::write(&path, vec![1; 8192]).expect("written");
        assert!(on_disk().1 < 1 << 20);
        room.reserve(&db, 1 << 20, 7).expect("room");
        assert!(on_disk().1 >= 1 << 20, "the cut was not noticed");
    }

    #[test]
    fn what_no_disk_has_is_refused_and_nothing_of_it_reserved() {
        let (_directory, path, db) = of_two_pages();
        let on_disk = || on_disk(&path);
        let before = on_disk();
        let mut room = Room::of(&db, 0).expect("a size");
        // The most that a commit can claim: 2^32 - 1 pages of 64 KiB.
        let claimed = u64::from(u32::MAX) * 65536;
        let error = room.reserve(&db, claimed, 0).expect_err("refused");
        assert!(error.is_full(), "{error}");
        assert_eq!(on_disk(), before);
        room.reserve(&db, 1 << 20, 0).expect("room");
        assert!(on_disk().1 >= 1 << 20);
    }
}
