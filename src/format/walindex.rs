//! The wal-index: the shared memory by which processes agree on what is in the log.
//!
//! Source: `wal.c`, the comment "WAL-INDEX FORMAT", `struct WalIndexHdr`, `struct WalCkptInfo`,
//! `walIndexWriteHdr`, `walHash`, `walHashGet`, `walFramePage`. Everything in it is in the
//! machine's own byte order, but the two salts, which are raw bytes of the WAL header.
//!
//! ```text
//! region 0:  header 48 | header 48 | checkpoint info 40 | 4062 page numbers | 8192 slots of u16
//! region n:                                               4096 page numbers | 8192 slots of u16
//! ```

use super::wal::{Cksum, checksum};

/// `WALINDEX_MAX_VERSION`, in the header's first word.
pub const WALINDEX_VERSION: u32 = 3_007_000;

/// Bytes in a region, the unit that `xShmMap` maps (`WALINDEX_PGSZ`).
pub const REGION_SIZE: usize = 32768;

/// Slots of two bytes in each region's hash table (`HASHTABLE_NSLOT`).
pub const HASH_SLOTS: usize = 8192;

/// Frames whose page numbers a region holds (`HASHTABLE_NPAGE`); the first holds fewer.
pub const REGION_PAGES: u32 = 4096;

/// Frames whose page numbers the first region holds (`HASHTABLE_NPAGE_ONE`).
pub const FIRST_REGION_PAGES: u32 = 4062;

/// Bytes in one copy of the header (`sizeof(WalIndexHdr)`). Two follow each other.
pub const HEADER_SIZE: usize = 48;

/// 32-bit words in one copy of the header.
pub const HEADER_WORDS: usize = HEADER_SIZE / 4;

/// Where `WalCkptInfo` begins: its first word is `nBackfill`.
pub const CKPT_INFO_OFFSET: usize = 2 * HEADER_SIZE;

/// Where `aReadMark[0]` is; four bytes each, [`READERS`] of them.
pub const READ_MARK_OFFSET: usize = CKPT_INFO_OFFSET + 4;

/// Where the eight lock bytes are (`WALINDEX_LOCK_OFFSET`). Never read or written.
pub const LOCK_OFFSET: usize = 120;

/// Where `nBackfillAttempted` is.
pub const BACKFILL_ATTEMPTED_OFFSET: usize = 128;

/// Where the page numbers begin in the first region (`WALINDEX_HDR_SIZE`); 0 in all others.
pub const PGNO_OFFSET_FIRST: usize = 136;

/// Where the hash table begins in every region.
pub const HASH_OFFSET: usize = REGION_PAGES as usize * 4;

/// `READMARK_NOT_USED`: a read mark that no reader may take as it is.
pub const READMARK_NOT_USED: u32 = 0xffff_ffff;

/// Number of read marks and their locks (`WAL_NREADER`).
pub const READERS: usize = 5;

/// Lock slot of the writer, as `xShmLock` takes it.
pub const WRITE: u32 = 0;

/// Lock slot of a checkpoint.
pub const CKPT: u32 = 1;

/// Lock slot of a recovery.
pub const RECOVER: u32 = 2;

/// Lock slot of readers that take everything from the database file.
pub const READ0: u32 = 3;

/// The words of the header that its checksum covers: all before it.
const SUMMED_WORDS: usize = 10;

/// Lock slot of readers under `aReadMark[i]` (`WAL_READ_LOCK`); `i` is below [`READERS`].
pub const fn read_slot(i: u32) -> u32 {
    debug_assert!((i as usize) < READERS);
    READ0 + i
}

/// The header's content. Its version and checksum are implied.
///
/// With an empty log all numbers may be 0, the page size too.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IndexHeader {
    /// `iChange`: counts transactions, wrapping. A hint, not a proof: recovery resets it.
    pub change: u32,
    /// `isInit`. Always set in a header that [`IndexHeader::from_words`] accepted.
    pub is_init: bool,
    /// `bigEndCksum`: whether the log's checksums run over big-endian words.
    pub big_endian: bool,
    /// `szPage`, decoded: bytes in a page, or 0 if no frame was committed since a recovery.
    pub page_size: u32,
    /// `mxFrame`: the last committed frame of the log, or 0.
    pub mx_frame: u32,
    /// `nPage`: size of the database in pages.
    pub page_count: u32,
    /// `aFrameCksum`: the chain after frame `mx_frame`.
    pub frame_cksum: Cksum,
    /// `aSalt`, decoded: the same numbers as [`super::wal::WalHeader::salt`]. (In memory they
    /// are copied from the WAL header byte by byte, so big-endian on every machine.)
    pub salt: [u32; 2],
}

