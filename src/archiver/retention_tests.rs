use super::*;
use crate::archive::{DOC_VERSION, Location, OwnerDoc};
use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;
use tempfile::TempDir;

const DAY: u64 = 24 * 3600;
const OLD: Generation = Generation(1);
const CURRENT: Generation = Generation(0xffff);

struct Archive {
    _directory: TempDir,
    root: PathBuf,
    store: Store,
    claim: Claim,
}

fn limits(days: u64, count: usize) -> Limits {
    Limits {
        age: Duration::from_secs(days * DAY),
        count,
    }
}

fn owner(id: &str) -> OwnerDoc {
    OwnerDoc {
        version: DOC_VERSION,
        id: id.into(),
        server: "host".into(),
        database: "app.db".into(),
        since_us: 0,
    }
}

fn now_us() -> i64 {
    crate::model::clock_us()
}

impl Archive {
    async fn new() -> Archive {
        let directory = tempfile::tempdir().expect("a directory");
        let root = directory.path().join("archive");
        let store = Store::create(&Location::Directory(root.clone())).expect("a store");
        let claim = Claim::take(&store, &owner("me"), false)
            .await
            .expect("free");
        Archive {
            _directory: directory,
            root,
            store,
            claim,
        }
    }

    /// With its document, `days` old.
    async fn put(&self, key: Key, days: u64) {
        for key in [Some(key), key.doc()].into_iter().flatten() {
            self.store.put(key, vec![1]).await.expect("written");
            let file = File::options()
                .write(true)
                .open(self.root.join(key.to_string()))
                .expect("an object");
            let then = SystemTime::now() - Duration::from_secs(days * DAY);
            file.set_modified(then).expect("a time");
        }
    }

    /// Written while the clock was so many days ahead.
    async fn put_ahead(&self, key: Key, days: u64) {
        self.put(key, 0).await;
        let file = File::options()
            .write(true)
            .open(self.root.join(key.to_string()))
            .expect("an object");
        let then = SystemTime::now() + Duration::from_secs(days * DAY);
        file.set_modified(then).expect("a time");
    }

    /// An old generation with snapshots of 20 and 16 days, the current one with 12, 9, 5 and 1; the log is whole.
    async fn filled() -> Archive {
        let archive = Archive::new().await;
        for (generation, snapshots) in [
            (OLD, &[(2, 20), (5, 16)][..]),
            (CURRENT, &[(0, 12), (3, 9), (6, 5), (9, 1)]),
        ] {
            let key = Key::GenerationDoc {
                generation: generation.into(),
            };
            archive.put(key, 30).await;
            for (index, days) in snapshots {
                archive.put(Key::snapshot(generation, *index), *days).await;
            }
            for index in 0..12 {
                for offset in [0, 1048] {
                    archive.put(Key::wal(generation, index, offset), 10).await;
                }
            }
        }
        archive
    }

    async fn all(&self) -> Vec<Key> {
        let mut keys = Vec::new();
        for prefix in [Key::GENERATIONS, "walcast/generations"] {
            let list = self.store.list(prefix).await.expect("a list");
            keys.extend(list.iter().map(|object| object.key));
        }
        keys
    }

    async fn snapshots(&self) -> Vec<(u64, u64)> {
        let all = self.all().await;
        let snapshots = all.iter().filter_map(|key| match key {
            Key::Snapshot { generation, index } => Some((generation.0, *index)),
            _ => None,
        });
        snapshots.collect()
    }

    /// Each of these snapshots is there with its document, and the log from it to its generation's end.
    async fn assert_restorable(&self, snapshots: &[(u64, u64)], what: &str) {
        let all = self.all().await;
        let is_there = |key: Key| all.contains(&key) && key.doc().is_none_or(|d| all.contains(&d));
        for (generation, index) in snapshots {
            let generation = Generation(*generation);
            assert!(is_there(Key::snapshot(generation, *index)), "{what}");
            for (index, offset) in (*index..12).flat_map(|i| [(i, 0), (i, 1048)]) {
                assert!(
                    is_there(Key::wal(generation, index, offset)),
                    "{what}: log {index} of {generation} from {offset}"
                );
            }
        }
        // A document without its object is a loss to a reader.
        let docs: Vec<Key> = all.iter().filter_map(|key| key.doc()).collect();
        for key in &all {
            if let Key::SnapshotDoc { .. } | Key::SegmentDoc { .. } = key {
                assert!(docs.contains(key), "{what}: {key} is alone");
            }
        }
    }

    async fn run(&self, limits: Limits, with: &impl Remove) -> Result<usize, ArchiveError> {
        super::run(&self.store, &self.claim, CURRENT, limits, now_us(), with).await
    }
}

