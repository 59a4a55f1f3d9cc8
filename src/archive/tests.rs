use super::*;
use crate::format::commits::CommitRecord;
use crate::format::dbsum::DbSum;
use crate::format::position::Generation;
use crate::format::wal::Cksum;
use proptest::prelude::*;

const GENERATION: Generation = Generation(0x0123_4567_89ab_cdef);

#[test]
fn names_are_the_ancestors_and_read_back() {
    let names = [
        "generations/0123456789abcdef/snapshots/0000000000000003.snapshot.lz4",
        "generations/0123456789abcdef/wal/0000000000000003/0000000000001038.wal.lz4",
        "walcast/generations/0123456789abcdef/generation.json",
        "walcast/generations/0123456789abcdef/snapshots/0000000000000003.json",
        "walcast/generations/0123456789abcdef/wal/0000000000000003/0000000000001038.commits",
        "walcast/owner/0000000000000001.json",
    ];
    for name in names {
        let key: Key = name.parse().expect(name);
        assert_eq!(key.to_string(), name);
    }
    assert_eq!(Key::snapshot(GENERATION, 3).to_string(), names[0]);
    assert_eq!(Key::wal(GENERATION, 3, 0x1038).to_string(), names[1]);
    let doc = Key::wal(GENERATION, 3, 0x1038).doc().expect("it has one");
    assert_eq!(doc.to_string(), names[4]);
    for other in [
        "generations/0123456789ABCDEF/snapshots/0000000000000003.snapshot.lz4",
        "generations/0123456789abcdef/snapshots/3.snapshot.lz4",
        "generations/0123456789abcdef/wal/0000000000000003/0000000000001038.wal.lz4#1",
        "generations/../wal/0000000000000003/0000000000001038.wal.lz4",
        "walcast/owner/1.json",
        "",
    ] {
        assert!(other.parse::<Key>().is_err(), "{other}");
    }
}

#[test]
fn locations_are_read_and_shown_as_they_can_be_written() {
    for text in [
        "/backup/app",
        "backup",
        "s3://bucket",
        "s3://bucket/a/b",
        "s3://bucket/a?endpoint=http://127.0.0.1:9000&region=eu-1",
        "gs://bucket/a",
        "az://container/a?endpoint=http://127.0.0.1:10000/devstoreaccount1",
    ] {
        let location: Location = text.parse().expect(text);
        assert_eq!(location.to_string(), text);
    }
    assert_eq!(
        "file:///backup/app".parse(),
        Ok(Location::Directory("/backup/app".into()))
    );
    for (text, what) in [
        ("", "empty"),
        ("file://host/path", "file:///backup/app"),
        ("http://bucket/a", "s3://BUCKET/PREFIX"),
        ("s3:///a", "bucket"),
        ("s3://key:secret@bucket/a", "environment"),
        ("s3://bucket:9000/a", "?endpoint="),
        ("s3://bucket/a?endpont=http://h", "endpont"),
        ("s3://bucket/a?endpoint=h:1", "http://HOST:PORT"),
    ] {
        let error = text.parse::<Location>().expect_err(text).to_string();
        assert!(error.contains(what), "{text}: {error}");
        assert!(!error.contains("secret"), "{error}");
        assert_eq!(error.lines().count(), 1);
    }
}

#[test]
fn a_directorys_databases_have_places_of_their_own() {
    for (prefix, name, place) in [
        ("/backup", "a/b.db", "/backup/a/b.db"),
        ("s3://bucket", "a.db", "s3://bucket/a.db"),
        ("s3://bucket/x", "t/a b%.db", "s3://bucket/x/t/a%20b%25.db"),
        ("s3://b/x?region=r", "ü", "s3://b/x/%C3%BC?region=r"),
    ] {
        let location: Location = prefix.parse().expect(prefix);
        let joined = location.join(name);
        assert_eq!(joined.to_string(), place);
        assert_eq!(place.parse(), Ok(joined));
    }
}

fn store() -> (tempfile::TempDir, Store) {
    let directory = tempfile::tempdir().expect("a directory");
    let location = Location::Directory(directory.path().join("archive"));
    (directory, Store::create(&location).expect("a store"))
}

