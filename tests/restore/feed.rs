//! An archive as a stream for a replica.

use crate::kit::source;
use crate::maker::{Maker, made, write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use walcast::archive::{Key, SnapshotDoc};
use walcast::format::position::{Generation, Position};
use walcast::model::{Chunk, Follows, Message};
use walcast::replica::{Take, Taken};
use walcast::restore::{Feed, FeedOptions, RestoreError};

fn all(root: &Path, from: Option<Position>) -> Result<Vec<Message>, RestoreError> {
    let go = AtomicBool::new(false);
    let options = FeedOptions {
        from,
        ..FeedOptions::new(&go)
    };
    as_told(root, &options)
}

fn as_told(root: &Path, options: &FeedOptions<'_>) -> Result<Vec<Message>, RestoreError> {
    let mut messages = Vec::new();
    Feed::begin(&source(root), options, &mut |message| {
        messages.push(message);
        true
    })?;
    Ok(messages)
}

fn follows(messages: &[Message]) -> Follows {
    match messages.first() {
        Some(Message::Hello(hello)) => hello.follows,
        other => panic!("{other:?}"),
    }
}

fn chunks(messages: &[Message]) -> Vec<&Chunk> {
    let chunks = messages.iter().filter_map(|message| match message {
        Message::Chunk(chunk) => Some(chunk),
        _ => None,
    });
    chunks.collect()
}

/// What a replica makes of the messages, and where it was on the way.
fn taken(messages: Vec<Message>) -> (Vec<Position>, Vec<u8>) {
    let scratch = tempfile::tempdir().expect("a directory");
    let mut take = Take::file(scratch.path(), 0o600);
    let mut seen = Vec::new();
    for message in messages {
        if let Taken::At(point) = take.message(message).expect("believed") {
            seen.push(point.position);
        }
    }
    let (point, path) = take.finish().expect("written").expect("a database");
    assert_eq!(seen.last(), Some(&point.position));
    (seen, std::fs::read(path).expect("a database"))
}

#[test]
fn a_replica_that_has_nothing_gets_the_newest_state_by_committed_states() {
    for maker in [made(1, 1, 2), made(2, 3, 3)] {
        let messages = all(&maker.root, None).expect("fed");
        assert_eq!(follows(&messages), Follows::NewReplica);
        let (seen, bytes) = taken(messages);
        assert!(bytes == maker.newest().bytes);
        let snapshot = *maker.snapshots.last().expect("a snapshot");
        let from = maker.states.iter().position(|s| s.position == snapshot);
        let states = &maker.states[from.expect("a state")..];
        let expected: Vec<Position> = states.iter().map(|state| state.position).collect();
        assert_eq!(seen, expected);
    }
}

#[test]
fn a_replica_goes_on_from_where_it_is() {
    let maker = made(2, 3, 3);
    let last = maker.newest().position;
    let states = maker
        .states
        .iter()
        .filter(|s| s.position.generation == last.generation);
    let states: Vec<Position> = states.map(|state| state.position).collect();
    for (number, from) in states.iter().enumerate() {
        let messages = all(&maker.root, Some(*from)).expect("fed");
        assert_eq!(follows(&messages), Follows::Resume);
        let chunks = chunks(&messages);
        let ends: Vec<Position> = chunks
            .iter()
            .filter(|chunk| chunk.commit.is_some())
            .map(|chunk| chunk.end())
            .collect();
        assert_eq!(ends, states[number + 1..]);
        let mut cursor = *from;
        for chunk in chunks {
            let is_next = chunk.start.index == cursor.index + 1 && chunk.start.offset == 0;
            assert!(
                chunk.start == cursor || is_next,
                "{} after {cursor}",
                chunk.start
            );
            assert_eq!(chunk.data.len() as u64, chunk.size());
            cursor = chunk.end();
        }
    }
    // One of another history begins anew.
    let other = maker.states[3].position;
    assert_ne!(other.generation, last.generation);
    let messages = all(&maker.root, Some(other)).expect("fed");
    assert_eq!(follows(&messages), Follows::OtherGeneration);
    assert!(taken(messages).1 == maker.newest().bytes);
    // And one whose log is not kept any more, unless the next one is known to follow.
    let log = |index: u64| {
        maker
            .root
            .join(format!("generations/{}/wal/{index:016x}", last.generation))
    };
    std::fs::remove_dir_all(log(0)).expect("removed");
    let end = states
        .iter()
        .rfind(|position| position.index == 0)
        .expect("a state");
    assert_eq!(
        follows(&all(&maker.root, Some(*end)).expect("fed")),
        Follows::Resume
    );
    let messages = all(&maker.root, Some(states[1])).expect("fed");
    assert_eq!(follows(&messages), Follows::NotRetained);
    assert!(taken(messages).1 == maker.newest().bytes);
}

#[test]
fn a_document_with_numbers_that_no_database_has_is_damaged() {
    let maker = made(1, 1, 2);
    let snapshot = maker.snapshots.last().expect("a snapshot");
    let key = Key::snapshot(snapshot.generation, snapshot.index).doc();
    let key = key.expect("it has one");
    let bytes = std::fs::read(maker.root.join(key.to_string())).expect("a document");
    let doc = SnapshotDoc::parse(&bytes).expect("whole");
    let without_size = SnapshotDoc {
        page_size: 0,
        ..doc.clone()
    };
    let without_pages = SnapshotDoc {
        page_count: 0,
        ..doc
    };
    for doc in [without_size, without_pages] {
        write(&maker.root, key, &doc.encode());
        let error = all(&maker.root, None).expect_err("damaged");
        assert_eq!(error.object(), Some(key), "{error}");
    }
}

#[test]
fn damage_ends_it_and_names_the_object() {
    let maker = made(1, 2, 3);
    let segments = maker
        .objects()
        .into_iter()
        .filter(|key| matches!(key, Key::Wal { .. }));
    let last = segments.max().expect("a segment");
    let path = maker.root.join(last.to_string());
    let mut bytes = std::fs::read(&path).expect("an object");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).expect("damaged");
    let error = all(&maker.root, None).expect_err("damaged");
    assert_eq!(error.object(), Some(last), "{error}");
    maker.without_documents();
    let error = all(&maker.root, None).expect_err("undocumented");
    assert!(
        matches!(error, RestoreError::Undocumented { .. }),
        "{error}"
    );
}

