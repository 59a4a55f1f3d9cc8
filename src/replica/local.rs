//! The local database under live readers: appends to its WAL, publishes in its wal-index, restarts its log.
//!
//! WRITE is held from attach to detach. So no other process can write, and none can restart the log; a reader that asks
//! for a FULL, RESTART or TRUNCATE checkpoint gets what a PASSIVE one gives, as beside any busy writer.

use super::log::{Log, NewFrame};
use super::record::Mark;
use crate::disk::{self, File, fault};
use crate::format::dbheader::{to_primary, to_replica};
use crate::format::dbsum::page_hash;
use crate::format::wal::{Cksum, WalHeader};
use crate::format::walindex::{CKPT, WRITE};
use crate::format::walindex::{IndexHeader, READMARK_NOT_USED, read_slot};
use crate::sqlite::{SqliteError, WalIndex};
use crate::sums::Sums;
use crate::sys::LockKind::Exclusive;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// Applying failed; [`LocalError::is_diverged`] tells whether a snapshot must heal it.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] disk::DiskError),
    /// SQLite failed.
    #[error(transparent)]
    Sqlite(#[from] SqliteError),
    /// The result would not be what the primary has.
    #[error("{path}: the checksum of the database would be {got}, the primary has {want}", path = path.display())]
    Checksum {
        /// The database.
        path: PathBuf,
        /// What applying would give.
        got: crate::format::dbsum::DbSum,
        /// What the primary says.
        want: crate::format::dbsum::DbSum,
    },
    /// Somebody else wrote.
    #[error("{path} was changed by another program ({what})", path = path.display())]
    Foreign {
        /// The database.
        path: PathBuf,
        /// What was seen.
        what: String,
    },
    /// A file was deleted or replaced under us.
    #[error("{path}: {what} was deleted or replaced while walcast used it", path = path.display())]
    Gone {
        /// The database.
        path: PathBuf,
        /// Which file.
        what: &'static str,
    },
    /// Another connection is in the way.
    #[error("{path}: {what}", path = path.display())]
    Busy {
        /// The database.
        path: PathBuf,
        /// Who or what.
        what: &'static str,
    },
}

impl LocalError {
    /// True if the local database is not what it should be: only a snapshot heals it.
    pub fn is_diverged(&self) -> bool {
        matches!(
            self,
            LocalError::Checksum { .. } | LocalError::Foreign { .. }
        )
    }
}

type Result<T> = std::result::Result<T, LocalError>;

/// One page of a set, as the primary has it.
#[derive(Clone, Copy)]
pub struct PageRef<'a> {
    /// Its number.
    pub pgno: u32,
    /// Its bytes.
    pub page: &'a [u8],
}

/// A local database that readers may have open.
pub struct Local {
    index: WalIndex,
    path: PathBuf,
    db: File,
    log: Log,
    published: IndexHeader,
    page_size: u32,
    cookie_delta: u32,
    sums: Sums,
    page1: Vec<u8>,
    seen: HashSet<u32>,
}

impl Local {
    /// Attaches to an existing database: takes WRITE and reads every page once. `db` was opened before any SQLite
    /// connection of this process, and stays open as long as this.
    pub fn attach(
        path: &Path,
        db: File,
        directory: &Path,
        page_size: u32,
        cookie_delta: u32,
    ) -> Result<Local> {
        let mut index = WalIndex::open(path)?;
        if !index.lock(WRITE, Exclusive)? {
            return Err(busy(
                path,
                "another process holds the write lock; close it, or wait for it",
            ));
        }
        let published = index
            .header()
            .map_err(|e| foreign(path, format!("its wal-index is unreadable: {e}")))?;
        let page_size = if published.mx_frame > 0 {
            published.page_size
        } else {
            page_size
        };
        let mut wal = path.as_os_str().to_owned();
        wal.push("-wal");
        let log = Log::open(Path::new(&wal), &published, page_size)?;
        // A writer killed in the middle of a transaction leaves entries that nobody will ever publish.
        index.cleanup(published.mx_frame)?;
        let sums = Sums::create(directory, page_size)?;
        let mut local = Local {
            index,
            path: path.to_owned(),
            db,
            log,
            published,
            page_size,
            cookie_delta,
            sums,
            page1: Vec::new(),
            seen: HashSet::new(),
        };
        local.open_mark()?;
        Ok(local)
    }