/// A store that fails after so many removals.
struct Failing<'a> {
    store: &'a Store,
    left: AtomicUsize,
}

impl Remove for Failing<'_> {
    async fn remove(&self, keys: &[Key]) -> Result<(), ArchiveError> {
        for key in keys {
            // What an earlier run removed costs nothing.
            if !self.store.has(*key).await? {
                continue;
            }
            let took = self
                .left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                    left.checked_sub(1)
                });
            if took.is_err() {
                return Err(self.store.damaged(*key, "the test lets it fail"));
            }
            self.store.delete(*key).await?;
        }
        Ok(())
    }
}

#[tokio::test]
async fn each_moment_of_the_kept_time_stays_restorable() {
    let archive = Archive::filled().await;
    archive
        .run(limits(7, 1), &archive.store)
        .await
        .expect("done");
    let c = CURRENT.0;
    // Five days and one day, and the one of nine days, from which the seventh day is reached.
    assert_eq!(archive.snapshots().await, [(c, 3), (c, 6), (c, 9)]);
    archive
        .assert_restorable(&[(c, 3), (c, 6), (c, 9)], "after it")
        .await;
    let all = archive.all().await;
    assert!(!all.contains(&Key::wal(CURRENT, 2, 0)));
    assert!(
        !all.iter()
            .any(|key| key.to_string().contains(&OLD.to_string()))
    );
    // Nothing more goes without anything new.
    assert_eq!(
        archive
            .run(limits(7, 1), &archive.store)
            .await
            .expect("done"),
        0
    );
    assert_eq!(archive.all().await, all);
}

#[tokio::test]
async fn a_count_keeps_what_age_would_not_and_generations_with_it() {
    let archive = Archive::filled().await;
    archive
        .run(limits(0, 5), &archive.store)
        .await
        .expect("done");
    let (c, old) = (CURRENT.0, OLD.0);
    let kept = [(old, 5), (c, 0), (c, 3), (c, 6), (c, 9)];
    assert_eq!(archive.snapshots().await, kept);
    archive.assert_restorable(&kept, "after it").await;
    assert!(!archive.all().await.contains(&Key::wal(OLD, 4, 0)));
}

#[tokio::test]
async fn without_a_snapshot_of_the_current_generation_nothing_goes() {
    let archive = Archive::filled().await;
    for index in [0, 3, 6, 9] {
        let key = Key::snapshot(CURRENT, index);
        archive.store.delete(key).await.expect("removed");
    }
    let before = archive.all().await;
    let gone = archive.run(limits(0, 1), &archive.store).await;
    assert_eq!(gone.expect("done"), 0);
    assert_eq!(archive.all().await, before);
}

#[tokio::test]
async fn an_archive_that_is_anothers_is_left_alone() {
    let archive = Archive::filled().await;
    Claim::take(&archive.store, &owner("other"), true)
        .await
        .expect("taken");
    let before = archive.all().await;
    let refused = archive.run(limits(0, 1), &archive.store).await;
    assert!(matches!(refused, Err(ArchiveError::Owned { .. })));
    assert_eq!(archive.all().await, before);
}

/// Another owner comes after so many removals.
struct Overtaken<'a> {
    store: &'a Store,
    left: AtomicUsize,
}

impl Remove for Overtaken<'_> {
    async fn remove(&self, keys: &[Key]) -> Result<(), ArchiveError> {
        self.store.delete_all(keys).await?;
        if self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            Claim::take(self.store, &owner("other"), true).await?;
        }
        Ok(())
    }
}

#[tokio::test]
async fn one_that_is_overtaken_removes_nothing_more() {
    for left in 1..6 {
        let archive = Archive::filled().await;
        let with = Overtaken {
            store: &archive.store,
            left: AtomicUsize::new(left),
        };
        let overtaken = archive.run(limits(7, 1), &with).await;
        assert!(matches!(overtaken, Err(ArchiveError::Owned { .. })));
        assert_eq!(with.left.into_inner(), 0, "after {left}");
    }
}

/// One removal in each run: the state after each is what a crash there would leave.
#[tokio::test]
async fn wherever_it_ends_what_is_kept_is_whole_and_the_next_run_does_the_rest() {
    let whole = Archive::filled().await;
    whole.run(limits(7, 1), &whole.store).await.expect("done");
    let expected = whole.all().await;
    let kept = whole.snapshots().await;
    let archive = Archive::filled().await;
    let mut steps = 0;
    loop {
        let failing = Failing {
            store: &archive.store,
            left: AtomicUsize::new(1),
        };
        let done = archive.run(limits(7, 1), &failing).await.is_ok();
        let what = format!("after {steps} removals");
        archive.assert_restorable(&kept, &what).await;
        if done {
            break;
        }
        steps += 1;
    }
    assert_eq!(archive.all().await, expected);
    assert!(steps > 50, "only {steps} removals were tried");
}

