//! A first snapshot: the database file does not exist, so no reader can have it open, and pages go straight into a file
//! that takes its name when it is whole, and its log and its wal-index are there.

use super::local::{LocalError, share_group};
use super::machine::{PageAt, Pages};
use crate::disk::{self, File};
use crate::format::dbheader::to_replica;
use crate::format::dbsum::{DbSum, page_hash};
use crate::sqlite::WalIndex;
use crate::sums::Sums;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

/// The snapshot that is under way.
pub enum Seed {
    /// None is.
    None,
    /// The first one.
    Fresh(Box<FreshSeed>),
    /// One under readers.
    InPlace,
}

/// A database file in the making.
pub struct FreshSeed {
    file: File,
    temporary: PathBuf,
    page_size: u32,
    sums: Sums,
    unsynced: u64,
    write_out: WriteOut,
}

/// A database that has its name now.
pub struct Named {
    /// The hashes of its pages.
    pub sums: Sums,
    /// Page 1 as the primary has it.
    pub page1: Vec<u8>,
    /// Its wal-index, open since before the name. To be closed once another connection is open: who opens the file while
    /// none is makes the index anew, and a reader that cannot write it would meet `SQLITE_READONLY_RECOVERY`.
    pub index: WalIndex,
}

/// Writing out begins early, in steps, so that the sync at the end does not wait for a gigabyte.
const WRITE_OUT: u64 = 32 << 20;

impl FreshSeed {
    /// Begins, over whatever an earlier attempt left. `mode`: of the database that will be at `path`.
    pub fn begin(
        path: &Path,
        directory: &Path,
        page_size: u32,
        mode: u32,
    ) -> disk::Result<FreshSeed> {
        let temporary = directory.join("seed.tmp");
        let file = File::create("seed.create", &temporary, mode)?;
        if let Some((mode, group)) = access(path, mode) {
            file.set_access("seed.mode", mode, group)?;
        }
        let sums = Sums::create(directory, page_size)?;
        let write_out = WriteOut::begin(file.try_clone("seed.clone")?);
        Ok(FreshSeed {
            file,
            temporary,
            page_size,
            sums,
            unsynced: 0,
            write_out,
        })
    }

    /// Writes pages, each run of consecutive ones in one call.
    pub fn append(&mut self, pages: &Pages) -> disk::Result<()> {
        let size = self.page_size as usize;
        for page in &pages.list {
            let bytes = &pages.bytes[page.at..page.at + size];
            self.sums.set(page.pgno, page_hash(page.pgno, bytes))?;
        }
        // Nothing here is ever taken back page by page.
        self.sums.commit();
        let mut rest = pages.list.as_slice();
        while let Some(first) = rest.first() {
            let run = run_length(rest, size);
            let bytes = &pages.bytes[first.at..first.at + run * size];
            self.file
                .write_all_at("seed.write", bytes, u64::from(first.pgno - 1) * size as u64)?;
            rest = &rest[run..];
        }
        self.unsynced += (pages.list.len() * size) as u64;
        if self.unsynced >= WRITE_OUT {
            self.unsynced = 0;
            self.write_out.step();
        }
        Ok(())
    }

    /// The checksum of what was written, cut to `pages` pages.
    pub fn sum(&mut self, pages: u32) -> DbSum {
        self.sums.resize(pages);
        self.sums.sum()
    }

    /// Makes the file whole and durable, as the primary has it, under its temporary name. Returns that name.
    pub fn finish_plain(mut self, pages: u32) -> disk::Result<PathBuf> {
        self.sync(pages)?;
        Ok(self.temporary)
    }

    fn sync(&mut self, pages: u32) -> disk::Result<()> {
        self.write_out.end()?;
        self.file
            .set_len("seed.size", u64::from(pages) * u64::from(self.page_size))?;
        self.file.sync_all("seed.sync")
    }

