//! LZ4 frames: how WAL bytes are compressed on disk and on the wire.
//!
//! Source: LZ4 Frame Format 1.6 (<https://github.com/lz4/lz4/blob/dev/doc/lz4_Frame_format.md>);
//! the blocks inside are lz4_flex's. The `lz4` tool reads every frame written here, and a file
//! of several.
//!
//! Of the format's options walcast uses one set, and refuses the others: independent blocks,
//! content size and content checksum, no block checksums, no dictionary.
//!
//! ```text
//! 0        4      5     6               14    15
//! | magic 4| FLG 1| BD 1| content size 8| HC 1| (block size 4 | block) ... | 0 4 | xxh32 4 |
//! ```
//!
//! Numbers are little-endian. FLG and BD name the options and the block size, HC is a byte of
//! checksum over the three fields before it. The highest bit of a block size is set if the
//! block is stored as it was. Every block but the last holds the full block size, so their
//! number is known from the header.

use lz4_flex::block::{
    CompressError, DecompressError, compress_into, decompress_into, get_maximum_output_size,
};
use xxhash_rust::xxh32::xxh32;

const MAGIC: [u8; 4] = 0x184d_2204u32.to_le_bytes();

/// Version 01, independent blocks, content size, content checksum.
const FLAGS: u8 = 0b0110_1100;

const HEADER_LEN: usize = 15;

/// The end mark (a block size of 0) and the content checksum.
const TRAILER_LEN: usize = 8;

/// Set in a block's size if it is not compressed.
const STORED: u32 = 1 << 31;

/// Block size codes of BD, with the sizes in bytes. Larger blocks are not written: chunks have
/// at most about 1 MiB.
const BLOCK_SIZES: [(u8, usize); 3] = [(4, 64 << 10), (5, 256 << 10), (6, 1 << 20)];

/// Where the first frame in some bytes ends, and what it holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameExtent {
    /// Length of the frame, in bytes.
    pub compressed_len: usize,
    /// Length of its content, in bytes, as its header says.
    pub content_len: u64,
}

/// Why bytes are not a frame of walcast's, or not a whole one.
#[derive(Debug, thiserror::Error)]
pub enum Lz4Error {
    /// The magic number is missing.
    #[error("not an lz4 frame: it begins with {0:02x?}")]
    BadMagic([u8; 4]),
    /// A frame with options that walcast does not use.
    #[error(
        "lz4 frame with flags {flags:#04x} and block size byte {block_size:#04x}, which walcast does not write"
    )]
    Unsupported {
        /// The byte FLG.
        flags: u8,
        /// The byte BD.
        block_size: u8,
    },
    /// The header is damaged.
    #[error("the lz4 frame header's checksum does not match")]
    HeaderChecksum,
    /// A block's size, or the number of blocks, disagrees with the header.
    #[error("the lz4 frame's block {block} does not fit its header")]
    BlockSize {
        /// Counts the frame's blocks from 0.
        block: u64,
    },
    /// A block's compressed bytes are damaged.
    #[error("decompress the lz4 frame's block {block}")]
    Block {
        /// Counts the frame's blocks from 0.
        block: u64,
        /// What lz4_flex found.
        source: DecompressError,
    },
    /// The content is not what was compressed.
    #[error("the lz4 frame's content checksum does not match")]
    ContentChecksum,
    /// The frame is cut off.
    #[error("the lz4 frame is cut off after {0} bytes")]
    Torn(usize),
    /// There are bytes after the frame.
    #[error("{0} bytes follow the lz4 frame")]
    Trailing(usize),
    /// The content is larger than allowed.
    #[error("the lz4 frame holds {content_len} bytes, more than the {max} allowed")]
    TooLarge {
        /// Length of the content, as the frame's header says.
        content_len: u64,
        /// The limit given.
        max: usize,
    },
    /// lz4_flex refused to compress: a defect, since the space it asks for is there.
    #[error("compress a block")]
    Compress(#[from] CompressError),
}

/// Appends `data` to `out` as one frame. Blocks are 64 KiB, 256 KiB or 1 MiB, the smallest
/// that takes `data` whole, and 1 MiB for more.
///
/// # Errors
/// None in practice ([`Lz4Error::Compress`]); `out` is then as it was.
pub fn compress(data: &[u8], out: &mut Vec<u8>) -> Result<(), Lz4Error> {
    frame(data, out, append_block)
}

