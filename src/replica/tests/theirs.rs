//! A database of somebody else where the copy is, or was, or will be.

use super::*;

#[test]
fn a_database_of_somebody_else_is_left_alone() {
    let target = Target::new();
    let theirs = reader(&target.path);
    theirs
        .execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE mine(x)")
        .expect("a database");
    drop(theirs);
    let Err(error) = Applier::open(target.shared.clone(), target.side()) else {
        panic!("refused")
    };
    assert!(
        error.to_string().contains("no replica made by walcast"),
        "{error}"
    );
    assert_eq!(check(&target.reader()), "ok");
    let tables = target
        .reader()
        .query_row("SELECT count(*) FROM mine", [], |r| r.get::<_, i64>(0));
    assert_eq!(tables.expect("still there"), 0);
}

#[test]
fn a_snapshot_never_takes_the_place_of_a_database_that_came_meanwhile() {
    let source = source_with_rows(4096, 5);
    let target = Target::new();
    let mut applier = target.open();
    applier.request();
    let mut messages = source.snapshot();
    let last = messages.pop().expect("the snapshot's end");
    feed(&mut applier, messages);
    let theirs = reader(&target.path);
    theirs
        .execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE mine(x); INSERT INTO mine VALUES(1)")
        .expect("a database");
    let files = || {
        ["copy.db", "copy.db-wal", "copy.db-shm"].map(|name| {
            let file = std::fs::metadata(target.directory.path().join(name));
            std::os::unix::fs::MetadataExt::ino(&file.expect("it is there"))
        })
    };
    let before = files();
    let error = applier.message(last).expect_err("refused");
    assert!(!error.is_diverged(), "{error}");
    assert_eq!(files(), before);
    theirs
        .execute_batch("INSERT INTO mine VALUES(2)")
        .expect("still theirs");
    assert!(applier.is_behind_its_file());
    drop(applier);
    assert_is_theirs(&target);
}

/// It is not taken for a replica, and has its two rows.
fn assert_is_theirs(target: &Target) {
    let Err(error) = Applier::open(target.shared.clone(), target.side()) else {
        panic!("it was taken")
    };
    assert!(
        error.to_string().contains("no replica made by walcast"),
        "{error}"
    );
    let count = target
        .reader()
        .query_row("SELECT count(*) FROM mine", [], |r| r.get::<_, i64>(0));
    assert_eq!(count.expect("their table"), 2);
}

#[test]
fn a_database_that_took_the_place_of_the_copy_is_left_alone() {
    let source = source_with_rows(4096, 5);
    let target = Target::new();
    target.seeded(&source).close();
    // Beside it and not in its place: the number of a file that is gone may be given again.
    let other = target.directory.path().join("other.db");
    reader(&other)
        .execute_batch(
            "PRAGMA journal_mode=WAL; CREATE TABLE mine(x); INSERT INTO mine VALUES(1), (2)",
        )
        .expect("a database");
    std::fs::rename(&other, &target.path).expect("in its place");
    assert_is_theirs(&target);
}