    /// Makes the file whole and durable, makes its log and its wal-index, and gives all three their names. Left-over `-wal`
    /// and `-shm` files of a database that is gone would be played back into it: they go first. An error, and the database
    /// is untouched, if there is one: it came meanwhile.
    pub fn finish(
        mut self,
        path: &Path,
        pages: u32,
        cookie_delta: u32,
    ) -> Result<Named, LocalError> {
        let mut page1 = vec![0; self.page_size as usize];
        self.file.read_exact_at("seed.read", &mut page1, 0)?;
        let mut marked = page1.clone();
        to_replica(&mut marked, cookie_delta);
        self.file.write_all_at("seed.write", &marked, 0)?;
        self.sync(pages)?;
        remove_stale(path)?;
        refuse_if_there(path)?;
        let FreshSeed {
            file,
            temporary,
            mut sums,
            ..
        } = self;
        // Before SQLite opens it: see the trap in `disk`.
        drop(file);
        for suffix in ["-wal", "-shm"] {
            disk::remove_file("seed.remove-left", &beside(&temporary, suffix))?;
        }
        // Its log stays empty, so nothing of it has to be durable.
        let index = WalIndex::open(&temporary)?;
        share_group(&temporary);
        // Never over what came meanwhile: who has it open would stay with the old file for ever. Should a database take the
        // name between these, it finds an empty log and the index of one, as if it had made them.
        refuse_if_there(path)?;
        for suffix in ["-wal", "-shm"] {
            let from = beside(&temporary, suffix);
            disk::rename_new("seed.rename-log", &from, &beside(path, suffix))?;
        }
        disk::rename_new("seed.rename", &temporary, path)?;
        if let Some(parent) = path.parent() {
            disk::sync_dir("seed.rename", parent)?;
        }
        sums.commit();
        Ok(Named { sums, page1, index })
    }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn refuse_if_there(path: &Path) -> disk::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(_) => {
            let taken = std::io::ErrorKind::AlreadyExists;
            Err(disk::DiskError::new("seed.rename", path, taken.into()))
        }
        Err(_) => Ok(()),
    }
}

/// What is left of a database that is gone goes, for good.
fn remove_stale(path: &Path) -> disk::Result<()> {
    if std::fs::metadata(path).is_ok_and(|m| m.len() == 0) {
        disk::remove_file("seed.remove-stale", path)?;
    }
    let mut is_removed = false;
    for suffix in ["-wal", "-shm"] {
        // Then they belong to it.
        if std::fs::symlink_metadata(path).is_ok() {
            break;
        }
        let stale = beside(path, suffix);
        is_removed |= std::fs::symlink_metadata(&stale).is_ok();
        disk::remove_file("seed.remove-stale", &stale)?;
    }
    // Before the name: a power cut must not bring them back beside the new file.
    if is_removed && let Some(parent) = path.parent() {
        disk::sync_dir("seed.remove-stale", parent)?;
    }
    Ok(())
}

/// Mode and group of the database: those of the empty file that somebody has put there for it, else `mode`, and the group
/// of its directory, whose members are its readers. SQLite gives `-wal` and `-shm` the database's mode.
fn access(path: &Path, mode: u32) -> Option<(u32, u32)> {
    if let Ok(there) = std::fs::metadata(path) {
        return Some((there.mode() & 0o7777, there.gid()));
    }
    let directory = path.parent().filter(|p| !p.as_os_str().is_empty());
    let directory = std::fs::metadata(directory.unwrap_or(Path::new("."))).ok()?;
    Some((mode, directory.gid()))
}

/// How many pages from the first on lie one behind the other, in the database as in the bytes.
fn run_length(pages: &[PageAt], size: usize) -> usize {
    let follows = |w: &[PageAt]| w[1].pgno == w[0].pgno + 1 && w[1].at == w[0].at + size;
    1 + pages.windows(2).take_while(|w| follows(w)).count()
}

/// A thread that writes out what is there so far, and has a descriptor of the file for it. Dropping this closes that
/// descriptor and waits for it: closed later it would take the locks of the connections that SQLite has opened on the file by
/// then (POSIX drops all of a process's locks on a file with the first descriptor that it closes).
struct WriteOut {
    steps: Option<SyncSender<()>>,
    thread: Option<JoinHandle<disk::Result<()>>>,
}

impl WriteOut {
    fn begin(file: File) -> WriteOut {
        let (steps, receiver) = sync_channel(1);
        let thread = std::thread::spawn(move || {
            let mut all = Ok(());
            while receiver.recv().is_ok() {
                let written = file.sync_data("seed.write-out");
                all = all.and(written);
            }
            all
        });
        WriteOut {
            steps: Some(steps),
            thread: Some(thread),
        }
    }

    /// Writes out soon. If it is still busy with the step before, this one joins the next.
    fn step(&self) {
        if let Some(steps) = &self.steps {
            let _ = steps.try_send(());
        }
    }

    /// Ends it. Whoever syncs the file then must know of an error here: a kernel tells of what it could not write once for both
    /// descriptors, and calls the pages clean.
    fn end(&mut self) -> disk::Result<()> {
        // It ends when nobody can ask any more.
        self.steps = None;
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(all)) => all,
            // It panics nowhere, and if it did, its descriptor is closed all the same.
            Some(Err(_)) | None => Ok(()),
        }
    }
}