/// The same frame with every block stored as it is: for when the time of compressing matters
/// more than the bytes.
///
/// # Errors
/// None.
pub fn store(data: &[u8], out: &mut Vec<u8>) -> Result<(), Lz4Error> {
    frame(data, out, |block, out| {
        out.extend_from_slice(&(block.len() as u32 | STORED).to_le_bytes());
        out.extend_from_slice(block);
        Ok(())
    })
}

type AppendBlock = fn(&[u8], &mut Vec<u8>) -> Result<(), Lz4Error>;

fn frame(data: &[u8], out: &mut Vec<u8>, append: AppendBlock) -> Result<(), Lz4Error> {
    let start = out.len();
    let result = append_frame(data, out, append);
    if result.is_err() {
        out.truncate(start);
    }
    result
}

fn append_frame(data: &[u8], out: &mut Vec<u8>, append: AppendBlock) -> Result<(), Lz4Error> {
    let [.., largest] = BLOCK_SIZES;
    let fitting = BLOCK_SIZES.iter().find(|(_, size)| data.len() <= *size);
    let (code, block_max) = *fitting.unwrap_or(&largest);
    let space = get_maximum_output_size(data.len().min(block_max)) + 4;
    out.reserve(HEADER_LEN + data.len().div_ceil(block_max) * space + TRAILER_LEN);

    let start = out.len();
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[FLAGS, code << 4]);
    out.extend_from_slice(&(data.len() as u64).to_le_bytes());
    out.push(header_check(&out[start + MAGIC.len()..]));
    for block in data.chunks(block_max) {
        append(block, out)?;
    }
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&xxh32(data, 0).to_le_bytes());
    Ok(())
}

fn append_block(block: &[u8], out: &mut Vec<u8>) -> Result<(), Lz4Error> {
    let size_at = out.len();
    let at = size_at + 4;
    out.resize(at + get_maximum_output_size(block.len()), 0);
    let compressed = compress_into(block, &mut out[at..])?;
    // A block has at most 1 MiB: its length leaves the highest bit free.
    let size = if compressed < block.len() {
        out.truncate(at + compressed);
        compressed as u32
    } else {
        out.truncate(at);
        out.extend_from_slice(block);
        block.len() as u32 | STORED
    };
    out[size_at..at].copy_from_slice(&size.to_le_bytes());
    Ok(())
}

/// Finds the end of the frame at the start of `data`, without decompressing it.
///
/// `None`: `data` ends within the frame, as after a crash, or is empty. What follows the frame
/// is not looked at.
///
/// # Errors
/// If these bytes, whatever may follow, are not a frame of walcast's. The blocks and the
/// content checksum are not verified: a frame that has an extent can still be damaged.
pub fn frame_extent(data: &[u8]) -> Result<Option<FrameExtent>, Lz4Error> {
    let Some(header) = Header::parse(data)? else {
        return Ok(None);
    };
    let mut blocks = Blocks::new(&header, data);
    for block in blocks.by_ref() {
        block?;
    }
    let Some(end) = blocks.end else {
        return Ok(None);
    };
    Ok((data.len() - end >= TRAILER_LEN).then_some(FrameExtent {
        compressed_len: end + TRAILER_LEN,
        content_len: header.content_len,
    }))
}

/// Appends the content of `frame`, which is exactly one frame, to `out`.
///
/// # Errors
/// If the frame is not whole, followed by something, damaged, or holds more than `max` bytes
/// (found out before space for them is allocated); `out` is then as it was.
pub fn decompress(frame: &[u8], max: usize, out: &mut Vec<u8>) -> Result<(), Lz4Error> {
    let start = out.len();
    let result = append_content(frame, max, out);
    if result.is_err() {
        out.truncate(start);
    }
    result
}

fn append_content(frame: &[u8], max: usize, out: &mut Vec<u8>) -> Result<(), Lz4Error> {
    let torn = || Lz4Error::Torn(frame.len());
    let header = Header::parse(frame)?.ok_or_else(torn)?;
    let content_len = header.content_len;
    let len = usize::try_from(content_len).ok().filter(|len| *len <= max);
    let len = len.ok_or(Lz4Error::TooLarge { content_len, max })?;
    // Before allocating: a header alone must not cost memory.
    let extent = frame_extent(frame)?.ok_or_else(torn)?;
    if extent.compressed_len < frame.len() {
        return Err(Lz4Error::Trailing(frame.len() - extent.compressed_len));
    }
    let start = out.len();
    out.resize(start + len, 0);
    let content = &mut out[start..];
    let mut places = content.chunks_mut(header.block_max);
    for block in Blocks::new(&header, frame) {
        let block = block?;
        // There are as many places as blocks: both come from the header.
        let Some(place) = places.next() else {
            return Err(Lz4Error::BlockSize {
                block: block.number,
            });
        };
        block.unpack(place)?;
    }
    let stored = &frame[extent.compressed_len - 4..];
    if xxh32(content, 0).to_le_bytes() != stored {
        return Err(Lz4Error::ContentChecksum);
    }
    Ok(())
}

