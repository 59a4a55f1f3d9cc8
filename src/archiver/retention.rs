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

/// When a snapshot was made; whether it is of the current generation; its index; its generation. The newest is the largest.
type Made = (i64, bool, u64, GenerationKey);

/// When each snapshot was made, by a clock that may have been wrong, as far as their order shows it: one from a time that is
/// still to come is no younger than what was made after it, and none is older than what was made before it.
fn made(objects: &[Object], current: GenerationKey, now_us: i64) -> Vec<Made> {
    let mut of: BTreeMap<GenerationKey, BTreeMap<u64, i64>> = BTreeMap::new();
    for object in objects {
        if let Key::Snapshot { generation, index } = object.key {
            let times = of.entry(generation).or_default();
            times.insert(index, object.modified_us);
        }
    }
    let mut newest = of.remove(&current).unwrap_or_default();
    // All others were made before the current generation began.
    let begun_us = cut(&mut newest, now_us, now_us);
    let mut before_us = i64::MIN;
    let mut made = Vec::new();
    for (generation, mut times) in of {
        cut(&mut times, begun_us, now_us);
        let ended_us = raise(&mut times, i64::MIN);
        before_us = before_us.max(ended_us);
        made.extend(
            times
                .iter()
                .map(|(index, us)| (*us, false, *index, generation)),
        );
    }
    raise(&mut newest, before_us);
    made.extend(
        newest
            .iter()
            .map(|(index, us)| (*us, true, *index, current)),
    );
    made.sort_unstable();
    made
}

/// Takes what is to come for as old as what follows it; the first one's time.
fn cut(times: &mut BTreeMap<u64, i64>, mut after_us: i64, now_us: i64) -> i64 {
    for us in times.values_mut().rev() {
        if *us > now_us {
            *us = after_us;
        }
        after_us = *us;
    }
    after_us
}

/// Makes the times ascend; the last one.
fn raise(times: &mut BTreeMap<u64, i64>, mut before_us: i64) -> i64 {
    for us in times.values_mut() {
        *us = before_us.max(*us);
        before_us = *us;
    }
    before_us
}

/// Which snapshots stay. `objects` may hold other things.
fn kept(objects: &[Object], current: GenerationKey, limits: Limits, now_us: i64) -> Snapshots {
    let age_us = i64::try_from(limits.age.as_micros()).unwrap_or(i64::MAX);
    let mut is_covered = false;
    let newest_first = made(objects, current, now_us).into_iter().rev().enumerate();
    let kept = newest_first.filter(|(rank, (made_us, ..))| {
        let is_young = now_us.saturating_sub(*made_us) <= age_us;
        // The first one that is older covers the beginning of the kept time.
        let covers = !is_young && !std::mem::replace(&mut is_covered, !is_young);
        is_young || covers || *rank < limits.count.max(1)
    });
    kept.map(|(_, (_, _, index, generation))| (generation, index))
        .collect()
}

/// Removes while the archive is the owner's. What there is to remove may take hours, and who took the archive over meanwhile may
/// keep more.
struct Owner<'a, R> {
    store: &'a Store,
    claim: &'a Claim,
    with: &'a R,
}

impl<R: Remove> Remove for Owner<'_, R> {
    async fn remove(&self, keys: &[Key]) -> Result<(), ArchiveError> {
        self.claim.check(self.store).await?;
        self.with.remove(keys).await
    }
}

/// When the newest snapshot was written, whatever its generation: the archive knows this time.
pub async fn written_us(store: &Store) -> Result<Option<i64>, ArchiveError> {
    let generations = store.generations().await?;
    let snapshots = snapshots(store, &generations).await?;
    Ok(snapshots.iter().map(|object| object.modified_us).max())
}

async fn snapshots(store: &Store, generations: &[Generation]) -> Result<Vec<Object>, ArchiveError> {
    let mut snapshots = Vec::new();
    for generation in generations {
        let prefix = format!("{}/snapshots", Key::prefix(*generation));
        snapshots.extend(store.list(&prefix).await?);
    }
    Ok(snapshots)
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

/// Removes what is needless. `current` is the generation that is written: without a snapshot of it nothing goes. `now_us` is
/// of [`super::hold`]: a clock may be wrong.
pub async fn run(
    store: &Store,
    claim: &Claim,
    current: Generation,
    limits: Limits,
    now_us: i64,
    with: &impl Remove,
) -> Result<usize, ArchiveError> {
    claim.check(store).await?;
    let with = &Owner { store, claim, with };
    let generations = store.all_generations().await?;
    let mut snapshots = snapshots(store, &generations).await?;
    let current = GenerationKey::from(current);
    let kept = kept(&snapshots, current, limits, now_us);
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
