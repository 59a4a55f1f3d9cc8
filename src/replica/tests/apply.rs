//! The applier against a real SQLite reader on the same file.

use super::*;
use crate::replica::detach_offline;
use crate::replica::error::ApplyError;
use crate::replica::local::LocalError;

#[test]
fn a_replica_that_starts_says_what_it_does() {
    let status = Target::new().shared.status();
    assert_eq!(status.state, crate::model::DatabaseState::Starting);
    assert!(status.reason.contains("verifies"), "{status:?}");
}

#[test]
fn a_reader_sees_each_commit_and_the_file_is_sound() {
    for page_size in [512, 1024, 4096, 8192, 65536] {
        let source = source_with_rows(page_size, 20);
        let target = Target::new();
        let mut applier = target.seeded(&source);
        let reader = target.reader();
        assert_eq!(rows(&reader), rows(&source.sql), "page size {page_size}");
        for i in 0..50 {
            source.run(&format!(
                "INSERT INTO t(b) VALUES(hex(randomblob({})))",
                i * 37
            ));
            catch_up(&mut applier, &source);
            assert_eq!(rows(&reader), rows(&source.sql));
        }
        source.run("DELETE FROM t WHERE a % 2; VACUUM");
        catch_up(&mut applier, &source);
        assert_eq!(rows(&reader), rows(&source.sql));
        assert_eq!(check(&reader), "ok");
    }
}

#[test]
fn an_application_cannot_write() {
    let source = source_with_rows(4096, 3);
    let target = Target::new();
    let _applier = target.seeded(&source);
    let writer = target.reader();
    for sql in [
        "INSERT INTO t(b) VALUES('no')",
        "CREATE TABLE u(x)",
        "VACUUM",
    ] {
        let error = writer.execute_batch(sql).expect_err("refused").to_string();
        assert!(
            error.contains("readonly") || error.contains("locked"),
            "{sql}: {error}"
        );
    }
    assert_eq!(rows(&writer).len(), 3);
}

#[test]
fn a_transaction_in_many_pieces_appears_at_once_or_not_at_all() {
    let source = source_with_rows(1024, 5);
    let target = Target::new();
    let mut applier = target.seeded(&source);
    let reader = target.reader();
    source.run(
        "BEGIN; WITH n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<3000)
                INSERT INTO t(b) SELECT hex(randomblob(100)) FROM n; COMMIT",
    );
    let mark = applier.request().mark;
    let messages = source.since(&mark.expect("a mark"), 10);
    assert!(messages.len() > 50, "many pieces");
    let cut = messages.len() - 1;
    for message in &messages[..cut] {
        applier.message(message.clone()).expect("applies");
        assert_eq!(rows(&reader).len(), 5);
    }
    // The connection breaks before the commit, and the whole comes again.
    applier.disconnected();
    assert_eq!(rows(&reader).len(), 5);
    catch_up(&mut applier, &source);
    assert_eq!(rows(&reader), rows(&source.sql));
    assert_eq!(check(&reader), "ok");
}

#[test]
fn a_wrong_database_checksum_is_refused_and_a_snapshot_heals_it() {
    let source = source_with_rows(4096, 5);
    let target = Target::new();
    let mut applier = target.seeded(&source);
    let reader = target.reader();
    source.run("INSERT INTO t(b) VALUES('new')");
    let mark = applier.request().mark;
    let mut messages = source.since(&mark.expect("a mark"), 100);
    let last = messages.pop().expect("a chunk");
    feed(&mut applier, messages);
    let Message::Chunk(mut chunk) = last else {
        panic!("a chunk")
    };
    let commit = chunk.commit.as_mut().expect("a commit");
    commit.dbsum.0 ^= 1;
    let error = applier.message(Message::Chunk(chunk)).expect_err("refused");
    assert!(
        matches!(error, ApplyError::Local(LocalError::Checksum { .. })),
        "{error}"
    );
    assert_eq!(rows(&reader).len(), 5, "nothing of it is seen");
    assert!(applier.request().mark.is_none(), "a snapshot is asked for");
    catch_up(&mut applier, &source);
    assert_eq!(rows(&reader), rows(&source.sql));
}