/// A frame's header, verified.
struct Header {
    /// Bytes of content in every block but the last.
    block_max: usize,
    content_len: u64,
}

impl Header {
    /// `None` if `data` ends within the header.
    fn parse(data: &[u8]) -> Result<Option<Header>, Lz4Error> {
        let mut magic = [0; 4];
        let there = data.len().min(4);
        magic[..there].copy_from_slice(&data[..there]);
        if magic[..there] != MAGIC[..there] {
            return Err(Lz4Error::BadMagic(magic));
        }
        let Some(header) = data.first_chunk::<HEADER_LEN>() else {
            return Ok(None);
        };
        let [_, _, _, _, flags, block_size, size @ .., check] = *header;
        if header_check(&header[MAGIC.len()..HEADER_LEN - 1]) != check {
            return Err(Lz4Error::HeaderChecksum);
        }
        let known = BLOCK_SIZES.iter().find(|(code, _)| code << 4 == block_size);
        match known {
            Some((_, block_max)) if flags == FLAGS => Ok(Some(Header {
                block_max: *block_max,
                content_len: u64::from_le_bytes(size),
            })),
            _ => Err(Lz4Error::Unsupported { flags, block_size }),
        }
    }
}

/// The header's own checksum: the second byte of its XXH32.
fn header_check(descriptor: &[u8]) -> u8 {
    (xxh32(descriptor, 0) >> 8) as u8
}

/// A block as it is in the frame.
struct Block<'a> {
    number: u64,
    stored: bool,
    bytes: &'a [u8],
}

impl Block<'_> {
    /// Writes the block's content to `place`, which it must fill exactly.
    fn unpack(&self, place: &mut [u8]) -> Result<(), Lz4Error> {
        let block = self.number;
        let len = if self.stored {
            // The length was checked by `Blocks`, but a slice that differs would panic.
            if self.bytes.len() == place.len() {
                place.copy_from_slice(self.bytes);
            }
            self.bytes.len()
        } else {
            decompress_into(self.bytes, place)
                .map_err(|source| Lz4Error::Block { block, source })?
        };
        if len == place.len() {
            Ok(())
        } else {
            Err(Lz4Error::BlockSize { block })
        }
    }
}

/// Iterates over the blocks, up to the end mark or to where `data` ends.
struct Blocks<'a> {
    data: &'a [u8],
    at: usize,
    block_max: usize,
    /// Content that the blocks to come have to hold, in bytes.
    content_left: u64,
    number: u64,
    /// Where the end mark is, once it is reached.
    end: Option<usize>,
}

impl<'a> Blocks<'a> {
    fn new(header: &Header, data: &'a [u8]) -> Blocks<'a> {
        Blocks {
            data,
            at: HEADER_LEN,
            block_max: header.block_max,
            content_left: header.content_len,
            number: 0,
            end: None,
        }
    }
}

impl<'a> Iterator for Blocks<'a> {
    type Item = Result<Block<'a>, Lz4Error>;

    /// An error is repeated if the caller goes on; no caller does.
    fn next(&mut self) -> Option<Self::Item> {
        if self.end.is_some() {
            return None;
        }
        let (size, rest) = self.data.get(self.at..)?.split_first_chunk::<4>()?;
        let size = u32::from_le_bytes(*size);
        let len = (size & !STORED) as usize;
        let content = self.content_left.min(self.block_max as u64) as usize;
        let stored = size & STORED != 0;
        // A compressed block is smaller than its content, or it would have been stored.
        let fits = match (stored, len) {
            (false, 0) => content == 0,
            (false, _) => len < content,
            (true, _) => len == content && len > 0,
        };
        let number = self.number;
        if !fits {
            return Some(Err(Lz4Error::BlockSize { block: number }));
        }
        if size == 0 {
            self.end = Some(self.at);
            return None;
        }
        let bytes = rest.get(..len)?;
        self.at += 4 + len;
        self.content_left -= content as u64;
        self.number += 1;
        Some(Ok(Block {
            number,
            stored,
            bytes,
        }))
    }
}

#[cfg(test)]
mod tests;
