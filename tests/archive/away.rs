//! An archive that is away: the application and the capture do not notice, and it is caught up afterwards.

use super::hand;
use super::kit::{Place, Writer, commit, create, state_of, until};
use super::mount::{Mount, is_root};
use std::fs;
use std::time::Duration;

const QUICK: &str = "sync-interval: 50ms";

#[test]
fn an_archive_that_comes_back_is_caught_up_with() {
    let place = Place::new();
    let writer = Writer::start(&place.db(), Duration::from_millis(3));
    writer.wait(5);
    let server = place.run("", QUICK);
    server.wait_archive("streaming");
    let away = place.path("away");
    fs::rename(place.archive(), &away).expect("moved");
    let reason = server.wait_archive("disconnected");
    assert!(reason.contains("tries again"), "{reason}");
    // The capture goes on.
    let before = server.position();
    writer.wait(50);
    until("the capture goes on", || {
        (server.position() != before).then_some(())
    });
    // What appeared in its place meanwhile, such as the directory in which it was mounted, is not the archive.
    match fs::remove_dir_all(place.archive()) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => panic!("{error}"),
        _ => {}
    }
    fs::rename(&away, place.archive()).expect("back");
    server.wait_archive("streaming");
    let last = writer.stop();
    server.wait_level();
    let restored = hand::restore(&place.archive());
    assert_eq!(state_of(&restored.db), last);
    assert_eq!(place.count(".snapshot.lz4"), 1, "nothing was missing");
    drop(server);
}

#[test]
fn an_empty_directory_in_its_place_is_not_written_to() {
    let place = Place::new();
    let mut connection = create(&place.db());
    commit(&mut connection, 1);
    let server = place.run("", QUICK);
    server.wait_level();
    let away = place.path("away");
    fs::rename(place.archive(), &away).expect("moved");
    fs::create_dir(place.archive()).expect("a mount point");
    commit(&mut connection, 2);
    let reason = server.wait_archive("disconnected");
    assert!(
        reason.contains("walcast/owner/") && reason.contains("missing"),
        "{reason}"
    );
    assert_eq!(place.objects(), Vec::<String>::new());
    fs::remove_dir(place.archive()).expect("empty");
    fs::rename(&away, place.archive()).expect("back");
    server.wait_level();
    assert_eq!(state_of(&hand::restore(&place.archive()).db), 2);
}

/// It is away for longer than the log is kept: the loss is named, and a new snapshot lies behind it.
#[test]
fn what_was_not_kept_for_long_enough_is_a_gap_with_a_name() {
    let place = Place::new();
    let mut connection = create(&place.db());
    connection
        .pragma_update(None, "wal_autocheckpoint", 20)
        .expect("a pragma");
    commit(&mut connection, 1);
    let server = place.run("retain-size: 0B", QUICK);
    server.wait_level();
    let away = place.path("away");
    fs::rename(place.archive(), &away).expect("moved");
    commit(&mut connection, 2);
    server.wait_archive("disconnected");
    // More than the ring holds, in many indexes, so that the shadow WAL has to be read.
    let kept = place.path("app.db-walcast/generations");
    let indexes = || {
        let generation = fs::read_dir(&kept).expect("it is there").next();
        let generation = generation.expect("one").expect("an entry").path();
        let indexes = fs::read_dir(generation.join("wal")).expect("indexes");
        let mut indexes: Vec<_> = indexes.map(|i| i.expect("an entry").file_name()).collect();
        indexes.sort();
        indexes
    };
    let first = indexes().remove(0);
    let mut n = 2;
    until("old log goes", || {
        for _ in 0..10 {
            n += 1;
            commit(&mut connection, n);
        }
        (n > 300 && indexes()[0] != first).then_some(())
    });
    // All of it: what still goes while the archive is caught up with would be a second gap.
    until("but the newest all log goes", || {
        (indexes().len() == 1).then_some(())
    });
    let _ = fs::remove_dir_all(place.archive());
    fs::rename(&away, place.archive()).expect("back");
    server.told("was removed before it was archived");
    // The next commit lets go of what would still be read.
    server.wait_level();
    n += 1;
    commit(&mut connection, n);
    server.wait_level();
    assert_eq!(server.wait_archive("streaming"), "");
    let restored = hand::restore(&place.archive());
    assert_eq!(state_of(&restored.db), n);
    assert_eq!(place.count(".snapshot.lz4"), 2);
    // The old history ends at a document without its segment.
    let objects = place.objects();
    let docs = objects.iter().filter_map(|name| {
        let name = name.strip_prefix("walcast/")?.strip_suffix(".commits")?;
        Some(format!("{name}.wal.lz4"))
    });
    assert_eq!(docs.filter(|segment| !objects.contains(segment)).count(), 1);
    // A new start does not take the snapshot before the gap for one that leads over it.
    server.kill9();
    let server = place.run("retain-size: 0B", QUICK);
    server.wait_level();
    assert_eq!(place.count(".snapshot.lz4"), 2);
}

#[test]
fn an_archive_on_a_full_disk_is_caught_up_with() {
    if !is_root("a full filesystem") {
        return;
    }
    let place = Place::new();
    let disk = Mount::tmpfs(&place.archive(), "256k");
    let writer = Writer::start(&place.db(), Duration::from_millis(3));
    writer.wait(5);
    let server = place.run("", QUICK);
    let reason = server.wait_archive("disconnected");
    assert!(reason.contains("No space left"), "{reason}");
    // Neither the application nor the capture waits for it.
    let before = server.position();
    writer.wait(50);
    until("the capture goes on", || {
        (server.position() != before).then_some(())
    });
    disk.resize("256m");
    server.wait_archive("streaming");
    let last = writer.stop();
    server.wait_level();
    assert_eq!(server.stop(), Some(0));
    let restored = hand::restore(&place.archive());
    assert_eq!(state_of(&restored.db), last);
    // Of what did not fit nothing is left.
    let strange = |name: &String| {
        !["lz4", "json", "commits"]
            .iter()
            .any(|end| name.ends_with(end))
    };
    let strange: Vec<_> = place.objects().into_iter().filter(strange).collect();
    assert!(strange.is_empty(), "{strange:?}");
}
