//! Chunks that refer to those before them.

use super::*;
use crate::format::recent::Packer;
use crate::replica::machine::{Action, Machine, StreamError};

fn source() -> Source {
    let source = Source::new(1024);
    source.run("CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT); INSERT INTO t(b) VALUES('first')");
    source
}

/// As a primary sends them to a stream that takes the codec. How many refer to others.
fn packed(messages: Vec<Message>) -> (Vec<Message>, usize) {
    let (mut packer, mut count) = (Packer::default(), 0);
    let pack = |message| match message {
        Message::Chunk(chunk) => {
            let begins_log = chunk.start.offset == 0;
            let packed = packer.pack(&chunk.data, begins_log, FRAME_HEADER_SIZE + 1024);
            packer.remember(&chunk.data, begins_log, FRAME_HEADER_SIZE + 1024);
            count += usize::from(packed.is_some());
            Message::Chunk(match packed {
                Some(packed) => Chunk {
                    codec: Codec::Lz4Recent,
                    data: packed.data,
                    ..chunk
                },
                None => chunk,
            })
        }
        other => other,
    };
    let messages = messages.into_iter().map(pack).collect();
    (messages, count)
}

const MORE: [&str; 3] = [
    "INSERT INTO t(b) VALUES('second')",
    "UPDATE t SET b = 'once more'",
    "INSERT INTO t(b) VALUES('third')",
];

#[test]
fn commits_that_refer_to_others_are_applied() {
    let source = source();
    let target = Target::new();
    let mut applier = target.open();
    assert!(applier.request().mark.is_none());
    let (snapshot, in_snapshot) = packed(source.snapshot());
    assert!(in_snapshot > 0, "within a snapshot as well");
    feed(&mut applier, snapshot);
    MORE.iter().for_each(|sql| source.run(sql));
    let mark = applier.request().mark.expect("a mark");
    let (messages, count) = packed(source.since(&mark, 100));
    assert_eq!(count, 2, "all but the first");
    feed(&mut applier, messages);
    let reader = target.reader();
    assert_eq!(rows(&reader), rows(&source.sql));
    assert_eq!(check(&reader), "ok");
}

/// A machine that is level, and the hello and three chunks that come next, two of which refer to the one before.
fn level() -> (Machine, Vec<Message>) {
    let source = source();
    let mut machine = Machine::new(None, false);
    for message in source.snapshot() {
        step(&mut machine, message).expect("a snapshot");
    }
    MORE.iter().for_each(|sql| source.run(sql));
    let mark = machine.local().expect("a mark");
    machine.connected();
    let (messages, count) = packed(source.since(&mark, 100));
    assert_eq!((messages.len(), count), (4, 2));
    (machine, messages)
}

fn step(machine: &mut Machine, message: Message) -> Result<(), StreamError> {
    for action in machine.step(message)? {
        if let Action::EndSnapshot(mark) | Action::Publish(_, mark) = action {
            machine.published(mark);
        }
    }
    Ok(())
}

#[test]
fn every_damaged_byte_is_noticed_and_nothing_of_it_applied() {
    let (_, messages) = level();
    let Message::Chunk(chunk) = &messages[2] else {
        panic!("a chunk")
    };
    for at in 0..chunk.data.len() {
        let (mut machine, mut messages) = level();
        let mut data = chunk.data.to_vec();
        data[at] ^= 0x10;
        messages[2] = Message::Chunk(Chunk {
            data: data.into(),
            ..chunk.clone()
        });
        let mut messages = messages.into_iter();
        for message in messages.by_ref().take(2) {
            step(&mut machine, message).expect("sound");
        }
        let before = (machine.local(), machine.received());
        let error = step(&mut machine, messages.next().expect("a chunk"));
        let error = error.expect_err("damage");
        assert!(
            matches!(error, StreamError::Damaged(_)),
            "byte {at}: {error}"
        );
        assert_eq!((machine.local(), machine.received()), before);
    }
}

#[test]
fn a_heartbeat_and_a_new_stream_make_it_forget() {
    let heartbeat = |messages: &[Message]| match &messages[1] {
        Message::Chunk(chunk) => Message::Heartbeat {
            position: chunk.end(),
            clock_us: 5,
        },
        other => panic!("a chunk, not {other:?}"),
    };
    let (mut machine, mut messages) = level();
    messages.insert(2, heartbeat(&messages));
    let mut messages = messages.into_iter();
    for message in messages.by_ref().take(3) {
        step(&mut machine, message).expect("sound");
    }
    let error = step(&mut machine, messages.next().expect("a chunk"));
    assert!(matches!(error, Err(StreamError::Damaged(_))), "{error:?}");

    let (mut machine, messages) = level();
    let hello = messages[0].clone();
    let mut messages = messages.into_iter();
    for message in messages.by_ref().take(2) {
        step(&mut machine, message).expect("sound");
    }
    machine.connected();
    step(&mut machine, hello).expect("it resumes");
    let error = step(&mut machine, messages.next().expect("a chunk"));
    assert!(matches!(error, Err(StreamError::Damaged(_))), "{error:?}");
}

#[test]
fn pages_of_a_snapshot_are_never_packed_so() {
    let source = source();
    let mut machine = Machine::new(None, false);
    let mut messages = source.snapshot();
    let Message::SnapshotPages(pages) = &mut messages[2] else {
        panic!("pages")
    };
    pages.codec = Codec::Lz4Recent;
    let mut messages = messages.into_iter();
    for message in messages.by_ref().take(2) {
        step(&mut machine, message).expect("sound");
    }
    let error = step(&mut machine, messages.next().expect("pages"));
    assert!(matches!(error, Err(StreamError::Protocol(_))), "{error:?}");
}
