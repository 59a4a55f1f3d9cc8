//! Commits that wait behind each other, as of a replica that was away.

use super::*;
use crate::replica::Command;
use crate::replica::worker::{AtOnce, Next, Work as _, Worker};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

/// A copy that is level, and its worker.
fn level(source: &Source) -> (Target, Worker) {
    level_in(Target::new(), source)
}

fn level_in(target: Target, source: &Source) -> (Target, Worker) {
    let mut worker = Worker::new(target.shared.clone());
    let session = CancellationToken::new();
    begin(&mut worker);
    give(&mut worker, source.snapshot(), &session);
    worker.settle();
    assert!(!session.is_cancelled());
    (target, worker)
}

fn begin(worker: &mut Worker) -> Option<Mark> {
    let (reply, mut request) = oneshot::channel();
    worker.command(Command::Begin(reply));
    let request = request.try_recv().expect("an answer");
    request.ok().expect("it opens").mark
}

fn give(worker: &mut Worker, messages: Vec<Message>, session: &CancellationToken) {
    for message in messages {
        worker.command(Command::Message {
            message,
            session: session.clone(),
            permit: None,
        });
    }
}

/// Updates of one page, as the messages of a stream that the copy asked for.
fn updates(source: &Source, worker: &mut Worker, count: u32) -> Vec<Message> {
    for n in 0..count {
        source.run(&format!("UPDATE t SET b = 'update {n}'"));
    }
    let mark = begin(worker).expect("a mark");
    source.since(&mark, 100)
}

fn source() -> Source {
    let source = Source::new(4096);
    source.run("CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT); INSERT INTO t(b) VALUES('first')");
    source
}

#[test]
fn they_become_visible_together_and_each_page_is_written_once() {
    let source = source();
    let (target, mut worker) = level(&source);
    let messages = updates(&source, &mut worker, 50);
    let log = target.path.with_extension("db-wal");
    let size = || std::fs::metadata(&log).expect("the log").len();
    let (before, reader) = (target.shared.status().commits, target.reader());
    let written = size();
    let session = CancellationToken::new();
    give(&mut worker, messages, &session);
    assert_eq!(rows(&reader)[0].1, "first", "more waits");
    worker.settle();
    assert!(!session.is_cancelled());
    assert_eq!(rows(&reader), rows(&source.sql));
    assert_eq!(target.shared.status().commits, before + 1);
    assert!(size() - written <= 2 * 4120, "{} bytes", size() - written);
}

#[test]
fn what_is_asked_for_is_answered_after_what_was_taken() {
    let source = source();
    let (target, mut worker) = level(&source);
    let messages = updates(&source, &mut worker, 3);
    give(&mut worker, messages, &CancellationToken::new());
    let (reply, mut ended) = oneshot::channel();
    // As when a primary that drains has sent its last: it is gone, and nobody could be asked again.
    worker.command(Command::End(reply));
    ended.try_recv().expect("it is done");
    assert_eq!(rows(&target.reader()), rows(&source.sql));
    let messages = updates(&source, &mut worker, 3);
    give(&mut worker, messages, &CancellationToken::new());
    assert!(matches!(worker.command(Command::Stop), Next::End));
    assert_eq!(rows(&target.reader()), rows(&source.sql));
}

#[test]
fn what_does_not_have_the_checksum_is_not_visible_and_ends_the_stream() {
    let source = source();
    let (target, mut worker) = level(&source);
    let mut messages = updates(&source, &mut worker, 3);
    let Some(Message::Chunk(Chunk {
        commit: Some(commit),
        ..
    })) = messages.last_mut()
    else {
        panic!("the last is a commit");
    };
    commit.dbsum.0 ^= 1;
    let session = CancellationToken::new();
    target.shared.set_session(session.clone());
    give(&mut worker, messages, &session);
    assert!(!session.is_cancelled(), "it is not looked at yet");
    worker.settle();
    assert!(session.is_cancelled());
    assert_eq!(rows(&target.reader())[0].1, "first");
    let status = target.shared.status();
    assert!(status.reason.contains("checksum"), "{status:?}");
    // Nothing of it is left, and a snapshot heals it.
    assert!(begin(&mut worker).is_none());
    give(&mut worker, source.snapshot(), &CancellationToken::new());
    worker.settle();
    assert_eq!(rows(&target.reader()), rows(&source.sql));
}

#[test]
fn between_two_large_transactions_the_log_has_its_limit() {
    let source = source();
    let limits = Target::with_limits(64 << 10, 256 << 10);
    let (target, mut worker) = level_in(limits, &source);
    let reader = target.reader();
    reader.execute_batch("BEGIN").expect("begun");
    rows(&reader);
    let mark = begin(&mut worker).expect("a mark");
    for _ in 0..5 {
        source.run("INSERT INTO t(b) VALUES(hex(randomblob(100000)))");
    }
    // Each is ten chunks and more.
    let session = CancellationToken::new();
    give(&mut worker, source.since(&mark, 5), &session);
    assert!(session.is_cancelled(), "nothing ends it");
    let log = std::fs::metadata(target.path.with_extension("db-wal")).expect("the log");
    assert!(log.len() < 600 << 10, "the log has {} bytes", log.len());
    assert!(target.shared.is_held());
}

#[test]
fn a_heartbeat_does_not_make_them_visible_in_the_task_that_receives() {
    let source = source();
    let (_target, mut worker) = level(&source);
    let session = CancellationToken::new();
    let messages = updates(&source, &mut worker, 3);
    give(&mut worker, messages, &session);
    let heartbeat = || Message::Heartbeat {
        position: source.chunks(100).last().expect("a commit").end(),
        clock_us: 5,
    };
    assert!(matches!(worker.at_once(heartbeat()), AtOnce::Later(_)));
    worker.settle();
    assert!(matches!(worker.at_once(heartbeat()), AtOnce::Done));
}
