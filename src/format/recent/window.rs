//! The WAL bytes of a stream that a later chunk may refer to.

use super::{LARGEST, RECENT};
use bytes::Bytes;
use std::collections::VecDeque;

/// The newest WAL bytes of a stream, at least the last [`RECENT`] of them since it last forgot, and at most a chunk more.
///
/// Both ends of a stream hold one, and it must forget on both at the same places: where the stream begins, at each
/// heartbeat (so that a database at rest costs no memory) and at each chunk of more than [`LARGEST`] bytes.
#[derive(Debug, Default)]
pub struct Window {
    chunks: VecDeque<Bytes>,
    held: u64,
    /// Where the next chunk begins, in bytes since the window was made.
    end: u64,
}

impl Window {
    /// The next chunk of the stream, unpacked. One of more than [`LARGEST`] bytes makes the window forget.
    pub fn remember(&mut self, chunk: Bytes) {
        if chunk.len() > LARGEST {
            self.forget();
            return;
        }
        let len = chunk.len() as u64;
        self.chunks.push_back(chunk);
        self.held += len;
        self.end += len;
        while let Some(oldest) = self.chunks.front()
            && self.held - oldest.len() as u64 >= RECENT
        {
            self.held -= oldest.len() as u64;
            self.chunks.pop_front();
        }
    }

    /// Nothing that came before can be referred to any more. Gives the memory back.
    pub fn forget(&mut self) {
        self.chunks = VecDeque::new();
        self.held = 0;
    }

    /// Bytes back from the end that can be referred to.
    pub fn reach(&self) -> u64 {
        self.held.min(RECENT)
    }

    /// Where the next chunk begins: a count of bytes that only grows, and says nothing of a position.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Where the oldest byte is that is held, in the same count.
    pub(super) fn begin(&self) -> u64 {
        self.end - self.held
    }

    /// Appends `len` bytes, from `distance` bytes before the end on, to `out`. False if not all of them are within reach;
    /// `out` is then as it was.
    pub(super) fn copy(&self, distance: u64, len: usize, out: &mut Vec<u8>) -> bool {
        if distance > self.reach() || (len as u64) > distance {
            return false;
        }
        let mut skip = self.held - distance;
        let mut left = len;
        // Frames that are referred to are among the newest, more often than not.
        let mut first = self.chunks.len();
        let mut begin = self.held;
        while begin > skip {
            first -= 1;
            begin -= self.chunks[first].len() as u64;
        }
        skip -= begin;
        for chunk in self.chunks.iter().skip(first) {
            let bytes = &chunk[skip as usize..];
            let take = bytes.len().min(left);
            out.extend_from_slice(&bytes[..take]);
            left -= take;
            skip = 0;
            if left == 0 {
                break;
            }
        }
        true
    }
}
