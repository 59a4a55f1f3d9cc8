//! Reads the application's live log: only frames that are committed, and only if the whole chain up to them holds.

use crate::disk::{DiskError, File};
use crate::format::wal::{
    Cksum, FRAME_HEADER_SIZE, Frame, FrameHeader, FrameScanner, ScanEnd, WAL_HEADER_SIZE, WalError,
    WalHeader, frame_offset, frame_size, frames_end,
};
use crate::model::MAX_CHUNK;
use std::path::{Path, PathBuf};

/// The live log could not be read as the wal-index says it is.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// A disk operation failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The log's header is not one.
    #[error("{path}: {source}", path = path.display())]
    Header {
        /// The log.
        path: PathBuf,
        /// What is wrong.
        source: WalError,
    },
    /// A committed frame is not what it should be.
    #[error("{path}: frame {frame}: {end}", path = path.display())]
    Frame {
        /// The log.
        path: PathBuf,
        /// Number of the frame.
        frame: u32,
        /// What is wrong.
        end: ScanEnd,
    },
}

impl LogError {
    /// True if the log is not what the wal-index says: another try would find the same.
    pub fn is_damage(&self) -> bool {
        match self {
            LogError::Disk(error) => error.source.kind() == std::io::ErrorKind::UnexpectedEof,
            LogError::Header { .. } | LogError::Frame { .. } => true,
        }
    }
}

/// A place in one run of the log.
#[derive(Clone, Copy, Debug)]
pub struct Cursor {
    /// The header of this run.
    pub header: WalHeader,
    /// Frames read.
    pub frames: u32,
    /// The chain after them.
    pub cksum: Cksum,
}

impl Cursor {
    /// Before the first frame.
    pub fn start(header: WalHeader) -> Cursor {
        Cursor {
            header,
            frames: 0,
            cksum: header.cksum,
        }
    }

    /// The offset behind the last frame; 0 before the first, since the header goes with it.
    pub fn offset(&self) -> u64 {
        match self.frames {
            0 => 0,
            frames => frames_end(self.header.page_size, frames),
        }
    }
}

/// Verified bytes of the log: they end at a commit, or hold none.
pub struct Stretch<'a> {
    /// The bytes; before the first frame they include the log's header.
    pub bytes: &'a [u8],
    /// The place behind them.
    pub end: Cursor,
    /// The database's size in pages if they end at a commit.
    pub commit: Option<u32>,
    /// Commits in them.
    pub commits: u32,
    /// The highest page number in them.
    pub highest: u32,
    frames_at: usize,
}

impl Stretch<'_> {
    /// The frames: page number, page, and the database's size where it is a commit. The chain was verified already.
    pub fn frames(&self) -> impl Iterator<Item = (u32, &[u8], u32)> {
        let size = frame_size(self.end.header.page_size) as usize;
        self.bytes[self.frames_at..]
            .chunks_exact(size)
            .filter_map(|frame| {
                let (head, page) = frame.split_first_chunk::<FRAME_HEADER_SIZE>()?;
                let header = FrameHeader::parse(head);
                Some((header.pgno, page, header.commit_size))
            })
    }
}

/// The `-wal` file and a buffer that is used again and again.
pub struct LiveLog {
    file: File,
    buf: Vec<u8>,
}

impl LiveLog {
    /// Opens the log of a database. No lock is on this file, so opening and closing it harms nobody.
    pub fn open(path: &Path) -> Result<LiveLog, DiskError> {
        let file = File::open_read("log.open", path)?;
        Ok(LiveLog {
            file,
            buf: Vec::new(),
        })
    }

    /// Gives the buffer's memory back.
    pub fn rest(&mut self) {
        self.buf = Vec::new();
    }

    /// The path of a database's log.
    pub fn path_of(database: &Path) -> PathBuf {
        let mut path = database.as_os_str().to_owned();
        path.push("-wal");
        path.into()
    }

    /// True if the path still leads to this file.
    pub fn is_current(&self) -> bool {
        self.file.is_current()
    }

    /// The log's header.
    pub fn header(&self) -> Result<WalHeader, LogError> {
        let mut bytes = [0; WAL_HEADER_SIZE];
        self.file.read_exact_at("log.header", &mut bytes, 0)?;
        WalHeader::parse(&bytes).map_err(|source| LogError::Header {
            path: self.path(),
            source,
        })
    }

    /// The header of a frame (from 1) that is known to be committed.
    pub fn frame_header(&self, page_size: u32, frame: u32) -> Result<FrameHeader, LogError> {
        let mut bytes = [0; FRAME_HEADER_SIZE];
        self.file.read_exact_at(
            "log.frame-header",
            &mut bytes,
            frame_offset(page_size, frame),
        )?;
        Ok(FrameHeader::parse(&bytes))
    }

    fn path(&self) -> PathBuf {
        self.file.path().to_owned()
    }

    /// Reads on from `from`, at most [`MAX_CHUNK`] bytes and at most to frame `last`, which ends a transaction.
    pub fn read(&mut self, from: &Cursor, last: u32) -> Result<Stretch<'_>, LogError> {
        let size = frame_size(from.header.page_size) as usize;
        let frames_at = if from.frames == 0 { WAL_HEADER_SIZE } else { 0 };
        let frames = (last - from.frames).min(((MAX_CHUNK - frames_at) / size) as u32);
        let len = frames_at + frames as usize * size;
        if self.buf.len() < len {
            // Grown in steps and not shrunk before it rests: the first touch of memory costs more than the read.
            self.buf.resize(len.next_power_of_two().min(MAX_CHUNK), 0);
        }
        self.file
            .read_exact_at("log.read", &mut self.buf[..len], from.offset())?;
        if frames_at > 0 && self.buf[..frames_at] != from.header.encode() {
            let end = ScanEnd::SaltChanged;
            return Err(LogError::Frame {
                path: self.path(),
                frame: 0,
                end,
            });
        }
        let path = || self.file.path().to_owned();
        let found =
            verify(from, &self.buf[frames_at..len]).map_err(|(frame, end)| LogError::Frame {
                path: path(),
                frame,
                end,
            })?;
        let len = frames_at + (found.end.frames - from.frames) as usize * size;
        Ok(Stretch {
            bytes: &self.buf[..len],
            end: found.end,
            commit: found.commit,
            commits: found.commits,
            highest: found.highest,
            frames_at,
        })
    }
}

struct Found {
    end: Cursor,
    commit: Option<u32>,
    commits: u32,
    highest: u32,
}

/// Verifies every frame and finds the last commit among them; without one, all of them are a piece of a transaction.
fn verify(from: &Cursor, frames: &[u8]) -> Result<Found, (u32, ScanEnd)> {
    let mut scanner = FrameScanner::new(&from.header, from.cksum, frames);
    let mut found = Found {
        end: *from,
        commit: None,
        commits: 0,
        highest: 0,
    };
    let mut number = from.frames;
    let mut highest = 0;
    for frame in scanner.by_ref() {
        let Frame {
            header,
            cksum_after,
            ..
        } = frame;
        number += 1;
        highest = highest.max(header.pgno);
        if header.is_commit() || found.commit.is_none() {
            found.end = Cursor {
                header: from.header,
                frames: number,
                cksum: cksum_after,
            };
            found.highest = highest;
        }
        if header.is_commit() {
            found.commit = Some(header.commit_size);
            found.commits += 1;
        }
    }
    match scanner.end() {
        Some(ScanEnd::End) => Ok(found),
        end => Err((number + 1, end.unwrap_or(ScanEnd::End))),
    }
}
