//! Capture: from the live log through the page table and lz4 into the shadow WAL and to the streams.

use super::hold::Hold;
use super::index::Index;
use super::log::{Cursor, LiveLog, LogError};
use super::recent::{Content, Maker, Recent};
use super::shadow::{Piece, ShadowWriter};
use super::shared::Shared;
use super::sums::Sums;
use crate::disk::{DiskError, File};
use crate::format::commits::CommitRecord;
use crate::format::lz4;
use crate::format::position::Position;
use crate::format::wal::{Cksum, WalHeader};
use crate::model::clock_us;
use crate::sqlite::SqliteError;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Instant;

/// The wal-index at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Salts of the log.
    pub salt: [u32; 2],
    /// Committed frames.
    pub frames: u32,
    /// Frames that are in the database file.
    pub backfill: u32,
    /// Pages of the database; of no meaning while there are no frames.
    pub pages: u32,
}

/// Why a step of the capture did not do all.
#[derive(Debug)]
pub enum Trouble {
    /// The hold or the log's history is broken: continuity has to be proven anew.
    Lost(String),
    /// A frame that the wal-index calls committed is not in the log's chain of checksums.
    Unsound {
        /// Salts of this log.
        salt: [u32; 2],
        /// For people.
        reason: String,
    },
    /// Something failed that may work again; nothing is lost, the hold stays.
    Later(String),
    /// The wal-index header is not readable now.
    Unreadable,
}

impl From<SqliteError> for Trouble {
    fn from(error: SqliteError) -> Trouble {
        // A lock that SQLite could not even try: the hold cannot be relied upon.
        Trouble::Lost(error.to_string())
    }
}

impl From<DiskError> for Trouble {
    fn from(error: DiskError) -> Trouble {
        Trouble::Later(error.to_string())
    }
}

/// A chunk that is ready to be written.
pub(super) struct Prepared {
    pub(super) index: u64,
    pub(super) start: u64,
    pub(super) end: Cursor,
    pub(super) data: Bytes,
    pub(super) recent: Option<Recent>,
    pub(super) record: Option<CommitRecord>,
    pub(super) commits: u32,
}

/// Everything that belongs to one attachment to the database.
pub struct Capture {
    pub(super) shared: Arc<Shared>,
    pub(super) raw: Arc<File>,
    pub(super) index: Box<dyn Index>,
    pub(super) hold: Hold,
    pub(super) log: LiveLog,
    pub(super) sums: Sums,
    pub(super) shadow: ShadowWriter,
    pub(super) page_size: u32,
    /// The end of what is captured.
    pub(super) position: Position,
    /// The header of the WAL that `position` is in, and the chain there; `None` at the generation's start.
    pub(super) end: Option<(WalHeader, Cksum)>,
    /// The place in the live log; `None` if nothing of the live log is captured.
    pub(super) cursor: Option<Cursor>,
    /// Salts and frames of a log that is passed over, see `unsound`.
    pub(super) passed: Option<([u32; 2], u32)>,
    /// True while the log may have been restarted legally: all of it was captured and copied when it was let go.
    pub(super) may_restart: bool,
    /// The log is to be let go, or taken back, and somebody was in the way.
    pub(super) yield_due: bool,
    /// True once checksums are known: chunks go to the streams.
    pub(super) ready: bool,
    /// The record at `position` when it was written without a checksum.
    pub(super) unknown: Option<CommitRecord>,
    /// When the newest commit was captured.
    pub(super) time_us: i64,
    /// True while time matters more than bytes.
    pub(super) hasty: bool,
    /// When the last chase ended.
    pub(super) chased: Instant,
    prepared: Option<Prepared>,
    packed: Vec<u8>,
    recent: Maker,
}

/// The parts that continuity gives.
pub struct Parts {
    /// See the fields of [`Capture`].
    pub raw: Arc<File>,
    /// The wal-index.
    pub index: Box<dyn Index>,
    /// Holds the log.
    pub hold: Hold,
    /// The `-wal` file.
    pub log: LiveLog,
    /// With all of the live log that is captured already.
    pub sums: Sums,
    /// Ready to append at `position`.
    pub shadow: ShadowWriter,
    /// Bytes in a page.
    pub page_size: u32,
    /// The end of what is captured.
    pub position: Position,
    /// Its log and chain.
    pub end: Option<(WalHeader, Cksum)>,
    /// The place in the live log.
    pub cursor: Option<Cursor>,
    /// The log that is passed over, see [`Capture`].
    pub passed: Option<([u32; 2], u32)>,
    /// True if `sums` are right already.
    pub ready: bool,
    /// A record at `position` without a checksum.
    pub unknown: Option<CommitRecord>,
    /// When `position` was captured.
    pub time_us: i64,
}

