//! Every position, and times in between: the same bytes as SQLite had there.

use crate::kit::{source, take};
use crate::maker::{Maker, START_US, STEP_US, eventful, sum, write};
use std::collections::BTreeSet;
use walcast::archive::Key;
use walcast::format::position::{Generation, Position};
use walcast::restore::{Catalog, RestoreError, Target, newest};

#[test]
fn every_position_comes_back() {
    let maker = eventful();
    assert!(maker.states.len() > 100, "{}", maker.states.len());
    for state in &maker.states {
        let (bytes, outcome) =
            take(&maker.root, Target::Position(state.position), false).expect("restored");
        assert!(bytes == state.bytes, "{} differs", state.position);
        let restored = outcome.restored;
        assert_eq!(restored.position, state.position);
        assert_eq!(restored.time_us, Some(state.time_us));
        assert_eq!(restored.dbsum, sum(&bytes, 1024));
        assert!(restored.is_recorded);
    }
    let (bytes, outcome) = take(&maker.root, Target::Newest, false).expect("restored");
    assert!(bytes == maker.newest().bytes);
    assert_eq!(outcome.restored.position, maker.newest().position);
}

#[test]
fn every_time_gives_the_last_commit_before_it() {
    let maker = eventful();
    for state in &maker.states {
        for later in [0, 1, STEP_US - 1] {
            let (bytes, outcome) =
                take(&maker.root, Target::Time(state.time_us + later), false).expect("restored");
            assert_eq!(
                outcome.restored.position, state.position,
                "{later} µs later"
            );
            assert!(bytes == state.bytes);
        }
    }
    let far = take(&maker.root, Target::Time(i64::MAX), false).expect("restored");
    assert!(far.0 == maker.newest().bytes);
    let error = take(&maker.root, Target::Time(START_US - 1), false).expect_err("too early");
    assert!(
        matches!(error, RestoreError::TooEarlyTime { .. }),
        "{error}"
    );
    assert!(
        error.to_string().contains("2023-11-14T22:13:19.999999Z"),
        "{error}"
    );
}

