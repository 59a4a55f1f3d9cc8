//! Which snapshot, and how much of the log.

use super::catalog::{Catalog, History, Segment, object_of};
use super::error::RestoreError;
use super::object::Source;
use super::search;
use crate::archive::{Key, SnapshotDoc};
use crate::format::dbsum::DbSum;
use crate::format::position::{Generation, Position};
use std::collections::BTreeSet;

/// What to restore to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The newest state.
    Newest,
    /// The state at this position.
    Position(Position),
    /// The last state that was captured at this time or before it, µs since 1970 by the primary's clock.
    Time(i64),
}

/// The newest state that an archive's documents tell of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Newest {
    /// Where it is.
    pub position: Position,
    /// When it was captured by the primary's clock, µs since 1970, if that is recorded.
    pub time_us: Option<i64>,
    /// The checksum of the database there, if that is recorded.
    pub dbsum: Option<DbSum>,
}

/// Where to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// At the last commit in the segments.
    Last,
    /// At this commit.
    At(Position),
}

/// What is read, and what comes of it.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    pub(super) history: &'a History,
    /// The snapshot.
    pub(super) index: u64,
    pub(super) doc: Option<SnapshotDoc>,
    /// The log from that index on. Empty: the snapshot is the state.
    pub(super) segments: Vec<Segment>,
    pub(super) stop: Stop,
    /// What a person should know.
    pub(super) notes: Vec<String>,
}

/// Where a log's sound part ends: at the byte `offset` of the log `index`.
type Limit = (u64, u64);

impl Plan<'_> {
    pub(super) fn snapshot(&self) -> Key {
        Key::snapshot(self.history.generation, self.index)
    }

    /// Bytes to read, packed.
    pub(super) fn size(&self) -> u64 {
        let snapshot = self
            .history
            .snapshots
            .get(&self.index)
            .map_or(0, |s| s.size);
        snapshot + self.segments.iter().map(|s| s.listed.size).sum::<u64>()
    }
}

/// Plans a restore that reads nothing of `avoid`: the state before the first thing there, if it is not the target itself.
pub(super) fn plan<'a>(
    source: &Source,
    catalog: &'a Catalog,
    target: Target,
    avoid: &BTreeSet<Key>,
) -> Result<Plan<'a>, RestoreError> {
    match target {
        Target::Newest => newest(source, catalog, avoid),
        Target::Position(position) => {
            let history = catalog.history(position.generation);
            let history = history.ok_or_else(|| RestoreError::NoGeneration {
                archive: source.name(),
                generation: position.generation,
            })?;
            let plan = within(source, history, Some(position), avoid)?;
            plan.ok_or_else(|| too_early(source, history, position, avoid))
        }
        Target::Time(time_us) => {
            let mut notes = Vec::new();
            for history in catalog.histories.iter().rev() {
                if let Some(mut plan) = at_time(source, history, time_us, avoid, &mut notes)? {
                    plan.notes.append(&mut notes);
                    return Ok(plan);
                }
            }
            Err(match catalog.histories.is_empty() {
                true => empty(source),
                false => RestoreError::TooEarlyTime {
                    archive: source.name(),
                    time_us,
                },
            })
        }
    }
}

fn empty(source: &Source) -> RestoreError {
    RestoreError::Empty {
        archive: source.name(),
    }
}

fn newest<'a>(
    source: &Source,
    catalog: &'a Catalog,
    avoid: &BTreeSet<Key>,
) -> Result<Plan<'a>, RestoreError> {
    let mut notes = Vec::new();
    for history in catalog.histories.iter().rev() {
        refuse_lost(source, history, avoid)?;
        if let Some(mut plan) = within(source, history, None, avoid)? {
            notes.append(&mut plan.notes);
            plan.notes = notes;
            return Ok(plan);
        }
        notes.push(format!(
            "generation {} is newer and has no snapshot to begin with",
            history.generation
        ));
    }
    Err(empty(source))
}

/// A document without its object, beyond what the objects that are there lead to, shows that the newest state was lost.
fn refuse_lost(
    source: &Source,
    history: &History,
    avoid: &BTreeSet<Key>,
) -> Result<(), RestoreError> {
    let orphans = history.orphans.iter().filter(|key| !avoid.contains(key));
    let lost = orphans.filter_map(|doc| object_of(*doc));
    let lost: Vec<Key> = lost.filter(|key| !avoid.contains(key)).collect();
    if lost.is_empty() {
        return Ok(());
    }
    let reached = search::newest(source, history, avoid)?;
    let reached = reached.map(|newest| (newest.position.index, newest.position.offset));
    for key in lost {
        let end = match key {
            Key::Snapshot { .. } => {
                let doc = source.snapshot_doc(key, avoid)?;
                // Without a snapshot the log leads nowhere, however far it reaches.
                let reached = reached.filter(|_| !history.snapshots.is_empty());
                doc.map(|doc| (doc.position.index, doc.position.offset))
                    .filter(|end| Some(*end) > reached)
            }
            Key::Wal { index, .. } => source
                .segment_doc(key, avoid)?
                // Without commits it is the mark of a gap, or a piece of what never ended.
                .filter(|doc| !doc.records.is_empty())
                .map(|doc| (index, doc.end))
                .filter(|end| Some(*end) > reached),
            _ => None,
        };
        if end.is_some() {
            return Err(source.missing(key));
        }
    }
    Ok(())
}

