//! The end of a replica while it runs: all of it, or nothing.

use super::*;
use crate::disk::fault::{Plan, with_plan};
use crate::model::DatabaseState;
use crate::replica::Command;
use crate::replica::worker::{Next, Work as _, Worker};
use tokio::sync::oneshot;

fn source(page_size: u32) -> Source {
    let source = Source::new(page_size);
    source.run("CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT)");
    for n in 0..300 {
        source.run(&format!("INSERT INTO t(b) VALUES('{n:0>60}')"));
    }
    source
}

/// What is answered, and whether the replica goes on.
fn detach(worker: &mut Worker, faults: &str) -> (Result<Option<Position>, String>, bool) {
    let plan = Plan::parse(faults).expect("a plan");
    let (reply, mut answer) = oneshot::channel();
    let (next, _) = with_plan(plan, || worker.command(Command::Detach(reply)));
    let answer = answer.try_recv().expect("an answer");
    (answer, matches!(next, Next::More))
}

#[test]
fn a_snapshot_of_another_page_size_that_never_ended_leaves_the_database_whole() {
    let (source, smaller) = (source(4096), source(1024));
    let target = Target::new();
    let mut applier = target.seeded(&source);
    applier.request();
    let mut messages = smaller.snapshot();
    messages.pop();
    feed(&mut applier, messages);
    applier.detach().expect("detached");
    crate::replica::detach::finish(&target.path).expect("nothing is left");
    let reader = target.reader();
    assert_eq!(check(&reader), "ok");
    assert_eq!(rows(&reader), rows(&source.sql));
    reader
        .execute_batch("INSERT INTO t(b) VALUES('mine now')")
        .expect("writable");
}

#[test]
fn one_that_fails_leaves_a_replica_that_goes_on() {
    let source = source(4096);
    let target = Target::new();
    let mut worker = Worker::new(target.shared.clone());
    assert!(stream(&mut worker, &target, &source));
    let last = source.chunks(100).last().map(Chunk::end);
    for faults in ["wal.append=enospc@1", "detach.sync-wal=eio@1"] {
        let (answer, goes_on) = detach(&mut worker, faults);
        let reason = answer.expect_err(faults);
        assert!(reason.contains("copy.db-wal"), "{reason}");
        assert!(goes_on, "{faults}");
        let written = target
            .reader()
            .execute_batch("INSERT INTO t(b) VALUES('mine')");
        assert!(written.is_err(), "{faults}: it is still a replica");
    }
    source.run("INSERT INTO t(b) VALUES('the next')");
    assert!(stream(&mut worker, &target, &source));
    assert_eq!(rows(&target.reader()), rows(&source.sql));
    let (answer, goes_on) = detach(&mut worker, "");
    let position = answer.expect("detached");
    assert!(position > last && !goes_on);
    assert_eq!(target.shared.status().state, DatabaseState::Stopped);
    target
        .reader()
        .execute_batch("INSERT INTO t(b) VALUES('mine now')")
        .expect("writable");
}

#[test]
fn what_cannot_be_removed_is_told_and_nothing_follows_any_more() {
    let source = source(4096);
    let target = Target::new();
    let mut worker = Worker::new(target.shared.clone());
    assert!(stream(&mut worker, &target, &source));
    let (answer, goes_on) = detach(&mut worker, "detach.remove=eio@1");
    let reason = answer.expect_err("its directory is still there");
    assert!(
        reason.contains("copy.db is an ordinary database now")
            && reason.contains("copy.db-walcast"),
        "{reason}"
    );
    assert!(!goes_on);
    let status = target.shared.status();
    assert_eq!(
        (status.state, status.reason),
        (DatabaseState::Failed, reason)
    );
}

#[test]
fn what_has_no_database_yet_is_not_detached() {
    let source = source(4096);
    let target = Target::new();
    let mut worker = Worker::new(target.shared.clone());
    let (answer, goes_on) = detach(&mut worker, "");
    assert_eq!(answer, Err("it holds no database yet".to_owned()));
    assert!(goes_on);
    assert!(stream(&mut worker, &target, &source));
    assert_eq!(rows(&target.reader()), rows(&source.sql));
}

#[test]
fn a_position_that_is_not_proven_is_not_named() {
    let source = source(4096);
    let target = Target::new();
    target.seeded(&source).close();
    let mut bytes = std::fs::read(&target.path).expect("the file");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&target.path, bytes).expect("damaged");
    let mut worker = Worker::new(target.shared.clone());
    let (answer, _) = detach(&mut worker, "");
    assert_eq!(answer, Ok(None));
}
