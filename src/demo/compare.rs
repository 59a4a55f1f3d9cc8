//! Is a replica equal to its primary, page by page?
//!
//! Pages are read through SQLite (`sqlite3_serialize`), so that they are what a reader of this moment gets from file and
//! log together, and so that no descriptor of the file is closed in a process whose connections have locks on it. One
//! database is in memory at a time.

use crate::format::dbheader::{SCHEMA_COOKIE, WRITE_VERSION_OFFSET, lock_page};
use crate::format::dbsum::page_hash;
use anyhow::{Context as _, bail};
use rusqlite::{Connection, OpenFlags};
use std::path::Path;
use std::time::Duration;

/// The pages of one database, by their hashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pages {
    size: u32,
    hashes: Vec<u64>,
}

/// Numbers of pages that are named when databases differ.
const NAMED: usize = 10;

impl Pages {
    /// Reads a database that nobody writes.
    ///
    /// # Errors
    /// If SQLite cannot read it. It gives up at about 2 GB, the most that SQLite allocates at once.
    pub fn read(path: &Path) -> anyhow::Result<Pages> {
        let read = || -> anyhow::Result<Pages> {
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let mut connection = Connection::open_with_flags(path, flags)?;
            connection.busy_timeout(Duration::from_secs(10))?;
            // In WAL mode the journal mode is only known, and the log only used, once something was read.
            connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
            let size: u32 = connection.query_row("PRAGMA page_size", [], |row| row.get(0))?;
            let image = connection.serialize("main")?;
            Pages::of(size, &image)
        };
        read().with_context(|| format!("read {}", path.display()))
    }

    fn of(size: u32, image: &[u8]) -> anyhow::Result<Pages> {
        let page_size = usize::try_from(size)?;
        if page_size == 0 || !image.len().is_multiple_of(page_size) {
            bail!("{} bytes are no whole pages of {size}", image.len());
        }
        let hashes = (1..)
            .zip(image.chunks_exact(page_size))
            .map(|(pgno, page)| hash(size, pgno, page))
            .collect();
        Ok(Pages { size, hashes })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.hashes.len()
    }

    /// What is different, in words; `None` if nothing is.
    pub fn difference(&self, replica: &Pages) -> Option<String> {
        if self.size != replica.size {
            return Some(format!(
                "page size {} instead of {}",
                replica.size, self.size
            ));
        }
        if self.count() != replica.count() {
            return Some(format!(
                "{} pages instead of {}",
                replica.count(),
                self.count()
            ));
        }
        let differ: Vec<usize> = (1..)
            .zip(self.hashes.iter().zip(&replica.hashes))
            .filter_map(|(pgno, (ours, theirs))| (ours != theirs).then_some(pgno))
            .collect();
        let named: Vec<String> = differ.iter().take(NAMED).map(usize::to_string).collect();
        let more = if differ.len() > NAMED { ", ..." } else { "" };
        match differ.len() {
            0 => None,
            count => Some(format!(
                "{count} of {} pages: {}{more}",
                self.count(),
                named.join(", ")
            )),
        }
    }
}

/// A replica's page 1 says that applications must not write, and has a schema cookie of its own; the page at SQLite's
/// lock bytes has no content.
fn hash(page_size: u32, pgno: u32, page: &[u8]) -> u64 {
    if pgno == lock_page(page_size) {
        return 0;
    }
    if pgno != 1 {
        return page_hash(pgno, page);
    }
    let mut page = page.to_vec();
    page[WRITE_VERSION_OFFSET] = 0;
    page[SCHEMA_COOKIE].fill(0);
    page_hash(pgno, &page)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database(path: &Path, rows: u32) -> Connection {
        let connection = Connection::open(path).expect("a database");
        connection
            .execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(a); ")
            .expect("a table");
        for i in 0..rows {
            connection
                .execute("INSERT INTO t VALUES (zeroblob(2000) || ?1)", [i])
                .expect("a row");
        }
        connection
    }

    #[test]
    fn the_log_counts_and_a_changed_page_is_named() {
        let here = tempfile::tempdir().expect("a directory");
        let (a, b) = (here.path().join("a"), here.path().join("b"));
        let one = database(&a, 50);
        let other = database(&b, 50);
        // One has its rows in the log, the other in the file.
        other
            .execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")
            .expect("a checkpoint");
        let (pages_a, pages_b) = (Pages::read(&a).expect("a"), Pages::read(&b).expect("b"));
        assert!(pages_a.count() > 20);
        assert_eq!(pages_a.difference(&pages_b), None);

        one.execute("UPDATE t SET a = 'other' WHERE rowid = 9", [])
            .expect("an update");
        let difference = Pages::read(&a)
            .expect("a")
            .difference(&pages_b)
            .expect("different");
        assert!(difference.starts_with("1 of "), "{difference}");
        one.execute_batch("CREATE TABLE u(a)").expect("a table");
        let difference = Pages::read(&a)
            .expect("a")
            .difference(&pages_b)
            .expect("different");
        let expected = format!(
            "{} pages instead of {}",
            pages_a.count(),
            pages_a.count() + 1
        );
        assert_eq!(difference, expected);
    }

    #[test]
    fn what_a_replica_changes_in_page_1_is_no_difference() {
        let here = tempfile::tempdir().expect("a directory");
        let path = here.path().join("a");
        let mut connection = database(&path, 1);
        let image = connection.serialize("main").expect("an image").to_vec();
        let of = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut image = image.clone();
            change(&mut image);
            Pages::of(4096, &image).expect("pages")
        };
        let same = of(&|_| {});
        assert_eq!(
            same.difference(&of(&|image| (image[18], image[43]) = (3, 99))),
            None
        );
        assert!(same.difference(&of(&|image| image[44] ^= 1)).is_some());
        assert!(same.difference(&of(&|image| image[17] ^= 1)).is_some());
        assert!(Pages::of(4096, &image[1..]).is_err());
    }
}
