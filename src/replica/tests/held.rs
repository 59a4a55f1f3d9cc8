//! A reader that holds a state which is copied whole: the log must not begin anew under it.

use super::*;
use crate::replica::checkpointer::{Checkpointer, Done};
use crate::replica::record::Durable;
use rusqlite::Connection;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

fn copied(path: &std::path::Path) {
    let other = Connection::open(path).expect("a connection");
    let (log, copied): (u32, u32) = other
        .query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| {
            Ok((row.get(1)?, row.get(2)?))
        })
        .expect("a checkpoint");
    assert!(log > 0 && log == copied, "{copied} of {log} frames");
}

#[test]
fn the_log_does_not_begin_anew_under_a_reader_of_its_newest_state() {
    let source = Source::new(4096);
    source.run("CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT)");
    let mut target = Target::new();
    let mut applier = target.seeded(&source);
    let fill = |text: &str| {
        source.run(&format!(
            "DELETE FROM t; INSERT INTO t(b) SELECT hex(zeroblob(3000)) || '{text}' FROM json_each('[1,2,3,4,5,6,7,8,9,10,11,12]')"
        ));
    };
    fill("first");
    catch_up(&mut applier, &source);
    let reader = target.reader();
    reader
        .execute_batch("PRAGMA cache_size = 1; BEGIN")
        .expect("a transaction");
    let before = rows(&reader);
    assert_eq!(before.len(), 12);
    // Everything that a restart asks for is there, but for the reader's lock.
    copied(&target.path);
    applier.close();
    target.soft_limit(1);
    let mut applier = target.open();
    applier.tick(true).expect("house kept");
    for text in ["second", "third", "fourth"] {
        fill(text);
        catch_up(&mut applier, &source);
        applier.tick(true).expect("house kept");
        assert!(rows(&reader) == before, "the state of the reader changed");
    }
    reader.execute_batch("COMMIT").expect("its end");
    catch_up(&mut applier, &source);
    assert!(rows(&reader) == rows(&source.sql));
    assert_eq!(check(&reader), "ok");
}

#[test]
fn a_log_at_many_times_its_limit_begins_anew_soon_after_its_reader_ends() {
    let source = Source::new(4096);
    source.run("CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT)");
    let mut target = Target::new();
    target.soft_limit(1);
    let mut applier = target.seeded(&source);
    let reader = target.reader();
    reader.execute_batch("BEGIN").expect("a transaction");
    rows(&reader);
    source.run("INSERT INTO t(b) VALUES('one')");
    catch_up(&mut applier, &source);
    // In vain, and as long as a pause gets.
    applier.tick(false).expect("house kept");
    let frames = |applier: &Applier| applier.local.as_ref().map(|local| local.backfill().0);
    assert!(frames(&applier) > Some(0), "the reader was not in the way");
    reader.execute_batch("COMMIT").expect("its end");
    copied(&target.path);
    let deadline = Instant::now() + Duration::from_secs(60);
    while frames(&applier) > Some(0) {
        applier.tick(true).expect("house kept");
        assert!(Instant::now() < deadline, "it does not begin anew");
    }
}

#[test]
fn what_is_applied_does_not_wait_for_the_checkpoint_of_most_of_the_log() {
    let source = Source::new(4096);
    source.run("CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT)");
    let target = Target::with_soft_limit(4 << 20);
    let mut applier = target.seeded(&source);
    let ordered = |applier: &Applier| {
        let checkpointer = applier.checkpointer.as_ref().expect("it is open");
        checkpointer.checkpointing
    };
    let bytes = || target.shared.status().wal_bytes;
    while !ordered(&applier) {
        assert!(bytes() < 4 << 20, "no checkpoint goes before a pause");
        source.run("INSERT INTO t(b) VALUES(hex(randomblob(50000)))");
        catch_up(&mut applier, &source);
    }
    // Whoever had waited for it would know its end.
    assert!((3 << 20..4 << 20).contains(&bytes()), "{}", bytes());
    tick_until(&mut applier, |applier| {
        let local = applier.local.as_ref();
        local.is_some_and(|local| local.backfill().0 == 0)
    });
    let reader = target.reader();
    assert!(rows(&reader) == rows(&source.sql));
    assert_eq!(check(&reader), "ok");
}

#[test]
fn what_a_reader_made_the_log_grow_to_is_given_back() {
    let source = Source::new(4096);
    source.run("CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT)");
    let target = Target::with_soft_limit(64 << 10);
    let mut applier = target.seeded(&source);
    source.run("INSERT INTO t(b) VALUES('what the reader sees')");
    catch_up(&mut applier, &source);
    let reader = target.reader();
    reader.execute_batch("BEGIN").expect("a transaction");
    rows(&reader);
    for _ in 0..20 {
        source.run("INSERT INTO t(b) VALUES(hex(randomblob(20000)))");
        catch_up(&mut applier, &source);
    }
    let log = target.path.with_extension("db-wal");
    let size = || std::fs::metadata(&log).expect("the log").len();
    let grown = size();
    assert!(grown > 4 * (64 << 10), "{grown} bytes");
    reader.execute_batch("COMMIT").expect("its end");

    let deadline = Instant::now() + Duration::from_secs(60);
    while size() > 2 * (64 << 10) {
        applier.tick(true).expect("house kept");
        assert!(Instant::now() < deadline, "{} bytes are kept", size());
    }
    source.run("INSERT INTO t(b) VALUES('behind it')");
    catch_up(&mut applier, &source);
    assert_eq!(rows(&reader), rows(&source.sql));
    assert_eq!(check(&reader), "ok");
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_that_fails_for_good_is_tried_with_pauses_that_grow() {
    let source = source_with_rows(4096, 5);
    let target = Target::new();
    let mut applier = target.seeded(&source);
    let log = applier.local.as_ref().expect("it is open").log();
    let log = (log.file().clone(), log.doubts().clone());
    let durable = Durable::open(&target.side()).expect("a record");
    let (tried, heard) = (Arc::new(AtomicU32::new(0)), applier.done.0.clone());
    let count = tried.clone();
    let (ended, end) = std::sync::mpsc::channel();
    let done = move |done: Done| {
        let checkpoint = matches!(&done, Done::Checkpoint(result) if result.is_err());
        let _ = heard.send(done);
        if checkpoint {
            count.fetch_add(1, Ordering::Relaxed);
            let _ = ended.send(());
        }
    };
    let missing = target.directory.path().join("missing.db");
    applier.checkpointer = Some(Checkpointer::new("copy", &missing, log, durable, done));
    // More than is left uncopied where a checkpoint can be had.
    source.run("INSERT INTO t(b) VALUES(hex(randomblob(5000000)))");
    catch_up(&mut applier, &source);
    for _ in 0..200 {
        // As each end of a checkpoint wakes it.
        applier.tick(false).expect("house kept");
        let is_under_way = |checkpointer: &Checkpointer| checkpointer.checkpointing;
        if applier.checkpointer.as_ref().is_some_and(is_under_way) {
            end.recv().expect("its end");
        }
        tokio::time::advance(Duration::from_millis(5)).await;
    }
    let tried = tried.load(Ordering::Relaxed);
    assert!((2..10).contains(&tried), "{tried} times in a second");
}
