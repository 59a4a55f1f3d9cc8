//! The sidecar of one index, as a reader sees it.

use super::ShadowError;
use crate::disk::File;
use crate::format::commits::{self, CommitRecord, HEADER_SIZE, Header, RECORD_SIZE};

type Result<T> = std::result::Result<T, ShadowError>;

/// A cursor over the records.
pub struct Sidecar {
    pub file: File,
    /// Number of the record to look at next.
    pub next: u64,
}

impl Sidecar {
    /// What stands before the records.
    pub fn header(&self) -> Result<Header> {
        let mut bytes = [0; HEADER_SIZE];
        let read = self.file.read_at("shadow.sidecar-read", &mut bytes, 0)?;
        commits::parse_header(&bytes[..read])
            .map_err(|e| ShadowError::damaged(self.file.path(), 0, e))
    }

    fn record(&self, number: u64) -> Result<Option<CommitRecord>> {
        let mut bytes = [0; RECORD_SIZE];
        let at = HEADER_SIZE as u64 + number * RECORD_SIZE as u64;
        if self.file.read_at("shadow.sidecar-read", &mut bytes, at)? < RECORD_SIZE {
            return Ok(None);
        }
        let record = CommitRecord::parse(&bytes);
        record
            .map(Some)
            .map_err(|e| ShadowError::damaged(self.file.path(), at, e))
    }

    fn count(&self) -> Result<u64> {
        let len = self
            .file
            .len("shadow.sidecar-len")?
            .saturating_sub(HEADER_SIZE as u64);
        Ok(len / RECORD_SIZE as u64)
    }

    /// The newest record.
    pub fn last(&self) -> Result<Option<CommitRecord>> {
        match self.count()? {
            0 => Ok(None),
            count => self.record(count - 1),
        }
    }

    /// Moves to the first record beyond `offset`.
    pub fn seek(&mut self, offset: u64) -> Result<()> {
        let (mut low, mut high) = (0, self.count()?);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.record(middle)? {
                Some(record) if record.end_offset <= offset => low = middle + 1,
                _ => high = middle,
            }
        }
        self.next = low;
        Ok(())
    }

    /// The record of `offset`, if there is one. Offsets are asked for in ascending order.
    pub fn at(&mut self, offset: u64) -> Result<Option<CommitRecord>> {
        while let Some(record) = self.record(self.next)? {
            if record.end_offset > offset {
                return Ok(None);
            }
            self.next += 1;
            if record.end_offset == offset {
                return Ok(Some(record));
            }
        }
        Ok(None)
    }
}
