//! What an archive holds, by its names.

use super::error::RestoreError;
use super::object::Source;
use crate::archive::{GenerationDoc, Key, Object};
use crate::format::position::Generation;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// All histories of an archive.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    /// The oldest first, as well as that is known: by the documents' owners and times, else by the objects' times.
    pub histories: Vec<History>,
}

/// One generation.
#[derive(Clone, Debug)]
pub struct History {
    /// Its name.
    pub generation: Generation,
    /// Where it came from.
    pub doc: Option<GenerationDoc>,
    /// Snapshots by index.
    pub snapshots: BTreeMap<u64, Listed>,
    /// Segments, by index and offset.
    pub segments: Vec<Segment>,
    /// Documents whose object is not there.
    pub orphans: BTreeSet<Key>,
}

/// What a list tells of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its bytes, packed.
    pub size: u64,
    /// When it was written, by the store's clock, µs since 1970.
    pub modified_us: i64,
    /// Whether it has a document.
    pub has_doc: bool,
}

/// A piece of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The log.
    pub index: u64,
    /// Where in it the piece begins.
    pub offset: u64,
    /// The object.
    pub listed: Listed,
}

/// Something that is not there and should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gap {
    /// Logs in the middle: positions in them cannot be restored.
    Indexes {
        /// The history.
        generation: Generation,
        /// The first that is missing.
        first: u64,
        /// The last.
        last: u64,
    },
    /// An object whose document is there.
    Object(Key),
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Gap::Indexes {
                generation,
                first,
                last,
            } if first == last => write!(f, "{generation}: the log {first:016x} is missing"),
            Gap::Indexes {
                generation,
                first,
                last,
            } => write!(
                f,
                "{generation}: the logs {first:016x} to {last:016x} are missing"
            ),
            Gap::Object(key) => write!(f, "{key} has a document, and is missing"),
        }
    }
}

impl Catalog {
    /// Lists an archive. Documents in `avoid` are taken as missing.
    pub fn read(source: &Source, avoid: &BTreeSet<Key>) -> Result<Catalog, RestoreError> {
        let mut histories = Vec::new();
        for generation in source.generations()? {
            let history = History::read(source, generation, avoid)?;
            if !history.snapshots.is_empty() || !history.segments.is_empty() {
                histories.push(history);
            }
        }
        order(&mut histories);
        Ok(Catalog { histories })
    }

    /// A history by name.
    pub fn history(&self, generation: Generation) -> Option<&History> {
        self.histories.iter().find(|h| h.generation == generation)
    }
}

impl History {
    fn read(
        source: &Source,
        generation: Generation,
        avoid: &BTreeSet<Key>,
    ) -> Result<History, RestoreError> {
        // Documents first: each is written after its object and removed before it, so one without the other is a loss and
        // no race. A busy week has half a million of each: what is kept of them is small.
        let mut docs = Docs::default();
        source.each(&Key::own_prefix(generation), |object| docs.add(object.key))?;
        docs.segments.sort_unstable();
        let mut history = History {
            generation,
            doc: None,
            snapshots: BTreeMap::new(),
            segments: Vec::new(),
            orphans: BTreeSet::new(),
        };
        source.each(&Key::prefix(generation), |object| {
            history.add(object, &docs)
        })?;
        history.segments.sort_by_key(|s| (s.index, s.offset));
        history.orphans = docs.without(&history);
        let name = Key::GenerationDoc {
            generation: generation.into(),
        };
        if !avoid.contains(&name)
            && let Some(bytes) = source.get(name)?
        {
            let doc = GenerationDoc::parse(&bytes);
            history.doc = Some(doc.map_err(|error| source.damaged(name, error))?);
        }
        Ok(history)
    }

