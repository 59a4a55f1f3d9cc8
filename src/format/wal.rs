//! The write-ahead log: header, frames and their cumulative checksum.
//!
//! Source: SQLite file format, section 4 "The Write-Ahead Log"
//! (<https://www.sqlite.org/fileformat2.html#walformat>), and `walChecksumBytes`,
//! `walEncodeFrame`, `walDecodeFrame`, `walIndexRecover` in `wal.c`.
//!
//! ```text
//! 0                32                        32 + 24 + page_size
//! | WAL header 32  | frame header 24 | page   | frame header 24 | page | ...
//!                    frame 1                   frame 2
//! ```
//!
//! Numbers in both headers are big-endian. Checksums *run over* words of one byte order, named
//! by the WAL header's magic, but are *stored* big-endian like everything else.

mod scan;

pub use scan::{Frame, FrameScanner, ScanEnd};

use super::dbheader::valid_page_size;

/// Length of the WAL header, in bytes (`WAL_HDRSIZE`).
pub const WAL_HEADER_SIZE: usize = 32;

/// Length of the header before each page, in bytes (`WAL_FRAME_HDRSIZE`).
pub const FRAME_HEADER_SIZE: usize = 24;

/// `WAL_MAX_VERSION`: the only version of the format there is.
pub const WAL_VERSION: u32 = 3_007_000;

/// `WAL_MAGIC`; its lowest bit is set if checksums run over big-endian words.
const WAL_MAGIC: u32 = 0x377f_0682;

/// The bytes of the WAL header that its checksum covers, and of each frame header.
const HEADER_SUMMED: usize = 24;
const FRAME_SUMMED: usize = 8;

/// A cumulative checksum: the state of the chain after some frame, or after the WAL header.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Cksum(pub u32, pub u32);

impl Cksum {
    fn to_be(self) -> [u8; 8] {
        pair([self.0, self.1])
    }
}

/// Extends the checksum `seed` over `data`, read as 32-bit words of the byte order named.
///
/// `data.len()` must be a multiple of 8: headers and pages are. Bytes beyond the last multiple
/// are not summed (checked in debug builds).
pub fn checksum(big_endian: bool, data: &[u8], seed: Cksum) -> Cksum {
    debug_assert!(data.len().is_multiple_of(8), "{} bytes", data.len());
    if big_endian {
        sum_words(data, seed, u32::from_be_bytes)
    } else {
        sum_words(data, seed, u32::from_le_bytes)
    }
}

/// Each sum waits for the one before, so the speed is that of a chain of additions: the word
/// is added first, to keep the chain at two additions for eight bytes.
#[inline(always)]
fn sum_words(data: &[u8], seed: Cksum, word: impl Fn([u8; 4]) -> u32) -> Cksum {
    let Cksum(mut s0, mut s1) = seed;
    for pair in data.chunks_exact(8) {
        let x0 = word([pair[0], pair[1], pair[2], pair[3]]);
        let x1 = word([pair[4], pair[5], pair[6], pair[7]]);
        s0 = s0.wrapping_add(x0).wrapping_add(s1);
        s1 = s1.wrapping_add(x1).wrapping_add(s0);
    }
    Cksum(s0, s1)
}

/// The WAL header. Make one by [`WalHeader::new`] or [`WalHeader::parse`], so that `cksum`
/// agrees with the other fields: it is the seed of the frames' chain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WalHeader {
    /// Whether checksums run over big-endian words.
    pub big_endian: bool,
    /// Bytes in a page: a power of two in 512..=65536.
    pub page_size: u32,
    /// Checkpoint sequence number (`nCkpt`).
    pub sequence: u32,
    /// The two salts; every valid frame repeats them.
    pub salt: [u32; 2],
    /// Checksum over the header's first 24 bytes.
    pub cksum: Cksum,
}

