//! One segment file: lz4 frames, one after the other.

use super::{MAX_CONTENT, ShadowError};
use crate::disk::File;
use crate::format::lz4;
use std::path::PathBuf;

type Result<T> = std::result::Result<T, ShadowError>;

/// Compressed bytes that one read of a segment asks for.
const READ: usize = 256 * 1024;

/// A segment that is being read.
pub struct Segment {
    pub path: PathBuf,
    pub file: File,
    /// Offset in the segment of the first byte of `buf` that is not consumed.
    pub at: u64,
    pub buf: Vec<u8>,
    pub used: usize,
}

/// A frame taken out of a segment.
pub struct Raw {
    /// The frame.
    pub data: Vec<u8>,
    /// Where it begins in the file.
    pub at: u64,
}

impl Segment {
    fn fill(&mut self) -> Result<bool> {
        self.buf.drain(..self.used);
        self.used = 0;
        let have = self.buf.len();
        self.buf.resize(have + READ, 0);
        let read = self.file.read_at(
            "shadow.read",
            &mut self.buf[have..],
            self.at.wrapping_add(have as u64),
        )?;
        self.buf.truncate(have + read);
        Ok(read > 0)
    }

    /// The extent of the next frame, `None` at the end of the segment.
    pub fn peek_frame(&mut self) -> Result<Option<lz4::FrameExtent>> {
        loop {
            let extent = lz4::frame_extent(&self.buf[self.used..])
                .map_err(|e| ShadowError::lz4(&self.path, self.at, e))?;
            if let Some(extent) = extent {
                if extent.content_len > MAX_CONTENT as u64 || extent.content_len == 0 {
                    return Err(ShadowError::damaged(
                        &self.path,
                        self.at,
                        "a frame of impossible size",
                    ));
                }
                return Ok(Some(extent));
            }
            if !self.fill()? {
                return match self.buf.is_empty() {
                    true => Ok(None),
                    false => Err(ShadowError::damaged(
                        &self.path,
                        self.at,
                        "the frame is cut off",
                    )),
                };
            }
        }
    }

    /// Steps over `len` bytes.
    pub fn consume(&mut self, len: usize) {
        self.used += len;
        self.at = self.at.wrapping_add(len as u64);
    }

    /// Takes the next frame, `None` at the end of the segment.
    pub fn next_frame(&mut self) -> Result<Option<Raw>> {
        let Some(extent) = self.peek_frame()? else {
            return Ok(None);
        };
        let at = self.at;
        let data = self.buf[self.used..self.used + extent.compressed_len].to_vec();
        self.consume(extent.compressed_len);
        Ok(Some(Raw { data, at }))
    }

    /// Replaces the next frame (in memory) by one without its first `skip` bytes.
    pub fn cut_frame(&mut self, len: usize, skip: usize) -> Result<()> {
        let (path, at) = (self.path.clone(), self.at);
        let mut content = Vec::new();
        lz4::decompress(
            &self.buf[self.used..self.used + len],
            MAX_CONTENT,
            &mut content,
        )
        .map_err(|e| ShadowError::lz4(&path, at, e))?;
        let mut cut = Vec::new();
        lz4::compress(&content[skip..], &mut cut).map_err(|e| ShadowError::lz4(&path, at, e))?;
        let (grown, shrunk) = (cut.len(), len);
        self.buf.splice(self.used..self.used + len, cut);
        // `at` stays the offset of `buf[used]` for the bytes after this frame.
        self.at = (self.at + shrunk as u64).wrapping_sub(grown as u64);
        Ok(())
    }
}
