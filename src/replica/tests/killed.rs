//! What a kill leaves, and what is still known of it.

use super::*;
use crate::disk::fault::{Plan, with_plan};
use crate::format::walindex::IndexHeader;
use crate::replica::checkpointer::Checkpointer;
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

fn source() -> Source {
    let source = Source::new(4096);
    source.run("CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT); INSERT INTO t(b) VALUES('first')");
    source
}

fn backfill(applier: &Applier) -> (u32, u32) {
    applier.local.as_ref().expect("it is open").backfill()
}

/// All of the log is in the file.
fn checkpoint(applier: &mut Applier) {
    applier
        .checkpointer
        .as_mut()
        .expect("it is open")
        .checkpoint();
    tick_until(applier, |applier| {
        let (frames, copied) = backfill(applier);
        // Until it has ended it has its lock.
        let has_ended = |c: &Checkpointer| !c.checkpointing;
        frames == copied && applier.checkpointer.as_ref().is_some_and(has_ended)
    });
}

#[test]
fn a_log_that_has_more_frames_copied_than_it_has_is_seen_from_its_first() {
    let source = source();
    let target = Target::new();
    let mut applier = target.seeded(&source);
    let reader = target.reader();
    for n in 0..20 {
        source.run(&format!("INSERT INTO t(b) VALUES('{n}')"));
        catch_up(&mut applier, &source);
    }
    assert_eq!(rows(&reader).len(), 21);
    checkpoint(&mut applier);
    assert!(backfill(&applier).0 >= 20);
    applier.close();
    // As `walRestartHdr` leaves it when it is killed behind its header.
    let shm = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(target.path.with_extension("db-shm"))
        .expect("the shared memory");
    change_header(&shm, |header| IndexHeader {
        mx_frame: 0,
        salt: [header.salt[0].wrapping_add(1), 7],
        ..header
    });
    // To close it would drop this process's locks.
    std::mem::forget(shm);
    let mut applier = target.open();
    for n in 0..40 {
        source.run(&format!("INSERT INTO t(b) VALUES('after {n}')"));
        catch_up(&mut applier, &source);
        assert_eq!(rows(&reader), rows(&source.sql), "after {n}");
    }
    assert_eq!(check(&reader), "ok");
}

#[test]
fn the_state_that_is_visible_keeps_its_name_however_often_the_next_one_fails() {
    let source = source();
    let target = Target::new();
    let mut applier = target.seeded(&source);
    source.run("INSERT INTO t(b) VALUES('second')");
    catch_up(&mut applier, &source);
    let visible = applier.machine.proven().expect("it is level");
    source.run("INSERT INTO t(b) VALUES('third')");
    for _ in 0..3 {
        let plan = Plan::parse("wal.append=enospc@1").expect("a plan");
        let (result, _) = with_plan(plan, || {
            let mark = applier.request().mark.expect("a mark");
            let mut messages = source.since(&mark, 100).into_iter();
            messages.try_for_each(|message| applier.message(message))
        });
        assert!(result.expect_err("no room").is_disk_full());
    }
    // Killed: nothing is said at the end. And nothing is known to be durable.
    drop(applier);
    std::fs::remove_file(target.side().join("durable")).expect("removed");
    let applier = target.open();
    assert_eq!(applier.machine.proven(), Some(visible));
}

#[test]
fn a_copy_that_is_not_proven_calls_nothing_durable() {
    let source = source();
    let target = Target::new();
    let mut applier = target.seeded(&source);
    let level = applier.machine.proven().expect("it is level");
    tick_until(&mut applier, |_| {
        target.shared.durable() == Some(level.point.position)
    });
    applier.close();
    let mut bytes = std::fs::read(&target.path).expect("the file");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&target.path, bytes).expect("damaged");
    // Another process.
    let shared = Arc::new(Shared::new(target.shared.config.clone()));
    let mut applier = Applier::open(shared.clone(), target.side()).expect("an applier");
    assert!(applier.machine.proven().is_none());
    for _ in 0..3 {
        applier.last_sync -= Duration::from_secs(1);
        applier.tick(true).expect("house kept");
    }
    assert!(applier.is_calm(), "nothing is to be made durable");
    applier.close();
    assert_eq!(shared.durable(), None);
}

#[test]
fn pages_that_could_not_be_synced_are_copied_once_more() {
    let source = source();
    let target = Target::new();
    let mut applier = target.seeded(&source);
    source.run("INSERT INTO t(b) VALUES('second')");
    catch_up(&mut applier, &source);
    checkpoint(&mut applier);
    let (frames, _) = backfill(&applier);
    let plan = Plan::parse("restart.sync-db=eio@1").expect("a plan");
    let local = applier.local.as_mut().expect("it is open");
    let (failed, _) = with_plan(plan, || local.try_restart(0));
    assert!(failed.is_err());
    assert_eq!(backfill(&applier), (frames, 0));
    checkpoint(&mut applier);
    let local = applier.local.as_mut().expect("it is open");
    assert!(local.try_restart(0).expect("synced"));
    assert_eq!(rows(&target.reader()), rows(&source.sql));
}

#[test]
fn room_is_reserved_again_when_the_checkpoint_before_a_new_log_cut_the_file() {
    let source = source();
    source.run("INSERT INTO t(b) VALUES(hex(randomblob(4000000)))");
    let target = Target::new();
    let mut applier = target.seeded(&source);
    source.run("DELETE FROM t; VACUUM");
    catch_up(&mut applier, &source);
    checkpoint(&mut applier);
    let blocks = || std::fs::metadata(&target.path).expect("the file").blocks() * 512;
    assert!(blocks() < 1 << 20, "it was cut");
    let local = applier.local.as_mut().expect("it is open");
    // A look around may have done so already.
    let begun = local.try_restart(0).expect("nobody reads");
    assert!(begun || local.backfill() == (0, 0));
    // It reads the file alone, so nothing can be copied into it.
    let reader = target.reader();
    reader.execute_batch("BEGIN").expect("a transaction");
    assert_eq!(rows(&reader).len(), 0);
    source.run("INSERT INTO t(b) VALUES(hex(randomblob(2000000)))");
    catch_up(&mut applier, &source);
    assert_eq!(backfill(&applier).1, 0);
    assert!(blocks() > 4_000_000, "{} are reserved", blocks());
}