#[test]
fn an_archive_without_documents_comes_back_as_far_as_it_can_be_known() {
    let maker = eventful();
    maker.without_documents();
    // Which history is the newest, the objects' times tell.
    let (bytes, outcome) = take(&maker.root, Target::Newest, false).expect("restored");
    assert!(bytes == maker.newest().bytes);
    assert_eq!(outcome.restored.position, maker.newest().position);
    assert!(!outcome.restored.is_recorded);
    let mut early = 0;
    for state in &maker.states {
        match take(&maker.root, Target::Position(state.position), false) {
            Ok((bytes, _)) => assert!(bytes == state.bytes, "{} differs", state.position),
            // In the log of the oldest snapshot it is not known what that holds already.
            Err(RestoreError::TooEarly { .. }) => {
                assert_eq!(state.position.index, 0, "{}", state.position);
                early += 1;
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(early > 0 && early < maker.states.len() / 2);
}

#[test]
fn a_position_that_is_none_is_told_from_one_that_is_missing() {
    let maker = eventful();
    let state = &maker.states[5];
    let within = Position {
        offset: state.position.offset + 1,
        ..state.position
    };
    match take(&maker.root, Target::Position(within), false).expect_err("none") {
        RestoreError::NotCommit { before, .. } => assert_eq!(before, state.position),
        error => panic!("{error}"),
    }
    // Behind the end of a log that has one after it.
    let log_end = maker
        .states
        .iter()
        .rev()
        .find(|s| s.position.index == 0 && s.position.generation == state.position.generation);
    let log_end = log_end.expect("a state").position;
    let behind = Position {
        offset: log_end.offset + 1048,
        ..log_end
    };
    match take(&maker.root, Target::Position(behind), false).expect_err("none") {
        RestoreError::NotCommit { before, .. } => assert_eq!(before, log_end),
        error => panic!("{error}"),
    }
    let end = maker.newest().position;
    let beyond = Position {
        index: end.index + 1,
        ..end
    };
    match take(&maker.root, Target::Position(beyond), false).expect_err("none") {
        RestoreError::Beyond { end: told, .. } => assert_eq!(told, end),
        error => panic!("{error}"),
    }
    let other = Position::start_of(Generation(5));
    let error = take(&maker.root, Target::Position(other), false).expect_err("none");
    assert!(
        matches!(error, RestoreError::NoGeneration { .. }),
        "{error}"
    );
    let nothing = tempfile::tempdir().expect("a directory");
    let error = take(nothing.path(), Target::Newest, false).expect_err("nothing");
    assert!(error.is_empty(), "{error}");
}

/// A crash leaves pieces behind the last commit; the log that goes on overlaps them, or a new one begins.
#[test]
fn what_a_crash_left_is_ignored() {
    for has_documents in [true, false] {
        let mut maker = Maker::new(1024);
        let insert = "INSERT INTO t(a, b) VALUES (1, randomblob(3000))";
        maker.commit(insert);
        maker.segment();
        let end = maker.newest().position.offset;
        maker.commit(insert);
        maker.commit(insert);
        maker.segment();
        // In the middle of what was written anew, and right where it ends.
        let leftovers = [end + 1048, maker.newest().position.offset];
        for offset in leftovers {
            let frame = [&7_u32.to_be_bytes()[..], &[0; 1044]].concat();
            let key = Key::wal(maker.generation, 0, offset);
            write(&maker.root, key, &crate::maker::pack(&frame, 0));
            let doc = walcast::archive::SegmentDoc {
                page_size: 1024,
                start: offset,
                end: offset + 1048,
                previous_end: 0,
                records: Vec::new(),
            };
            write(&maker.root, key.doc().expect("one"), &doc.encode());
        }
        let check = |maker: &Maker| {
            let (bytes, outcome) = take(&maker.root, Target::Newest, false).expect("restored");
            assert_eq!(outcome.restored.position, maker.newest().position);
            assert!(bytes == maker.newest().bytes);
        };
        check(&maker);
        maker.restart();
        maker.commit(insert);
        maker.segment();
        if !has_documents {
            maker.without_documents();
        }
        check(&maker);
    }
}

/// Its frames wait in a file until its commit is there; and nothing of one that never ends is in the result.
#[test]
fn a_transaction_larger_than_memory() {
    let mut maker = Maker::new(4096);
    maker.commit("INSERT INTO t(a, b) VALUES (1, randomblob(3000))");
    maker.segment();
    let rows = "INSERT INTO t(a, b) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 400) \
                SELECT i, randomblob(100000) FROM n";
    maker.commit(rows);
    maker.segments(1500);
    maker.commit("UPDATE t SET b = randomblob(90000)");
    maker.segments(1500);
    maker.commit("BEGIN; DELETE FROM t WHERE id > 5; PRAGMA incremental_vacuum; COMMIT");
    maker.segment();
    for state in &maker.states {
        let target = Target::Position(state.position);
        let (bytes, outcome) = take(&maker.root, target, false).expect("restored");
        assert!(bytes == state.bytes, "{} differs", state.position);
        assert!(outcome.restored.is_recorded);
    }
    // Without its last segment the transaction before never was.
    let last = maker
        .objects()
        .into_iter()
        .filter(|key| matches!(key, Key::Wal { .. }));
    let last: Vec<Key> = last.collect();
    for key in &last[last.len() - 3..] {
        std::fs::remove_file(maker.root.join(key.to_string())).expect("removed");
        std::fs::remove_file(maker.root.join(key.doc().expect("one").to_string()))
            .expect("removed");
    }
    let (bytes, outcome) = take(&maker.root, Target::Newest, false).expect("restored");
    assert_eq!(outcome.restored.position, maker.states[2].position);
    assert!(bytes == maker.states[2].bytes);
}

/// The state of a time may be known and out of reach: what comes instead is said to be another one.
#[test]
fn a_time_whose_state_cannot_be_reached_is_told() {
    let insert = "INSERT INTO t(a, b) VALUES (1, randomblob(3000))";
    let mut maker = Maker::new(1024);
    maker.commit(insert);
    maker.segment();
    let before = maker.newest().clone();
    maker.fork();
    maker.commit(insert);
    maker.segment();
    let lost = maker.newest().clone();
    maker.commit(insert);
    maker.segment();
    // It takes the place of the one with which the history began.
    maker.snapshot();
    let target = Target::Time(lost.time_us);
    let (bytes, outcome) = take(&maker.root, target, false).expect("restored");
    assert!(bytes == before.bytes);
    assert_eq!(outcome.restored.position, before.position);
    let notes = outcome.restored.notes;
    let is_told = |note: &String| note.contains(&lost.position.to_string());
    assert!(notes.iter().any(is_told), "{notes:?}");
    // What can be reached has nothing to be told of.
    for state in [&before, maker.newest()] {
        let (_, outcome) = take(&maker.root, Target::Time(state.time_us), false).expect("restored");
        assert_eq!(outcome.restored.position, state.position);
        assert!(outcome.restored.notes.is_empty());
    }
}

/// Whatever somebody put there: a segment's name says where it begins, and no log is so long.
#[test]
fn a_segment_from_beyond_any_log_is_no_newest_state() {
    let mut maker = Maker::new(1024);
    maker.commit("INSERT INTO t(a, b) VALUES (1, randomblob(3000))");
    maker.segment();
    let frame = [&7_u32.to_be_bytes()[..], &7_u32.to_be_bytes(), &[0; 1040]].concat();
    for offset in [u64::MAX - 1, u64::MAX - 1047, 1 << 63, 5] {
        let key = Key::wal(maker.generation, 0, offset);
        write(&maker.root, key, &crate::maker::pack(&frame, 0));
        let source = source(&maker.root);
        let catalog = Catalog::read(&source, &BTreeSet::new()).expect("a list");
        let newest = newest(&source, &catalog.histories[0], &BTreeSet::new());
        let newest = newest.expect("read").expect("a state");
        assert_eq!(newest.position, maker.newest().position, "{offset:x}");
        std::fs::remove_file(maker.root.join(key.to_string())).expect("removed");
    }
}