impl Capture {
    /// An attachment that begins.
    pub fn new(shared: Arc<Shared>, parts: Parts) -> Capture {
        Capture {
            shared,
            raw: parts.raw,
            index: parts.index,
            hold: parts.hold,
            log: parts.log,
            sums: parts.sums,
            shadow: parts.shadow,
            page_size: parts.page_size,
            position: parts.position,
            end: parts.end,
            may_restart: parts.cursor.is_none(),
            passed: parts.passed,
            yield_due: false,
            cursor: parts.cursor,
            ready: parts.ready,
            unknown: parts.unknown,
            time_us: parts.time_us,
            hasty: false,
            chased: Instant::now(),
            prepared: None,
            packed: Vec::new(),
            recent: Maker::default(),
        }
    }

    /// Nothing was committed for a while: gives the memory of its buffers back.
    pub fn rest(&mut self) {
        self.log.rest();
        self.packed = Vec::new();
        self.recent.forget();
    }

    /// Reads the wal-index. A header in the middle of being written is asked for again.
    pub fn observe(index: &dyn Index) -> Result<Seen, Trouble> {
        for _ in 0..5000 {
            if let Ok(header) = index.header() {
                return Ok(Seen {
                    salt: header.salt,
                    frames: header.mx_frame,
                    backfill: index.checkpoint_info().backfill,
                    pages: header.page_count,
                });
            }
            std::hint::spin_loop();
        }
        Err(Trouble::Unreadable)
    }

    /// True if all frames are captured.
    pub fn is_captured(&self, seen: &Seen) -> bool {
        match &self.cursor {
            _ if seen.frames == 0 => true,
            Some(cursor) => cursor.header.salt == seen.salt && cursor.frames == seen.frames,
            None => self.passed == Some((seen.salt, seen.frames)),
        }
    }

    /// True if all frames are captured and copied: the log may be let go.
    fn is_complete(&self, seen: &Seen) -> bool {
        self.is_captured(seen) && (seen.frames == 0 || seen.backfill == seen.frames)
    }

    /// Takes the log back as soon as there is something in it to protect. Returns what is seen then.
    pub fn guard(&mut self, seen: Seen) -> Result<Seen, Trouble> {
        if self.is_complete(&seen) || !self.hold.has_file() {
            return Ok(seen);
        }
        if !self.hold.take_log(&mut *self.index)? {
            // Readers stand on every slot: the file stays held, so nothing is lost, and the next look tries again.
            return Ok(seen);
        }
        let seen = Self::observe(&*self.index)?;
        self.hold.release_file(&mut *self.index)?;
        Ok(seen)
    }

    /// Lets the log go if nothing in it needs protection any more: the application's next writer restarts it.
    ///
    /// A checkpoint says that it has copied all before it lets READ(0) go (`walCheckpoint`). Whoever looks in between must
    /// ask again (`yield_due`): nothing that is looked at changes any more, and a TRUNCATE or RESTART would wait in vain.
    pub fn yield_log(&mut self) -> Result<(), Trouble> {
        self.yield_due = false;
        let seen = Self::observe(&*self.index)?;
        if !self.hold.has_log() {
            // Readers stood on every slot when the log was to be taken back. Until it is, checkpoints are kept out, and
            // the readers' leaving is nothing that is looked at either.
            self.yield_due = self.hold.has_file() && !self.is_complete(&seen);
            return Ok(());
        }
        if !self.is_complete(&seen) {
            return Ok(());
        }
        if !self.hold.take_file(&mut *self.index)? {
            self.yield_due = true;
            return Ok(());
        }
        // With the file held nothing more is copied, so if all is still captured and copied now, the log that comes
        // after this one begins where this one ends.
        let again = Self::observe(&*self.index)?;
        if again == seen {
            self.may_restart = true;
            self.hold.release_log(&mut *self.index)?;
        } else {
            self.hold.release_file(&mut *self.index)?;
        }
        Ok(())
    }

