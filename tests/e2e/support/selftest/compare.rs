//! The comparison against planted differences.

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::{open, populated};
use crate::support::Scratch;
use crate::support::child::Spec;
use crate::support::compare::{compare, query};
use crate::support::dump::is_lock_byte_page;
use crate::support::walfile;

/// A copy of the closed database, for planting.
fn copy(scratch: &Scratch) -> PathBuf {
    let to = scratch.join("copy.db");
    std::fs::copy(scratch.join("app.db"), &to).expect("copy");
    to
}

fn flip(path: &Path, at: u64) {
    let file = std::fs::File::options()
        .read(true)
        .write(true)
        .open(path)
        .expect("open");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("read");
    file.write_all_at(&[byte[0] ^ 0xff], at).expect("write");
}

fn verdict(scratch: &Scratch, copy: &Path) -> Result<u64, String> {
    compare(scratch.path(), &scratch.join("app.db"), copy).map(|e| e.pages)
}

#[test]
fn copies_are_equal_at_every_page_size() {
    for page_size in [512, 4096, 65536] {
        let scratch = Scratch::new("equal");
        populated(&scratch, Spec::default().with("page_size", page_size));
        let copy = copy(&scratch);
        let equal = compare(scratch.path(), &scratch.join("app.db"), &copy).expect("equal");
        assert_eq!(equal.page_size, page_size);
        assert!(equal.pages > 5, "{equal:?}");
    }
}

#[test]
fn a_flipped_byte_is_found_with_its_page() {
    let scratch = Scratch::new("flip");
    populated(&scratch, Spec::default());
    let copy = copy(&scratch);
    let pages = verdict(&scratch, &copy).expect("equal at first");
    for page in [2, pages / 2, pages] {
        let at = (page - 1) * 4096 + 4000;
        flip(&copy, at);
        let why = verdict(&scratch, &copy).expect_err("a byte differs");
        assert!(
            why.contains(&format!("1 pages differ, the first: [{page}]")),
            "{why}"
        );
        flip(&copy, at);
    }
    flip(&copy, 61);
    let why = verdict(&scratch, &copy).expect_err("page 1 differs");
    assert!(why.contains("page 1 differs at bytes [61]"), "{why}");
    flip(&copy, 61);
    verdict(&scratch, &copy).expect("equal again");
}

#[test]
fn a_replicas_page_1_is_equal() {
    let scratch = Scratch::new("page1");
    populated(&scratch, Spec::default());
    let copy = copy(&scratch);
    let file = std::fs::File::options()
        .write(true)
        .open(&copy)
        .expect("open");
    file.write_all_at(&[3], 18).expect("write");
    file.write_all_at(&[9, 9, 9, 9], 40).expect("write");
    verdict(&scratch, &copy).expect("equal");
    let refused = query(scratch.path(), &copy, "DELETE FROM acct RETURNING id");
    assert!(refused.expect_err("read-only").contains("readonly"));
    verdict(&scratch, &copy).expect("still equal");
    flip(&copy, 44);
    verdict(&scratch, &copy).expect_err("byte 44 counts");
}

#[test]
fn a_missing_page_and_an_added_one_are_found() {
    let scratch = Scratch::new("length");
    populated(&scratch, Spec::default());
    let copy = copy(&scratch);
    let conn = Connection::open(&copy).expect("open");
    conn.execute_batch("CREATE TABLE more(x)").expect("create");
    drop(conn);
    let why = verdict(&scratch, &copy).expect_err("a page more");
    assert!(why.contains("page_count") && why.contains("rows"), "{why}");

    let short = scratch.join("short.db");
    std::fs::copy(scratch.join("app.db"), &short).expect("copy");
    let len = std::fs::metadata(&short).expect("length").len();
    let file = std::fs::File::options()
        .write(true)
        .open(&short)
        .expect("open");
    file.set_len(len - 4096).expect("cut");
    verdict(&scratch, &short).expect_err("a page less");
}

/// Leaves a change in the log only, as an open application does.
fn change_in_the_log(path: &Path) -> Connection {
    let conn = Connection::open(path).expect("open");
    conn.execute_batch("PRAGMA wal_autocheckpoint = 0; UPDATE acct SET bal = bal + 1; DELETE FROM a WHERE id > 1000;")
        .expect("change");
    conn
}

