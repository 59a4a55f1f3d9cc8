//! The local database under live readers: appends to its WAL, publishes in its wal-index, restarts its log.
//!
//! WRITE is held from attach to detach. So no other process can write, and none can restart the log; a reader that asks
//! for a FULL, RESTART or TRUNCATE checkpoint gets what a PASSIVE one gives, as beside any busy writer.

mod error;
mod files;
mod restart;
mod room;
mod scan;

pub use error::LocalError;
pub use files::share_group;

use super::doubt::Doubt;
use super::log::{Log, NewFrame};
use super::record::Mark;
use crate::disk::{self, File, fault};
use crate::format::dbheader::to_replica;
use crate::format::dbsum::page_hash;
use crate::format::walindex::{CKPT, IndexHeader, READERS, READMARK_NOT_USED, WRITE, read_slot};
use crate::sqlite::WalIndex;
use crate::sums::Sums;
use crate::sys::LockKind::Exclusive;
use files::shm_number;
use room::Room;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long opening waits for others that hold the locks.
const ATTACH_PATIENCE: Duration = Duration::from_secs(2);

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
    db: Arc<File>,
    log: Log,
    /// Device and number of the `-shm` file that is mapped.
    shm: Option<(u64, u64)>,
    room: Room,
    published: IndexHeader,
    page_size: u32,
    cookie_delta: u32,
    sums: Sums,
    page1: Vec<u8>,
    seen: HashSet<u32>,
}

impl Local {
    /// Attaches to an existing database: takes WRITE and reads every page once. `db` stays open for as long as this process
    /// has any SQLite connection to it: see the trap in [`crate::disk`].
    pub fn attach(
        path: &Path,
        db: Arc<File>,
        directory: &Path,
        page_size: u32,
        cookie_delta: u32,
    ) -> Result<Local> {
        let mut index = open_patiently(path)?;
        let shm = shm_number(path);
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
        let doubt = Arc::new(Doubt::open(directory)?);
        let log = Log::open(Path::new(&wal), &published, page_size, doubt)?;
        share_group(path);
        // A writer killed in the middle of a transaction leaves entries that nobody will ever publish.
        index.cleanup(published.mx_frame)?;
        mend_backfill(path, &mut index, published.mx_frame)?;
        let sums = Sums::create(directory, page_size)?;
        let room = Room::of(&db, index.checkpoint_info().backfill)?;
        let mut local = Local {
            index,
            path: path.to_owned(),
            db,
            log,
            shm,
            room,
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

    /// A sync of the log failed, see [`Log::doubt`]. One without frames begins anew at once: nothing of it is in doubt then.
    pub fn doubt_log(&mut self) -> disk::Result<()> {
        self.log.doubt();
        match self.log.next() {
            0 => self.log.begin(),
            _ => Ok(()),
        }
    }

    /// The number of the database's file.
    pub fn inode(&self) -> disk::Result<u64> {
        self.db.inode("db.stat")
    }

    /// Frames that are visible, and how many of them a checkpoint has copied.
    pub fn backfill(&self) -> (u32, u32) {
        (
            self.published.mx_frame,
            self.index.checkpoint_info().backfill,
        )
    }

    /// The frame up to which readers of each slot see the log; [`READMARK_NOT_USED`] for those that are not in its way.
    pub fn read_marks(&self) -> [u32; READERS] {
        let info = self.index.checkpoint_info();
        let mut marks = info.marks;
        if info.backfill == self.published.mx_frame {
            // All is in the file, and who reads nothing but that may go on while the log begins anew.
            marks[0] = READMARK_NOT_USED;
        }
        marks
    }

    /// Number of pages that readers see.
    pub fn page_count(&self) -> disk::Result<u32> {
        if self.published.page_count > 0 {
            return Ok(self.published.page_count);
        }
        Ok((self.db.len("db.size")? / u64::from(self.page_size)) as u32)
    }

    /// An error if the header is not the one that we published last.
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

    /// As [`Local::append`], for a snapshot: there is nothing to go back to, and what could be taken back is not kept.
    pub fn append_seed(&mut self, pages: &[PageRef<'_>]) -> Result<()> {
        self.append(pages)?;
        self.sums.commit();
        Ok(())
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
        // Before the hashes: of what no disk has room for they would take all that there is.
        self.make_room(page_count)?;
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

    fn make_room(&mut self, page_count: u32) -> Result<()> {
        let bytes = u64::from(page_count) * u64::from(self.page_size);
        let (_, backfill) = self.backfill();
        let reserved = self.room.reserve(&self.db, bytes, backfill);
        // What the log has of this transaction is in the way of the checkpoint that may make room for it.
        if reserved.as_ref().is_err_and(disk::DiskError::is_full) {
            self.log.cut();
        }
        Ok(reserved?)
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
            self.enter(first + i as u32, page.pgno)?;
        }
        Ok(())
    }

    /// Enters a frame into the wal-index, which may have to grow for it.
    fn enter(&mut self, frame: u32, pgno: u32) -> Result<()> {
        disk::meet("shm.append", &self.path)?;
        Ok(self.index.append(frame, pgno)?)
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

    /// Ends a snapshot in place: page 1 once more, as the frame that commits.
    pub fn publish_seed(
        &mut self,
        mark: &Mark,
        note: impl FnOnce() -> disk::Result<()>,
    ) -> Result<()> {
        let page1 = std::mem::take(&mut self.page1);
        if page1.is_empty() {
            return Err(LocalError::Damaged {
                path: self.path.clone(),
                what: "a snapshot came without its first page".to_owned(),
            });
        }
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

    /// Gives the memory of buffers back.
    pub fn rest(&mut self) {
        self.log.rest();
        self.seen = HashSet::new();
    }
}

/// Opens the wal-index and takes WRITE. A reader that has just opened the file may be recovering the index, which takes a
/// moment and the same locks.
fn open_patiently(path: &Path) -> Result<WalIndex> {
    let deadline = Instant::now() + ATTACH_PATIENCE;
    loop {
        let error = match WalIndex::open(path) {
            Ok(mut index) => {
                if index.lock(WRITE, Exclusive)? {
                    return Ok(index);
                }
                busy(
                    path,
                    "another process holds the write lock; close it, or wait for it",
                )
            }
            Err(error) if error.is_busy() => error.into(),
            Err(error) => return Err(error.into()),
        };
        if Instant::now() >= deadline {
            return Err(error);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A writer that was killed while it restarted the log as `walRestartHdr` does leaves more frames copied than there are: who
/// reads would not see the first that come.
fn mend_backfill(path: &Path, index: &mut WalIndex, frames: u32) -> Result<()> {
    if index.checkpoint_info().backfill <= frames {
        return Ok(());
    }
    if !index.lock(CKPT, Exclusive)? {
        return Err(busy(path, "a checkpoint by another program is under way"));
    }
    index.forget_backfill();
    Ok(index.unlock(CKPT, Exclusive)?)
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