/// Why a header in shared memory cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum IndexHeaderError {
    /// The checksum is wrong: read while it was written, or a writer died in the middle.
    #[error("the wal-index header's checksum does not match")]
    BadChecksum,
    /// `isInit` is 0: recovery has to rebuild the index first.
    #[error("the wal-index is not initialised")]
    NotInitialised,
    /// A valid header of a format not known.
    #[error("wal-index version {0}, only {WALINDEX_VERSION} is known")]
    Version(u32),
}

impl IndexHeader {
    /// Decodes one copy of the header, its words as they are in shared memory.
    ///
    /// # Errors
    /// In the order in which `walIndexTryHdr` and `walIndexReadHdr` look: initialised, checksum
    /// (a header of zeros has a valid one), version.
    pub fn from_words(words: &[u32; HEADER_WORDS]) -> Result<IndexHeader, IndexHeaderError> {
        let [is_init, big_endian, size_a, size_b] = words[3].to_ne_bytes();
        if is_init == 0 {
            return Err(IndexHeaderError::NotInitialised);
        }
        if words_checksum(words) != Cksum(words[10], words[11]) {
            return Err(IndexHeaderError::BadChecksum);
        }
        if words[0] != WALINDEX_VERSION {
            return Err(IndexHeaderError::Version(words[0]));
        }
        Ok(IndexHeader {
            change: words[2],
            is_init: true,
            big_endian: big_endian != 0,
            page_size: decode_page_size(u16::from_ne_bytes([size_a, size_b])),
            mx_frame: words[4],
            page_count: words[5],
            frame_cksum: Cksum(words[6], words[7]),
            salt: [words[8], words[9]].map(u32::from_be),
        })
    }

    /// The words to store in shared memory, twice, with their checksum.
    pub fn to_words(&self) -> [u32; HEADER_WORDS] {
        let [size_a, size_b] = encode_page_size(self.page_size).to_ne_bytes();
        let flags = [u8::from(self.is_init), u8::from(self.big_endian)];
        let [salt_1, salt_2] = self.salt.map(u32::to_be);
        let mut words = [
            WALINDEX_VERSION,
            0,
            self.change,
            u32::from_ne_bytes([flags[0], flags[1], size_a, size_b]),
            self.mx_frame,
            self.page_count,
            self.frame_cksum.0,
            self.frame_cksum.1,
            salt_1,
            salt_2,
            0,
            0,
        ];
        let sum = words_checksum(&words);
        words[10] = sum.0;
        words[11] = sum.1;
        words
    }
}

/// The header's own checksum: always over native words, whatever the log's are.
fn words_checksum(words: &[u32; HEADER_WORDS]) -> Cksum {
    let mut bytes = [0u8; SUMMED_WORDS * 4];
    for (at, word) in bytes.chunks_exact_mut(4).zip(words) {
        at.copy_from_slice(&word.to_ne_bytes());
    }
    checksum(cfg!(target_endian = "big"), &bytes, Cksum::default())
}

/// 65536 does not fit in 16 bits and is stored as 1.
fn encode_page_size(page_size: u32) -> u16 {
    ((page_size & 0xff00) | (page_size >> 16)) as u16
}

fn decode_page_size(stored: u16) -> u32 {
    let stored = u32::from(stored);
    (stored & 0xfe00) + ((stored & 1) << 16)
}

/// The first slot to look in for a page (`walHash`, `HASHTABLE_HASH_1` = 383).
pub fn hash(pgno: u32) -> usize {
    pgno.wrapping_mul(383) as usize & (HASH_SLOTS - 1)
}

/// The slot to look in after a collision (`walNextHash`).
pub fn next_slot(slot: usize) -> usize {
    (slot + 1) & (HASH_SLOTS - 1)
}

/// The region that holds a frame's entries (`walFramePage`). Frames count from 1; 0 is in the
/// first region, as in SQLite.
pub fn region_of(frame: u32) -> u32 {
    let shifted = u64::from(frame) + u64::from(REGION_PAGES - FIRST_REGION_PAGES);
    (shifted.saturating_sub(1) / u64::from(REGION_PAGES)) as u32
}

/// The frame before the first one of a region (`iZero` in `walHashGet`): entry `i` of the
/// region, and slot value `i`, from 1, are frame `zero_frame(region) + i`.
///
/// `region` must be one that [`region_of`] returns.
pub fn zero_frame(region: u32) -> u32 {
    match region {
        0 => 0,
        _ => FIRST_REGION_PAGES + (region - 1) * REGION_PAGES,
    }
}

#[cfg(test)]
mod tests {
    use super::super::wal::WalHeader;
    use super::*;
    use proptest::prelude::*;

    fn sample() -> IndexHeader {
        IndexHeader {
            change: 5,
            is_init: true,
            big_endian: false,
            page_size: 4096,
            mx_frame: 9,
            page_count: 4,
            frame_cksum: Cksum(1, 2),
            salt: [0x0102_0304, 0x0506_0708],
        }
    }

