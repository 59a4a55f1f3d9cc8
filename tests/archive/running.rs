//! What a user sees of an archive in the ordinary case.

use super::hand;
use super::kit::{Place, Writer, archived, commit, create, metrics, restart_log, state_of, until};
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

const QUICK: &str = "sync-interval: 50ms";

#[test]
fn the_short_command_archives_and_its_end_archives_the_last_commit() {
    let (place, _connection, server) = archived(20, 40);
    assert_eq!(server.stop(), Some(0));
    let restored = hand::restore(&place.archive());
    assert_eq!(state_of(&restored.db), 40);
    // Only those who may read the database may read what beside it is of the archive; and nobody else the archive.
    let mode = |path: &str| {
        let metadata = std::fs::metadata(place.path(path)).expect(path);
        metadata.permissions().mode() & 0o777
    };
    assert_eq!(mode("archive"), 0o750);
    assert_eq!(
        mode("app.db-walcast/archive-id"),
        mode("app.db-walcast/lock")
    );
    let left: Vec<_> = std::fs::read_dir(place.path("app.db-walcast"))
        .expect("a directory")
        .map(|entry| entry.expect("an entry").file_name())
        .filter(|name| name.to_string_lossy().ends_with(".tmp"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_start_goes_on_where_the_archive_ends() {
    let place = Place::new();
    let mut connection = create(&place.db());
    commit(&mut connection, 1);
    let server = place.run("", QUICK);
    server.wait_level();
    let first = hand::restore(&place.archive()).generation;
    assert_eq!(server.stop(), Some(0));
    // Written while nobody looks, and the log begins anew.
    (2..=30).for_each(|n| commit(&mut connection, n));
    let server = place.run("", QUICK);
    server.wait_level();
    restart_log(&connection);
    (31..=60).for_each(|n| commit(&mut connection, n));
    server.wait_level();
    server.kill9();
    let restored = hand::restore(&place.archive());
    assert_eq!(state_of(&restored.db), 60);
    assert_eq!(restored.generation, first);
    assert_eq!(place.count(".snapshot.lz4"), 1, "{:?}", place.objects());
}

#[test]
fn a_snapshot_whose_document_never_came_is_written_again() {
    let (place, _connection, server) = archived(20, 40);
    assert_eq!(server.stop(), Some(0));
    let doc = place
        .objects()
        .into_iter()
        .find(|name| name.contains("/snapshots/") && name.ends_with(".json"));
    let doc = place.archive().join(doc.expect("a document"));
    std::fs::remove_file(&doc).expect("removed");
    // Nothing is committed meanwhile, so the next snapshot is of the same index.
    let server = place.run("", QUICK);
    server.wait_archive("streaming");
    assert!(doc.exists(), "{:?}", place.objects());
    assert_eq!(place.count(".snapshot.lz4"), 1, "{:?}", place.objects());
    assert_eq!(server.stop(), Some(0));
    assert_eq!(state_of(&hand::restore(&place.archive()).db), 40);
}

#[test]
fn commits_of_an_interval_share_an_object() {
    let place = Place::new();
    let mut connection = create(&place.db());
    commit(&mut connection, 1);
    let server = place.run("", "sync-interval: 3s");
    server.wait_archive("streaming");
    let before = place.count(".wal.lz4");
    (2..=140).for_each(|n| commit(&mut connection, n));
    server.wait_level();
    let objects = place.count(".wal.lz4") - before;
    // One for the interval, and one more where the log began anew.
    assert!(
        (1..30).contains(&objects),
        "{objects} objects for 139 commits"
    );
    assert_eq!(state_of(&hand::restore(&place.archive()).db), 140);
    drop(server);
}

#[test]
fn snapshots_come_and_go_by_their_interval_and_the_retention() {
    let place = Place::new();
    let writer = Writer::start(&place.db(), Duration::from_millis(3));
    writer.wait(5);
    let archive = "sync-interval: 50ms\nsnapshot-interval: 300ms\nretain-age: 0s\nretain-count: 2";
    let server = place.run("", archive);
    server.wait_archive("streaming");
    let first = place
        .objects()
        .into_iter()
        .find(|name| name.ends_with(".snapshot.lz4"));
    let first = first.expect("a snapshot");
    until("the first snapshot goes", || {
        (!place.objects().contains(&first)).then_some(())
    });
    until("three snapshots", || {
        (server.log().matches("snapshot archived").count() >= 4).then_some(())
    });
    let last = writer.stop();
    assert_eq!(server.stop(), Some(0));
    assert!(place.count(".snapshot.lz4") <= 4, "{:?}", place.objects());
    assert_eq!(state_of(&hand::restore(&place.archive()).db), last);
}

#[test]
fn metrics_begin_at_zero_and_count() {
    let place = Place::new();
    let mut connection = create(&place.db());
    commit(&mut connection, 1);
    let server = place.run("", QUICK);
    let labels = format!(
        "{{database=\"app.db\",archive=\"{}\"}}",
        place.archive().display()
    );
    let value = |name: &str| -> f64 {
        let text = metrics(&server);
        let begin = format!("walcast_archive_{name}{labels} ");
        let line = text.lines().find_map(|line| line.strip_prefix(&begin));
        let line = line.unwrap_or_else(|| panic!("no {begin}in {text}"));
        line.parse().expect("a number")
    };
    assert!(value("upload_failures_total") < 0.5);
    server.wait_level();
    for name in [
        "uploads_total",
        "uploaded_bytes_total",
        "snapshots_total",
        "connected",
    ] {
        assert!(value(name) >= 1.0, "{name}");
    }
    assert!(value("snapshot_duration_seconds_count") >= 1.0);
    until("level", || {
        (value("lag_seconds") == 0.0 && value("lag_bytes") == 0.0).then_some(())
    });
}

#[test]
fn a_reading_back_finds_damage_and_a_new_snapshot_heals_it() {
    let place = Place::new();
    let writer = Writer::start(&place.db(), Duration::from_millis(3));
    writer.wait(5);
    let server = place.run("", "sync-interval: 50ms\nvalidation-interval: 300ms");
    server.told("archive read back, sound up to ");
    let name = place
        .objects()
        .into_iter()
        .find(|name| name.ends_with(".snapshot.lz4"));
    let path = place.archive().join(name.expect("a snapshot"));
    let mut bytes = std::fs::read(&path).expect("a snapshot");
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    std::fs::write(&path, bytes).expect("damaged");
    let told = server.told("the archive is damaged: ");
    assert!(told.contains(".snapshot.lz4"), "{told}");
    until("a new snapshot", || {
        (place.count(".snapshot.lz4") >= 2).then_some(())
    });
    server.wait_archive("streaming");
    let last = writer.stop();
    assert_eq!(server.stop(), Some(0));
    assert_eq!(state_of(&hand::restore(&place.archive()).db), last);
}

/// The end is gone, and the document that would show it: of what is left nothing is damaged.
#[test]
fn a_reading_back_finds_that_the_end_is_missing() {
    let place = Place::new();
    let mut connection = create(&place.db());
    commit(&mut connection, 1);
    let server = place.run("", "sync-interval: 50ms\nvalidation-interval: 300ms");
    server.wait_level();
    commit(&mut connection, 2);
    server.wait_level();
    server.told("archive read back, sound up to ");
    let objects = place.objects();
    for end in [".commits", ".wal.lz4"] {
        let last = objects.iter().rfind(|name| name.ends_with(end));
        let last = place.archive().join(last.expect("a segment"));
        std::fs::remove_file(last).expect("removed");
    }
    let told = server.told("the archive is damaged: ");
    // Or it was being read just then.
    let is_found = ["it ends at ", "is missing"]
        .iter()
        .any(|what| told.contains(what));
    assert!(is_found, "{told}");
    restart_log(&connection);
    commit(&mut connection, 3);
    server.wait_level();
    assert_eq!(server.stop(), Some(0));
    assert_eq!(state_of(&hand::restore(&place.archive()).db), 3);
}