/// Why 32 bytes are not a WAL header. SQLite takes such a log as empty, but refuses the
/// database for [`WalError::UnknownVersion`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum WalError {
    /// The magic is neither of the two.
    #[error("not a WAL header: magic {0:#010x} instead of 0x377f0682 or 0x377f0683")]
    BadMagic(u32),
    /// The page size is not one SQLite uses.
    #[error("page size {0} in the WAL header is not a power of two from 512 to 65536")]
    BadPageSize(u32),
    /// The header is damaged, or was read while it was being written.
    #[error("the WAL header's checksum does not match")]
    BadChecksum,
    /// A format that SQLite does not know either.
    #[error("WAL format version {0}, only {WAL_VERSION} is known")]
    UnknownVersion(u32),
}

impl WalHeader {
    /// A header as SQLite on this machine would write it: checksums in native byte order.
    pub fn new(page_size: u32, sequence: u32, salt: [u32; 2]) -> WalHeader {
        let mut header = WalHeader {
            big_endian: cfg!(target_endian = "big"),
            page_size,
            sequence,
            salt,
            cksum: Cksum::default(),
        };
        header.cksum = checksum(header.big_endian, &header.summed(), Cksum::default());
        header
    }

    /// Parses and verifies a header.
    ///
    /// # Errors
    /// In the order in which `walIndexRecover` looks: magic, page size, checksum, version.
    pub fn parse(bytes: &[u8; WAL_HEADER_SIZE]) -> Result<WalHeader, WalError> {
        let magic = be32(bytes, 0);
        if magic & !1 != WAL_MAGIC {
            return Err(WalError::BadMagic(magic));
        }
        let page_size = be32(bytes, 8);
        if !valid_page_size(page_size) {
            return Err(WalError::BadPageSize(page_size));
        }
        let header = WalHeader {
            big_endian: magic & 1 == 1,
            page_size,
            sequence: be32(bytes, 12),
            salt: [be32(bytes, 16), be32(bytes, 20)],
            cksum: Cksum(be32(bytes, 24), be32(bytes, 28)),
        };
        let summed = &bytes[..HEADER_SUMMED];
        if checksum(header.big_endian, summed, Cksum::default()) != header.cksum {
            return Err(WalError::BadChecksum);
        }
        match be32(bytes, 4) {
            WAL_VERSION => Ok(header),
            version => Err(WalError::UnknownVersion(version)),
        }
    }

    /// The header's bytes, `cksum` as it is in the field.
    pub fn encode(&self) -> [u8; WAL_HEADER_SIZE] {
        let mut bytes = [0; WAL_HEADER_SIZE];
        bytes[..HEADER_SUMMED].copy_from_slice(&self.summed());
        bytes[HEADER_SUMMED..].copy_from_slice(&self.cksum.to_be());
        bytes
    }

    fn summed(&self) -> [u8; HEADER_SUMMED] {
        let mut bytes = [0; HEADER_SUMMED];
        let magic = WAL_MAGIC | u32::from(self.big_endian);
        bytes[..8].copy_from_slice(&pair([magic, WAL_VERSION]));
        bytes[8..16].copy_from_slice(&pair([self.page_size, self.sequence]));
        bytes[16..].copy_from_slice(&pair(self.salt));
        bytes
    }
}

/// The header before each page. Any 24 bytes are one; whether the frame is valid, only the
/// salts and the checksum chain tell ([`FrameScanner`]).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameHeader {
    /// The page whose new content follows, from 1.
    pub pgno: u32,
    /// At a commit: the database's size in pages after it. 0: not a commit.
    pub commit_size: u32,
    /// The WAL header's salts.
    pub salt: [u32; 2],
    /// The chain after this frame.
    pub cksum: Cksum,
}

impl FrameHeader {
    /// Decodes a frame header.
    pub fn parse(bytes: &[u8; FRAME_HEADER_SIZE]) -> FrameHeader {
        FrameHeader {
            pgno: be32(bytes, 0),
            commit_size: be32(bytes, 4),
            salt: [be32(bytes, 8), be32(bytes, 12)],
            cksum: Cksum(be32(bytes, 16), be32(bytes, 20)),
        }
    }