    fn resum(mut words: [u32; 12]) -> [u32; 12] {
        let sum = words_checksum(&words);
        (words[10], words[11]) = (sum.0, sum.1);
        words
    }

    #[test]
    fn offsets_agree_with_each_other() {
        assert_eq!(CKPT_INFO_OFFSET, 96);
        assert_eq!(READ_MARK_OFFSET + 4 * READERS, LOCK_OFFSET);
        assert_eq!(LOCK_OFFSET + 8, BACKFILL_ATTEMPTED_OFFSET);
        assert_eq!(
            PGNO_OFFSET_FIRST + 4 * FIRST_REGION_PAGES as usize,
            HASH_OFFSET
        );
        assert_eq!(HASH_OFFSET + 2 * HASH_SLOTS, REGION_SIZE);
        assert_eq!((read_slot(0), read_slot(4)), (READ0, 7));
    }

    #[test]
    fn salts_are_the_wal_headers_bytes() {
        let bytes = WalHeader::new(4096, 0, sample().salt).encode();
        let words = sample().to_words();
        let memory: Vec<u8> = words[8..10].iter().flat_map(|w| w.to_ne_bytes()).collect();
        assert_eq!(memory, bytes[16..24]);
    }

    #[test]
    fn errors_are_told_apart() {
        let good = sample().to_words();
        assert_eq!(IndexHeader::from_words(&good), Ok(sample()));
        assert_eq!(
            IndexHeader::from_words(&[0; 12]),
            Err(IndexHeaderError::NotInitialised)
        );
        for at in [0, 1, 2, 4, 5, 6, 7, 8, 9, 10, 11] {
            let mut words = good;
            words[at] ^= 1 << 9;
            assert_eq!(
                IndexHeader::from_words(&words),
                Err(IndexHeaderError::BadChecksum),
                "{at}"
            );
        }
        let mut words = good;
        words[0] += 1;
        let error = IndexHeaderError::Version(WALINDEX_VERSION + 1);
        assert_eq!(IndexHeader::from_words(&resum(words)), Err(error));
        let not_init = IndexHeader {
            is_init: false,
            ..sample()
        }
        .to_words();
        assert_eq!(
            IndexHeader::from_words(&not_init),
            Err(IndexHeaderError::NotInitialised)
        );
    }

    #[test]
    fn page_sizes_are_stored_as_sqlite_does() {
        assert_eq!(encode_page_size(512), 512);
        assert_eq!(encode_page_size(32768), 32768);
        assert_eq!(encode_page_size(65536), 1);
        for size in (9..=16).map(|shift| 1 << shift).chain([0]) {
            assert_eq!(decode_page_size(encode_page_size(size)), size);
        }
    }

    #[test]
    fn regions_begin_where_sqlite_says() {
        assert_eq!(
            [0, 1, 4062, 4063, 8158, 8159].map(region_of),
            [0, 0, 0, 1, 1, 2]
        );
        assert_eq!([0, 1, 2].map(zero_frame), [0, 4062, 8158]);
        assert_eq!(region_of(u32::MAX), 1_048_576);
    }

    #[test]
    fn hash_wraps_as_32_bit_arithmetic() {
        assert_eq!([1, 2, 21, 22].map(hash), [383, 766, 8043, 234]);
        assert_eq!(hash(u32::MAX), 8192 - 383);
        assert_eq!((next_slot(0), next_slot(8191)), (1, 0));
    }

    proptest! {
        #[test]
        fn headers_round_trip(
            change: u32, big_endian: bool, shift in 9u32..=16,
            numbers: [u32; 4], salt: [u32; 2],
        ) {
            let header = IndexHeader {
                change, is_init: true, big_endian, page_size: 1 << shift,
                mx_frame: numbers[0], page_count: numbers[1],
                frame_cksum: Cksum(numbers[2], numbers[3]), salt,
            };
            prop_assert_eq!(IndexHeader::from_words(&header.to_words()), Ok(header));
        }

        #[test]
        fn never_panics(words: [u32; 12], valid: bool) {
            let mut words = words;
            if valid {
                words[0] = WALINDEX_VERSION;
                words = resum(words);
            }
            let _ = IndexHeader::from_words(&words);
        }

        #[test]
        fn every_frame_is_in_its_region(frame in 1u32..) {
            let region = region_of(frame);
            let entry = frame - zero_frame(region);
            let entries = if region == 0 { FIRST_REGION_PAGES } else { REGION_PAGES };
            prop_assert!((1..=entries).contains(&entry));
        }

        #[test]
        fn slots_are_in_the_table(pgno: u32, slot in 0..HASH_SLOTS) {
            prop_assert!(hash(pgno) < HASH_SLOTS && next_slot(slot) < HASH_SLOTS);
        }
    }
}