/// The newest state of a history, or one up to `wanted`.
fn within<'a>(
    source: &Source,
    history: &'a History,
    wanted: Option<Position>,
    avoid: &BTreeSet<Key>,
) -> Result<Option<Plan<'a>>, RestoreError> {
    let up_to = wanted.map_or(u64::MAX, |wanted| wanted.index);
    for (&index, listed) in history.snapshots.range(..=up_to).rev() {
        let key = Key::snapshot(history.generation, index);
        if avoid.contains(&key) {
            continue;
        }
        let doc = match history.may_have_doc(listed) {
            true => source.snapshot_doc(key, avoid)?,
            false => None,
        };
        if let Some(plan) = from_snapshot(history, index, doc, wanted, avoid) {
            return Ok(Some(plan));
        }
    }
    Ok(None)
}

fn from_snapshot<'a>(
    history: &'a History,
    index: u64,
    doc: Option<SnapshotDoc>,
    wanted: Option<Position>,
    avoid: &BTreeSet<Key>,
) -> Option<Plan<'a>> {
    let limit = limit(history.generation, index, avoid);
    let own = doc.as_ref().map(|doc| (index, doc.position.offset));
    // What is wanted beyond the sound part is, on request, the last of the sound part.
    let (until, stop): (Option<Limit>, Stop) = match (wanted, limit) {
        (None, None) => (None, Stop::Last),
        (Some(wanted), None) => (Some((wanted.index, wanted.offset)), Stop::At(wanted)),
        (Some(wanted), Some(limit)) if (wanted.index, wanted.offset) <= limit => {
            (Some((wanted.index, wanted.offset)), Stop::At(wanted))
        }
        (_, Some(limit)) => (Some(limit), Stop::Last),
    };
    let mut plan = Plan {
        history,
        index,
        doc,
        segments: Vec::new(),
        stop,
        notes: Vec::new(),
    };
    if let Some(until) = until {
        match own {
            // Without its document it is not known where in its log a snapshot stands: only the end of that log will do.
            None if until.0 <= index => return None,
            Some(own) if own > until && stop != Stop::Last => return None,
            Some(own) if own >= until => return Some(plan),
            _ => {}
        }
    }
    let segments = history.segments_from(index).iter().copied();
    plan.segments = segments
        .take_while(|s| until.is_none_or(|until| (s.index, s.offset) < until))
        .collect();
    Some(plan)
}

/// The first place of the log, from an index on, that must not be read.
fn limit(generation: Generation, from: u64, avoid: &BTreeSet<Key>) -> Option<Limit> {
    let first = Key::wal(generation, from, 0);
    avoid.range(first..).find_map(|key| match *key {
        Key::Wal {
            generation: of,
            index,
            offset,
        } if of == generation.into() => Some((index, offset)),
        _ => None,
    })
}

fn too_early(
    source: &Source,
    history: &History,
    wanted: Position,
    avoid: &BTreeSet<Key>,
) -> RestoreError {
    let first = history.snapshots.keys().next();
    let key = first.map(|&index| Key::snapshot(history.generation, index));
    let doc = key.and_then(|key| source.snapshot_doc(key, avoid).ok().flatten());
    RestoreError::TooEarly {
        archive: source.name(),
        wanted,
        oldest: doc.map(|doc| doc.position),
    }
}

fn at_time<'a>(
    source: &Source,
    history: &'a History,
    time_us: i64,
    avoid: &BTreeSet<Key>,
    notes: &mut Vec<String>,
) -> Result<Option<Plan<'a>>, RestoreError> {
    if let Some(position) = search::at_time(source, history, time_us, avoid)? {
        if let Some(plan) = within(source, history, Some(position), avoid)? {
            return Ok(Some(plan));
        }
        // Its snapshot went, or is of a later state. What comes instead is older than it need have been, and nothing else
        // tells that.
        notes.push(format!(
            "the state of that time was {position}, to which no snapshot leads any more"
        ));
    }
    // Nothing was committed by then that the log could lead to; the first snapshot may have been there already.
    let Some((&index, listed)) = history.snapshots.iter().next() else {
        return Ok(None);
    };
    let key = Key::snapshot(history.generation, index);
    let doc = match history.may_have_doc(listed) {
        true => source.snapshot_doc(key, avoid)?,
        false => None,
    };
    match doc {
        Some(doc) if state_time(history, &doc) <= time_us => {
            within(source, history, Some(doc.position), avoid)
        }
        _ => Ok(None),
    }
}

/// When a snapshot's state was. One of an empty log is of what was there when its history began, whatever had been captured
/// before that: what changed in between nobody saw.
fn state_time(history: &History, doc: &SnapshotDoc) -> i64 {
    match (doc.position.offset, doc.time_us) {
        (0, time) => time.max(history.created_us()),
        (_, 0) => doc.taken_us,
        (_, time) => time,
    }
}