    /// The header's bytes.
    pub fn encode(&self) -> [u8; FRAME_HEADER_SIZE] {
        let mut bytes = [0; FRAME_HEADER_SIZE];
        bytes[..FRAME_SUMMED].copy_from_slice(&pair([self.pgno, self.commit_size]));
        bytes[8..16].copy_from_slice(&pair(self.salt));
        bytes[16..].copy_from_slice(&self.cksum.to_be());
        bytes
    }

    /// Whether this frame ends a transaction.
    pub fn is_commit(&self) -> bool {
        self.commit_size != 0
    }
}

/// Fills in the header of a frame whose page is already in `buf[24..]`, and returns the chain
/// after it. `seed` is the chain before: of the frame before, or of the WAL header.
///
/// # Panics
/// If `buf` is shorter than a frame header.
pub fn seal_frame(
    buf: &mut [u8],
    big_endian: bool,
    pgno: u32,
    commit_size: u32,
    salt: [u32; 2],
    seed: Cksum,
) -> Cksum {
    let (head, page) = buf.split_at_mut(FRAME_HEADER_SIZE);
    let cksum = checksum(big_endian, &pair([pgno, commit_size]), seed);
    let cksum = checksum(big_endian, page, cksum);
    let header = FrameHeader {
        pgno,
        commit_size,
        salt,
        cksum,
    };
    head.copy_from_slice(&header.encode());
    cksum
}

/// Length of a frame, in bytes: header and page.
pub fn frame_size(page_size: u32) -> u64 {
    FRAME_HEADER_SIZE as u64 + u64::from(page_size)
}

/// Where the header of frame `frame_no` is in the WAL file. Frames count from 1 (checked in
/// debug builds). The end of frame n is the offset of frame n + 1, or [`frames_end`].
pub fn frame_offset(page_size: u32, frame_no: u32) -> u64 {
    debug_assert!(frame_no > 0, "frames count from 1");
    frames_end(page_size, frame_no.saturating_sub(1))
}

/// Where the first `frames` frames end in the WAL file: 32 for none.
pub fn frames_end(page_size: u32, frames: u32) -> u64 {
    WAL_HEADER_SIZE as u64 + u64::from(frames) * frame_size(page_size)
}

