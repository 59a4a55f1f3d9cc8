//! The decisions of [`Machine`]: what it refuses, and what it does, step by step.

use super::*;
use crate::replica::machine::{Action, Machine, StreamError};

fn source() -> Source {
    let source = Source::new(1024);
    source.run("CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT); INSERT INTO t(b) VALUES('first')");
    source
}

fn describe(action: &Action) -> String {
    match action {
        Action::BeginSnapshot { page_size, .. } => format!("begin snapshot, pages of {page_size}"),
        Action::Append(pages) => format!("append {}", list(pages)),
        Action::Publish(pages, mark) => {
            format!(
                "publish {} at {:x}",
                list(pages),
                mark.point.position.offset
            )
        }
        Action::EndSnapshot(mark) => format!("end snapshot at {:x}", mark.point.position.offset),
        Action::Greeted { position, .. } => format!("greeted {:x}", position.offset),
        Action::Seen { position, .. } => format!("seen {:x}", position.offset),
    }
}

fn list(pages: &crate::replica::machine::Pages) -> String {
    let numbers: Vec<String> = pages.list.iter().map(|p| p.pgno.to_string()).collect();
    format!("[{}]", numbers.join(" "))
}

fn script(machine: &mut Machine, messages: Vec<Message>) -> String {
    let mut lines = String::new();
    for message in messages {
        match machine.step(message) {
            Ok(actions) => {
                for action in actions {
                    if let Action::EndSnapshot(mark) | Action::Publish(_, mark) = &action {
                        machine.published(*mark);
                    }
                    lines.push_str(&describe(&action));
                    lines.push('\n');
                }
            }
            Err(error) => {
                lines.push_str(&format!("error: {error}\n"));
                break;
            }
        }
    }
    lines
}

#[test]
fn a_new_replica_takes_a_snapshot_and_goes_on() {
    let source = source();
    let mut machine = Machine::new(None, false);
    let snapshot = script(&mut machine, source.snapshot());
    assert_eq!(
        snapshot,
        "greeted 1078\nbegin snapshot, pages of 1024\nappend [1]\nappend [1 2]\nappend [2]\nend snapshot at 1078\n"
            .replace("1078", &format!("{:x}", 32 + 3 * 1048))
    );
    let mark = machine.local().expect("a mark");
    source.run("INSERT INTO t(b) VALUES('second')");
    machine.connected();
    let lines = script(&mut machine, source.since(&mark, 100));
    let end = format!("{:x}", 32 + 4 * 1048);
    assert_eq!(
        lines,
        format!("greeted {end}\nseen {end}\npublish [2] at {end}\n")
    );
}

fn resumed(source: &Source) -> (Machine, Vec<Message>) {
    let mut machine = Machine::new(None, false);
    script(&mut machine, source.snapshot());
    let mark = machine.local().expect("a mark");
    source.run("INSERT INTO t(b) VALUES('second'); INSERT INTO t(b) VALUES('third')");
    machine.connected();
    (machine, source.since(&mark, 100))
}

#[test]
fn every_changed_byte_of_a_chunk_is_noticed() {
    let source = source();
    let (_, messages) = resumed(&source);
    let Message::Chunk(chunk) = &messages[1] else {
        panic!("a chunk")
    };
    for at in 0..chunk.data.len() {
        let source = &source;
        let mut machine = Machine::new(None, false);
        script(&mut machine, source.snapshot());
        // The snapshot holds the new commits as well; go back to before them.
        let mut data = chunk.data.to_vec();
        data[at] ^= 0x10;
        let damaged = Chunk {
            data: Bytes::from(data),
            ..chunk.clone()
        };
        let (mut machine, mut messages) = again(source, chunk.start.offset);
        messages[1] = Message::Chunk(damaged);
        machine.step(messages.remove(0)).expect("a hello");
        let error = machine.step(messages.remove(0)).expect_err("damage");
        assert!(
            matches!(error, StreamError::Damaged(_)),
            "byte {at}: {error}"
        );
    }
}

/// A machine whose local database is at `offset` of the source's log.
fn again(source: &Source, offset: u64) -> (Machine, Vec<Message>) {
    let mut machine = Machine::new(None, false);
    let messages = source.snapshot();
    let upto: Vec<Message> = messages
        .into_iter()
        .filter(|m| !matches!(m, Message::Chunk(c) if c.start.offset >= offset))
        .filter(|m| !matches!(m, Message::SnapshotEnd(_)))
        .collect();
    script(&mut machine, upto);
    let end = source
        .chunks(100)
        .into_iter()
        .find(|c| c.end_offset == offset)
        .expect("a commit there");
    let commit = end.commit.expect("a commit");
    let end = SnapshotEnd {
        position: end.end(),
        dbsum: commit.dbsum,
        page_count: commit.page_count,
        time_us: 5,
    };
    script(&mut machine, vec![Message::SnapshotEnd(end)]);
    let mark = machine.local().expect("a mark");
    machine.connected();
    (machine, source.since(&mark, 100))
}

#[test]
fn what_comes_out_of_order_is_refused() {
    let source = source();
    let (mut machine, messages) = resumed(&source);
    let mut skipped = messages.clone();
    skipped.remove(1);
    assert!(script(&mut machine, skipped).contains("came after"));

    let (_, messages) = (0, messages);
    let mark = machine.local().expect("a mark");
    let fresh = || {
        let mut machine = Machine::new(Some(mark), true);
        machine.connected();
        machine
    };
    let mut twice = messages.clone();
    twice.insert(2, messages[1].clone());
    assert!(script(&mut fresh(), twice).contains("came after"));

    assert!(script(&mut fresh(), messages[1..].to_vec()).contains("first message is no hello"));
    let hello = messages[0].clone();
    assert!(script(&mut fresh(), vec![hello.clone(), hello]).contains("a second hello"));
    let end = SnapshotEnd {
        position: source.at(0),
        dbsum: DbSum(0),
        page_count: 1,
        time_us: 0,
    };
    assert!(
        script(
            &mut fresh(),
            vec![messages[0].clone(), Message::SnapshotEnd(end)]
        )
        .contains("did not begin")
    );
}

#[test]
fn a_commit_without_a_checksum_becomes_visible_with_the_next() {
    let whole = source();
    let (mut machine, messages) = resumed(&whole);
    let both = script(&mut machine, messages);
    assert_eq!(both.matches("publish").count(), 2, "{both}");

    let source = source();
    let (mut machine, mut messages) = resumed(&source);
    if let Message::Chunk(chunk) = &mut messages[1] {
        chunk.commit = None;
    }
    let one = script(&mut machine, messages);
    let counts = (
        one.matches("append").count(),
        one.matches("publish").count(),
    );
    assert_eq!(counts, (1, 1), "{one}");
    let end = |script: &str| script.lines().last().map(str::to_owned);
    assert_eq!(end(&one), end(&both));
}

#[test]
fn an_unproven_state_is_never_called_level() {
    let source = source();
    let mut machine = Machine::new(None, false);
    script(&mut machine, source.snapshot());
    let mark = machine.local().expect("a mark");
    let mut machine = Machine::new(Some(mark), false);
    machine.connected();
    let error = machine
        .step(source.hello(Follows::Resume))
        .expect_err("diverged");
    assert!(matches!(error, StreamError::Diverged(_)), "{error}");
}
