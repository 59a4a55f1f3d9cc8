//! Where a writer goes on, from what a run left that ended somewhere.

use super::found::Found;
use super::gap;
use crate::archive::{
    Claim, DOC_VERSION, GenerationDoc, Key, Location, OwnerDoc, SegmentDoc, SnapshotDoc, Store,
};
use crate::format::commits::CommitRecord;
use crate::format::dbsum::DbSum;
use crate::format::lz4;
use crate::format::position::{Generation, Position};
use crate::format::wal::Cksum;
use tempfile::TempDir;

const GENERATION: Generation = Generation(9);
const FRAME: u64 = 4096 + 24;

fn offset(frames: u64) -> u64 {
    match frames {
        0 => 0,
        frames => 32 + frames * FRAME,
    }
}

fn at(index: u64, frames: u64) -> Position {
    Position {
        generation: GENERATION,
        index,
        offset: offset(frames),
    }
}

struct Archive {
    _directory: TempDir,
    store: Store,
}

impl Archive {
    fn new() -> Archive {
        let directory = tempfile::tempdir().expect("a directory");
        let location = Location::Directory(directory.path().join("archive"));
        let store = Store::create(&location).expect("a store");
        Archive {
            _directory: directory,
            store,
        }
    }

    async fn segment(&self, index: u64, from: u64, to: u64, is_committed: bool, has_doc: bool) {
        let key = Key::wal(GENERATION, index, offset(from));
        let record = CommitRecord {
            end_offset: offset(to),
            dbsum: DbSum(to),
            page_count: 3,
            time_us: 1,
            cksum: Cksum(index as u32, to as u32),
        };
        let doc = SegmentDoc {
            page_size: 4096,
            start: offset(from),
            end: offset(to),
            previous_end: 0,
            records: Vec::from_iter(is_committed.then_some(record)),
        };
        self.store.put(key, vec![1]).await.expect("written");
        if let (true, Some(key)) = (has_doc, key.doc()) {
            self.store.put(key, doc.encode()).await.expect("written");
        }
    }

    async fn snapshot(&self, index: u64, frames: u64) {
        let key = Key::snapshot(GENERATION, index);
        let doc = SnapshotDoc {
            version: DOC_VERSION,
            position: at(index, frames),
            dbsum: format!("{:016x}", 0x77),
            page_count: 3,
            page_size: 4096,
            time_us: 1,
            taken_us: 1,
        };
        self.store.put(key, vec![1]).await.expect("written");
        let key = key.doc().expect("it has one");
        self.store.put(key, doc.encode()).await.expect("written");
    }

    /// A generation that the owner of an epoch began.
    async fn begun(&self, generation: Generation, epoch: u64) {
        let doc = GenerationDoc {
            version: DOC_VERSION,
            page_size: 4096,
            created_us: 1,
            fork: None,
            epoch,
        };
        let key = Key::GenerationDoc {
            generation: generation.into(),
        };
        self.store.put(key, doc.encode()).await.expect("written");
        let key = Key::wal(generation, 0, 0);
        self.store.put(key, vec![1]).await.expect("written");
    }

    async fn claim(&self) -> Claim {
        let me = OwnerDoc {
            version: DOC_VERSION,
            id: "me".into(),
            server: "host".into(),
            database: "app.db".into(),
            since_us: 0,
        };
        let claim = Claim::take(&self.store, &me, false).await;
        claim.expect("free")
    }

    async fn look(&self) -> Found {
        Found::look(&self.store, GENERATION).await.expect("a look")
    }
}

fn last(found: &Found) -> Option<Position> {
    found.last.map(|(position, _)| position)
}

#[tokio::test]
async fn nothing_is_there() {
    let found = Archive::new().look().await;
    assert_eq!((last(&found), found.whole), (None, false));
    assert_eq!(found.start("app.db").position, None);
}

