//! The sidecar `commits/<generation>/<index>`: what is known of each committed position.
//!
//! walcast's own format, version 2. The WAL bytes of an index do not tell the database's
//! checksum or the time of a commit; this file does, one record for each chunk that ends at a
//! commit, in order. Numbers are little-endian.
//!
//! ```text
//! header, 32 bytes:   0 magic "WCCOMMIT" 8
//!                     8 version 4       12 page size 4
//!                    16 end offset of the index before 8
//!                    24 XXH3 (64 bits, seed 0) of the 24 bytes before
//! record, 48 bytes:   0 end offset  8     8 dbsum   8
//!                    16 page count  4    20 zero    4   (ignored by readers)
//!                    24 time        8    32 frame checksum 4 + 4
//!                    40 XXH3 (64 bits, seed 0) of the 40 bytes before
//! ```
//!
//! The end of the index before tells a whole one from one whose end a power cut took away, and its records with it.
//!
//! The file is only appended to. After a crash its last record may be torn, or missing though
//! its WAL bytes are there: readers stop at the first record that is not whole and valid.

use xxhash_rust::xxh3::xxh3_64;

use super::dbheader::valid_page_size;
use super::dbsum::DbSum;
use super::wal::{Cksum, frames_before};

/// The first bytes of the file.
pub const MAGIC: &[u8; 8] = b"WCCOMMIT";

/// The version written, and the only one read.
pub const VERSION: u32 = 2;

/// Length of the file's header, in bytes.
pub const HEADER_SIZE: usize = 32;

/// Length of a record, in bytes.
pub const RECORD_SIZE: usize = 48;

/// The bytes of a record that its checksum covers.
const SUMMED: usize = 40;

/// What stands before the records.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// Bytes in a page of the WAL described.
    pub page_size: u32,
    /// Where the index before ended; 0 if there is none.
    pub previous_end: u64,
}

/// One committed position.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CommitRecord {
    /// The position's offset: where the commit's last frame ends in the WAL file of the index.
    pub end_offset: u64,
    /// Checksum of the whole database after the commit.
    pub dbsum: DbSum,
    /// Size of the database after the commit, in pages.
    pub page_count: u32,
    /// When it was captured, by the primary's clock: microseconds since 1970.
    pub time_us: i64,
    /// The WAL's checksum chain after the commit's last frame.
    pub cksum: Cksum,
}

/// A record whose checksum does not match.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the commit record's checksum does not match")]
pub struct BadRecord;

/// Why a file is not a sidecar that can be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CommitsError {
    /// The header is cut off: the file was created and no more. It holds no commits.
    #[error("the commits file has {0} bytes, fewer than its header's {HEADER_SIZE}")]
    TooShort(usize),
    /// Another kind of file.
    #[error("not a commits file: it begins with {0:02x?}")]
    BadMagic([u8; 8]),
    /// Written by another version of walcast.
    #[error("commits file version {0}, only {VERSION} is known")]
    UnknownVersion(u32),
    /// The header's checksum does not match.
    #[error("the checksum of the commits file's header does not match")]
    BadHeader,
    /// The page size is not one SQLite uses.
    #[error("page size {0} in the commits file is not a power of two from 512 to 65536")]
    BadPageSize(u32),
}

/// Why reading records ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CommitsEnd {
    /// The file ends where a record ends.
    End,
    /// The file ends within a record.
    Torn {
        /// Bytes of it that are there.
        bytes: usize,
    },
    /// A record's checksum does not match.
    BadChecksum {
        /// Counts records from 0.
        record: usize,
    },
    /// A valid record whose position is not the end of a frame beyond the position before.
    BadOffset {
        /// Counts records from 0.
        record: usize,
    },
}

/// What a sidecar holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Commits {
    /// Bytes in a page of the WAL described.
    pub page_size: u32,
    /// The valid records, with ascending offsets.
    pub records: Vec<CommitRecord>,
    /// Length of the header and those records, in bytes: where to cut before appending.
    pub valid_len: usize,
    /// Why the records end there.
    pub end: CommitsEnd,
}