#[test]
fn frames_in_the_log_count_as_pages() {
    let scratch = Scratch::new("inlog");
    populated(&scratch, Spec::default());
    let copy = copy(&scratch);
    let one = change_in_the_log(&scratch.join("app.db"));
    verdict(&scratch, &copy).expect_err("changed in the log only");
    let other = change_in_the_log(&copy);
    verdict(&scratch, &copy).expect("the same change in both logs");
    // One side in its file, the other in its log.
    let checkpointed: i64 = other
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |r| r.get(0))
        .expect("checkpoint");
    assert_eq!(checkpointed, 0);
    verdict(&scratch, &copy).expect("file against log");
    let partly: i64 = one
        .query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |r| r.get(0))
        .expect("checkpoint");
    assert_eq!(partly, 0);
    one.execute_batch("UPDATE acct SET bal = bal - 1 WHERE id = 1")
        .expect("change");
    verdict(&scratch, &copy).expect_err("one row differs");
    other
        .execute_batch("UPDATE acct SET bal = bal - 1 WHERE id = 1")
        .expect("change");
    verdict(&scratch, &copy).expect("level again, log restarted on one side");
}

#[test]
fn an_uncommitted_tail_is_ignored() {
    let scratch = Scratch::new("tail");
    populated(&scratch, Spec::default());
    let copy = copy(&scratch);
    let one = change_in_the_log(&scratch.join("app.db"));
    let _other = change_in_the_log(&copy);
    // Spilled to the log, never committed.
    one.execute_batch("PRAGMA cache_size = 5; BEGIN; UPDATE a SET t = t || 'spill'; DELETE FROM b")
        .expect("spill");
    let wal = std::fs::File::open(scratch.join("app.db-wal")).expect("open");
    let read = walfile::read(&wal, u32::MAX).expect("read").expect("a WAL");
    let length = wal.metadata().expect("length").len();
    assert!(
        length > 32 + u64::from(read.frames) * (24 + 4096),
        "nothing was spilled"
    );
    verdict(&scratch, &copy).expect("equal: the tail is not committed");
}

#[test]
fn damage_that_only_integrity_check_sees_is_found() {
    let scratch = Scratch::new("integrity");
    populated(&scratch, Spec::default());
    let conn = open(&scratch);
    let sql = "PRAGMA writable_schema = ON; DELETE FROM sqlite_schema WHERE name = 'b'";
    conn.execute_batch(sql).expect("plant");
    drop(conn);
    let copy = copy(&scratch);
    let why = verdict(&scratch, &copy).expect_err("both are damaged alike");
    assert!(why.contains("integrity_check"), "{why}");
}

#[test]
fn the_wal_parser_agrees_with_sqlite_and_stops_at_damage() {
    let scratch = Scratch::new("walfile");
    populated(&scratch, Spec::default());
    let conn = change_in_the_log(&scratch.join("app.db"));
    let frames: u32 = conn
        .query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |r| r.get(1))
        .expect("checkpoint");
    let path = scratch.join("copy-wal");
    std::fs::copy(scratch.join("app.db-wal"), &path).expect("copy");
    let read = |limit| {
        let file = std::fs::File::open(&path).expect("open");
        walfile::read(&file, limit).expect("read")
    };
    let whole = read(u32::MAX).expect("a WAL");
    assert_eq!((whole.frames, whole.commits), (frames, 2));
    assert!(
        read(frames - 1).expect("a WAL").frames < frames,
        "the last commit is cut off"
    );
    let in_last = 32 + u64::from(frames - 1) * (24 + 4096) + 100;
    flip(&path, in_last);
    assert_eq!(
        read(u32::MAX).expect("a WAL").commits,
        1,
        "its commit is not valid"
    );
    flip(&path, 17);
    assert!(read(u32::MAX).is_none(), "a damaged header");
}

#[test]
fn the_lock_byte_page_is_the_one_at_1_gib() {
    for (page_size, number) in [(512, 2_097_153), (4096, 262_145), (65536, 16385)] {
        assert!(is_lock_byte_page(number, page_size));
        assert!(!is_lock_byte_page(number - 1, page_size));
        assert!(!is_lock_byte_page(number + 1, page_size));
    }
}