#[test]
fn it_goes_on_as_the_archive_grows_and_ends_with_the_history() {
    let mut maker = made(1, 2, 2);
    let archive = source(&maker.root);
    let go = AtomicBool::new(false);
    let scratch = tempfile::tempdir().expect("a directory");
    let mut take = Take::file(scratch.path(), 0o600);
    let mut deliver = |message| {
        take.message(message).expect("believed");
        true
    };
    let mut feed = Feed::begin(&archive, &FeedOptions::new(&go), &mut deliver).expect("fed");
    assert!(feed.more(&go, &mut deliver).expect("nothing new"));
    for round in 0..4 {
        if round == 2 {
            maker.restart();
        }
        grow(&mut maker);
        // A commit whose checksum the primary did not know, and in the last round the log's end after one.
        maker.commit_unproven("INSERT INTO t(a, b) VALUES (2, randomblob(2000))");
        maker.segment();
        assert!(feed.more(&go, &mut deliver).expect("fed"));
    }
    maker.restart();
    assert!(feed.more(&go, &mut deliver).expect("nothing new"));
    grow(&mut maker);
    assert!(feed.more(&go, &mut deliver).expect("fed"));
    let newest = maker.newest();
    let (position, bytes) = (newest.position, newest.bytes.clone());
    maker.fork();
    assert!(!feed.more(&go, &mut deliver).expect("an end"));
    let (point, path) = take.finish().expect("written").expect("a database");
    assert_eq!(point.position, position);
    assert!(std::fs::read(path).expect("a database") == bytes);
}

