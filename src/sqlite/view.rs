//! One committed state of a database in WAL mode, held as an open read transaction holds it, and read page by page.
//!
//! SQLite's own connections give rows, not pages (`sqlite_dbpage` is not in the bundled build, `sqlite3_serialize` ends at
//! 2 GB). So this takes a read lock by the rules of `walTryBeginRead`, which keeps the log's frames and the file's pages of
//! that state where they are, and looks pages up as a reader does: the newest frame at or before `mxFrame`, else the file.

use super::{SqliteError, WalIndex};
use crate::disk::{self, DiskError, File};
use crate::format::dbheader::{DbHeader, HEADER_SIZE};
use crate::format::wal::{FRAME_HEADER_SIZE, WAL_HEADER_SIZE};
use crate::format::walindex::{IndexHeader, READERS, READMARK_NOT_USED, read_slot};
use crate::sys::LockKind::{Exclusive, Shared};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A state could not be held or read.
#[derive(Debug, thiserror::Error)]
pub enum ViewError {
    /// SQLite failed.
    #[error(transparent)]
    Sqlite(#[from] SqliteError),
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// It is no database that can be read.
    #[error("{path}: {what}", path = path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
}

/// How long it waits for a header that is just being written, or for a lock.
const PATIENCE: Duration = Duration::from_secs(2);

/// A state that is held. Dropping it lets go.
pub struct View {
    index: WalIndex,
    log: Option<File>,
    header: IndexHeader,
    page_size: u32,
    pages: u32,
    /// Newest frame of each page that is in the log; made with the first read.
    frames: Option<HashMap<u32, u32>>,
}

impl View {
    /// Opens the database and holds the state that a reader sees now.
    ///
    /// # Errors
    /// [`SqliteError::NotWal`] where it is in another journal mode.
    pub fn open(path: &Path) -> Result<View, ViewError> {
        View::hold(WalIndex::open(path)?)
    }

    /// Holds the state that a reader sees now. Quick: no page is read yet.
    pub fn hold(mut index: WalIndex) -> Result<View, ViewError> {
        let path = index.path().to_owned();
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Ok(header) = index.header()
                && let Some(slot) = take_slot(&mut index, header.mx_frame)?
            {
                // As in `walTryBeginRead`: if nothing was committed between the look and the lock, the lock holds what was
                // seen.
                index.barrier();
                if index.header().is_ok_and(|now| now == header) {
                    return View::of(index, header);
                }
                index.unlock(slot, Shared)?;
            }
            if Instant::now() >= deadline {
                let what = "no state of it could be held: its wal-index is unreadable, or every read lock is taken";
                return Err(ViewError::Database {
                    path,
                    what: what.to_owned(),
                });
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn of(mut index: WalIndex, header: IndexHeader) -> Result<View, ViewError> {
        let path = index.path().to_owned();
        let wrong = |what: String| ViewError::Database {
            path: path.clone(),
            what,
        };
        let mut log = None;
        if header.mx_frame > 0 {
            let mut wal = path.as_os_str().to_owned();
            wal.push("-wal");
            log = Some(File::open_read("view.wal", Path::new(&wal))?);
        }
        let (page_size, pages) = if header.mx_frame > 0 {
            (header.page_size, header.page_count)
        } else {
            let mut bytes = [0; HEADER_SIZE];
            index.read_file(&mut bytes, 0)?;
            let size = DbHeader::parse(&bytes)
                .map_err(|e| wrong(e.to_string()))?
                .page_size;
            let length = disk::metadata("view.size", &path)?.len();
            let in_file = u32::try_from(length / u64::from(size))
                .map_err(|_| wrong("it has more pages than SQLite counts".to_owned()))?;
            // With an empty log nothing is behind the database's end but what a shrink left.
            let pages = match header.page_count {
                0 => in_file,
                count => count,
            };
            (size, pages)
        };
        Ok(View {
            index,
            log,
            header,
            page_size,
            pages,
            frames: None,
        })
    }

    /// The wal-index header of the state.
    pub fn header(&self) -> IndexHeader {
        self.header
    }

    /// Bytes in a page.
    pub fn page_size(&self) -> u32 {
        self.page_size
    }

    /// Pages of the database.
    pub fn pages(&self) -> u32 {
        self.pages
    }

    /// Reads consecutive pages from `first` on, as many as `buf` holds.
    pub fn read(&mut self, first: u32, buf: &mut [u8]) -> Result<(), ViewError> {
        let size = self.page_size as usize;
        let offset = u64::from(first - 1) * size as u64;
        self.index.read_file(buf, offset)?;
        let Some(log) = &self.log else {
            return Ok(());
        };
        let frames = match &mut self.frames {
            Some(frames) => frames,
            none => none.insert(newest_frames(&mut self.index, self.header.mx_frame)?),
        };
        for (pgno, page) in (first..).zip(buf.chunks_exact_mut(size)) {
            if let Some(&frame) = frames.get(&pgno) {
                let each = (FRAME_HEADER_SIZE + size) as u64;
                let at = WAL_HEADER_SIZE as u64 + u64::from(frame - 1) * each;
                log.read_exact_at("view.read", page, at + FRAME_HEADER_SIZE as u64)?;
            }
        }
        Ok(())
    }
}

fn newest_frames(index: &mut WalIndex, last: u32) -> Result<HashMap<u32, u32>, ViewError> {
    let mut frames = HashMap::new();
    for frame in 1..=last {
        frames.insert(index.page_of(frame)?, frame);
    }
    Ok(frames)
}

/// Takes a read lock whose mark is at or before `mx_frame`. A mark before it holds more than is needed, which is safe: a
/// checkpoint stops at the mark, and the log begins anew only without such locks.
fn take_slot(index: &mut WalIndex, mx_frame: u32) -> Result<Option<u32>, ViewError> {
    let usable = |index: &WalIndex, i: u32| {
        let mark = index.checkpoint_info().marks[i as usize];
        mark != READMARK_NOT_USED && mark <= mx_frame
    };
    for exact in [true, false] {
        for i in 1..READERS as u32 {
            if exact && index.checkpoint_info().marks[i as usize] != mx_frame {
                continue;
            }
            if !usable(index, i) || !index.lock(read_slot(i), Shared)? {
                continue;
            }
            if usable(index, i) {
                return Ok(Some(read_slot(i)));
            }
            index.unlock(read_slot(i), Shared)?;
        }
        if exact {
            set_a_mark(index, mx_frame)?;
        }
    }
    Ok(None)
}

/// Puts a slot that nobody uses at `mx_frame`.
fn set_a_mark(index: &mut WalIndex, mx_frame: u32) -> Result<(), ViewError> {
    for i in 1..READERS as u32 {
        if index.lock(read_slot(i), Exclusive)? {
            index.set_mark(i, mx_frame);
            index.unlock(read_slot(i), Exclusive)?;
            break;
        }
    }
    Ok(())
}