impl CommitRecord {
    /// The record's bytes.
    pub fn encode(&self) -> [u8; RECORD_SIZE] {
        let mut bytes = [0; RECORD_SIZE];
        bytes[0..8].copy_from_slice(&self.end_offset.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.dbsum.0.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.page_count.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.time_us.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.cksum.0.to_le_bytes());
        bytes[36..40].copy_from_slice(&self.cksum.1.to_le_bytes());
        let sum = xxh3_64(&bytes[..SUMMED]);
        bytes[SUMMED..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// Decodes and verifies a record.
    ///
    /// # Errors
    /// If the checksum does not match. A record of zeros (a hole) has none that does.
    pub fn parse(bytes: &[u8; RECORD_SIZE]) -> Result<CommitRecord, BadRecord> {
        if xxh3_64(&bytes[..SUMMED]) != le64(bytes, SUMMED) {
            return Err(BadRecord);
        }
        Ok(CommitRecord {
            end_offset: le64(bytes, 0),
            dbsum: DbSum(le64(bytes, 8)),
            page_count: le32(bytes, 16),
            time_us: le64(bytes, 24).cast_signed(),
            cksum: Cksum(le32(bytes, 32), le32(bytes, 36)),
        })
    }
}

impl Header {
    /// The header's bytes.
    pub fn encode(&self) -> [u8; HEADER_SIZE] {
        let mut bytes = [0; HEADER_SIZE];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.page_size.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.previous_end.to_le_bytes());
        let sum = xxh3_64(&bytes[..24]);
        bytes[24..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }
}

/// Verifies the header at the start of `file`.
///
/// # Errors
/// If it is not one, or of another version.
pub fn parse_header(file: &[u8]) -> Result<Header, CommitsError> {
    let Some(bytes) = file.first_chunk::<HEADER_SIZE>() else {
        return Err(CommitsError::TooShort(file.len()));
    };
    let mut magic = [0; 8];
    magic.copy_from_slice(&bytes[..8]);
    if magic != *MAGIC {
        return Err(CommitsError::BadMagic(magic));
    }
    let version = le32(bytes, 8);
    if version != VERSION {
        return Err(CommitsError::UnknownVersion(version));
    }
    if xxh3_64(&bytes[..24]) != le64(bytes, 24) {
        return Err(CommitsError::BadHeader);
    }
    let page_size = le32(bytes, 12);
    if !valid_page_size(page_size) {
        return Err(CommitsError::BadPageSize(page_size));
    }
    Ok(Header {
        page_size,
        previous_end: le64(bytes, 16),
    })
}

/// Reads a whole sidecar, up to the first record that is torn or not valid; the answer says
/// which it was.
///
/// # Errors
/// If the header is not valid.
pub fn parse_all(file: &[u8]) -> Result<Commits, CommitsError> {
    let page_size = parse_header(file)?.page_size;
    let mut records: Vec<CommitRecord> = Vec::new();
    let mut rest = &file[HEADER_SIZE..];
    let end = loop {
        let record = records.len();
        let Some((bytes, after)) = rest.split_first_chunk::<RECORD_SIZE>() else {
            break match rest.len() {
                0 => CommitsEnd::End,
                bytes => CommitsEnd::Torn { bytes },
            };
        };
        let Ok(commit) = CommitRecord::parse(bytes) else {
            break CommitsEnd::BadChecksum { record };
        };
        let before = records.last().map_or(0, |record| record.end_offset);
        let at_frame_end = frames_before(page_size, commit.end_offset).is_some_and(|n| n > 0);
        if !at_frame_end || commit.end_offset <= before {
            break CommitsEnd::BadOffset { record };
        }
        records.push(commit);
        rest = after;
    };
    Ok(Commits {
        page_size,
        valid_len: HEADER_SIZE + records.len() * RECORD_SIZE,
        records,
        end,
    })
}

fn le32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn le64(bytes: &[u8], at: usize) -> u64 {
    u64::from(le32(bytes, at)) | u64::from(le32(bytes, at + 4)) << 32
}

#[cfg(test)]
mod tests {
    use super::super::wal::frames_end;
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn record(frames: u32) -> CommitRecord {
        CommitRecord {
            end_offset: frames_end(512, frames),
            dbsum: DbSum(0x0102_0304_0506_0708),
            page_count: 9,
            time_us: -2,
            cksum: Cksum(0x1112_1314, 0x2122_2324),
        }
    }

    fn header(page_size: u32) -> [u8; HEADER_SIZE] {
        let previous_end = 568;
        Header {
            page_size,
            previous_end,
        }
        .encode()
    }

    fn file(frames: &[u32]) -> Vec<u8> {
        let mut file = header(512).to_vec();
        for frames in frames {
            file.extend_from_slice(&record(*frames).encode());
        }
        file
    }

    /// The layout is a promise to files already written.
    #[test]
    fn bytes_are_where_the_docs_say() {
        let bytes = record(1).encode();
        assert_eq!(bytes[..8], 568u64.to_le_bytes());
        assert_eq!(bytes[8..16], [8, 7, 6, 5, 4, 3, 2, 1]);
        assert_eq!(bytes[16..24], [9, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(bytes[24..32], (-2i64).to_le_bytes());
        assert_eq!(
            bytes[32..40],
            [0x14, 0x13, 0x12, 0x11, 0x24, 0x23, 0x22, 0x21]
        );
        let bytes = header(4096);
        assert_eq!(bytes[..16], *b"WCCOMMIT\x02\0\0\0\0\x10\0\0");
        assert_eq!(bytes[16..24], 568u64.to_le_bytes());
    }

    #[test]
    fn header_errors_are_told_apart() {
        let good = header(512);
        let parsed = parse_header(&good).unwrap();
        assert_eq!((parsed.page_size, parsed.previous_end), (512, 568));
        assert_eq!(parse_header(&good[..31]), Err(CommitsError::TooShort(31)));
        assert_eq!(parse_header(&[0; 32]), Err(CommitsError::BadMagic([0; 8])));
        let mut newer = good;
        newer[8] = 3;
        assert_eq!(parse_header(&newer), Err(CommitsError::UnknownVersion(3)));
        let mut torn = good;
        torn[17] ^= 1;
        assert_eq!(parse_header(&torn), Err(CommitsError::BadHeader));
        assert_eq!(
            parse_header(&header(500)),
            Err(CommitsError::BadPageSize(500))
        );
    }

    #[test]
    fn the_ends_are_told_apart() {
        let ends = |file: &[u8]| {
            let commits = parse_all(file).unwrap();
            let len = HEADER_SIZE + commits.records.len() * RECORD_SIZE;
            assert_eq!(commits.valid_len, len);
            (commits.records.len(), commits.end)
        };
        let good = file(&[1, 2, 7]);
        assert_eq!(ends(&file(&[])), (0, CommitsEnd::End));
        assert_eq!(ends(&good), (3, CommitsEnd::End));
        for cut in 1..RECORD_SIZE {
            let end = CommitsEnd::Torn {
                bytes: RECORD_SIZE - cut,
            };
            assert_eq!(ends(&good[..good.len() - cut]), (2, end));
        }
        let hole = [&good[..], &[0; RECORD_SIZE]].concat();
        assert_eq!(ends(&hole), (3, CommitsEnd::BadChecksum { record: 3 }));
        assert_eq!(
            ends(&file(&[2, 2])),
            (1, CommitsEnd::BadOffset { record: 1 })
        );
        assert_eq!(
            ends(&file(&[2, 1])),
            (1, CommitsEnd::BadOffset { record: 1 })
        );
        assert_eq!(ends(&file(&[0])), (0, CommitsEnd::BadOffset { record: 0 }));
        let within = CommitRecord {
            end_offset: 569,
            ..record(1)
        };
        let within = [&file(&[])[..], &within.encode()].concat();
        assert_eq!(ends(&within), (0, CommitsEnd::BadOffset { record: 0 }));
    }

    proptest! {
        #[test]
        fn records_round_trip(
            end_offset: u64, sum: u64, page_count: u32, time_us: i64, cksum: (u32, u32),
        ) {
            let cksum = Cksum(cksum.0, cksum.1);
            let record = CommitRecord { end_offset, dbsum: DbSum(sum), page_count, time_us, cksum };
            prop_assert_eq!(CommitRecord::parse(&record.encode()), Ok(record));
        }

        #[test]
        fn files_round_trip(steps in vec(1u32..1000, 0..50)) {
            let frames: Vec<u32> = steps.iter().scan(0, |sum, step| { *sum += step; Some(*sum) }).collect();
            let commits = parse_all(&file(&frames)).unwrap();
            prop_assert_eq!(commits.end, CommitsEnd::End);
            let expected: Vec<_> = frames.iter().map(|n| record(*n)).collect();
            prop_assert_eq!(commits.records, expected);
        }

        #[test]
        fn damage_stops_at_the_record(at in 0usize..4 * RECORD_SIZE, flip in 1u8..) {
            let mut file = file(&[1, 2, 3, 4]);
            file[HEADER_SIZE + at] ^= flip;
            let commits = parse_all(&file).unwrap();
            prop_assert_eq!(commits.records.len(), at / RECORD_SIZE);
            prop_assert_eq!(commits.end, CommitsEnd::BadChecksum { record: at / RECORD_SIZE });
        }

        #[test]
        fn never_panics(bytes in vec(any::<u8>(), 0..200), with_header: bool) {
            let mut file = if with_header { header(512).to_vec() } else { Vec::new() };
            file.extend_from_slice(&bytes);
            let _ = parse_all(&file);
        }
    }
}