#[tokio::test]
async fn a_directory_keeps_objects() {
    let (_directory, store) = store();
    let key = Key::wal(GENERATION, 0, 0);
    assert_eq!(store.get(key).await.expect("an answer"), None);
    assert!(!store.has(key).await.expect("an answer"));
    assert!(matches!(
        store.open_object(key, 0, None).await.map(drop),
        Err(ArchiveError::Missing { .. })
    ));
    store.put(key, vec![1; 10]).await.expect("written");
    store.put(key, vec![2; 20]).await.expect("written again");
    assert!(!store.create_object(key, vec![3]).await.expect("an answer"));
    let large = Key::snapshot(GENERATION, 7);
    let content: Vec<u8> = (0..20 << 20).map(|i: u32| (i >> 8) as u8).collect();
    store
        .put_stream(large, content.as_slice())
        .await
        .expect("written");
    let list = store.list(Key::GENERATIONS).await.expect("a list");
    let sizes: Vec<_> = list.iter().map(|o| (o.key, o.size)).collect();
    assert_eq!(sizes, [(large, 20 << 20), (key, 20)]);
    assert_eq!(store.generations().await.expect("a list"), [GENERATION]);
    assert_eq!(
        store.get(key).await.expect("an answer").as_deref(),
        Some(&[2; 20][..])
    );
    let mut tag = None;
    for at in [0, 7 << 20] {
        let opened = store.open_object(large, at, tag).await.expect("open");
        assert_eq!(opened.size, 20 << 20);
        let mut bytes = opened.bytes;
        let mut got = Vec::new();
        use tokio_stream::StreamExt as _;
        while let Some(part) = bytes.next().await {
            got.extend_from_slice(&part.expect("bytes"));
        }
        assert!(got == content[at as usize..]);
        tag = opened.tag;
    }
    // Half of one and half of another would be neither.
    store.put(large, vec![4; 8 << 20]).await.expect("replaced");
    let other = store.open_object(large, 7 << 20, tag).await;
    assert!(matches!(other.map(drop), Err(ArchiveError::Store { .. })));
    store.delete(key).await.expect("removed");
    store.delete(key).await.expect("nothing to remove");
    assert!(!store.has(key).await.expect("an answer"));
}

/// A directory for each log that ever was would be walked through by every list.
#[tokio::test]
async fn of_what_is_removed_no_directory_stays() {
    let (directory, store) = store();
    let root = directory.path().join("archive");
    let keys = [
        Key::wal(GENERATION, 0, 0),
        Key::wal(GENERATION, 1, 0),
        Key::wal(GENERATION, 1, 1048),
    ];
    for key in keys {
        store.put(key, vec![1]).await.expect("written");
    }
    store.delete_all(&keys[..2]).await.expect("removed");
    let wal = root.join(format!("{}/wal", Key::prefix(GENERATION)));
    let indexes: Vec<_> = std::fs::read_dir(&wal).expect("it is there").collect();
    assert_eq!(indexes.len(), 1, "{indexes:?}");
    store.delete(keys[2]).await.expect("removed");
    assert_eq!(store.generations().await.expect("a list"), []);
    assert!(root.is_dir(), "the archive itself stays");
    store.put(keys[0], vec![1]).await.expect("written anew");
}

#[test]
fn a_directory_that_is_not_there_is_named() {
    let error = Store::open(&Location::Directory("/nowhere/archive".into()))
        .expect_err("none")
        .to_string();
    assert!(error.contains("/nowhere/archive"), "{error}");
    assert_eq!(error.lines().count(), 1);
}

fn me(id: &str) -> OwnerDoc {
    OwnerDoc {
        version: 1,
        id: id.to_owned(),
        server: "host".to_owned(),
        database: "app.db".to_owned(),
        since_us: 5,
    }
}

#[tokio::test]
async fn an_archive_has_one_owner() {
    let (_directory, store) = store();
    let first = Claim::take(&store, &me("a"), false).await.expect("free");
    let again = Claim::take(&store, &me("a"), false).await.expect("its own");
    assert_eq!(again.epoch, first.epoch + 1);
    // The run before, if it still lives, stops.
    assert!(matches!(
        first.check(&store).await,
        Err(ArchiveError::Owned { .. })
    ));
    let first = again;
    let refused = Claim::take(&store, &me("b"), false).await;
    let error = refused.expect_err("it is owned").to_string();
    assert!(
        error.contains("app.db on host") && error.contains("--take-over"),
        "{error}"
    );
    first.check(&store).await.expect("still the owner");
    let second = Claim::take(&store, &me("b"), true)
        .await
        .expect("taken over");
    assert_eq!(second.epoch, first.epoch + 1);
    assert!(matches!(
        first.check(&store).await,
        Err(ArchiveError::Owned { .. })
    ));
    second.check(&store).await.expect("the owner");
    // What is not the archive that was taken is not written to.
    let own = Key::Owner {
        epoch: second.epoch,
    };
    store.delete(own).await.expect("removed");
    let error = second.check(&store).await.expect_err("it is not there");
    assert!(matches!(error, ArchiveError::Missing { .. }), "{error}");
    assert!(error.is_transient());
    let doc = me("b").encode();
    assert!(store.create_object(own, doc).await.expect("an answer"));
    // The one before cannot come back by accident.
    assert!(Claim::take(&store, &me("a"), false).await.is_err());
}

