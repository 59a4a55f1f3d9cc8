//! The packing side: which earlier frames a chunk is packed against.

use super::{LARGEST, Window, put_varint};
use crate::format::wal::{FRAME_HEADER_SIZE, FrameHeader, WAL_HEADER_SIZE};
use bytes::Bytes;
use lz4_flex::block::{compress_into_with_dict, get_maximum_output_size};
use std::collections::HashMap;
use xxhash_rust::xxh32::xxh32;

/// A chunk in its packed form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed {
    /// The packed bytes.
    pub data: Bytes,
    /// Bytes back from the chunk's beginning that it refers to: who was not sent as many cannot unpack it.
    pub reach: u64,
}

/// Packs the chunks of a history, in their order, against those before.
#[derive(Debug, Default)]
pub struct Packer {
    window: Window,
    /// Where the newest frame of each page begins, in the window's count. Of pages that are no longer held as well, until
    /// their chunk goes.
    newest: HashMap<u32, u64>,
    dictionary: Vec<u8>,
    packed: Vec<u8>,
}

impl Packer {
    /// Nothing that came before is referred to any more. Gives the memory back.
    pub fn forget(&mut self) {
        self.window.forget();
        self.newest = HashMap::new();
        self.dictionary = Vec::new();
        self.packed = Vec::new();
    }

    /// Packs the chunk that comes next. `content`: whole frames of `frame_len` bytes, behind the header of their log if
    /// `begins_log`. `None` if none of its pages is held, or it is too large.
    pub fn pack(&mut self, content: &[u8], begins_log: bool, frame_len: usize) -> Option<Packed> {
        if content.len() > LARGEST {
            return None;
        }
        let distances = self.refer(content, begins_log, frame_len);
        let reach = *distances.iter().max()?;
        let out = &mut self.packed;
        out.clear();
        put_varint(distances.len() as u32, out);
        distances.iter().for_each(|d| put_varint(*d, out));
        let at = out.len();
        out.resize(at + get_maximum_output_size(content.len()), 0);
        // It fails where there is less space than it asks for.
        let len = compress_into_with_dict(content, &mut out[at..], &self.dictionary).ok()?;
        out.truncate(at + len);
        out.extend_from_slice(&xxh32(content, 0).to_le_bytes());
        Some(Packed {
            data: Bytes::copy_from_slice(out),
            reach: reach.into(),
        })
    }

    /// Makes the dictionary: not longer than the chunk, each page once. Returns how far back its frames are.
    fn refer(&mut self, content: &[u8], begins_log: bool, frame_len: usize) -> Vec<u32> {
        self.dictionary.clear();
        let mut distances = Vec::new();
        for (pgno, _) in frames(content, begins_log, frame_len) {
            let Some(at) = self.newest.get(&pgno) else {
                continue;
            };
            let distance = self.window.end() - at;
            let Ok(short) = u32::try_from(distance) else {
                continue;
            };
            // A page that comes twice has one frame before the chunk; LZ4 finds the other in the chunk.
            if distances.contains(&short) {
                continue;
            }
            if self.window.copy(distance, frame_len, &mut self.dictionary) {
                distances.push(short);
            }
        }
        distances
    }

    /// The chunk that comes next, packed or not, was handed out. One that is too large makes the packer forget.
    pub fn remember(&mut self, content: &[u8], begins_log: bool, frame_len: usize) {
        if content.len() > LARGEST {
            self.forget();
            return;
        }
        let start = self.window.end();
        for (pgno, at) in frames(content, begins_log, frame_len) {
            self.newest.insert(pgno, start + at as u64);
        }
        self.window.remember(Bytes::copy_from_slice(content));
        self.evict(frame_len);
    }

    /// Pages that are looked up.
    #[cfg(test)]
    pub(super) fn pages(&self) -> usize {
        self.newest.len()
    }

    /// Pages whose newest frame is gone are not looked up any more. All are gone through when there may be twice as many as
    /// are held: seldom enough to cost nothing, often enough to bound the table.
    fn evict(&mut self, frame_len: usize) {
        let begin = self.window.begin();
        let held = (self.window.end() - begin) as usize;
        let most = 64 + 2 * held / frame_len;
        if self.newest.len() > most {
            self.newest.retain(|_, at| *at >= begin);
        }
    }
}

/// The page numbers of the frames of a chunk, and where each frame begins in it.
fn frames(
    content: &[u8],
    begins_log: bool,
    frame_len: usize,
) -> impl Iterator<Item = (u32, usize)> {
    let skip = if begins_log { WAL_HEADER_SIZE } else { 0 };
    let frames = content.get(skip..).unwrap_or_default();
    frames
        .chunks_exact(frame_len)
        .enumerate()
        .filter_map(move |(i, frame)| {
            let header = frame.first_chunk::<FRAME_HEADER_SIZE>()?;
            Some((FrameHeader::parse(header).pgno, skip + i * frame_len))
        })
}
