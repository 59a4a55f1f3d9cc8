//! Which old indexes are kept: bounded by bytes on disk and by age, whole indexes, oldest first.

use super::IndexSize;
use std::collections::VecDeque;
use std::time::Duration;

/// A file takes whole blocks, and a directory at least one.
const BLOCK: u64 = 4096;
/// A snapshot in progress may keep this much more than was configured before it is cut off.
const PIN_ALLOWANCE: u64 = 16 * 1024 * 1024 * 1024;

/// What somebody still reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Needed {
    /// The oldest index that a snapshot in progress needs: kept beyond both limits.
    pub pinned: Option<u64>,
    /// The oldest index that an archive does not have yet: kept beyond its age, within the size.
    pub unread: Option<u64>,
}

/// The indexes kept, and the limits.
pub struct Retention {
    limit_bytes: u64,
    limit_age_us: i64,
    old: VecDeque<IndexSize>,
    total: u64,
}

impl Retention {
    /// With the indexes that are complete, oldest first.
    pub fn new(limit_bytes: u64, limit_age: Duration, old: Vec<IndexSize>) -> Retention {
        let total = old.iter().map(|index| index.bytes).sum();
        let limit_age_us = i64::try_from(limit_age.as_micros()).unwrap_or(i64::MAX);
        Retention {
            limit_bytes,
            limit_age_us,
            old: old.into(),
            total,
        }
    }

    /// Bytes on disk of a file with `len` bytes.
    pub fn on_disk(len: u64) -> u64 {
        len.div_ceil(BLOCK) * BLOCK
    }

    /// What an index takes besides its files: its directory.
    pub const PER_INDEX: u64 = BLOCK;

    /// An index is complete.
    pub fn add(&mut self, index: IndexSize) {
        self.total += index.bytes;
        self.old.push_back(index);
    }

    /// The newest one ended only now: what a former run left was the log until the next began.
    pub fn ended(&mut self, now_us: i64) {
        if let Some(newest) = self.old.back_mut() {
            newest.ended_us = now_us;
        }
    }

    /// Complete indexes that are kept.
    pub fn count(&self) -> usize {
        self.old.len()
    }

    /// The oldest index to remove now, if any; ask again until there is none. `current` are the bytes of the index that
    /// is being written.
    pub fn next_to_remove(&mut self, current: u64, needed: Needed, now_us: i64) -> Option<u64> {
        let oldest = self.old.front()?;
        let bytes = self.total + current;
        let unread = needed.unread.is_some_and(|from| oldest.index >= from);
        let too_old = !unread && now_us.saturating_sub(oldest.ended_us) > self.limit_age_us;
        if bytes <= self.limit_bytes && !too_old {
            return None;
        }
        let allowed = self.limit_bytes.saturating_add(PIN_ALLOWANCE);
        if needed.pinned.is_some_and(|pinned| oldest.index >= pinned) && bytes <= allowed {
            return None;
        }
        let oldest = self.old.pop_front()?;
        self.total -= oldest.bytes;
        Some(oldest.index)
    }
}
