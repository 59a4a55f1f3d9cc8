//! Replicas that start from an archive, or follow it alone.

use super::kit::{
    DEADLINE, Place, Server, Writer, archived, commit, create, primary, restart_log, state_of,
    until,
};
use rusqlite::{Connection, OpenFlags};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const QUICK: &[&str] = &["--archive-poll", "50ms"];

/// `walcast replica` with the archive, of this upstream if there is one.
fn replica(copy: &Path, upstream: Option<&Server>, archive: &Path) -> Server {
    let db = format!("app.db={}", copy.to_str().expect("UTF-8"));
    let mut args = vec!["replica", "--db", &db, "--listen", "127.0.0.1:0"];
    args.extend(["--archive", archive.to_str().expect("UTF-8")]);
    match upstream {
        Some(upstream) => args.extend(["--upstream", &upstream.url]),
        None => args.extend(QUICK),
    }
    Server::start_at(&args)
}

/// The only database of a server, as `walcast status --json` has it.
fn status(server: &Server) -> serde_json::Value {
    let mut status = server.status();
    let databases = status["databases"].as_array_mut();
    let mut of_app = databases.into_iter().flatten();
    of_app
        .find(|database| database["name"] == "app.db")
        .map(serde_json::Value::take)
        .unwrap_or_default()
}

/// Full snapshots that the primary sent: its replicas' and its archive's.
fn sent(server: &Server) -> u64 {
    status(server)["snapshots"].as_u64().expect("a count")
}