#[tokio::test]
async fn what_was_written_while_the_clock_was_ahead_is_as_old_as_what_follows() {
    let archive = Archive::filled().await;
    archive.put_ahead(Key::snapshot(OLD, 5), 300).await;
    archive.put_ahead(Key::snapshot(CURRENT, 3), 300).await;
    let gone = archive.run(limits(3, 2), &archive.store).await;
    assert!(gone.expect("done") > 0);
    let c = CURRENT.0;
    // Of one day, and of five, which covers the third: nothing stays for those 300 days.
    assert_eq!(archive.snapshots().await, [(c, 6), (c, 9)]);
    // The last one may be such a one: it stays, and is one of the count.
    archive.put_ahead(Key::snapshot(CURRENT, 11), 300).await;
    archive
        .run(limits(0, 1), &archive.store)
        .await
        .expect("done");
    let kept = archive.snapshots().await;
    assert!(
        kept.contains(&(c, 11)) && kept.contains(&(c, 9)),
        "{kept:?}"
    );
}

#[tokio::test]
async fn what_was_written_while_the_clock_was_behind_is_no_older_than_what_was_there() {
    let archive = Archive::filled().await;
    // As after a start without a clock of its own: 1970.
    archive.put(Key::snapshot(CURRENT, 6), 19_000).await;
    archive
        .run(limits(10, 1), &archive.store)
        .await
        .expect("done");
    let c = CURRENT.0;
    let kept = [(c, 0), (c, 3), (c, 6), (c, 9)];
    assert_eq!(archive.snapshots().await, kept);
    archive.assert_restorable(&kept, "after it").await;
    // So is the first one of a generation that was begun then.
    let archive = Archive::filled().await;
    archive.put(Key::snapshot(OLD, 5), 1).await;
    for index in [0, 3, 6, 9] {
        let key = Key::snapshot(CURRENT, index);
        archive.put(key, 19_000).await;
    }
    archive
        .run(limits(3, 1), &archive.store)
        .await
        .expect("done");
    let kept = archive.snapshots().await;
    for index in [0, 3, 6, 9] {
        assert!(kept.contains(&(c, index)), "{kept:?}");
    }
}

/// A clock that jumps a year forward while walcast runs, or before it starts.
#[tokio::test]
async fn a_clock_that_jumped_forward_makes_nothing_old() {
    use crate::archiver::hold::Hold;
    use tokio::time::Instant;
    let archive = Archive::filled().await;
    let limits = limits(30, 1);
    archive.run(limits, &archive.store).await.expect("done");
    let before = archive.all().await;
    let (now, year_us) = (Instant::now(), 366 * DAY as i64 * 1_000_000);
    let written_us = written_us(&archive.store).await.expect("a list");
    let written_us = written_us.expect("a snapshot");
    let started = Hold::new(Some(written_us), now_us() + year_us, now);
    let running = Hold::new(Some(written_us), now_us(), now);
    for mut hold in [started, running] {
        let later_us = hold.now_us(now_us() + year_us, now, limits.age);
        let gone = run(
            &archive.store,
            &archive.claim,
            CURRENT,
            limits,
            later_us,
            &archive.store,
        );
        assert_eq!(gone.await.expect("done"), 0);
        assert_eq!(archive.all().await, before);
    }
}

/// The largest number of names that were removed at once.
struct Largest<'a>(&'a Store, AtomicUsize);

impl Remove for Largest<'_> {
    async fn remove(&self, keys: &[Key]) -> Result<(), ArchiveError> {
        self.1.fetch_max(keys.len(), Ordering::Relaxed);
        self.0.delete_all(keys).await
    }
}

#[tokio::test]
async fn a_log_of_many_objects_goes_in_pieces() {
    let archive = Archive::new().await;
    archive.put(Key::snapshot(CURRENT, 1), 1).await;
    let names = |index| (0..2300).map(move |offset| Key::wal(CURRENT, index, offset));
    for key in names(0).chain(names(1)) {
        archive.store.put(key, vec![1]).await.expect("written");
    }
    let with = Largest(&archive.store, AtomicUsize::new(0));
    let gone = archive.run(limits(7, 1), &with).await.expect("done");
    assert_eq!(gone, 2300);
    assert_eq!(with.1.into_inner(), 1000);
    let all = archive.all().await;
    assert!(names(1).all(|key| all.contains(&key)));
    assert!(names(0).all(|key| !all.contains(&key)));
}
