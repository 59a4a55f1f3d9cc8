//! A log that was damaged while walcast was away, under readers who keep its wal-index.

use super::*;
use crate::disk::fault::{Plan, with_plan};
use crate::replica::checkpointer::Done;
use crate::replica::record::Durable;
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

/// A copy whose log holds several versions of a page, and a reader that keeps its wal-index; walcast is away.
fn left_to_a_reader() -> (Source, Target, Connection) {
    let source = Source::new(4096);
    source.run("CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT); INSERT INTO t(b) VALUES('0')");
    let target = Target::new();
    let mut applier = target.seeded(&source);
    let reader = target.reader();
    reader
        .execute_batch("PRAGMA cache_size = 1; BEGIN")
        .expect("a transaction");
    rows(&reader);
    for n in 1..5 {
        source.run(&format!("UPDATE t SET b = '{n}'"));
        catch_up(&mut applier, &source);
    }
    reader
        .execute_batch("COMMIT; BEGIN")
        .expect("another transaction");
    assert_eq!(rows(&reader)[0].1, "4");
    let last = applier.machine.local().expect("a mark").point.position;
    tick_until(&mut applier, |_| target.shared.durable() == Some(last));
    applier.close();
    (source, target, reader)
}

fn flip(target: &Target, offset: u64) {
    let log = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(target.path.with_extension("db-wal"))
        .expect("the log");
    let mut byte = [0];
    log.read_exact_at(&mut byte, offset).expect("a byte");
    log.write_all_at(&[byte[0] ^ 4], offset).expect("another");
}

fn is_damaged(applier: &Applier) -> bool {
    let local = applier.local.as_ref().expect("it is open");
    local.log().damage().is_some()
}

/// What a machine finds after a power cut: the files without the shared memory.
fn recovered(target: &Target) -> Vec<(i64, String)> {
    let copy = tempfile::tempdir().expect("a directory");
    for name in ["copy.db", "copy.db-wal"] {
        let from = target.directory.path().join(name);
        std::fs::copy(from, copy.path().join(name)).expect("copied");
    }
    rows(&reader(&copy.path().join("copy.db")))
}

/// Damage at `offset` of the log: nothing becomes durable before it has begun anew, and what is then is.
fn heals_from(offset: u64) {
    let (source, target, reader) = left_to_a_reader();
    let before = target.shared.durable().expect("all of it was synced");
    flip(&target, offset);
    let mut applier = target.open();
    assert!(is_damaged(&applier), "damage at {offset} is not seen");
    source.run("UPDATE t SET b = 'behind the damage'");
    catch_up(&mut applier, &source);
    let newest = applier.machine.local().expect("a mark").point.position;
    for _ in 0..3 {
        applier.last_sync -= Duration::from_secs(1);
        applier.tick(true).expect("house kept");
    }
    assert!(is_damaged(&applier), "a reader is on the log");
    assert_eq!(target.shared.durable(), Some(before));
    let status = target.shared.status();
    assert!(status.reason.contains("is damaged"), "{status:?}");
    // Nothing that the reader needs was written over.
    assert_eq!(rows(&reader)[0].1, "4");

    reader.execute_batch("COMMIT").expect("its end");
    tick_until(&mut applier, |applier| !is_damaged(applier));
    source.run("UPDATE t SET b = 'in a log that is whole'");
    catch_up(&mut applier, &source);
    let last = applier.machine.local().expect("a mark").point.position;
    assert!(last > newest);
    let shared = target.shared.clone();
    tick_until(&mut applier, |_| shared.durable() == Some(last));
    assert_eq!(recovered(&target), rows(&source.sql));
    assert_eq!(rows(&reader), rows(&source.sql));
    let status = target.shared.status();
    assert!(!status.reason.contains("is damaged"), "{status:?}");
}

#[test]
fn a_frame_whose_page_came_again_breaks_the_chain() {
    // In the page of the first frame.
    heals_from(32 + 24 + 4000);
}