    fn add(&mut self, object: &Object, docs: &Docs) {
        let listed = |has_doc| Listed {
            size: object.size,
            modified_us: object.modified_us,
            has_doc,
        };
        match object.key {
            Key::Snapshot { index, .. } => {
                let listed = listed(docs.snapshots.contains(&index));
                self.snapshots.insert(index, listed);
            }
            Key::Wal { index, offset, .. } => {
                let listed = listed(docs.segments.binary_search(&(index, offset)).is_ok());
                self.segments.push(Segment {
                    index,
                    offset,
                    listed,
                });
            }
            _ => {}
        }
    }

    /// The segments of a log and all after it.
    pub fn segments_from(&self, index: u64) -> &[Segment] {
        let from = self.segments.partition_point(|s| s.index < index);
        &self.segments[from..]
    }

    /// Whether an object may have a document: it may be younger than the list.
    pub(super) fn may_have_doc(&self, listed: &Listed) -> bool {
        listed.has_doc || self.doc.is_some()
    }

    /// When it began.
    pub fn created_us(&self) -> i64 {
        let first = self.times().min().unwrap_or(0);
        self.doc.as_ref().map_or(first, |doc| doc.created_us)
    }

    /// When it was last written to.
    pub fn updated_us(&self) -> i64 {
        self.times().max().unwrap_or(0)
    }

    fn times(&self) -> impl Iterator<Item = i64> {
        let snapshots = self.snapshots.values().map(|listed| listed.modified_us);
        snapshots.chain(self.segments.iter().map(|s| s.listed.modified_us))
    }

    /// Bytes of its objects, packed.
    pub fn size(&self) -> u64 {
        let snapshots: u64 = self.snapshots.values().map(|listed| listed.size).sum();
        snapshots + self.segments.iter().map(|s| s.listed.size).sum::<u64>()
    }

    /// What is missing, as far as names alone tell.
    pub fn gaps(&self) -> Vec<Gap> {
        let mut gaps = Vec::new();
        let mut indexes: Vec<u64> = self.segments.iter().map(|s| s.index).collect();
        indexes.dedup();
        for pair in indexes.windows(2) {
            if pair[1] - pair[0] > 1 {
                gaps.push(Gap::Indexes {
                    generation: self.generation,
                    first: pair[0] + 1,
                    last: pair[1] - 1,
                });
            }
        }
        let objects = self.orphans.iter().filter_map(|doc| object_of(*doc));
        gaps.extend(objects.map(Gap::Object));
        gaps
    }
}

/// The documents of a history.
#[derive(Default)]
struct Docs {
    snapshots: BTreeSet<u64>,
    /// Index and offset.
    segments: Vec<(u64, u64)>,
}

impl Docs {
    fn add(&mut self, key: Key) {
        match key {
            Key::SnapshotDoc { index, .. } => drop(self.snapshots.insert(index)),
            Key::SegmentDoc { index, offset, .. } => self.segments.push((index, offset)),
            _ => {}
        }
    }

    /// Those whose object is not there.
    fn without(&self, history: &History) -> BTreeSet<Key> {
        let generation = history.generation.into();
        let snapshots = self.snapshots.iter().copied();
        let snapshots = snapshots
            .filter(|index| !history.snapshots.contains_key(index))
            .map(|index| Key::SnapshotDoc { generation, index });
        let is_there = |at: &(u64, u64)| {
            let found = history
                .segments
                .binary_search_by_key(at, |s| (s.index, s.offset));
            found.is_ok()
        };
        let segments = self.segments.iter().copied();
        let segments = segments
            .filter(|at| !is_there(at))
            .map(|(index, offset)| Key::SegmentDoc {
                generation,
                index,
                offset,
            });
        snapshots.chain(segments).collect()
    }
}

/// The object that a document is of.
pub(super) fn object_of(doc: Key) -> Option<Key> {
    match doc {
        Key::SnapshotDoc { generation, index } => Some(Key::Snapshot { generation, index }),
        Key::SegmentDoc {
            generation,
            index,
            offset,
        } => Some(Key::Wal {
            generation,
            index,
            offset,
        }),
        _ => None,
    }
}