#[tokio::test]
async fn it_goes_on_behind_the_last_commit() {
    let archive = Archive::new();
    archive.segment(0, 0, 2, true, true).await;
    archive.snapshot(0, 2).await;
    archive.segment(0, 2, 5, true, true).await;
    archive.segment(1, 0, 4, true, true).await;
    let found = archive.look().await;
    assert_eq!(last(&found), Some(at(1, 4)));
    assert!(found.whole && found.tail.is_empty() && found.bare.is_none());
    let start = found.start("app.db");
    assert_eq!(start.position, Some(at(1, 4)));
    assert_eq!(
        (start.dbsum, start.frame_cksum),
        (Some(DbSum(4)), Some(Cksum(1, 4)))
    );
}

#[tokio::test]
async fn a_commit_whose_checksum_is_not_known_is_gone_on_from_by_its_frame() {
    let archive = Archive::new();
    archive.snapshot(0, 1).await;
    archive.segment(0, 0, 2, true, true).await;
    let (key, record) = (
        Key::wal(GENERATION, 0, offset(2)),
        CommitRecord {
            end_offset: offset(4),
            dbsum: DbSum(0),
            page_count: 0,
            time_us: 1,
            cksum: Cksum(0, 4),
        },
    );
    let doc = SegmentDoc {
        page_size: 4096,
        start: offset(2),
        end: offset(4),
        previous_end: 0,
        records: vec![record],
    };
    archive.store.put(key, vec![1]).await.expect("written");
    let key = key.doc().expect("it has one");
    archive.store.put(key, doc.encode()).await.expect("written");
    let found = archive.look().await;
    assert!(found.whole && found.tail.is_empty());
    let start = found.start("app.db");
    assert_eq!(start.position, Some(at(0, 4)));
    assert_eq!((start.dbsum, start.frame_cksum), (None, Some(Cksum(0, 4))));
}

#[tokio::test]
async fn pieces_of_a_transaction_that_never_ended_are_named() {
    let archive = Archive::new();
    archive.segment(0, 0, 2, true, true).await;
    archive.snapshot(0, 2).await;
    archive.segment(0, 2, 5, false, true).await;
    archive.segment(0, 5, 9, false, true).await;
    let found = archive.look().await;
    assert_eq!(last(&found), Some(at(0, 2)));
    let keys = [offset(5), offset(2)].map(|offset| Key::wal(GENERATION, 0, offset));
    assert_eq!(found.tail, keys, "the newest first");
}

#[tokio::test]
async fn one_newest_segment_may_be_without_its_document_and_no_other() {
    let archive = Archive::new();
    archive.segment(0, 0, 2, true, true).await;
    archive.snapshot(0, 2).await;
    archive.segment(0, 2, 5, true, false).await;
    let found = archive.look().await;
    assert_eq!(last(&found), Some(at(0, 2)));
    assert_eq!(found.bare, Some(Key::wal(GENERATION, 0, offset(2))));
    assert_eq!((found.unclear, found.whole), (None, true));
    archive.segment(1, 0, 5, true, false).await;
    let found = archive.look().await;
    let what = found.unclear.expect("two cannot be of one crash");
    assert!(what.contains("is missing"), "{what}");
}

/// Frames of a log, packed; the last one ends a transaction, or none does.
fn packed(frames: u64, is_committed: bool) -> Vec<u8> {
    let mut content = vec![0; (frames * FRAME) as usize];
    if is_committed {
        let last = content.len() - FRAME as usize;
        content[last + 4..last + 8].copy_from_slice(&3_u32.to_be_bytes());
        content[last + 16..last + 24].copy_from_slice(&[7; 8]);
    }
    let mut packed = Vec::new();
    lz4::compress(&content, &mut packed).expect("packed");
    packed
}