impl Drop for WriteOut {
    fn drop(&mut self) {
        // The file is given up.
        let _ = self.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Descriptors of this process that lead to `path`.
    fn descriptors(path: &Path) -> usize {
        let all = std::fs::read_dir("/proc/self/fd").expect("the descriptors");
        all.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
            .filter(|leads_to| leads_to == path)
            .count()
    }

    #[test]
    fn the_thread_that_writes_out_has_the_file_open_no_longer_than_it_is_wanted() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("seed.tmp");
        let file = File::create("seed.create", &path, 0o600).expect("a file");
        let path = path.canonicalize().expect("it is there");
        for round in 0..50 {
            let write_out = WriteOut::begin(file.try_clone("seed.clone").expect("a clone"));
            write_out.step();
            assert_eq!(descriptors(&path), 2);
            drop(write_out);
            assert_eq!(descriptors(&path), 1, "in round {round}");
        }
    }

    fn refused(finished: Result<Named, LocalError>) -> disk::DiskError {
        match finished {
            Err(LocalError::Disk(error)) => error,
            Err(error) => panic!("{error}"),
            Ok(_) => panic!("it has its name"),
        }
    }

    #[test]
    fn an_error_of_writing_out_is_an_error_of_the_whole() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("db");
        let mut seed = FreshSeed::begin(&path, directory.path(), 4096, 0o600).expect("begun");
        seed.file
            .write_all_at("seed.write", &[0; 4096], 0)
            .expect("a page");
        // A file that nothing can be synced in.
        let pipe = directory.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
        seed.write_out = WriteOut::begin(File::open_rw("seed.clone", &pipe).expect("open"));
        seed.write_out.step();
        let error = refused(seed.finish(&path, 1, 0));
        assert_eq!(error.op, "seed.write-out");
        assert!(!path.exists());
    }

    #[test]
    fn the_log_of_a_database_that_came_meanwhile_is_not_removed() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("db");
        let seed = FreshSeed::begin(&path, directory.path(), 4096, 0o600).expect("begun");
        seed.file
            .write_all_at("seed.write", &[0; 4096], 0)
            .expect("a page");
        let files = ["db", "db-wal", "db-shm"].map(|name| directory.path().join(name));
        for file in &files {
            std::fs::write(file, "theirs").expect("written");
        }
        let error = refused(seed.finish(&path, 1, 0));
        assert!(error.is_there_already(), "{error}");
        for file in files {
            assert_eq!(std::fs::read(file).expect("it is there"), b"theirs");
        }
    }

    #[test]
    fn the_log_and_the_index_of_a_new_file_are_there_before_its_name_is() {
        use crate::format::walindex::HEADER_SIZE;
        use std::os::unix::fs::FileExt as _;
        let directory = tempfile::tempdir().expect("a directory");
        let app = directory.path().join("app.db");
        rusqlite::Connection::open(&app)
            .and_then(|sql| sql.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(a)"))
            .expect("a database");
        let bytes = std::fs::read(&app).expect("its pages");
        let path = directory.path().join("db");
        let seed = FreshSeed::begin(&path, directory.path(), 4096, 0o600).expect("begun");
        seed.file
            .write_all_at("seed.write", &bytes, 0)
            .expect("its pages");
        // As a start leaves it that was killed.
        for suffix in ["-wal", "-shm"] {
            std::fs::write(beside(&seed.temporary, suffix), "left").expect("written");
        }
        let named = seed.finish(&path, 2, 0);
        let named = named.unwrap_or_else(|error| panic!("{error}"));
        let header = named.index.header().expect("a header");
        assert_eq!((header.is_init, header.mx_frame), (true, 0));
        // What other processes find by the name.
        let shm = std::fs::File::open(beside(&path, "-shm")).expect("the index");
        let mut found = [0; HEADER_SIZE];
        shm.read_exact_at(&mut found, 0).expect("read");
        // To close it would drop this process's locks.
        std::mem::forget(shm);
        let words = header.to_words().map(u32::to_ne_bytes).concat();
        assert_eq!(found.as_slice(), words);
        let log = std::fs::metadata(beside(&path, "-wal")).expect("the log");
        assert_eq!((log.len(), log.mode() & 0o777), (0, 0o600));
        for suffix in ["", "-wal", "-shm"] {
            let temporary = directory.path().join(format!("seed.tmp{suffix}"));
            assert!(!temporary.exists(), "{suffix}");
        }
        let reader = rusqlite::Connection::open(&path).expect("a reader");
        let tables = reader.query_row("SELECT count(*) FROM sqlite_schema", [], |r| r.get(0));
        assert_eq!(tables, Ok(1));
    }
}
