//! The document of a segment, `<offset>.commits`: which commits are in it, when they were made, and the checksum of the
//! database after each. walcast's own format, version 1; numbers are little-endian.
//!
//! ```text
//! header, 48 bytes:  magic "WCSEGMNT" 8 | version 4 | page size 4
//!                    16 start offset 8 | 24 end offset 8
//!                    32 end of the index before 8   (where start is 0 and there is one before; else 0)
//!                    40 number of records 4 | 44 zero 4
//! records, 48 bytes each, as in the sidecars of the shadow WAL (`format::commits`)
//! XXH3 (64 bits, seed 0) of all before, 8 bytes
//! ```

use crate::format::commits::{CommitRecord, RECORD_SIZE};
use crate::format::dbheader::valid_page_size;
use crate::format::wal::frames_before;
use xxhash_rust::xxh3::xxh3_64;

/// The first bytes.
pub const MAGIC: &[u8; 8] = b"WCSEGMNT";
/// The version written, and the only one read.
pub const VERSION: u32 = 1;

const HEADER_SIZE: usize = 48;
const SUM_SIZE: usize = 8;

/// What is known of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentDoc {
    /// Bytes in a page of the log.
    pub page_size: u32,
    /// Where in the log it begins.
    pub start: u64,
    /// Where in the log it ends.
    pub end: u64,
    /// Where the log before ended, in a segment that begins a log with one before: so a lost end is noticed.
    pub previous_end: u64,
    /// Its commits, with ascending offsets. Several transactions may share one record: that of the last.
    pub records: Vec<CommitRecord>,
}

/// Bytes that are no segment's document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SegmentError {
    /// Too few bytes, or too many.
    #[error("it has {0} bytes, which does not fit its header")]
    Length(usize),
    /// Another kind of object.
    #[error("it begins with {0:02x?}")]
    Magic([u8; 8]),
    /// Written by another version of walcast.
    #[error("it has version {0}, and this walcast knows version {VERSION}")]
    Version(u32),
    /// The checksum does not match.
    #[error("its checksum does not match")]
    Checksum,
    /// The numbers contradict each other.
    #[error("its numbers contradict each other")]
    Contradiction,
}

impl SegmentDoc {
    /// The object's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_SIZE + self.records.len() * RECORD_SIZE + SUM_SIZE);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&self.page_size.to_le_bytes());
        out.extend_from_slice(&self.start.to_le_bytes());
        out.extend_from_slice(&self.end.to_le_bytes());
        out.extend_from_slice(&self.previous_end.to_le_bytes());
        out.extend_from_slice(&(self.records.len() as u32).to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        for record in &self.records {
            out.extend_from_slice(&record.encode());
        }
        out.extend_from_slice(&xxh3_64(&out).to_le_bytes());
        out
    }

    /// Reads the object's bytes.
    ///
    /// # Errors
    /// If they are not what [`SegmentDoc::encode`] makes. A document that is read is consistent in itself.
    pub fn parse(bytes: &[u8]) -> Result<SegmentDoc, SegmentError> {
        let length = SegmentError::Length(bytes.len());
        if bytes.len() < HEADER_SIZE + SUM_SIZE {
            return Err(length);
        }
        let magic: [u8; 8] = array(bytes, 0);
        if &magic != MAGIC {
            return Err(SegmentError::Magic(magic));
        }
        let version = u32::from_le_bytes(array(bytes, 8));
        if version != VERSION {
            return Err(SegmentError::Version(version));
        }
        let count = u32::from_le_bytes(array(bytes, 40)) as usize;
        let whole = count
            .checked_mul(RECORD_SIZE)
            .map(|size| HEADER_SIZE + size + SUM_SIZE);
        if whole != Some(bytes.len()) {
            return Err(length);
        }
        let (summed, sum) = bytes.split_at(bytes.len() - SUM_SIZE);
        if xxh3_64(summed) != u64::from_le_bytes(array(sum, 0)) {
            return Err(SegmentError::Checksum);
        }
        let records = summed[HEADER_SIZE..]
            .chunks_exact(RECORD_SIZE)
            .map(|record| CommitRecord::parse(&array(record, 0)))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|_| SegmentError::Checksum)?;
        let doc = SegmentDoc {
            page_size: u32::from_le_bytes(array(bytes, 12)),
            start: u64::from_le_bytes(array(bytes, 16)),
            end: u64::from_le_bytes(array(bytes, 24)),
            previous_end: u64::from_le_bytes(array(bytes, 32)),
            records,
        };
        match doc.is_consistent() {
            true => Ok(doc),
            false => Err(SegmentError::Contradiction),
        }
    }

    fn is_consistent(&self) -> bool {
        if !valid_page_size(self.page_size) {
            return false;
        }
        let whole = |offset| frames_before(self.page_size, offset).is_some();
        let ends = self.records.iter().map(|record| record.end_offset);
        let ascending = ends
            .clone()
            .try_fold(self.start, |before, end| (end > before).then_some(end));
        (self.start == 0 || self.previous_end == 0)
            && whole(self.start)
            && whole(self.end)
            && self.start < self.end
            && ends.clone().all(whole)
            // One that holds a commit ends with it: so a writer that goes on never cuts one in two.
            && ascending.is_some_and(|last| self.records.is_empty() || last == self.end)
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&bytes[at..at + N]);
    out
}
