//! What goes from an archive: only what a complete newer snapshot makes needless, after listing again.
//!
//! Kept are all snapshots that are young enough, the newest one that is not (so that each moment of the kept time can be
//! restored), and in any case as many as the count says; with each its generation's log from it on. The order of removal
//! leaves after each step what is kept restorable: snapshots; then the log before the oldest kept snapshot; then what is
//! left of generations without one. A document goes before its object: a document alone would be a loss to a reader.

use crate::archive::{ArchiveError, Claim, GenerationKey, Key, Object, Store};
use crate::format::position::Generation;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio_stream::StreamExt as _;

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Every moment of this time can be restored.
    pub age: Duration,
    /// At least so many snapshots, however old.
    pub count: usize,
}

/// Objects that are removed by one call: as many as the providers take.
const BATCH: usize = 1000;

/// Snapshots by generation and index.
type Snapshots = BTreeSet<(GenerationKey, u64)>;

/// Which snapshots stay. `objects` may hold other things.
fn kept(objects: &[Object], limits: Limits, now_us: i64) -> Snapshots {
    let mut snapshots: Vec<_> = objects
        .iter()
        .filter_map(|object| match object.key {
            Key::Snapshot { generation, index } => Some((object.modified_us, index, generation)),
            _ => None,
        })
        .collect();
    snapshots.sort_unstable();
    let age_us = i64::try_from(limits.age.as_micros()).unwrap_or(i64::MAX);
    let mut is_covered = false;
    let newest_first = snapshots.into_iter().rev().enumerate();
    let kept = newest_first.filter(|(rank, (modified_us, ..))| {
        let is_young = now_us.saturating_sub(*modified_us) <= age_us;
        // The first one that is older covers the beginning of the kept time.
        let covers = !is_young && !std::mem::replace(&mut is_covered, !is_young);
        is_young || covers || *rank < limits.count.max(1)
    });
    kept.map(|(_, (_, index, generation))| (generation, index))
        .collect()
}

/// Removes objects: the store, or what a test puts in its place.
pub trait Remove: Sync {
    /// All of these, in any order; when it returns they are gone.
    fn remove(&self, keys: &[Key]) -> impl Future<Output = Result<(), ArchiveError>> + Send;
}

impl Remove for Store {
    async fn remove(&self, keys: &[Key]) -> Result<(), ArchiveError> {
        self.delete_all(keys).await
    }
}

/// Removes what is needless. `current` is the generation that is written: without a snapshot of it nothing goes.
pub async fn run(
    store: &Store,
    claim: &Claim,
    current: Generation,
    limits: Limits,
    now_us: i64,
    with: &impl Remove,
) -> Result<usize, ArchiveError> {
    claim.check(store).await?;
    let generations = store.generations().await?;
    let mut snapshots = Vec::new();
    for generation in &generations {
        let prefix = format!("{}/snapshots", Key::prefix(*generation));
        snapshots.extend(store.list(&prefix).await?);
    }
    let kept = kept(&snapshots, limits, now_us);
    let current = GenerationKey::from(current);
    if !kept.iter().any(|(generation, _)| *generation == current) {
        return Ok(0);
    }
    let mut gone = 0;
    snapshots.sort_by_key(|object| object.modified_us);
    for object in &snapshots {
        if let Key::Snapshot { generation, index } = object.key
            && !kept.contains(&(generation, index))
        {
            with.remove(&[Key::SnapshotDoc { generation, index }])
                .await?;
            with.remove(&[object.key]).await?;
            gone += 1;
        }
    }
    let mut oldest: BTreeMap<GenerationKey, u64> = BTreeMap::new();
    for (generation, index) in kept {
        // Ascending within a generation: the first is the oldest.
        oldest.entry(generation).or_insert(index);
    }
    for generation in generations {
        let before = oldest.get(&generation.into()).copied();
        gone += log_before(store, generation, before, with).await?;
        if before.is_none() {
            let docs = store.list(&Key::own_prefix(generation)).await?;
            let docs: Vec<Key> = docs.iter().map(|object| object.key).collect();
            with.remove(&docs).await?;
        }
    }
    Ok(gone)
}

/// Removes a generation's log before an index, or all of it.
async fn log_before(
    store: &Store,
    generation: Generation,
    before: Option<u64>,
    with: &impl Remove,
) -> Result<usize, ArchiveError> {
    let mut gone = 0;
    for prefix in [Key::own_prefix(generation), Key::prefix(generation)] {
        let is_needless = |object: &Object| match object.key {
            Key::Wal { index, .. } | Key::SegmentDoc { index, .. } => {
                before.is_none_or(|before| index < before)
            }
            _ => false,
        };
        let mut objects = store.objects(&format!("{prefix}/wal"));
        let mut batch = Vec::new();
        loop {
            let object = objects.next().await.transpose()?;
            let is_last = object.is_none();
            batch.extend(object.filter(is_needless).map(|object| object.key));
            if batch.len() == BATCH || (is_last && !batch.is_empty()) {
                with.remove(&batch).await?;
                gone += batch.len();
                batch.clear();
            }
            if is_last {
                break;
            }
        }
    }
    Ok(gone)
}

#[cfg(test)]
#[path = "retention_tests.rs"]
mod tests;
