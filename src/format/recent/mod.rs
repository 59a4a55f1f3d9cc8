//! A small chunk of WAL, packed against earlier frames of its pages: on the wire alone, where both sides hold them.
//!
//! A commit writes whole pages, and most of each page is as it was the last time. So the chunk is one LZ4 block whose
//! dictionary is the latest frames of the same pages; what is left is about what the commit changed.
//!
//! ```text
//! | count | distance ... | LZ4 block | xxh32 of the content 4 |
//! ```
//!
//! `count` (from 1) and the distances are varints as in protobuf: 7 bits a byte, the lowest first, the highest bit of a
//! byte set if another follows. A frame has 24 bytes and a page. `distance` is that from the chunk's first byte back to
//! the first byte of an earlier frame, in the WAL bytes of the stream one chunk after the other, headers of logs
//! included. The dictionary is those frames in this order, at most [`LARGEST`] bytes; the block is as in the LZ4 Block
//! Format (<https://github.com/lz4/lz4/blob/dev/doc/lz4_Block_format.md>); the checksum is little-endian.
//!
//! Which bytes can be reached is in [`Window`]. The length of the content is told beside the packed form.

mod packer;
#[cfg(test)]
mod tests;
mod window;

pub use packer::{Packed, Packer};
pub use window::Window;

use super::wal::{FRAME_HEADER_SIZE, WAL_HEADER_SIZE};
use lz4_flex::block::{DecompressError, decompress_into_with_dict};
use xxhash_rust::xxh32::xxh32;

/// Bytes back from a chunk's beginning that it can refer to, at most.
pub const RECENT: u64 = 1 << 20;

/// Bytes of a chunk that is packed so, at most: 32 KiB in one frame, behind the header of its log. Also those of a
/// dictionary: LZ4 reaches back 64 KiB, from each frame to the one before of its page.
pub const LARGEST: usize = (32 << 10) + FRAME_HEADER_SIZE + WAL_HEADER_SIZE;

/// Bytes of a packed form, at most: one that is not smaller than the LZ4 frame of the same chunk is not sent.
pub const MAX_PACKED: usize = LARGEST + 32;

const CHECKSUM_LEN: usize = 4;

/// Why bytes are not a chunk packed against what is held.
#[derive(Debug, thiserror::Error)]
pub enum RecentError {
    /// The content is announced as empty, or as larger than [`LARGEST`].
    #[error("a chunk of {0} bytes is not packed against recent frames")]
    Content(usize),
    /// A number or the checksum is cut off.
    #[error("the packed chunk is cut off after {0} bytes")]
    Torn(usize),
    /// A number does not fit into 32 bits.
    #[error("a number of the packed chunk is too large")]
    Number,
    /// No frames, or more than a dictionary holds.
    #[error("the packed chunk refers to {count} frames of {frame_len} bytes")]
    Count {
        /// Frames.
        count: u32,
        /// Bytes of each.
        frame_len: usize,
    },
    /// A frame that is not held, or does not end before the chunk.
    #[error("the packed chunk refers {distance} bytes back, where {held} bytes are held")]
    Distance {
        /// Bytes back.
        distance: u32,
        /// Bytes that can be reached.
        held: u64,
    },
    /// The block is damaged.
    #[error("decompress the packed chunk's block")]
    Block(#[from] DecompressError),
    /// The block holds less than was announced.
    #[error("the packed chunk holds {got} bytes, {due} were announced")]
    Length {
        /// Bytes that it holds.
        got: usize,
        /// Bytes that were announced.
        due: usize,
    },
    /// The content is not what was packed.
    #[error("the packed chunk's checksum does not match")]
    Checksum,
}

type Result<T> = std::result::Result<T, RecentError>;

/// The content, of `content_len` bytes, of a chunk that was packed against what `window` holds. A frame has `frame_len`
/// bytes.
///
/// # Errors
/// If the bytes are not the packed form of that many bytes, or refer to what is not held. What is allocated before they
/// are believed is at most twice [`LARGEST`] bytes.
pub fn unpack(
    packed: &[u8],
    window: &Window,
    frame_len: usize,
    content_len: usize,
) -> Result<Vec<u8>> {
    if content_len == 0 || content_len > LARGEST {
        return Err(RecentError::Content(content_len));
    }
    let (references, block, checksum) = split(packed, frame_len)?;
    let mut dictionary = Vec::with_capacity(references.len() * frame_len);
    for distance in references {
        let held = window.reach();
        if !window.copy(distance.into(), frame_len, &mut dictionary) {
            return Err(RecentError::Distance { distance, held });
        }
    }
    let mut content = vec![0; content_len];
    let got = decompress_into_with_dict(block, &mut content, &dictionary)?;
    if got != content_len {
        let due = content_len;
        return Err(RecentError::Length { got, due });
    }
    if xxh32(&content, 0).to_le_bytes() != checksum {
        return Err(RecentError::Checksum);
    }
    Ok(content)
}

type Parts<'a> = (Vec<u32>, &'a [u8], [u8; CHECKSUM_LEN]);

/// The distances, the block and the checksum.
fn split(packed: &[u8], frame_len: usize) -> Result<Parts<'_>> {
    let torn = || RecentError::Torn(packed.len());
    let (mut rest, checksum) = packed.split_last_chunk::<CHECKSUM_LEN>().ok_or_else(torn)?;
    let count = varint(&mut rest, packed.len())?;
    let fits = (count as usize)
        .checked_mul(frame_len)
        .is_some_and(|bytes| bytes > 0 && bytes <= LARGEST);
    if !fits {
        return Err(RecentError::Count { count, frame_len });
    }
    let references = (0..count).map(|_| varint(&mut rest, packed.len()));
    let references: Vec<u32> = references.collect::<Result<_>>()?;
    Ok((references, rest, *checksum))
}

/// Takes a number off the front of `rest`; `len` is that of all, for the error.
fn varint(rest: &mut &[u8], len: usize) -> Result<u32> {
    let mut value = 0u64;
    for shift in (0..35).step_by(7) {
        let (byte, after) = rest.split_first().ok_or(RecentError::Torn(len))?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return u32::try_from(value).map_err(|_| RecentError::Number);
        }
    }
    Err(RecentError::Number)
}

fn put_varint(mut value: u32, out: &mut Vec<u8>) {
    while value > 0x7f {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