/// Waits until the copy is where the primary is, by the whole database's checksum too. The application must be quiet.
fn wait_equal(replica: &Server, primary: &Server) -> serde_json::Value {
    let end = Instant::now() + DEADLINE;
    loop {
        let (copy, original) = (status(replica), status(primary));
        if copy["position"].is_string()
            && copy["position"] == original["position"]
            && copy["state"] == "streaming"
        {
            assert_eq!(copy["database_checksum"], original["database_checksum"]);
            return copy;
        }
        assert!(
            Instant::now() < end,
            "{copy:#} is not at {original:#}\n{}",
            replica.log()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_new_replica_starts_from_the_archive_and_the_primary_sends_no_snapshot() {
    let (place, mut connection, server) = archived(20, 40);
    server.wait_level();
    let before = sent(&server);
    let copy = place.path("copy.db");
    let reader = replica(&copy, Some(&server), &place.archive());
    wait_equal(&reader, &server);
    assert!(reader.log().contains("from the archive"));
    // It goes on with the stream.
    (41..=60).for_each(|n| commit(&mut connection, n));
    let told = wait_equal(&reader, &server);
    assert_eq!(told["upstream"], server.url.as_str());
    assert_eq!(sent(&server), before, "{}", reader.log());
    assert_eq!(state_of(&copy), 60);
    assert_eq!(reader.stop(), Some(0));
    // One that can go on does not ask the archive: it may be away.
    std::fs::rename(place.archive(), place.path("away")).expect("moved");
    commit(&mut connection, 61);
    let reader = replica(&copy, Some(&server), &place.archive());
    wait_equal(&reader, &server);
    assert!(!reader.log().contains("archive"), "{}", reader.log());
    assert_eq!(sent(&server), before);
    assert_eq!(state_of(&copy), 61);
}

#[test]
fn an_archive_that_is_absent_empty_or_damaged_is_named_and_the_primary_asked() {
    let (place, _connection, server) = archived(20, 40);
    server.wait_level();
    let objects = place.objects();
    let find = |end: &str| {
        let name = objects.iter().rfind(|name| name.ends_with(end));
        name.expect(end).clone()
    };
    let (snapshot, segment) = (find(".snapshot.lz4"), find(".wal.lz4"));
    std::fs::create_dir(place.path("empty")).expect("a directory");
    let damaged = |place: &Place, name: &str, object: &str| {
        let copied = Command::new("cp")
            .arg("-a")
            .args([place.archive(), place.path(name)])
            .status();
        assert!(copied.expect("cp").success());
        let path = place.path(name).join(object);
        let mut bytes = std::fs::read(&path).expect("an object");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(path, bytes).expect("damaged");
    };
    damaged(&place, "one", &snapshot);
    damaged(&place, "two", &segment);
    for (archive, words) in [
        ("absent", "No such file"),
        ("empty", "holds no snapshot"),
        ("one", snapshot.as_str()),
        ("two", segment.as_str()),
    ] {
        let copy = place.path(&format!("{archive}.db"));
        let reader = replica(&copy, Some(&server), &place.path(archive));
        wait_equal(&reader, &server);
        let told = reader.told("the archive is not used, ");
        assert!(told.contains(words), "{archive}: {told}");
        assert_eq!(state_of(&copy), 40);
    }
}

/// Reads as long as it is told to: each state is one of the application's, and none comes before an earlier one.
fn reading(copy: PathBuf, stop: Arc<AtomicBool>) -> std::thread::JoinHandle<u64> {
    std::thread::spawn(move || {
        until("a copy", || copy.exists().then_some(()));
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&copy, flags).expect("a copy");
        let (mut last, mut states) = (0, 0);
        while !stop.load(Ordering::Relaxed) {
            let sql =
                "SELECT c.n, (SELECT count(*) FROM t), (SELECT coalesce(max(n), 0) FROM t) FROM c";
            let seen: (i64, i64, i64) = connection
                .query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
                .expect("no error that SQLite would not give");
            assert!(
                seen.0 == seen.1 && seen.1 == seen.2,
                "half a transaction: {seen:?}"
            );
            assert!(seen.0 >= last, "{} after {last}", seen.0);
            states += u64::from(seen.0 > last);
            last = seen.0;
        }
        states
    })
}

#[test]
fn alone_the_archive_is_followed_live_and_readers_see_committed_states() {
    let place = Place::new();
    let writer = Writer::start(&place.db(), Duration::from_millis(5));
    writer.wait(10);
    let server = place.run("", "sync-interval: 50ms");
    server.wait_archive("streaming");
    let copy = place.path("copy.db");
    let standby = replica(&copy, None, &place.archive());
    let stop = Arc::new(AtomicBool::new(false));
    let reads = reading(copy.clone(), stop.clone());
    standby.told("level with the archive");
    for _ in 0..10 {
        // Each round is seen before the next.
        writer.wait(20);
        let goal = writer.committed();
        until("what was archived", || {
            let n = Connection::open_with_flags(&copy, OpenFlags::SQLITE_OPEN_READ_ONLY)
                .and_then(|copy| copy.query_row("SELECT n FROM c", [], |row| row.get::<_, i64>(0)));
            (n.expect("a number") >= goal as i64).then_some(())
        });
    }
    let last = writer.stop();
    let told = wait_equal(&standby, &server);
    stop.store(true, Ordering::Relaxed);
    let states = reads.join().expect("no panic");
    assert!(states >= 10, "{states} states");
    let archive = format!("archive {}", place.archive().display());
    assert_eq!(told["upstream"], archive.as_str());
    let reason = told["reason"].as_str().expect("a reason");
    assert!(reason.contains("which is read each 0.05 s"), "{reason}");
    assert!(told["lag_seconds"].as_f64().expect("a lag") < 1e-9);
    // The primary knows of its archive alone.
    let known = status(&server)["replicas"].clone();
    assert_eq!(known.as_array().map(Vec::len), Some(1), "{known}");
    assert_eq!(state_of(&copy), last);
    // It goes on where it is, without a snapshot.
    assert_eq!(standby.stop(), Some(0));
    let mut connection = create(&place.db());
    commit(&mut connection, last + 1);
    server.wait_level();
    let standby = replica(&copy, None, &place.archive());
    let told = wait_equal(&standby, &server);
    assert_eq!(told["snapshots"], 0, "{}", standby.log());
    // The archive goes away for a while: that is said, and what is here stays readable.
    std::fs::rename(place.archive(), place.path("away")).expect("moved");
    standby.told("disconnected: ");
    assert_eq!(status(&standby)["state"], "disconnected");
    assert_eq!(state_of(&copy), last + 1);
    std::fs::rename(place.path("away"), place.archive()).expect("moved back");
    wait_equal(&standby, &server);
}

#[test]
fn alone_a_damaged_snapshot_is_passed_over_for_an_older_one() {
    let place = Place::new();
    let mut connection = create(&place.db());
    let server = place.run("", "sync-interval: 50ms\nsnapshot-interval: 100ms");
    let mut n = 0;
    until("two snapshots", || {
        n += 1;
        commit(&mut connection, n);
        server.wait_level();
        restart_log(&connection);
        let objects = place.objects();
        let is_doc = |name: &&String| name.contains("/snapshots/") && name.ends_with(".json");
        (objects.iter().filter(is_doc).count() >= 2).then_some(())
    });
    assert_eq!(server.stop(), Some(0));
    let snapshots = place.objects().into_iter();
    let newest = snapshots
        .filter(|name| name.ends_with(".snapshot.lz4"))
        .max();
    let newest = place.archive().join(newest.expect("a snapshot"));
    let mut bytes = std::fs::read(&newest).expect("a snapshot");
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    std::fs::write(&newest, bytes).expect("damaged");
    let copy = place.path("copy.db");
    let standby = replica(&copy, None, &place.archive());
    standby.told("level with the archive");
    let log = standby.log();
    assert!(log.contains(".snapshot.lz4"), "the damage is named: {log}");
    assert_eq!(state_of(&copy), n);
}

#[test]
fn another_history_in_the_archive_is_followed() {
    let place = Place::new();
    let mut connection = create(&place.db());
    (1..=20).for_each(|n| commit(&mut connection, n));
    let server = primary(&place.db(), &place.archive(), &[]);
    server.wait_level();
    let copy = place.path("copy.db");
    let standby = replica(&copy, None, &place.archive());
    let before = wait_equal(&standby, &server);
    assert_eq!(server.stop(), Some(0));
    // Written past any log.
    connection
        .execute_batch("PRAGMA journal_mode=DELETE")
        .expect("no log");
    (21..=30).for_each(|n| commit(&mut connection, n));
    connection
        .execute_batch("PRAGMA journal_mode=WAL")
        .expect("a log");
    (31..=40).for_each(|n| commit(&mut connection, n));
    let server = primary(&place.db(), &place.archive(), &[]);
    let after = wait_equal(&standby, &server);
    let generation =
        |told: &serde_json::Value| told["position"].as_str().map(|p| p[..16].to_owned());
    assert_ne!(generation(&before), generation(&after));
    commit(&mut connection, 41);
    wait_equal(&standby, &server);
    assert_eq!(state_of(&copy), 41);
}

fn bytes_in(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => bytes_in(&entry.path()),
        _ => entry.metadata().map_or(0, |file| file.len()),
    });
    sizes.sum()
}