#[tokio::test]
async fn a_segment_that_the_primary_has_no_more_gets_its_document() {
    let archive = Archive::new();
    let claim = archive.claim().await;
    archive.segment(0, 0, 2, true, true).await;
    archive.snapshot(0, 2).await;
    let key = Key::wal(GENERATION, 0, offset(2));
    // One that holds no commit is nothing to go on from, nor is one elsewhere, or one that is damaged.
    let elsewhere = Key::wal(GENERATION, 0, offset(3));
    for (key, bytes) in [
        (key, packed(3, false)),
        (key, vec![1; 50]),
        (elsewhere, packed(3, true)),
    ] {
        archive.store.put(key, bytes).await.expect("written");
        let mut found = archive.look().await;
        let kept = found.keep_bare(&archive.store, &claim).await;
        kept.expect("looked at");
        assert_eq!((last(&found), found.bare), (Some(at(0, 2)), Some(key)));
        archive.store.delete(key).await.expect("removed");
    }
    archive
        .store
        .put(key, packed(3, true))
        .await
        .expect("written");
    let mut found = archive.look().await;
    let kept = found.keep_bare(&archive.store, &claim).await;
    kept.expect("kept");
    assert_eq!((last(&found), found.bare), (Some(at(0, 5)), None));
    let found = archive.look().await;
    assert!(found.whole && found.bare.is_none());
    let start = found.start("app.db");
    let cksum = Cksum(0x0707_0707, 0x0707_0707);
    assert_eq!(start.position, Some(at(0, 5)));
    assert_eq!((start.dbsum, start.frame_cksum), (None, Some(cksum)));
}

#[tokio::test]
async fn a_damaged_document_is_named() {
    let archive = Archive::new();
    archive.segment(0, 0, 2, true, true).await;
    let key = Key::wal(GENERATION, 0, 0).doc().expect("it has one");
    archive.store.put(key, vec![1; 60]).await.expect("written");
    let what = archive.look().await.unclear.expect("it is damaged");
    assert!(what.contains(".commits"), "{what}");
}

#[tokio::test]
async fn a_history_behind_which_another_owner_began_one_does_not_go_on() {
    let archive = Archive::new();
    archive.begun(GENERATION, 3).await;
    archive.segment(0, 0, 2, true, true).await;
    archive.begun(Generation(1), 2).await;
    archive.begun(Generation(2), 3).await;
    assert_eq!(archive.look().await.unclear, None);
    archive.begun(Generation(10), 4).await;
    let what = archive.look().await.unclear.expect("it is behind");
    assert!(what.contains("000000000000000a"), "{what}");
    // One that is not there yet begins behind all others.
    let key = Key::GenerationDoc {
        generation: GENERATION.into(),
    };
    archive.store.delete(key).await.expect("removed");
    assert_eq!(archive.look().await.unclear, None);
}

#[tokio::test]
async fn a_gap_is_seen_until_a_snapshot_lies_behind_it() {
    let archive = Archive::new();
    archive.segment(0, 0, 2, true, true).await;
    archive.snapshot(0, 2).await;
    gap::mark(&archive.store, at(0, 2), 4096)
        .await
        .expect("marked");
    let found = archive.look().await;
    assert_eq!(last(&found), Some(at(0, 2)), "it tells where the log ended");
    archive.segment(3, 0, 2, true, true).await;
    let found = archive.look().await;
    assert_eq!((last(&found), found.whole), (Some(at(3, 2)), false));
    archive.snapshot(3, 2).await;
    assert!(archive.look().await.whole);
}

#[tokio::test]
async fn a_snapshot_needs_its_document_and_the_log_of_its_index() {
    let archive = Archive::new();
    archive.segment(0, 0, 2, true, true).await;
    let bare = Key::snapshot(GENERATION, 0);
    archive.store.put(bare, vec![1]).await.expect("written");
    let found = archive.look().await;
    assert_eq!(
        (last(&found), found.snapshot, found.whole),
        (Some(at(0, 2)), None, false)
    );
    archive.snapshot(1, 0).await;
    archive.segment(1, 3, 4, true, true).await;
    assert!(!archive.look().await.whole, "it begins in the middle");
}

#[tokio::test]
async fn a_snapshot_of_an_empty_log_is_where_it_goes_on() {
    let archive = Archive::new();
    archive.snapshot(0, 0).await;
    let found = archive.look().await;
    assert!(found.whole);
    let start = found.start("app.db");
    assert_eq!(start.position, Some(at(0, 0)));
    assert_eq!((start.dbsum, start.frame_cksum), (Some(DbSum(0x77)), None));
}