/// Each owner comes after the one before it, whatever its clock says; and what continues a history comes after that.
fn order(histories: &mut [History]) {
    let mut documented: Vec<(u64, i64, Generation)> = histories
        .iter()
        .filter_map(|h| Some((h.doc.as_ref()?.epoch, h.created_us(), h.generation)))
        .collect();
    documented.sort_by_key(|(epoch, created, _)| (*epoch, *created));
    // The place among those with a document decides where an owner's clock was behind that of the one before.
    let mut times: BTreeMap<u64, (i64, usize)> = BTreeMap::new();
    let mut latest = i64::MIN;
    for (place, (_, created, generation)) in documented.into_iter().enumerate() {
        latest = latest.max(created);
        times.insert(generation.0, (latest, place));
    }
    let time = |h: &History| match times.get(&h.generation.0) {
        Some(time) => *time,
        None => (h.created_us(), usize::MAX),
    };
    histories.sort_by_key(|h| (time(h), h.generation.0));
    // A child that stands before its parent goes behind it. Each moves once, so a circle (which none writes) ends too.
    let mut at = 0;
    let mut moved = BTreeSet::new();
    while at < histories.len() {
        let fork = histories[at].doc.as_ref().and_then(|doc| doc.fork);
        let parent = fork.and_then(|fork| {
            let mut later = histories[at + 1..].iter();
            later.position(|h| h.generation == fork.generation)
        });
        match parent {
            Some(distance) if moved.insert(histories[at].generation.0) => {
                histories[at..=at + 1 + distance].rotate_left(1);
            }
            _ => at += 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::position::Position;

    fn history(name: u64, epoch: u64, created_us: i64, fork: Option<u64>) -> History {
        let fork = fork.map(|name| Position::start_of(Generation(name)));
        let doc = (epoch > 0).then_some(GenerationDoc {
            version: 1,
            page_size: 4096,
            created_us,
            fork,
            epoch,
        });
        let listed = Listed {
            size: 1,
            modified_us: created_us,
            has_doc: true,
        };
        History {
            generation: Generation(name),
            doc,
            snapshots: BTreeMap::from([(0, listed)]),
            segments: Vec::new(),
            orphans: BTreeSet::new(),
        }
    }

    fn ordered(mut histories: Vec<History>) -> Vec<u64> {
        order(&mut histories);
        histories.iter().map(|h| h.generation.0).collect()
    }

    #[test]
    fn the_newest_history_is_the_last() {
        let by_time = vec![history(3, 1, 30, None), history(9, 1, 10, None)];
        assert_eq!(ordered(by_time), [9, 3]);
        let by_owner = vec![history(3, 2, 5, None), history(9, 1, 10, None)];
        assert_eq!(ordered(by_owner), [9, 3]);
        let by_fork = vec![history(3, 1, 5, Some(9)), history(9, 1, 10, None)];
        assert_eq!(ordered(by_fork), [9, 3]);
        let by_object = vec![history(3, 0, 30, None), history(9, 1, 10, None)];
        assert_eq!(ordered(by_object), [9, 3]);
        let in_a_circle = vec![history(3, 1, 5, Some(9)), history(9, 1, 10, Some(3))];
        assert_eq!(ordered(in_a_circle).len(), 2);
    }

    #[test]
    fn a_gap_is_named() {
        let mut history = history(3, 1, 5, None);
        let listed = history.snapshots[&0];
        let at = |index| Segment {
            index,
            offset: 0,
            listed,
        };
        history.segments = vec![at(0), at(1), at(4)];
        let gaps: Vec<String> = history.gaps().iter().map(Gap::to_string).collect();
        assert_eq!(
            gaps,
            ["0000000000000003: the logs 0000000000000002 to 0000000000000003 are missing"]
        );
    }
}
