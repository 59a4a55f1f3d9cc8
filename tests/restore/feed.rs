//! An archive as a stream for a replica.

use crate::kit::source;
use crate::maker::{Maker, made};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;
use walcast::archive::Key;
use walcast::format::position::Position;
use walcast::model::{Chunk, Follows, Message};
use walcast::replica::{Take, Taken};
use walcast::restore::{FeedOptions, RestoreError, feed};

fn all(root: &Path, from: Option<Position>) -> Result<Vec<Message>, RestoreError> {
    let mut messages = Vec::new();
    let options = FeedOptions {
        from,
        poll: None,
        parallelism: 2,
        cancel: &AtomicBool::new(false),
    };
    feed(&source(root), &options, &mut |message| {
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
    let (sender, messages) = mpsc::channel();
    let archive = source(&maker.root);
    let fed = std::thread::spawn(move || {
        let options = FeedOptions {
            from: None,
            poll: Some(Duration::from_millis(5)),
            parallelism: 1,
            cancel: &AtomicBool::new(false),
        };
        feed(&archive, &options, &mut |message| {
            sender.send(message).is_ok()
        })
    });
    let scratch = tempfile::tempdir().expect("a directory");
    let mut take = Take::file(scratch.path(), 0o600);
    let mut until = |position: Position| {
        while take.point().is_none_or(|point| point.position != position) {
            let message = messages
                .recv_timeout(Duration::from_secs(60))
                .expect("in time");
            take.message(message).expect("believed");
        }
    };
    until(maker.newest().position);
    for round in 0..4 {
        if round == 2 {
            maker.restart();
        }
        grow(&mut maker);
        until(maker.newest().position);
    }
    let bytes = maker.newest().bytes.clone();
    maker.fork();
    fed.join().expect("no panic").expect("an end");
    let (_, path) = take.finish().expect("written").expect("a database");
    assert!(std::fs::read(path).expect("a database") == bytes);
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
    let options = FeedOptions {
        from: None,
        poll: Some(Duration::from_secs(3600)),
        parallelism: 1,
        cancel: &cancel,
    };
    let end = maker.newest().position;
    let result = feed(&source(&maker.root), &options, &mut |message| {
        if let Message::Chunk(chunk) = message {
            cancel.fetch_or(chunk.end() == end, Ordering::Relaxed);
        }
        true
    });
    assert!(matches!(result, Err(RestoreError::Cancelled)));
}
