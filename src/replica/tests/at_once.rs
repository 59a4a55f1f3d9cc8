//! A commit that comes alone is applied by the task that received it, and nothing else is.

use super::*;
use crate::replica::worker::{AtOnce, Work, Worker, at_once};
use std::sync::Mutex;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

fn source() -> Source {
    let source = Source::new(4096);
    source.run("CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT)");
    source
}

/// The chunk that a commit makes.
fn commit(source: &Source, sql: &str) -> Message {
    let before = source.chunks(usize::MAX).len();
    source.run(sql);
    let chunk = source.chunks(usize::MAX).swap_remove(before);
    Message::Chunk(chunk)
}

#[test]
fn a_small_commit_is_taken_once_the_log_has_begun() {
    let source = source();
    let target = Target::new();
    let mut applier = target.seeded(&source);
    let mark = applier.request().mark;
    feed(&mut applier, source.since(&mark.expect("a mark"), 100));
    let first = commit(&source, "INSERT INTO t(b) VALUES('one')");
    assert!(
        !applier.takes_at_once(&first),
        "the log's header would be synced"
    );
    applier.message(first).expect("applies");
    let reader = target.reader();
    for i in 0..20 {
        let next = commit(&source, &format!("INSERT INTO t(b) VALUES('row {i}')"));
        assert!(applier.takes_at_once(&next));
        assert!(!applier.message_at_once(next).expect("applies"));
        assert_eq!(rows(&reader), rows(&source.sql));
    }
    let large = commit(&source, "INSERT INTO t(b) VALUES(hex(randomblob(99000)))");
    assert!(!applier.takes_at_once(&large));
    applier.message(large).expect("applies");
    let heartbeat = Message::Heartbeat {
        position: source.at(0),
        clock_us: 5,
    };
    assert!(!applier.takes_at_once(&heartbeat));
    assert_eq!(rows(&reader), rows(&source.sql));
    assert_eq!(check(&reader), "ok");
}

#[test]
fn the_work_that_may_take_long_becomes_due() {
    let source = source();
    let target = Target::new();
    let mut applier = target.seeded(&source);
    let mark = applier.request().mark;
    feed(&mut applier, source.since(&mark.expect("a mark"), 100));
    applier
        .message(commit(&source, "INSERT INTO t(b) VALUES('one')"))
        .expect("applies");
    let mut due = 0;
    for _ in 0..60 {
        let next = commit(&source, "INSERT INTO t(b) VALUES(hex(randomblob(15000)))");
        assert!(applier.takes_at_once(&next));
        if applier.message_at_once(next).expect("applies") {
            due += 1;
            applier.tick(false).expect("keeps house");
        }
    }
    assert!((1..=3).contains(&due), "{due} times");
}

#[test]
fn the_log_that_began_anew_waits_for_no_sync_at_its_first_commit() {
    let source = source();
    let target = Target::with_soft_limit(64 << 10);
    let mut applier = target.seeded(&source);
    let mark = applier.request().mark;
    feed(&mut applier, source.since(&mark.expect("a mark"), 100));
    // No reader: a pause at the soft limit begins the log anew.
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let next = commit(&source, "INSERT INTO t(b) VALUES(hex(randomblob(4000)))");
        let before = target.shared.status().wal_bytes;
        applier.message(next).expect("applies");
        if target.shared.status().wal_bytes < before {
            break;
        }
        assert!(Instant::now() < deadline, "the log never began anew");
    }
    let small = commit(&source, "INSERT INTO t(b) VALUES('small')");
    assert!(applier.takes_at_once(&small));
}

#[test]
fn what_cannot_be_done_at_once_comes_back() {
    let target = Target::new();
    let worker: Mutex<Box<dyn Work>> = Mutex::new(Box::new(Worker::new(target.shared.clone())));
    let source = source();
    let message = commit(&source, "INSERT INTO t(b) VALUES('one')");
    let session = CancellationToken::new();
    let AtOnce::Later(message) = at_once(&worker, &session, message) else {
        panic!("there is no database yet")
    };
    let _at_work = worker.lock().expect("the lock");
    let AtOnce::Later(Message::Chunk(_)) = at_once(&worker, &session, message) else {
        panic!("a thread is at work")
    };
}

#[test]
fn nothing_of_a_stream_that_was_given_up_is_taken() {
    let target = Target::new();
    let mut worker = Worker::new(target.shared.clone());
    let (reply, mut request) = tokio::sync::oneshot::channel();
    worker.command(crate::replica::Command::Begin(reply));
    assert!(request.try_recv().is_ok_and(|request| request.is_ok()));
    let waiting = crate::model::DatabaseState::Waiting;
    target.shared.set_state(waiting, "full".to_owned());
    let session = CancellationToken::new();
    session.cancel();
    // It was on its way while the stream was given up.
    let late = Message::Heartbeat {
        position: source().at(32),
        clock_us: 5,
    };
    let worker: Mutex<Box<dyn Work>> = Mutex::new(Box::new(worker));
    let answer = at_once(&worker, &session, late);
    assert!(matches!(answer, AtOnce::Refused));
    let status = target.shared.status();
    assert_eq!((status.state, status.reason.as_str()), (waiting, "full"));
}