/// How many frames end exactly at `offset`: the inverse of [`frames_end`].
///
/// 0 for an offset of 0 (an empty file) as for 32 (a header only); `None` for an offset that
/// is within the header or a frame, or beyond what a 32-bit frame number reaches.
pub fn frames_before(page_size: u32, offset: u64) -> Option<u32> {
    if offset == 0 {
        return Some(0);
    }
    let frames = offset.checked_sub(WAL_HEADER_SIZE as u64)?;
    let size = frame_size(page_size);
    frames
        .is_multiple_of(size)
        .then(|| u32::try_from(frames / size).ok())
        .flatten()
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn pair(words: [u32; 2]) -> [u8; 8] {
    let [a, b] = words.map(u32::to_be_bytes);
    [a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3]]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The formula as the file format gives it, word by word.
    fn by_the_book(big_endian: bool, data: &[u8], seed: Cksum) -> Cksum {
        let x: Vec<u32> = data
            .chunks(4)
            .map(|word| {
                let word = word.try_into().unwrap();
                if big_endian {
                    u32::from_be_bytes(word)
                } else {
                    u32::from_le_bytes(word)
                }
            })
            .collect();
        let (mut s0, mut s1) = (seed.0, seed.1);
        for i in (0..x.len()).step_by(2) {
            s0 = s0.wrapping_add(x[i].wrapping_add(s1));
            s1 = s1.wrapping_add(x[i + 1].wrapping_add(s0));
        }
        Cksum(s0, s1)
    }

    #[test]
    fn header_errors_are_told_apart() {
        let good = WalHeader::new(4096, 7, [1, 2]).encode();
        let with = |at: usize, value: u8| {
            let mut bytes = good;
            bytes[at] = value;
            WalHeader::parse(&bytes)
        };
        assert_eq!(
            with(0, 0),
            Err(WalError::BadMagic(0x007f_0682 | u32::from(good[3] & 1)))
        );
        assert_eq!(with(10, 0x11), Err(WalError::BadPageSize(0x1100)));
        for at in (12..32).chain([5, 7]) {
            assert_eq!(
                with(at, good[at] ^ 0x40),
                Err(WalError::BadChecksum),
                "{at}"
            );
        }
        let mut bytes = good;
        bytes[7] ^= 1;
        let big_endian = good[3] & 1 == 1;
        let sum = checksum(big_endian, &bytes[..24], Cksum::default());
        bytes[24..].copy_from_slice(&sum.to_be());
        assert_eq!(
            WalHeader::parse(&bytes),
            Err(WalError::UnknownVersion(WAL_VERSION ^ 1))
        );
        assert_eq!(WalHeader::parse(&[0; 32]), Err(WalError::BadMagic(0)));
    }

    #[test]
    fn geometry_of_4096_byte_pages() {
        assert_eq!(frame_size(4096), 4120);
        assert_eq!(frame_offset(4096, 1), 32);
        assert_eq!(frame_offset(4096, 2), 4152);
        assert_eq!(frames_end(4096, 0), 32);
        assert_eq!(frames_before(4096, 0), Some(0));
        assert_eq!(frames_before(4096, 32), Some(0));
        assert_eq!(frames_before(4096, 4152), Some(1));
        for off in [1, 31, 33, 4120, 4151, 4153, u64::MAX] {
            assert_eq!(frames_before(4096, off), None, "{off}");
        }
        let beyond = frames_end(512, u32::MAX) + frame_size(512);
        assert_eq!(frames_before(512, beyond), None);
    }

    proptest! {
        #[test]
        fn checksum_is_the_documented_one(
            words in proptest::collection::vec(any::<[u8; 8]>(), 0..200),
            big_endian: bool, a: u32, b: u32, cut in 0usize..200,
        ) {
            let data = words.concat();
            let sum = checksum(big_endian, &data, Cksum(a, b));
            prop_assert_eq!(sum, by_the_book(big_endian, &data, Cksum(a, b)));
            // Cumulative: in two parts as in one.
            let (head, tail) = data.split_at((cut * 8).min(data.len()));
            prop_assert_eq!(checksum(big_endian, tail, checksum(big_endian, head, Cksum(a, b))), sum);
        }

        #[test]
        fn headers_round_trip(shift in 9u32..=16, sequence: u32, salt: [u32; 2]) {
            let header = WalHeader::new(1 << shift, sequence, salt);
            prop_assert_eq!(WalHeader::parse(&header.encode()), Ok(header));
        }

        #[test]
        fn header_parse_never_panics(mut bytes: [u8; 32], magic: bool) {
            if magic {
                bytes[..4].copy_from_slice(&WAL_MAGIC.to_be_bytes());
            }
            if let Ok(header) = WalHeader::parse(&bytes) {
                prop_assert_eq!(header.encode(), bytes);
            }
        }

        #[test]
        fn frame_headers_round_trip(bytes: [u8; 24]) {
            prop_assert_eq!(FrameHeader::parse(&bytes).encode(), bytes);
        }

        #[test]
        fn geometry_round_trips(shift in 9u32..=16, frames: u32) {
            let end = frames_end(1 << shift, frames);
            prop_assert_eq!(frames_before(1 << shift, end), Some(frames));
            prop_assert_eq!(frame_offset(1 << shift, frames.max(1)) + frame_size(1 << shift),
                frames_end(1 << shift, frames.max(1)));
        }

        #[test]
        fn frames_before_inverts_only_boundaries(shift in 9u32..=16, offset: u64) {
            if let Some(frames) = frames_before(1 << shift, offset) {
                prop_assert!(offset == 0 || frames_end(1 << shift, frames) == offset);
            }
        }
    }
}