#[test]
fn a_commit_that_nothing_proves_comes_with_the_next_one() {
    let mut maker = made(1, 2, 2);
    let proven = maker.newest().clone();
    maker.commit_unproven("INSERT INTO t(a, b) VALUES (2, randomblob(2000))");
    maker.segment();
    let go = AtomicBool::new(false);
    let messages = all(&maker.root, None).expect("fed");
    let Some(Message::Hello(hello)) = messages.first() else {
        panic!("no hello")
    };
    assert_eq!(
        hello.position, proven.position,
        "a replica gets no further, and is level there"
    );
    let (seen, bytes) = taken(messages);
    assert_eq!(seen.last(), Some(&proven.position));
    assert!(bytes == proven.bytes);
    // A snapshot of just that commit proves it.
    maker.snapshot();
    let (seen, bytes) = taken(all(&maker.root, None).expect("fed"));
    assert_eq!(seen, [maker.newest().position]);
    assert!(bytes == maker.newest().bytes);
    // Who goes on has it with the next.
    grow(&mut maker);
    let options = FeedOptions {
        from: Some(proven.position),
        ..FeedOptions::new(&go)
    };
    let messages = as_told(&maker.root, &options).expect("fed");
    let ends: Vec<Position> = chunks(&messages).iter().map(|chunk| chunk.end()).collect();
    assert_eq!(ends, [maker.newest().position]);
}

#[test]
fn nothing_older_than_what_was_seen_is_shown() {
    let mut maker = made(1, 2, 3);
    let snapshot = *maker.snapshots.last().expect("a snapshot");
    let behind = maker.states.iter().position(|s| s.position == snapshot);
    let seen = maker.states[behind.expect("a state") + 2].position;
    let go = AtomicBool::new(false);
    let options = FeedOptions {
        seen: Some(seen),
        ..FeedOptions::new(&go)
    };
    let (shown, bytes) = taken(as_told(&maker.root, &options).expect("fed"));
    assert_eq!(shown.first(), Some(&seen));
    assert!(bytes == maker.newest().bytes);
    // What the archive does not have yet.
    maker.commit("INSERT INTO t(a, b) VALUES (3, randomblob(10))");
    let beyond = maker.newest().position;
    for (from, seen) in [(Some(beyond), None), (None, Some(beyond))] {
        let options = FeedOptions {
            from,
            seen,
            ..FeedOptions::new(&go)
        };
        let error = as_told(&maker.root, &options).expect_err("ahead");
        assert!(
            matches!(error, RestoreError::Behind { have, .. } if have == beyond),
            "{error}"
        );
    }
    let options = FeedOptions {
        generation: Some(Generation(7)),
        ..FeedOptions::new(&go)
    };
    let error = as_told(&maker.root, &options).expect_err("another history");
    assert!(
        matches!(error, RestoreError::NoGeneration { .. }),
        "{error}"
    );
}

#[test]
fn behind_damage_a_later_snapshot_is_taken() {
    let maker = made(1, 3, 3);
    let go = AtomicBool::new(false);
    let from = maker.states[1].position;
    let told = |damaged| {
        let options = FeedOptions {
            from: Some(from),
            damaged,
            ..FeedOptions::new(&go)
        };
        as_told(&maker.root, &options).expect("fed")
    };
    assert_eq!(follows(&told(None)), Follows::Resume);
    let messages = told(Some(0));
    assert_eq!(follows(&messages), Follows::NotRetained);
    assert!(taken(messages).1 == maker.newest().bytes);
    // None is later.
    assert_eq!(follows(&told(Some(2))), Follows::Resume);
}

/// As the writer: a segment, then its document, each whole.
fn grow(maker: &mut Maker) {
    maker.commit("INSERT INTO t(a, b) VALUES (1, randomblob(3000))");
    maker.segment();
}

#[test]
fn it_ends_when_it_is_told() {
    let maker = made(1, 1, 2);
    let cancel = AtomicBool::new(false);
    let end = maker.newest().position;
    let options = FeedOptions::new(&cancel);
    let result = Feed::begin(&source(&maker.root), &options, &mut |message| {
        if let Message::Chunk(chunk) = message {
            cancel.fetch_or(chunk.end() == end, Ordering::Relaxed);
        }
        true
    });
    assert!(matches!(result, Err(RestoreError::Cancelled)));
}