#[test]
fn a_log_with_a_damaged_header_is_not_written_over_under_its_readers() {
    // In its first salt.
    heals_from(17);
}

#[test]
fn a_sync_that_failed_is_not_made_good_by_the_next() {
    let (source, target, reader) = left_to_a_reader();
    let before = target.shared.durable().expect("all of it was synced");
    let mut applier = target.open();
    source.run("UPDATE t SET b = 'not on the disk'");
    catch_up(&mut applier, &source);
    let error = crate::disk::DiskError {
        op: "durable.sync-wal",
        path: target.path.with_extension("db-wal"),
        source: std::io::Error::from_raw_os_error(nix::libc::EIO),
    };
    applier
        .done
        .0
        .send(Done::Unsynced(error))
        .expect("it is heard");
    for _ in 0..3 {
        applier.last_sync -= Duration::from_secs(1);
        applier.tick(true).expect("house kept");
    }
    assert!(is_damaged(&applier), "a reader is on the log");
    assert_eq!(target.shared.durable(), Some(before));
    reader.execute_batch("COMMIT").expect("its end");
    tick_until(&mut applier, |applier| !is_damaged(applier));
    let last = applier.machine.proven().expect("a mark").point.position;
    assert!(last > before);
    tick_until(&mut applier, |_| target.shared.durable() == Some(last));
    assert_eq!(recovered(&target), rows(&source.sql));
}

#[test]
fn a_sync_that_failed_is_not_made_good_by_an_end_in_order_or_another_start() {
    let (source, target, reader) = left_to_a_reader();
    let before = target.shared.durable().expect("all of it was synced");
    let noted = || {
        let durable = Durable::open(&target.side()).expect("a record");
        durable.mark().expect("a state").point.position
    };
    let mut applier = target.open();
    source.run("UPDATE t SET b = 'not on the disk'");
    catch_up(&mut applier, &source);
    // As the checkpointer's thread meets it, and nobody has heard of it when the end comes.
    let log = applier.local.as_ref().expect("it is open").log();
    let plan = Plan::parse("durable.sync-wal=eio@1").expect("a plan");
    let (synced, _) = with_plan(plan, || log.doubts().sync("durable.sync-wal", log.file()));
    synced.expect_err("the disk failed");
    applier.close();
    assert_eq!(noted(), before);

    let mut applier = target.open();
    assert!(is_damaged(&applier), "it was forgotten");
    for _ in 0..3 {
        applier.last_sync -= Duration::from_secs(1);
        applier.tick(true).expect("house kept");
    }
    applier.close();
    assert_eq!(noted(), before);

    let mut applier = target.open();
    reader.execute_batch("COMMIT").expect("its end");
    tick_until(&mut applier, |applier| !is_damaged(applier));
    let last = applier.machine.proven().expect("a mark").point.position;
    assert!(last > before);
    tick_until(&mut applier, |_| target.shared.durable() == Some(last));
    assert_eq!(noted(), last);
    assert!(!target.side().join("unsynced").exists());
    assert_eq!(recovered(&target), rows(&source.sql));
}

#[test]
fn a_sync_of_a_log_without_frames_that_failed_is_over_with_its_header() {
    let source = Source::new(4096);
    source.run("CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT); INSERT INTO t(b) VALUES('0')");
    let target = Target::new();
    let mut applier = target.seeded(&source);
    let last = applier.machine.proven().expect("a mark");
    let log = applier.local.as_ref().expect("it is open").log();
    assert_eq!(log.next(), 0);
    let plan = Plan::parse("durable.sync-wal=eio@1").expect("a plan");
    let (synced, _) = with_plan(plan, || log.doubts().sync("durable.sync-wal", log.file()));
    synced.expect_err("the disk failed");
    tick_until(&mut applier, |_| {
        target.shared.durable() == Some(last.point.position)
    });
    assert!(!target.side().join("unsynced").exists());
}
