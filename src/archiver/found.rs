//! What an archive has of a generation: where a writer goes on. The archive itself tells; nothing is kept beside it.

use crate::archive::{ArchiveError, GenerationDoc, Key, Object, SegmentDoc, SnapshotDoc, Store};
use crate::format::commits::CommitRecord;
use crate::format::position::{Generation, Position};
use crate::model::StreamStart;
use std::collections::BTreeSet;

/// A snapshot that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Newest {
    /// Its index.
    pub index: u64,
    /// When it was written, µs since 1970, by the store's clock.
    pub modified_us: i64,
}

/// What there is of one generation.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The last commit in the archive.
    pub last: Option<(Position, CommitRecord)>,
    /// The state of a snapshot that no log follows yet: of an empty log.
    pub base: Option<SnapshotDoc>,
    /// Bytes in a page.
    pub page_size: u32,
    /// Segments behind the last commit: pieces of a transaction whose end never came, newest first.
    pub tail: Vec<Key>,
    /// The newest segment, if its document never came: the run that wrote it ended in between.
    pub bare: Option<Key>,
    /// The newest snapshot.
    pub snapshot: Option<Newest>,
    /// True if the log from the newest snapshot on is whole.
    pub whole: bool,
    /// Why it cannot be told where to go on.
    pub unclear: Option<String>,
}

/// A place in a generation's log.
type At = (u64, u64);

fn place(object: &Object) -> Option<At> {
    match object.key {
        Key::Wal { index, offset, .. } | Key::SegmentDoc { index, offset, .. } => {
            Some((index, offset))
        }
        _ => None,
    }
}

/// The newest snapshot of a generation. One whose document never came can be restored, but nobody knows of what it is.
async fn newest_snapshot(
    store: &Store,
    generation: Generation,
) -> Result<Option<Newest>, ArchiveError> {
    let prefix = format!("{}/snapshots", Key::prefix(generation));
    let list = store.list(&prefix).await?;
    let prefix = format!("{}/snapshots", Key::own_prefix(generation));
    let docs = store.list(&prefix).await?;
    let docs: BTreeSet<Key> = docs.iter().map(|object| object.key).collect();
    let is_known = |key: Key| key.doc().is_some_and(|doc| docs.contains(&doc));
    let newest = list.iter().filter_map(|object| match object.key {
        Key::Snapshot { index, .. } if is_known(object.key) => Some(Newest {
            index,
            modified_us: object.modified_us,
        }),
        _ => None,
    });
    Ok(newest.max_by_key(|newest| newest.index))
}

impl Found {
    /// Looks at everything from the newest snapshot on.
    pub async fn look(store: &Store, generation: Generation) -> Result<Found, ArchiveError> {
        if let Some(later) = later_history(store, generation).await? {
            return Ok(Found {
                unclear: Some(format!("another owner of the archive began {later} since")),
                ..Found::default()
            });
        }
        let snapshot = newest_snapshot(store, generation).await?;
        let from = snapshot.map_or(0, |snapshot| snapshot.index);
        let list = async |prefix: String| {
            let prefix = format!("{prefix}/wal");
            let list = store
                .list_after(&prefix, &format!("{prefix}/{from:016x}"))
                .await?;
            let places: BTreeSet<At> = list.iter().filter_map(place).collect();
            Ok::<_, ArchiveError>(places)
        };
        let segments = list(Key::prefix(generation)).await?;
        let docs = list(Key::own_prefix(generation)).await?;
        let mut found = Found {
            snapshot,
            ..Found::default()
        };
        for (index, offset) in segments.iter().rev().copied() {
            let key = Key::wal(generation, index, offset);
            match read_doc(store, key).await? {
                Ok(None) if found.bare.is_none() && found.tail.is_empty() => {
                    found.bare = Some(key);
                }
                Ok(None) => {
                    found.unclear = Some(format!("the document of {key} is missing"));
                    return Ok(found);
                }
                Ok(Some(doc)) => {
                    found.page_size = doc.page_size;
                    if let Some(record) = doc.records.last() {
                        let position = Position {
                            generation,
                            index,
                            offset: record.end_offset,
                        };
                        found.last = Some((position, *record));
                        break;
                    }
                    found.tail.push(key);
                }
                Err(what) => {
                    found.unclear = Some(what);
                    return Ok(found);
                }
            }
        }
        found.whole = found.is_whole(&segments, &docs);
        if let (None, Some(newest)) = (found.last, snapshot) {
            found.base = read_base(store, Key::snapshot(generation, newest.index)).await?;
            found.whole = found.base.is_some();
        }
        Ok(found)
    }

