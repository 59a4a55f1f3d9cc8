//! The states of a copy that are noted in `applied` and `durable`: two sectors, of which a torn write leaves the other.
//!
//! A sector (all little-endian): magic "WCAPPLY1" 8, sequence u64, generation u64, index u64, offset u64, dbsum u64,
//! page_count u32, page_size u32, time_us i64, has_log u32, big_endian u32, log sequence u32, salt 2 × u32, frame
//! checksum 2 × u32, pad u32, XXH3-64 of all before u64.

use crate::disk::{self, File};
use crate::format::dbsum::DbSum;
use crate::format::position::{Generation, Position};
use crate::format::wal::{Cksum, WalHeader};
use crate::model::Point;
use std::path::Path;
use xxhash_rust::xxh3::xxh3_64;

/// Bytes of a sector.
pub(super) const SECTOR: usize = 512;
const MAGIC: &[u8; 8] = b"WCAPPLY1";
const USED: usize = 104;

/// A state of the local database, and the primary's log at that place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The state.
    pub point: Point,
    /// The header of the primary's log of that index; `None` at offset 0.
    pub log: Option<WalHeader>,
}

impl Mark {
    fn encode(&self, sequence: u64) -> [u8; SECTOR] {
        let mut bytes = Vec::with_capacity(SECTOR);
        let position = self.point.position;
        bytes.extend_from_slice(MAGIC);
        for word in [
            sequence,
            position.generation.0,
            position.index,
            position.offset,
            self.point.dbsum.0,
        ] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        for word in [self.point.page_count, self.point.page_size] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        bytes.extend_from_slice(&self.point.time_us.to_le_bytes());
        let log = self
            .log
            .unwrap_or(WalHeader::new(self.point.page_size, 0, [0, 0]));
        let cksum = self.point.frame_cksum.unwrap_or_default();
        let has_log = u32::from(self.log.is_some() && self.point.frame_cksum.is_some());
        for word in [
            has_log,
            u32::from(log.big_endian),
            log.sequence,
            log.salt[0],
            log.salt[1],
            cksum.0,
            cksum.1,
            0,
        ] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        debug_assert_eq!(bytes.len(), USED - 8);
        let sum = xxh3_64(&bytes);
        bytes.extend_from_slice(&sum.to_le_bytes());
        bytes.resize(SECTOR, 0);
        bytes.try_into().unwrap_or([0; SECTOR])
    }

    /// A sector's number and mark, if it is sound.
    pub(super) fn decode(bytes: &[u8]) -> Option<(u64, Mark)> {
        let bytes = bytes.get(..USED)?;
        let u64_at = |at: usize| {
            bytes
                .get(at..at + 8)?
                .try_into()
                .ok()
                .map(u64::from_le_bytes)
        };
        let u32_at = |at: usize| {
            bytes
                .get(at..at + 4)?
                .try_into()
                .ok()
                .map(u32::from_le_bytes)
        };
        if &bytes[..8] != MAGIC || xxh3_64(&bytes[..USED - 8]) != u64_at(USED - 8)? {
            return None;
        }
        let page_size = u32_at(52)?;
        let has_log = u32_at(64)? == 1;
        let log = has_log.then_some(()).and_then(|()| {
            let mut header = WalHeader::new(page_size, u32_at(72)?, [u32_at(76)?, u32_at(80)?]);
            header.big_endian = u32_at(68)? == 1;
            Some(header)
        });
        let point = Point {
            position: Position {
                generation: Generation(u64_at(16)?),
                index: u64_at(24)?,
                offset: u64_at(32)?,
            },
            dbsum: DbSum(u64_at(40)?),
            page_count: u32_at(48)?,
            page_size,
            time_us: u64_at(56)? as i64,
            frame_cksum: has_log.then_some(Cksum(u32_at(84)?, u32_at(88)?)),
        };
        Some((u64_at(8)?, Mark { point, log }))
    }
}

/// Two sectors, of which a torn write leaves the other.
pub(super) struct Slots {
    pub(super) file: File,
    /// Each with its number: the newest has the highest.
    pub(super) marks: [Option<(u64, Mark)>; 2],
}

impl Slots {
    pub(super) fn open(op: &'static str, path: &Path) -> disk::Result<Slots> {
        let file = File::open_or_create_within(op, path)?;
        let mut bytes = vec![0; SECTOR * 2];
        let read = file.read_at(op, &mut bytes, 0)?;
        bytes.truncate(read);
        Ok(Slots {
            file,
            marks: std::array::from_fn(|i| bytes.get(i * SECTOR..).and_then(Mark::decode)),
        })
    }

    fn sequence(&self, slot: usize) -> u64 {
        self.marks[slot].map_or(0, |(sequence, _)| sequence)
    }

    /// The slot that a write may take, where the newer one must stay.
    pub(super) fn older(&self) -> usize {
        usize::from(self.sequence(0) > self.sequence(1))
    }

    pub(super) fn write(&mut self, op: &'static str, slot: usize, mark: Mark) -> disk::Result<()> {
        let sequence = self.sequence(0).max(self.sequence(1)) + 1;
        self.file
            .write_all_at(op, &mark.encode(sequence), (slot * SECTOR) as u64)?;
        self.marks[slot] = Some((sequence, mark));
        Ok(())
    }

    /// The marks, newest first.
    pub(super) fn newest_first(&self) -> impl Iterator<Item = Mark> + use<> {
        let older = self.older();
        [self.marks[1 - older], self.marks[older]]
            .into_iter()
            .flatten()
            .map(|(_, mark)| mark)
    }

    pub(super) fn forget(&mut self, op: &'static str) -> disk::Result<()> {
        if self.marks != [None; 2] {
            self.file.set_len(op, 0)?;
            self.marks = [None; 2];
        }
        Ok(())
    }
}