    /// Finds the place of what is seen in the history; a new run of the log is begun here.
    pub fn follow(&mut self, seen: &Seen) -> Result<(), Trouble> {
        match &self.cursor {
            _ if seen.frames == 0 => match self.may_restart {
                true => Ok(()),
                false => Err(Trouble::Lost(
                    "the log was emptied before it was captured".into(),
                )),
            },
            Some(cursor) if cursor.header.salt == seen.salt => {
                if seen.frames < cursor.frames {
                    return Err(Trouble::Lost(
                        "the log is shorter than what was captured of it".into(),
                    ));
                }
                self.may_restart &= seen.frames == cursor.frames;
                Ok(())
            }
            None if self.passed.is_some_and(|(salt, _)| salt == seen.salt) => {
                match self.is_captured(seen) {
                    true => Ok(()),
                    false => Err(Trouble::Unsound {
                        salt: seen.salt,
                        reason: "the log that is passed over goes on".into(),
                    }),
                }
            }
            _ if self.may_restart => {
                let header = self.log.header();
                let header = header.map_err(|error| log_trouble(error, seen.salt))?;
                if header.salt != seen.salt || header.page_size != self.page_size {
                    return Err(Trouble::Lost(
                        "the log's header is not that of the wal-index".into(),
                    ));
                }
                self.cursor = Some(Cursor::start(header));
                self.may_restart = false;
                Ok(())
            }
            _ => Err(Trouble::Lost(
                "the log was restarted while it was held".into(),
            )),
        }
    }

    /// The index that the cursor's frames belong to. It begins with its first frames, not at the restart: a restart of
    /// which no frame was written is undone by a crash.
    pub fn current_index(&self) -> u64 {
        match (&self.cursor, self.end) {
            (Some(cursor), Some(_)) if cursor.frames == 0 => self.position.index + 1,
            (_, Some(_)) => self.position.index,
            (_, None) => 0,
        }
    }

    /// Captures one chunk, at most up to frame `last`.
    pub fn capture_chunk(&mut self, last: u32) -> Result<(), Trouble> {
        let began = Instant::now();
        if self.prepared.is_none() {
            let Some(cursor) = self.cursor.filter(|cursor| cursor.frames < last) else {
                return Ok(());
            };
            self.prepared = Some(self.prepare(&cursor, last)?);
        }
        let Some(prepared) = &self.prepared else {
            return Ok(());
        };
        let Prepared {
            index,
            start,
            data,
            record,
            ..
        } = prepared;
        let piece = Piece {
            index: *index,
            start: *start,
            data,
            record: *record,
        };
        self.shadow.append(&piece, clock_us())?;
        if let Some(prepared) = self.prepared.take() {
            self.publish(prepared);
            self.shared.meters.work.time(began.elapsed());
        }
        Ok(())
    }

    fn prepare(&mut self, cursor: &Cursor, last: u32) -> Result<Prepared, Trouble> {
        let index = self.current_index();
        let stretch = self.log.read(cursor, last);
        let stretch = stretch.map_err(|error| log_trouble(error, cursor.header.salt))?;
        self.sums.reserve(stretch.highest)?;
        for (pgno, page, commit_size) in stretch.frames() {
            self.sums.frame(pgno, page);
            if commit_size > 0 {
                self.sums.commit(commit_size);
            }
        }
        self.packed.clear();
        let pack = if self.hasty {
            lz4::store
        } else {
            lz4::compress
        };
        pack(stretch.bytes, &mut self.packed).map_err(|e| Trouble::Later(e.to_string()))?;
        // Exactly once for each chunk: what is prepared is kept until it is published.
        let recent = if self.ready && self.shared.hub.has_takers() {
            let content = Content {
                bytes: stretch.bytes,
                begins_log: cursor.frames == 0,
                page_size: self.page_size,
                plain: self.packed.len(),
            };
            self.recent.next(&content, self.hasty)
        } else {
            self.recent.forget();
            None
        };
        let end = stretch.end;
        let record = stretch.commit.map(|page_count| CommitRecord {
            end_offset: end.offset(),
            dbsum: if self.ready {
                self.sums.sum()
            } else {
                Default::default()
            },
            page_count: if self.ready { page_count } else { 0 },
            time_us: clock_us(),
            cksum: end.cksum,
        });
        Ok(Prepared {
            index,
            start: cursor.offset(),
            end,
            // As long as its bytes: the scratch buffer has room for the worst case.
            data: Bytes::copy_from_slice(&self.packed),
            recent,
            record,
            commits: stretch.commits,
        })
    }
}

/// The log under our hold is what the wal-index says, or the hold was worth nothing, or SQLite wrote it so.
fn log_trouble(error: LogError, salt: [u32; 2]) -> Trouble {
    match error {
        LogError::Disk(disk) if !error.is_damage() => disk.into(),
        LogError::Frame { .. } => Trouble::Unsound {
            salt,
            reason: error.to_string(),
        },
        error => Trouble::Lost(error.to_string()),
    }
}
