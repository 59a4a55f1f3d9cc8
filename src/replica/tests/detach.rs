//! The end of a replica while it runs: all of it, or nothing.

use super::*;
use crate::disk::fault::{Plan, with_plan};
use crate::model::DatabaseState;
use crate::ownership::{self, OwnershipError};
use crate::replica::Command;
use crate::replica::open::{Opened, open_local};
use crate::replica::record::{Durable, Record};
use crate::replica::worker::{Next, Work as _, Worker};
use std::panic::{AssertUnwindSafe, catch_unwind};
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

/// Why a replica that starts on it does not take it.
fn refusal(target: &Target) -> String {
    match Applier::open(target.shared.clone(), target.side()) {
        Ok(_) => panic!("it was taken back"),
        Err(error) => error.to_string(),
    }
}

const MINE: &str = "INSERT INTO t(b) VALUES('mine now')";

#[test]
fn a_database_that_was_detached_is_not_taken_back() {
    let source = source(4096);
    let target = Target::new();
    let mut applier = target.seeded(&source);
    source.run("INSERT INTO t(b) VALUES('in the log')");
    catch_up(&mut applier, &source);
    let reader = target.reader();
    reader.execute_batch("BEGIN").expect("a transaction");
    let before = rows(&reader).len();
    applier.detach().expect("detached");
    crate::replica::detach::finish(&target.path).expect("nothing is left");
    let app = target.reader();
    app.execute_batch(MINE).expect("writable");
    // The reader keeps the page that says so from the file.
    let refused = refusal(&target);
    assert!(refused.contains("copy.db was detached"), "{refused}");
    assert!(refused.contains("walcast detach --db"), "{refused}");
    assert_eq!(rows(&app).len(), before + 1);
    reader.execute_batch("COMMIT").expect("its end");
    app.execute_batch("PRAGMA wal_checkpoint(TRUNCATE); INSERT INTO t(b) VALUES('more')")
        .expect("still theirs");
    let refused = refusal(&target);
    assert!(refused.contains("no replica made by walcast"), "{refused}");
    assert_eq!(rows(&app).len(), before + 2);
}

#[test]
fn a_detach_that_was_killed_is_not_undone_and_can_be_repeated() {
    let source = source(4096);
    let target = Target::new();
    target.seeded(&source).close();
    let side = target.side();
    let mut record = Record::open(&side).expect("a record");
    let durable = Durable::open(&side).expect("a record").mark();
    assert!(durable.is_some());
    let opened = open_local(
        &target.path,
        target.shared.raw_file(),
        &side,
        &mut record,
        durable,
        &|_| {},
    );
    let Ok(Opened::Database { local, .. }) = opened else {
        panic!("a replica")
    };
    local.release_writable(&mut record).expect("detached");
    drop(record);
    let app = target.reader();
    app.execute_batch(MINE).expect("writable");
    let kept = rows(&app);
    let refused = refusal(&target);
    assert!(refused.contains("was detached"), "{refused}");
    app.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")
        .expect("in the file");
    let refused = refusal(&target);
    assert!(refused.contains("was detached"), "{refused}");
    // In the middle of what is removed.
    let (answer, goes_on) = detach(
        &mut Worker::new(target.shared.clone()),
        "detach.remove=eio@3",
    );
    let reason = answer.expect_err("some of it is still there");
    assert!(reason.contains("ordinary database now"), "{reason}");
    assert!(!goes_on);
    let refused = refusal(&target);
    assert!(refused.contains("was detached"), "{refused}");
    let (answer, goes_on) = detach(&mut Worker::new(target.shared.clone()), "");
    assert_eq!(answer, Ok(None));
    assert!(!goes_on && !side.exists());
    assert_eq!(rows(&app), kept);
    app.execute_batch(MINE).expect("writable");
}

#[test]
fn one_without_a_server_that_was_killed_can_be_repeated() {
    let source = source(4096);
    let target = Target::new();
    let mut applier = target.seeded(&source);
    source.run("INSERT INTO t(b) VALUES('in the log')");
    catch_up(&mut applier, &source);
    applier.detach().expect("detached");
    target.shared.let_go();
    let position = crate::replica::detach_offline(&target.path).expect("the rest of it");
    assert_eq!(position, None);
    assert!(!ownership::directory_of(&target.path).exists());
    target.reader().execute_batch(MINE).expect("writable");
}

#[test]
fn a_detach_that_was_noted_and_never_shown_leaves_a_replica() {
    let source = source(4096);
    let target = Target::new();
    target.seeded(&source).close();
    let mut record = Record::open(&target.side()).expect("a record");
    record.note_detached(true).expect("noted");
    let mut applier = target.open();
    source.run("INSERT INTO t(b) VALUES('the next')");
    catch_up(&mut applier, &source);
    assert_eq!(rows(&target.reader()), rows(&source.sql));
    let record = Record::open(&target.side()).expect("a record");
    assert!(!record.detached);
}

#[test]
fn who_waits_for_the_lock_gets_it_last() {
    let source = source(4096);
    let target = Target::new();
    let mut worker = Worker::new(target.shared.clone());
    assert!(stream(&mut worker, &target, &source));
    let plan = Plan::parse("detach.remove=panic@1").expect("a plan");
    let (reply, _answer) = oneshot::channel();
    let stopped = || worker.command(Command::Detach(reply));
    let (stopped, _) = with_plan(plan, || catch_unwind(AssertUnwindSafe(stopped)).is_err());
    assert!(stopped, "nothing was removed");
    let second = ownership::take(&target.side()).expect_err("it is not free");
    assert!(matches!(second, OwnershipError::Held { .. }), "{second}");
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
    for (faults, file) in [
        ("shm.append=enospc@1", "copy.db"),
        ("wal.append=enospc@1", "copy.db-wal"),
        ("detach.sync-wal=eio@1", "copy.db-wal"),
    ] {
        let (answer, goes_on) = detach(&mut worker, faults);
        let reason = answer.expect_err(faults);
        assert!(reason.contains(file), "{reason}");
        assert!(goes_on, "{faults}");
        // Who opens it now is alone, and makes the wal-index anew from what is in the log.
        let written = target
            .reader()
            .execute_batch("INSERT INTO t(b) VALUES('mine')");
        assert!(written.is_err(), "{faults}: it is still a replica");
    }
    source.run("INSERT INTO t(b) VALUES('the next')");
    assert!(stream(&mut worker, &target, &source));
    assert_eq!(rows(&target.reader()), rows(&source.sql));
    let noted = std::fs::read_to_string(target.side().join("replica")).expect("its notes");
    assert!(!noted.contains("detached"), "{noted}");
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