    /// Readers that cannot write the shared memory need a mark at or before `mxFrame` (`walTryBeginRead`); recovery of
    /// an empty log leaves none.
    fn open_mark(&mut self) -> Result<()> {
        let mark = self.index.checkpoint_info().marks[1];
        if (mark == READMARK_NOT_USED || mark > self.published.mx_frame)
            && self.index.lock(read_slot(1), Exclusive)?
        {
            self.index.set_mark(1, self.published.mx_frame);
            self.index.unlock(read_slot(1), Exclusive)?;
        }
        Ok(())
    }

    /// Bytes in a page.
    pub fn page_size(&self) -> u32 {
        self.page_size
    }

    /// The page hashes.
    pub fn sums(&self) -> &Sums {
        &self.sums
    }

    /// The local WAL.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Frames that are visible, and how many of them a checkpoint has copied.
    pub fn backfill(&self) -> (u32, u32) {
        (
            self.published.mx_frame,
            self.index.checkpoint_info().backfill,
        )
    }

    /// Number of pages that readers see.
    pub fn page_count(&self) -> disk::Result<u32> {
        if self.published.page_count > 0 {
            return Ok(self.published.page_count);
        }
        Ok((self.db.len("db.size")? / u64::from(self.page_size)) as u32)
    }

    /// Takes the hashes that a fresh seed made while it wrote the file, instead of a scan.
    pub fn adopt(&mut self, sums: Sums, page1: Vec<u8>) {
        self.sums = sums;
        self.page1 = page1;
    }

    /// Reads every page and makes the table of hashes.
    pub fn scan(&mut self) -> Result<()> {
        let pages = self.page_count()?;
        let size = self.page_size as usize;
        let mut in_log = HashSet::new();
        let mut page = vec![0; size];
        for frame in 1..=self.published.mx_frame {
            let pgno = self.index.page_of(frame)?;
            self.log.read_page(frame, &mut page)?;
            if pgno <= pages {
                in_log.insert(pgno);
                self.enter(pgno, &mut page)?;
            }
        }
        let step = (1 << 20) / size;
        let mut buffer = vec![0; step * size];
        let mut first = 1;
        while first <= pages {
            let count = step.min((pages - first + 1) as usize);
            let offset = u64::from(first - 1) * size as u64;
            let read = self
                .db
                .read_at("db.scan", &mut buffer[..count * size], offset)?;
            buffer[read..count * size].fill(0);
            for (i, page) in buffer[..count * size].chunks_exact_mut(size).enumerate() {
                let pgno = first + i as u32;
                if !in_log.contains(&pgno) {
                    enter(
                        &mut self.sums,
                        &mut self.page1,
                        self.cookie_delta,
                        pgno,
                        page,
                    )?;
                }
            }
            first += count as u32;
        }
        self.sums.resize(pages);
        self.sums.commit();
        Ok(())
    }

    fn enter(&mut self, pgno: u32, page: &mut [u8]) -> disk::Result<()> {
        enter(
            &mut self.sums,
            &mut self.page1,
            self.cookie_delta,
            pgno,
            page,
        )
    }

    /// Counts page 1 with another constant of the schema cookie, after [`Local::scan`].
    pub fn use_cookie_delta(&mut self, delta: u32) -> disk::Result<()> {
        to_replica(&mut self.page1, self.cookie_delta);
        to_primary(&mut self.page1, delta);
        self.cookie_delta = delta;
        self.sums.set(1, page_hash(1, &self.page1))?;
        self.sums.commit();
        Ok(())
    }

    /// True if the header is the one that we published last.
    pub fn check_untouched(&self) -> Result<()> {
        match self.index.header() {
            Ok(now) if now == self.published => Ok(()),
            Ok(now) => Err(foreign(
                &self.path,
                format!(
                    "its log has {} frames, {} were published",
                    now.mx_frame, self.published.mx_frame
                ),
            )),
            Err(e) => Err(foreign(
                &self.path,
                format!("its wal-index is unreadable: {e}"),
            )),
        }
    }