#[test]
fn killed_while_it_starts_from_the_archive_it_ends_equal() {
    let (place, mut connection, server) = archived(460, 620);
    server.wait_level();
    let before = sent(&server);
    let dir = place.path("copies");
    std::fs::create_dir(&dir).expect("a directory");
    let copy = dir.join("copy.db");
    let mut unfinished = 0;
    for kill in 0..10 {
        let upstream = (kill % 2 == 0).then_some(&server);
        let reader = replica(&copy, upstream, &place.archive());
        // A little more of it each time, up to all of the snapshot and into the log.
        let goal = (kill * 4) << 20;
        until("some of it", || {
            let log = reader.log();
            let is_done = log.contains("snapshot complete") || log.contains("level with");
            (is_done || bytes_in(&dir) >= goal).then_some(())
        });
        reader.kill9();
        match copy.exists() {
            // What has a name already is one of the states.
            true => assert!(state_of(&copy) <= 620),
            false => unfinished += 1,
        }
    }
    assert!(unfinished > 0, "no kill came in the middle");
    commit(&mut connection, 621);
    server.wait_level();
    let reader = replica(&copy, Some(&server), &place.archive());
    wait_equal(&reader, &server);
    assert_eq!(state_of(&copy), 621);
    assert_eq!(sent(&server), before, "{}", reader.log());
}

#[test]
fn one_that_was_away_for_too_long_catches_up_from_the_archive() {
    let place = Place::new();
    let mut connection = create(&place.db());
    (1..=10).for_each(|n| commit(&mut connection, n));
    let short = "retain-age: 0s\nretain-size: 1MiB";
    let server = place.run(short, "sync-interval: 50ms");
    server.wait_level();
    let copy = place.path("copy.db");
    let reader = replica(&copy, Some(&server), &place.archive());
    wait_equal(&reader, &server);
    assert_eq!(reader.stop(), Some(0));
    let kept = place.path("app.db-walcast/generations");
    let first = files(&kept);
    // The log begins anew some times, and what is archived of it is let go.
    let mut n = 10;
    until("the log that it needs is gone", || {
        for _ in 0..20 {
            n += 1;
            commit(&mut connection, n);
        }
        server.wait_level();
        restart_log(&connection);
        let now = files(&kept);
        (!first.iter().any(|file| now.contains(file))).then_some(())
    });
    let reader = replica(&copy, Some(&server), &place.archive());
    let told = wait_equal(&reader, &server);
    let log = reader.log();
    assert!(log.contains("from the archive"), "{log}");
    assert!(server.log().contains("goes to its archive"));
    // All that it ever needed came from the archive.
    let to_replica =
        |line: &&str| line.contains("sending snapshot") && !line.contains("for archive");
    assert_eq!(
        server.log().lines().filter(to_replica).count(),
        0,
        "{}",
        server.log()
    );
    assert_eq!(told["snapshots"], 0, "{log}");
    assert_eq!(state_of(&copy), n);
}

/// All segments that the primary keeps.
fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let all = entries.flat_map(|entry| match entry.path() {
        path if path.is_dir() => files(&path),
        path => vec![path],
    });
    let is_log = |path: &PathBuf| path.components().any(|part| part.as_os_str() == "wal");
    all.filter(is_log).collect()
}

#[test]
fn flags_that_do_not_go_together_are_refused() {
    for (args, words) in [
        (&["--db", "a.db"][..], "--upstream <URL>"),
        (
            &["--archive", "/x", "--db", "a.db", "--db", "b.db"],
            "one --db",
        ),
        (
            &["--archive", "/x", "--db", "a.db", "--upstream-ca", "ca.pem"],
            "--upstream <URL>",
        ),
        (
            &[
                "--upstream",
                "http://h:1",
                "--archive-poll",
                "1s",
                "--db",
                "a.db",
            ],
            "--archive",
        ),
        (
            &[
                "--upstream",
                "http://h:1",
                "--archive",
                "/x",
                "--archive-poll",
                "1s",
                "--db",
                "a.db",
            ],
            "cannot be used with",
        ),
        (
            &["--archive", "ftp://x/y", "--db", "a.db"],
            "'ftp://' is no archive",
        ),
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_walcast"))
            .arg("replica")
            .args(args)
            .stdin(Stdio::null())
            .output()
            .expect("walcast runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
        assert!(said.contains(words), "{args:?}: {said}");
    }
}