    /// A document whose segment is not there is a loss, or marks a gap, see [`super::gap`]. Behind the end it is of no
    /// matter: what is lost there comes again.
    fn is_whole(&self, segments: &BTreeSet<At>, docs: &BTreeSet<At>) -> bool {
        let (Some(snapshot), Some((last, _))) = (self.snapshot, self.last) else {
            return false;
        };
        let begins = segments.first().copied() == Some((snapshot.index, 0));
        let end = (last.index, last.offset);
        let mut orphans = docs.difference(segments).filter(|at| **at < end);
        begins && orphans.next().is_none()
    }

    /// What the primary is asked for: to go on behind the last commit.
    pub fn start(&self, database: &str) -> StreamStart {
        let of_last = self.last.map(|(at, record)| {
            (
                at,
                (record.page_count > 0).then_some(record.dbsum),
                Some(record.cksum),
            )
        });
        let of_base = self.base.as_ref().and_then(|doc| {
            let dbsum = u64::from_str_radix(&doc.dbsum, 16).ok()?;
            Some((doc.position, Some(crate::format::dbsum::DbSum(dbsum)), None))
        });
        let known = of_last.or(of_base);
        StreamStart {
            database: database.to_owned(),
            position: known.map(|(position, ..)| position),
            dbsum: known.and_then(|(_, dbsum, _)| dbsum),
            frame_cksum: known.and_then(|(_, _, cksum)| cksum),
            replica_id: String::new(),
            replica_name: "archive".to_owned(),
            lz4: true,
            recent: false,
            page_size: self.page_size,
            address: String::new(),
            transient: true,
            resume_only: false,
        }
    }
}

/// A generation that a later owner began than this one's. It stands behind this one for good: what went on here would be in no
/// newest state. So it is when an archive is taken back, or a machine was set back to an earlier state.
async fn later_history(
    store: &Store,
    generation: Generation,
) -> Result<Option<Generation>, ArchiveError> {
    let Some(own) = owner_of(store, generation).await? else {
        return Ok(None);
    };
    for other in store.generations().await? {
        let epoch = owner_of(store, other).await?;
        if epoch.is_some_and(|epoch| epoch > own) {
            return Ok(Some(other));
        }
    }
    Ok(None)
}

/// The epoch in which a generation began. A document that cannot be read tells nothing.
async fn owner_of(store: &Store, generation: Generation) -> Result<Option<u64>, ArchiveError> {
    let generation = generation.into();
    let bytes = store.get(Key::GenerationDoc { generation }).await?;
    let doc = bytes.and_then(|bytes| GenerationDoc::parse(&bytes).ok());
    Ok(doc.map(|doc| doc.epoch))
}

/// The document of a segment, if there is one; or why nothing can be told.
async fn read_doc(
    store: &Store,
    key: Key,
) -> Result<Result<Option<SegmentDoc>, String>, ArchiveError> {
    let Some(doc) = key.doc() else {
        return Ok(Ok(None));
    };
    let Some(bytes) = store.get(doc).await? else {
        return Ok(Ok(None));
    };
    let parsed = SegmentDoc::parse(&bytes).map(Some);
    Ok(parsed.map_err(|error| format!("{doc}: {error}")))
}

/// The document of a snapshot of an empty log.
async fn read_base(store: &Store, key: Key) -> Result<Option<SnapshotDoc>, ArchiveError> {
    let Some(doc) = key.doc() else {
        return Ok(None);
    };
    let bytes = store.get(doc).await?;
    let doc = bytes.and_then(|bytes| SnapshotDoc::parse(&bytes).ok());
    Ok(doc.filter(|doc| doc.position.offset == 0))
}
