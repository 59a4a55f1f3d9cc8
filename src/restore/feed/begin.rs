//! Where a feed begins: where the replica is, or with a snapshot.

use super::FeedOptions;
use crate::archive::{Key, SnapshotDoc};
use crate::format::position::{Generation, Position};
use crate::model::Follows;
use crate::restore::catalog::{History, Segment};
use crate::restore::error::RestoreError;
use crate::restore::object::Source;
use std::collections::BTreeSet;

/// How the stream begins.
pub(super) enum Begin {
    /// With a snapshot.
    Snapshot(SnapshotDoc),
    /// With the log behind the replica's position, which is read from this index on.
    Resume { from: Position, index: u64 },
}

impl Begin {
    /// With the last position that a replica can come to.
    pub(super) fn choose(
        source: &Source,
        history: &History,
        options: &FeedOptions<'_>,
    ) -> Result<(Begin, Position), RestoreError> {
        let generation = history.generation;
        let same = |position: &Position| position.generation == generation;
        let from = options.from.filter(same);
        let have = later(from, options.seen.filter(same));
        let log_end = log_end(source, history)?;
        let proven = proven_end(source, generation, documented(&history.segments))?;
        let snapshots = Snapshots {
            source,
            history,
            log_end,
            unsound: options.unsound,
        };
        // Beyond what is known to be archived nothing older may be shown.
        let is_ahead = |end: Position| match have.filter(|have| *have > end) {
            Some(have) => Err(RestoreError::Behind {
                archive: source.name(),
                have,
                end,
            }),
            None => Ok(end),
        };
        if let Some(damaged) = options.damaged
            && let Ok(doc) = snapshots.newest()
            && doc.position.index > damaged
        {
            let end = is_ahead(later(proven, Some(doc.position)).unwrap_or(doc.position))?;
            return Ok((Begin::Snapshot(doc), end));
        }
        if let Some(from) = from
            && let Some(index) = log_of(source, history, from)?
        {
            if let Some(end) = log_end {
                is_ahead(end)?;
            }
            return Ok((Begin::Resume { from, index }, proven.unwrap_or(from)));
        }
        let doc = snapshots.newest()?;
        let end = later(proven, Some(doc.position)).unwrap_or(doc.position);
        is_ahead(later(log_end, Some(end)).unwrap_or(end))?;
        Ok((Begin::Snapshot(doc), end))
    }

    /// Behind this the replica gets all.
    pub(super) fn position(&self) -> Position {
        match self {
            // The log of the snapshot's index is played over it from its beginning.
            Begin::Snapshot(doc) => Position {
                offset: 0,
                ..doc.position
            },
            Begin::Resume { from, .. } => *from,
        }
    }

    pub(super) fn page_size(&self, history: &History) -> Option<u32> {
        match self {
            Begin::Snapshot(doc) => Some(doc.page_size),
            Begin::Resume { .. } => history.doc.as_ref().map(|doc| doc.page_size),
        }
    }

    pub(super) fn follows(&self, from: Option<Position>) -> Follows {
        match (self, from) {
            (Begin::Resume { .. }, _) => Follows::Resume,
            (Begin::Snapshot(_), None) => Follows::NewReplica,
            (Begin::Snapshot(doc), Some(from)) if from.generation != doc.position.generation => {
                Follows::OtherGeneration
            }
            (Begin::Snapshot(_), Some(_)) => Follows::NotRetained,
        }
    }
}

/// The later of two positions in one history.
pub(super) fn later(one: Option<Position>, other: Option<Position>) -> Option<Position> {
    match (one, other) {
        (Some(a), Some(b)) if a > b => one,
        (Some(_), None) => one,
        _ => other,
    }
}

struct Snapshots<'a> {
    source: &'a Source,
    history: &'a History,
    log_end: Option<Position>,
    unsound: &'a BTreeSet<u64>,
}

impl Snapshots<'_> {
    /// The newest that the archived log completes, of those that may be sound.
    fn newest(&self) -> Result<SnapshotDoc, RestoreError> {
        let archive = self.source.name();
        let mut why = RestoreError::Undocumented {
            archive: archive.clone(),
        };
        let indexes = self.history.snapshots.keys().rev();
        for &index in indexes.filter(|index| !self.unsound.contains(index)) {
            let key = Key::snapshot(self.history.generation, index);
            let Some(doc) = self.source.snapshot_doc(key, &BTreeSet::new())? else {
                continue;
            };
            let is_complete = |end| end >= doc.position;
            if doc.position.offset == 0 || self.log_end.is_some_and(is_complete) {
                return Ok(doc);
            }
            why = RestoreError::Unready {
                archive: archive.clone(),
            };
        }
        Err(why)
    }
}

/// Without those at the end that have no document: they are younger than the list of documents.
pub(super) fn documented(segments: &[Segment]) -> &[Segment] {
    let end = segments.iter().rposition(|segment| segment.listed.has_doc);
    &segments[..end.map_or(0, |end| end + 1)]
}

/// Where the archived log ends.
fn log_end(source: &Source, history: &History) -> Result<Option<Position>, RestoreError> {
    let Some(last) = documented(&history.segments).last() else {
        return Ok(None);
    };
    let key = Key::wal(history.generation, last.index, last.offset);
    let doc = source.segment_doc(key, &BTreeSet::new())?;
    Ok(doc.map(|doc| Position {
        generation: history.generation,
        index: last.index,
        offset: doc.end,
    }))
}

/// Where the last commit ends whose checksum is recorded: only there a replica can prove what it has.
pub(super) fn proven_end(
    source: &Source,
    generation: Generation,
    segments: &[Segment],
) -> Result<Option<Position>, RestoreError> {
    for segment in segments.iter().rev().filter(|s| s.listed.has_doc) {
        let key = Key::wal(generation, segment.index, segment.offset);
        let Some(doc) = source.segment_doc(key, &BTreeSet::new())? else {
            continue;
        };
        let mut records = doc.records.iter().rev();
        if let Some(record) = records.find(|record| record.page_count != 0) {
            return Ok(Some(Position {
                generation,
                index: segment.index,
                offset: record.end_offset,
            }));
        }
    }
    Ok(None)
}

/// The index from which the log behind a position can be read: its own, or the next one if that is known to follow.
fn log_of(source: &Source, history: &History, from: Position) -> Result<Option<u64>, RestoreError> {
    let begins = |index: u64| {
        let first = history.segments_from(index).first();
        first.filter(|first| (first.index, first.offset) == (index, 0))
    };
    if begins(from.index).is_some() {
        return Ok(Some(from.index));
    }
    let next = from.index + 1;
    if begins(next).is_none() {
        return Ok(None);
    }
    let key = Key::wal(history.generation, next, 0);
    let doc = source.segment_doc(key, &BTreeSet::new())?;
    Ok(doc
        .filter(|doc| doc.previous_end == from.offset)
        .map(|_| next))
}