#[test]
fn a_seed_in_place_does_not_confuse_prepared_statements() {
    let source = source_with_rows(4096, 5);
    let target = Target::new();
    let mut applier = target.seeded(&source);
    let reader = target.reader();
    let mut statement = reader
        .prepare("SELECT count(*) FROM t")
        .expect("a statement");
    let count = |s: &mut rusqlite::Statement<'_>| s.query_row([], |r| r.get::<_, i64>(0));
    assert_eq!(count(&mut statement).expect("a count"), 5);
    // Another history with the same number of schema changes and another schema under the same root page.
    let other = Source::new(4096);
    other.run("CREATE TABLE u(x); CREATE TABLE t(c TEXT, a INTEGER, b TEXT)");
    other.run("DROP TABLE u; INSERT INTO t VALUES('z', 1, 'one')");
    applier.disconnected();
    feed(&mut applier, other.snapshot());
    assert_eq!(count(&mut statement).expect("a count"), 1);
    assert_eq!(rows(&reader), [(1, "one".to_owned())]);
    assert_eq!(check(&reader), "ok");
    // The constant survives a restart, and so does the proof of the position.
    applier.close();
    let mut applier = target.open();
    let mark = applier.request().mark;
    assert_eq!(mark.expect("a proven position").point.page_count, 3);
    other.run("INSERT INTO t VALUES('y', 2, 'two')");
    catch_up(&mut applier, &other);
    assert_eq!(rows(&reader).len(), 2);
}

#[test]
fn a_seed_in_place_keeps_nothing_to_take_its_pages_back() {
    let source = source_with_rows(4096, 50);
    let target = Target::new();
    let mut applier = target.seeded(&source);
    applier.disconnected();
    let mut messages = source.snapshot();
    let last = messages.pop().expect("its end");
    for message in messages {
        applier.message(message).expect("applies");
        let local = applier.local.as_ref().expect("it is open");
        assert_eq!(local.sums().pending(), 0);
    }
    applier.message(last).expect("whole");
    assert_eq!(rows(&target.reader()), rows(&source.sql));
}

#[test]
fn a_snapshot_without_a_first_page_does_not_get_the_one_of_before() {
    let source = source_with_rows(4096, 5);
    let target = Target::new();
    let mut applier = target.seeded(&source);
    let local = applier.local.as_mut().expect("it is open");
    let mut page1 = vec![0; 4096];
    local.read_page(1, &mut page1).expect("its first page");
    applier.disconnected();
    let begin = SnapshotBegin {
        page_count: 1,
        start: source.at(0),
        log: None,
    };
    let end = SnapshotEnd {
        position: source.at(0),
        dbsum: DbSum(page_hash(1, &page1)),
        page_count: 1,
        time_us: 5,
    };
    feed(
        &mut applier,
        vec![
            source.hello(Follows::NewReplica),
            Message::SnapshotBegin(begin),
        ],
    );
    let error = applier
        .message(Message::SnapshotEnd(end))
        .expect_err("refused");
    assert!(error.to_string().contains("first page"), "{error}");
    catch_up(&mut applier, &source);
    assert_eq!(rows(&target.reader()), rows(&source.sql));
}

#[test]
fn the_page_size_may_change_under_a_reader() {
    let source = source_with_rows(4096, 50);
    let target = Target::new();
    let mut applier = target.seeded(&source);
    let reader = target.reader();
    assert_eq!(rows(&reader).len(), 50);
    for page_size in [1024, 65536, 512] {
        let other = source_with_rows(page_size, 30);
        applier.disconnected();
        feed(&mut applier, other.snapshot());
        assert_eq!(rows(&reader).len(), 30, "page size {page_size}");
        other.run("INSERT INTO t(b) VALUES('more')");
        catch_up(&mut applier, &other);
        assert_eq!(rows(&reader).len(), 31);
        assert_eq!(check(&reader), "ok");
    }
}