    /// Appends pages of a transaction that goes on: nobody sees them before [`Local::publish`].
    pub fn append(&mut self, pages: &[PageRef<'_>]) -> Result<()> {
        let kept = self.newest(pages, u32::MAX);
        for page in &kept {
            self.sums.set(page.pgno, page_hash(page.pgno, page.page))?;
        }
        self.write(&kept, 0)
    }

    /// Appends the last pages of a transaction, checks the database's checksum, and makes all visible. `note` is called
    /// when the checksum is proven, before the last frame is written.
    ///
    /// On an error nothing is visible; call [`Local::abandon`].
    pub fn publish(
        &mut self,
        pages: &[PageRef<'_>],
        mark: &Mark,
        note: impl FnOnce() -> disk::Result<()>,
    ) -> Result<()> {
        self.check_untouched()?;
        let page_count = mark.point.page_count;
        let kept = self.newest(pages, page_count);
        for page in &kept {
            self.sums.set(page.pgno, page_hash(page.pgno, page.page))?;
        }
        self.sums.resize(page_count);
        if self.sums.sum() != mark.point.dbsum {
            let (got, want) = (self.sums.sum(), mark.point.dbsum);
            return Err(LocalError::Checksum {
                path: self.path.clone(),
                got,
                want,
            });
        }
        note()?;
        fault::point("apply.noted");
        self.write(&kept, page_count)?;
        fault::point("apply.written");
        self.show(page_count);
        self.sums.commit();
        fault::point("apply.published");
        Ok(())
    }

    /// Only the newest version of each page, in the order of their first need: a batch of many small commits shrinks to
    /// the pages it touched. Pages behind the end of the database go.
    fn newest<'a>(&mut self, pages: &[PageRef<'a>], page_count: u32) -> Vec<PageRef<'a>> {
        self.seen.clear();
        let mut kept: Vec<_> = pages
            .iter()
            .rev()
            .filter(|page| page.pgno <= page_count && self.seen.insert(page.pgno))
            .copied()
            .collect();
        kept.reverse();
        kept
    }

    fn write(&mut self, pages: &[PageRef<'_>], commit_size: u32) -> Result<()> {
        let first = self.log.next() + 1;
        let last = pages.len().wrapping_sub(1);
        let mut changed = Vec::new();
        if let Some(page) = pages.iter().find(|p| p.pgno == 1) {
            self.page1.clear();
            self.page1.extend_from_slice(page.page);
            changed.extend_from_slice(page.page);
            to_replica(&mut changed, self.cookie_delta);
        }
        let frames = pages.iter().enumerate().map(|(i, page)| NewFrame {
            pgno: page.pgno,
            commit_size: if i == last { commit_size } else { 0 },
            page: if page.pgno == 1 { &changed } else { page.page },
        });
        self.log.append(frames)?;
        for (i, page) in pages.iter().enumerate() {
            self.index.append(first + i as u32, page.pgno)?;
        }
        Ok(())
    }

    fn show(&mut self, page_count: u32) {
        let header = IndexHeader {
            change: self.published.change.wrapping_add(1),
            is_init: true,
            big_endian: self.log.header().big_endian,
            page_size: self.page_size,
            mx_frame: self.log.next(),
            page_count,
            frame_cksum: self.log.cksum(),
            salt: self.log.header().salt,
        };
        self.index.publish(&header);
        self.published = header;
        self.log.commit();
    }

    /// Forgets what was appended and not published.
    pub fn abandon(&mut self) -> Result<()> {
        self.sums.rollback();
        self.log.abandon();
        self.index.cleanup(self.published.mx_frame)?;
        Ok(())
    }

    /// Begins the log at its start again, if all is checkpointed and no reader uses it. `false`: not now.
    pub fn try_restart(&mut self) -> Result<bool> {
        self.restart_with(self.page_size)
    }

    fn restart_with(&mut self, page_size: u32) -> Result<bool> {
        let (frames, backfill) = self.backfill();
        let needed = frames > 0 || page_size != self.page_size;
        if self.log.next() != frames
            || backfill != frames
            || !needed
            || !self.index.lock(CKPT, Exclusive)?
        {
            return Ok(false);
        }
        let done = self.restart_under_ckpt(page_size);
        self.index.unlock(CKPT, Exclusive)?;
        done
    }

    fn restart_under_ckpt(&mut self, page_size: u32) -> Result<bool> {
        self.check_untouched()?;
        // A reader's own checkpoint may run at synchronous=OFF: what the log alone kept safe must be in the file first.
        self.db.sync_data("restart.sync-db")?;
        if !self.index.lock_range(read_slot(1), 4, Exclusive)? {
            return Ok(false);
        }
        let header = self.log.next_header(page_size);
        let index = IndexHeader {
            mx_frame: 0,
            salt: header.salt,
            frame_cksum: Cksum::default(),
            page_count: self.page_count()?,
            ..self.published
        };
        self.index.restart(&index);
        fault::point("restart.published");
        self.published = index;
        self.log.restart(header);
        self.page_size = page_size;
        let kept = if self.log.file().len("wal.size")? > 256 << 20 {
            self.log.file().set_len("wal.truncate", 0)
        } else {
            Ok(())
        };
        self.index.unlock_range(read_slot(1), 4, Exclusive)?;
        fault::point("restart.done");
        kept?;
        Ok(true)
    }

    /// Prepares for a snapshot in place: hashes begin at nothing, page 1 gets another constant. `false`: the page size
    /// differs and a reader still uses the log; try again.
    pub fn begin_seed(
        &mut self,
        directory: &Path,
        page_size: u32,
        cookie_delta: u32,
    ) -> Result<bool> {
        self.abandon()?;
        if page_size != self.page_size && !self.restart_with(page_size)? {
            return Ok(false);
        }
        self.sums = Sums::create(directory, page_size)?;
        self.cookie_delta = cookie_delta;
        Ok(true)
    }

    /// Ends a snapshot in place: page 1 once more, as the frame that commits.
    pub fn publish_seed(
        &mut self,
        mark: &Mark,
        note: impl FnOnce() -> disk::Result<()>,
    ) -> Result<()> {
        let page1 = std::mem::take(&mut self.page1);
        let result = self.publish(
            &[PageRef {
                pgno: 1,
                page: &page1,
            }],
            mark,
            note,
        );
        if self.page1.is_empty() {
            self.page1 = page1;
        }
        result
    }

    /// The primary's bytes of a page as readers see it now.
    pub fn read_page(&mut self, pgno: u32, page: &mut [u8]) -> Result<()> {
        match self.index.find(pgno, self.published.mx_frame)? {
            Some(frame) => self.log.read_page(frame, page)?,
            None => {
                let offset = u64::from(pgno - 1) * u64::from(self.page_size);
                let read = self.db.read_at("db.read", page, offset)?;
                page[read..].fill(0);
            }
        }
        if pgno == 1 {
            to_primary(page, self.cookie_delta);
        }
        Ok(())
    }

    /// True if the paths still lead to the files that are open here.
    pub fn check_files(&self) -> Result<()> {
        for (file, what) in [
            (&self.db, "the database file"),
            (self.log.file(), "the -wal file"),
        ] {
            if !file.is_current() {
                return Err(LocalError::Gone {
                    path: self.path.clone(),
                    what,
                });
            }
        }
        Ok(())
    }

    /// Gives applications their database back: page 1 says again that it can be written. WRITE is released.
    pub fn release_writable(mut self) -> Result<WalHeader> {
        self.abandon()?;
        self.check_untouched()?;
        let mut page1 = vec![0; self.page_size as usize];
        self.read_page(1, &mut page1)?;
        // Readers have cached the schema under the cookie they saw: it stays, only the write version changes.
        to_replica(&mut page1, self.cookie_delta);
        page1[18] = 2;
        let first = self.log.next() + 1;
        let page_count = self.page_count()?;
        self.log.append(std::iter::once(NewFrame {
            pgno: 1,
            commit_size: page_count,
            page: &page1,
        }))?;
        self.index.append(first, 1)?;
        self.show(page_count);
        self.log.file().sync_data("detach.sync-wal")?;
        self.index.unlock(WRITE, Exclusive)?;
        Ok(*self.log.header())
    }
}

fn enter(
    sums: &mut Sums,
    page1: &mut Vec<u8>,
    cookie_delta: u32,
    pgno: u32,
    page: &mut [u8],
) -> disk::Result<()> {
    if pgno == 1 {
        to_primary(page, cookie_delta);
        page1.clear();
        page1.extend_from_slice(page);
    }
    sums.set(pgno, page_hash(pgno, page))
}

fn busy(path: &Path, what: &'static str) -> LocalError {
    LocalError::Busy {
        path: path.to_owned(),
        what,
    }
}

fn foreign(path: &Path, what: String) -> LocalError {
    LocalError::Foreign {
        path: path.to_owned(),
        what,
    }
}
