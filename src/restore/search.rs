//! Looks for a commit without restoring: by the documents, and where there are none in the segments themselves.

use super::catalog::{History, Segment};
use super::error::RestoreError;
use super::fetch::PIECE_BYTES;
use super::object::Source;
use super::plan::Newest;
use crate::archive::Key;
use crate::format::position::Position;
use crate::format::wal::{
    FRAME_HEADER_SIZE, FrameHeader, WAL_HEADER_SIZE, WalHeader, frame_size, frames_before,
};
use std::collections::BTreeSet;

/// The newest state of a history, as far as its documents tell; nothing of it is verified.
pub fn newest(
    source: &Source,
    history: &History,
    avoid: &BTreeSet<Key>,
) -> Result<Option<Newest>, RestoreError> {
    let logged = last_commit(source, history, &history.segments, avoid)?;
    let mut best = logged;
    for (&index, listed) in history.snapshots.iter().rev().take(1) {
        let key = Key::snapshot(history.generation, index);
        let doc = match history.may_have_doc(listed) {
            true => source.snapshot_doc(key, avoid)?,
            false => None,
        };
        let Some(doc) = doc else { continue };
        if best.is_none_or(|best| best.position < doc.position) {
            best = Some(Newest {
                position: doc.position,
                time_us: Some(doc.time_us).filter(|time| *time != 0),
                dbsum: u64::from_str_radix(&doc.dbsum, 16)
                    .ok()
                    .map(crate::format::dbsum::DbSum),
            });
        }
    }
    Ok(best)
}

fn last_commit(
    source: &Source,
    history: &History,
    segments: &[Segment],
    avoid: &BTreeSet<Key>,
) -> Result<Option<Newest>, RestoreError> {
    for segment in segments.iter().rev() {
        let key = key(history, segment);
        if avoid.contains(&key) {
            continue;
        }
        let doc = match history.may_have_doc(&segment.listed) {
            true => source.segment_doc(key, avoid)?,
            false => None,
        };
        let at = |offset| Position {
            generation: history.generation,
            index: segment.index,
            offset,
        };
        let found = match doc {
            Some(doc) => doc.records.last().map(|record| Newest {
                position: at(record.end_offset),
                time_us: Some(record.time_us).filter(|time| *time != 0),
                dbsum: (record.page_count != 0).then_some(record.dbsum),
            }),
            None => last_commit_inside(source, history, segment)?.map(|offset| Newest {
                position: at(offset),
                time_us: None,
                dbsum: None,
            }),
        };
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

fn key(history: &History, segment: &Segment) -> Key {
    Key::wal(history.generation, segment.index, segment.offset)
}

/// Where the last commit in a segment ends, by its frames' headers alone.
fn last_commit_inside(
    source: &Source,
    history: &History,
    segment: &Segment,
) -> Result<Option<u64>, RestoreError> {
    let Some(page_size) = page_size(source, history, segment.index)? else {
        return Ok(None);
    };
    // A name that any number may stand in: no frame of a log begins there.
    if frames_before(page_size, segment.offset).is_none() {
        return Ok(None);
    }
    let whole = frame_size(page_size) as usize;
    let mut object = source.open(key(history, segment))?;
    let (mut bytes, mut at, mut last) = (Vec::new(), segment.offset, None);
    while object.read(&mut bytes, PIECE_BYTES)? {
        let mut used = 0;
        if at == 0 {
            if bytes.len() < WAL_HEADER_SIZE {
                continue;
            }
            used = WAL_HEADER_SIZE;
            at = WAL_HEADER_SIZE as u64;
        }
        for frame in bytes[used..].chunks_exact(whole) {
            used += whole;
            at += whole as u64;
            let head = frame.first_chunk::<FRAME_HEADER_SIZE>();
            if head.is_some_and(|head| FrameHeader::parse(head).is_commit()) {
                last = Some(at);
            }
        }
        bytes.drain(..used);
    }
    Ok(last)
}

fn page_size(source: &Source, history: &History, index: u64) -> Result<Option<u32>, RestoreError> {
    if let Some(doc) = &history.doc {
        return Ok(Some(doc.page_size));
    }
    let first = history.segments_from(index).first();
    if first.is_none_or(|first| (first.index, first.offset) != (index, 0)) {
        return Ok(None);
    }
    let key = Key::wal(history.generation, index, 0);
    let mut head = Vec::new();
    source.open(key)?.read(&mut head, WAL_HEADER_SIZE)?;
    let head = head.first_chunk::<WAL_HEADER_SIZE>().map(WalHeader::parse);
    match head {
        Some(Ok(header)) => Ok(Some(header.page_size)),
        _ => Err(source.damaged(key, "it does not begin like a log")),
    }
}

/// The last commit that was captured by then. By halving, so times that go back (a clock that was set) make it one of those
/// around. Where a segment has no document, its object's time stands for all of it.
pub(super) fn at_time(
    source: &Source,
    history: &History,
    time_us: i64,
    avoid: &BTreeSet<Key>,
) -> Result<Option<Position>, RestoreError> {
    let segments = &history.segments[..];
    let (mut low, mut high) = (0, segments.len());
    // Invariant: what is before `low` has begun by then, what is from `high` on has not.
    while low < high {
        let middle = low + (high - low) / 2;
        match began(source, history, &segments[low..=middle], avoid)? {
            Some(began) if began <= time_us => low = middle + 1,
            Some(_) => high = middle,
            // Nothing from `low` to `middle` tells: all of it is left from a crash.
            None => low = middle + 1,
        }
    }
    for segment in segments[..low].iter().rev() {
        let doc = match history.may_have_doc(&segment.listed) {
            true => source.segment_doc(key(history, segment), avoid)?,
            false => None,
        };
        let offset = match doc {
            Some(doc) => {
                let mut records = doc.records.iter().rev();
                let found = records.find(|record| record.time_us <= time_us);
                found.map(|record| record.end_offset)
            }
            None if segment.listed.modified_us <= time_us => {
                last_commit_inside(source, history, segment)?
            }
            None => None,
        };
        if let Some(offset) = offset {
            return Ok(Some(Position {
                generation: history.generation,
                index: segment.index,
                offset,
            }));
        }
    }
    Ok(None)
}

/// When the last of these segments that tells was begun.
fn began(
    source: &Source,
    history: &History,
    segments: &[Segment],
    avoid: &BTreeSet<Key>,
) -> Result<Option<i64>, RestoreError> {
    for segment in segments.iter().rev() {
        let doc = match history.may_have_doc(&segment.listed) {
            true => source.segment_doc(key(history, segment), avoid)?,
            false => None,
        };
        match doc {
            Some(doc) => {
                if let Some(record) = doc.records.first() {
                    return Ok(Some(record.time_us));
                }
            }
            None => return Ok(Some(segment.listed.modified_us)),
        }
    }
    Ok(None)
}