#[test]
fn a_replica_that_cannot_prove_its_state_applies_all_at_once() {
    let source = source_with_rows(4096, 5);
    let target = Target::new();
    let mut applier = target.seeded(&source);
    for i in 0..10 {
        source.run(&format!("INSERT INTO t(b) VALUES('more {i}')"));
    }
    catch_up(&mut applier, &source);
    // As after a power cut: the file is ahead of the durable position, and nothing says by how much.
    drop(applier);
    std::fs::write(target.side().join("applied"), []).expect("emptied");
    let durable = std::fs::read(target.side().join("position")).expect("a position");
    source.run("INSERT INTO t(b) VALUES('last'); UPDATE t SET b='x' WHERE a=1");
    let mut applier = target.open();
    let mark = applier.request().mark;
    let mark = mark.expect("the durable position");
    assert_eq!(format!("{}\n", mark.point.position).as_bytes(), durable);
    let reader = target.reader();
    let before = rows(&reader);
    let mut messages = source.since(&mark, 100);
    let last = messages.pop().expect("a chunk");
    for message in messages {
        applier.message(message).expect("applies");
        assert_eq!(rows(&reader), before, "no older state is shown");
    }
    applier.message(last).expect("applies");
    assert_eq!(rows(&reader), rows(&source.sql));
    assert_eq!(check(&reader), "ok");
}

#[test]
fn damage_in_the_file_is_found_at_the_next_start() {
    let source = source_with_rows(4096, 300);
    let target = Target::new();
    target.seeded(&source).close();
    let mut bytes = std::fs::read(&target.path).expect("the file");
    bytes[4096 + 2000] ^= 1;
    std::fs::write(&target.path, bytes).expect("damaged");
    let mut applier = target.open();
    let mark = applier.request().mark;
    let error = applier.message(source.since(&mark.expect("a mark"), 100).remove(0));
    assert!(error.expect_err("refused").is_diverged());
    catch_up(&mut applier, &source);
    let reader = target.reader();
    assert_eq!(rows(&reader), rows(&source.sql));
    assert_eq!(check(&reader), "ok");
}

#[test]
fn a_detached_replica_is_an_ordinary_database() {
    let source = source_with_rows(4096, 5);
    let target = Target::new();
    target.seeded(&source).close();
    let position = detach_offline(&target.path).expect("detached");
    assert!(position.is_some());
    let reader = target.reader();
    reader
        .execute_batch("INSERT INTO t(b) VALUES('mine now')")
        .expect("writable");
    assert_eq!(rows(&reader).len(), 6);
    assert_eq!(check(&reader), "ok");
    assert!(!crate::ownership::directory_of(&target.path).exists());
    assert!(detach_offline(&target.path).is_err());
}

#[test]
fn the_log_begins_anew_and_stays_bounded() {
    let source = source_with_rows(4096, 5);
    let target = Target::with_soft_limit(2 << 20);
    let mut applier = target.seeded(&source);
    let reader = target.reader();
    let wal =
        || std::fs::metadata(target.directory.path().join("copy.db-wal")).map_or(0, |m| m.len());
    let mut largest = 0;
    for i in 0..60 {
        source.run(&format!(
            "INSERT INTO t(b) VALUES(hex(randomblob(131072))); DELETE FROM t WHERE a<{i}"
        ));
        catch_up(&mut applier, &source);
        // A disk that is busy takes its time.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while target.shared.status().wal_bytes >= 2 << 20 {
            applier.tick(true).expect("house kept");
            assert!(std::time::Instant::now() < deadline, "it never began anew");
        }
        assert_eq!(rows(&reader).len(), rows(&source.sql).len());
        largest = largest.max(wal());
    }
    assert!(largest < 6 << 20, "the log reached {} KiB", largest >> 10);
    assert_eq!(check(&reader), "ok");
}