#[tokio::test]
async fn owners_of_long_ago_are_removed_and_still_know_that_they_lost() {
    let (_directory, store) = store();
    let mut claims = Vec::new();
    for _ in 0..40 {
        claims.push(Claim::take(&store, &me("a"), false).await.expect("its own"));
    }
    let left = store.list(Key::OWNERS).await.expect("a list");
    let epochs: Vec<_> = left.iter().map(|object| object.key).collect();
    let newest: Vec<_> = (25..=40).map(|epoch| Key::Owner { epoch }).collect();
    assert_eq!(epochs, newest);
    let last = claims.pop().expect("one");
    last.check(&store).await.expect("the owner");
    for claim in &claims {
        let lost = claim.check(&store).await;
        assert!(matches!(lost, Err(ArchiveError::Owned { owner, .. }) if owner.epoch == 40));
    }
    assert_eq!(
        Claim::take(&store, &me("a"), false)
            .await
            .expect("the next")
            .epoch,
        41
    );
}

#[tokio::test]
async fn of_two_that_come_at_once_one_becomes_the_owner() {
    let (_directory, store) = store();
    let names: Vec<String> = (0..8).map(|n| n.to_string()).collect();
    let mut tasks = tokio::task::JoinSet::new();
    for name in names {
        let store = store.clone();
        tasks.spawn(async move { Claim::take(&store, &me(&name), false).await.is_ok() });
    }
    let won = tasks
        .join_all()
        .await
        .into_iter()
        .filter(|won| *won)
        .count();
    assert_eq!(won, 1);
}

#[test]
fn documents_read_back_and_say_what_is_wrong() {
    let doc = SnapshotDoc {
        version: 1,
        position: "0123456789abcdef/0000000000000003:0000000000001038"
            .parse()
            .expect("one"),
        dbsum: format!("{:016x}", 5),
        page_count: 3,
        page_size: 4096,
        time_us: 1,
        taken_us: 2,
    };
    assert_eq!(SnapshotDoc::parse(&doc.encode()).expect("whole"), doc);
    for (page_size, page_count, what) in [
        (0, 3, "page size is 0"),
        (4095, 3, "page size is 4095"),
        (4096, 0, "without pages"),
    ] {
        let other = SnapshotDoc {
            page_size,
            page_count,
            ..doc.clone()
        };
        let error = SnapshotDoc::parse(&other.encode()).expect_err("no such database");
        assert!(error.to_string().contains(what), "{error}");
    }
    let newer = SnapshotDoc { version: 2, ..doc };
    let error = SnapshotDoc::parse(&newer.encode()).expect_err("unknown");
    assert!(error.to_string().contains("version 2"), "{error}");
    assert!(OwnerDoc::parse(b"{}").is_err());
    let generation = GenerationDoc {
        version: 1,
        page_size: 512,
        created_us: 7,
        fork: None,
        epoch: 1,
    };
    assert_eq!(
        GenerationDoc::parse(&generation.encode()).expect("whole"),
        generation
    );
    let other = GenerationDoc {
        page_size: 0,
        ..generation
    };
    let error = GenerationDoc::parse(&other.encode()).expect_err("no such database");
    assert!(error.to_string().contains("page size is 0"), "{error}");
}

fn segment() -> impl Strategy<Value = SegmentDoc> {
    (
        0..50_u64,
        proptest::collection::vec(1..5_u64, 0..20),
        0..3_u64,
    )
        .prop_map(|(from, steps, tail)| {
            let at = |frames: u64| 32 + frames * (4096 + 24);
            let mut frames = from;
            let mut records = Vec::new();
            for step in steps {
                frames += step;
                records.push(CommitRecord {
                    end_offset: at(frames),
                    dbsum: DbSum(frames),
                    page_count: 9,
                    time_us: 77,
                    cksum: Cksum(1, 2),
                });
            }
            if records.is_empty() {
                frames += 1 + tail;
            }
            SegmentDoc {
                page_size: 4096,
                start: if from == 0 { 0 } else { at(from) },
                end: at(frames),
                previous_end: if from == 0 { at(3) } else { 0 },
                records,
            }
        })
}

proptest! {
    #[test]
    fn a_segments_document_reads_back(doc in segment()) {
        prop_assert_eq!(SegmentDoc::parse(&doc.encode()), Ok(doc));
    }

    #[test]
    fn a_damaged_one_is_refused(doc in segment(), at in any::<usize>(), xor in 1..=255_u8) {
        let mut bytes = doc.encode();
        let at = at % bytes.len();
        bytes[at] ^= xor;
        prop_assert!(SegmentDoc::parse(&bytes).is_err());
        bytes.truncate(at);
        prop_assert!(SegmentDoc::parse(&bytes).is_err());
    }

    #[test]
    fn a_document_with_a_flipped_bit_is_refused_or_says_the_same(
        at in any::<usize>(), bit in 0..8_u8, offset: u64, time_us: i64,
    ) {
        let doc = SnapshotDoc {
            version: 1,
            position: crate::format::position::Position { generation: GENERATION, index: 3, offset },
            dbsum: format!("{offset:016x}"),
            page_count: 3,
            page_size: 4096,
            time_us,
            taken_us: time_us,
        };
        let mut bytes = doc.encode();
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        if let Ok(read) = SnapshotDoc::parse(&bytes) {
            prop_assert_eq!(read, doc);
        }
    }
}