#[test]
fn the_scrub_finds_a_flipped_bit_and_a_snapshot_heals_it() {
    let source = source_with_rows(4096, 300);
    let mut target = Target::new();
    target.scrub();
    let mut applier = target.seeded(&source);
    let reader = target.reader();
    applier.tick(true).expect("all is well");
    // By a writable descriptor that is never closed: closing it would drop SQLite's locks in this process.
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(&target.path)
        .expect("the file");
    std::os::unix::fs::FileExt::write_all_at(&file, b"flipped", 4096 * 2 + 1000).expect("damaged");
    std::mem::forget(file);
    let error = (0..10)
        .find_map(|_| applier.tick(true).err())
        .expect("found");
    assert!(
        error.is_diverged() && error.to_string().contains("page 3"),
        "{error}"
    );
    catch_up(&mut applier, &source);
    assert_eq!(rows(&reader), rows(&source.sql));
    assert_eq!(check(&reader), "ok");
}

#[test]
fn damage_in_the_local_log_never_reaches_a_reader_as_a_mixture() {
    let source = source_with_rows(4096, 10);
    let target = Target::new();
    let mut applier = target.seeded(&source);
    for i in 0..20 {
        source.run(&format!("INSERT INTO t(b) VALUES('more {i}')"));
    }
    catch_up(&mut applier, &source);
    applier.close();
    let wal = target.directory.path().join("copy.db-wal");
    let mut bytes = std::fs::read(&wal).expect("the log");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&wal, bytes).expect("damaged");
    // As after a reboot: nobody has the index, so SQLite recovers it from the log.
    std::fs::remove_file(target.directory.path().join("copy.db-shm")).expect("removed");
    let mut applier = target.open();
    let mark = applier.request().mark;
    let outcome: Result<(), ApplyError> = match mark {
        Some(mark) => source
            .since(&mark, 100)
            .into_iter()
            .try_for_each(|m| applier.message(m)),
        None => Ok(()),
    };
    if let Err(error) = outcome {
        assert!(error.is_diverged(), "{error}");
    }
    catch_up(&mut applier, &source);
    let reader = target.reader();
    assert_eq!(rows(&reader), rows(&source.sql));
    assert_eq!(check(&reader), "ok");
}

#[test]
fn a_reader_that_recovers_the_new_file_does_not_stop_the_replica() {
    // As a reader does between the file's new name and the replica's first lock: it holds the file for itself.
    let source = source_with_rows(4096, 5);
    let target = Target::new();
    let mut applier = target.open();
    applier.request();
    let mut messages = source.snapshot();
    let last = messages.pop().expect("the snapshot's end");
    feed(&mut applier, messages);
    let path = target.path.clone();
    let holder = std::thread::spawn(move || {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while !path.exists() {
            assert!(std::time::Instant::now() < deadline, "the file never came");
            std::hint::spin_loop();
        }
        let reader = reader(&path);
        reader
            .execute_batch("PRAGMA locking_mode=EXCLUSIVE")
            .expect("a mode");
        // It may come too late to get the file for itself; then it has proven nothing, and disturbs nothing.
        let held = reader.query_row("SELECT count(*) FROM t", [], |r| r.get::<_, i64>(0));
        std::thread::sleep(std::time::Duration::from_millis(200));
        held.is_ok()
    });
    let outcome = applier.message(last);
    let held = holder.join().expect("the holder");
    outcome.unwrap_or_else(|error| panic!("held: {held}: {error}"));
    assert_eq!(rows(&target.reader()), rows(&source.sql));
}

#[test]
fn the_scrub_waits_for_the_end_of_a_transaction() {
    let source = source_with_rows(4096, 300);
    let mut target = Target::new();
    target.scrub();
    source.run("UPDATE t SET b = hex(randomblob(500))");
    let mut applier = target.seeded(&source);
    source.run("UPDATE t SET b = 'after' || b");
    let mark = applier.request().mark.expect("a mark");
    let messages = source.since(&mark, 2);
    assert!(messages.len() > 4, "it is one piece");
    for message in messages {
        applier.message(message).expect("a message that applies");
        for _ in 0..3 {
            applier.tick(true).expect("nothing is damaged");
        }
    }
    assert_eq!(rows(&target.reader()), rows(&source.sql));
}
