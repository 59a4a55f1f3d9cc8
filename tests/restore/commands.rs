//! The commands, by running them.

use crate::maker::{Maker, made};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use walcast::archive::Key;

pub struct Said {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// To measure, another build than the tests'.
pub fn program() -> String {
    let other = std::env::var("WALCAST_BIN");
    other.unwrap_or_else(|_| env!("CARGO_BIN_EXE_walcast").to_owned())
}

pub fn walcast_with(faults: &str, args: &[&str]) -> Said {
    let output = Command::new(program())
        .args(args)
        .env("WALCAST_FAULTS", faults)
        .stdin(Stdio::null())
        .output()
        .expect("walcast runs");
    Said {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).expect("UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("UTF-8"),
    }
}

fn walcast(code: i32, args: &[&str]) -> Said {
    let said = walcast_with("", args);
    assert_eq!(said.code, Some(code), "{args:?}: {}", said.stderr);
    said
}

pub fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

struct Place {
    maker: Maker,
    out: PathBuf,
}

impl Place {
    fn new() -> Place {
        let maker = made(1, 2, 3);
        let directory = maker.dir.path().join("out");
        std::fs::create_dir(&directory).expect("a directory");
        Place {
            maker,
            out: directory.join("b.db"),
        }
    }

    fn archive(&self) -> &str {
        text(&self.maker.root)
    }

    /// What is in the directory of the result.
    fn beside(&self) -> Vec<String> {
        let parent = self.out.parent().expect("a directory");
        let entries = std::fs::read_dir(parent).expect("a directory");
        let names = entries.map(|entry| entry.expect("an entry").file_name());
        names
            .map(|name| name.into_string().expect("UTF-8"))
            .collect()
    }

    fn bytes(&self) -> Vec<u8> {
        std::fs::read(&self.out).expect("a database")
    }
}

#[test]
fn a_restore_prints_its_position_and_gives_an_ordinary_database() {
    let place = Place::new();
    let args = [
        "restore",
        "-o",
        text(&place.out),
        "--integrity-check",
        place.archive(),
    ];
    let said = walcast(0, &args);
    let newest = place.maker.newest();
    assert_eq!(said.stdout, format!("{}\n", newest.position));
    assert!(place.bytes() == newest.bytes);
    assert_eq!(place.beside(), ["b.db"]);
    let connection = rusqlite::Connection::open(&place.out).expect("a database");
    let mode: String = connection
        .query_row("PRAGMA journal_mode", [], |row| row.get(0))
        .expect("a mode");
    assert_eq!(mode, "wal");
    connection
        .execute("INSERT INTO t(a) VALUES (1)", [])
        .expect("it can be written");
}

#[test]
fn what_is_there_is_kept() {
    let place = Place::new();
    let out = text(&place.out);
    std::fs::write(&place.out, "mine").expect("a file");
    let said = walcast(5, &["restore", "-o", out, place.archive()]);
    assert!(said.stderr.contains("--force"), "{}", said.stderr);
    walcast(
        0,
        &["restore", "-o", out, "--if-db-not-exists", place.archive()],
    );
    assert_eq!(place.bytes(), b"mine");
    // The log of a database that is gone would be played into the new one.
    std::fs::remove_file(&place.out).expect("removed");
    let log = place.out.with_file_name("b.db-wal");
    std::fs::write(&log, "frames").expect("a log");
    let said = walcast(5, &["restore", "-o", out, place.archive()]);
    assert!(said.stderr.contains("b.db-wal"), "{}", said.stderr);
    assert_eq!(std::fs::read(&log).expect("a log"), b"frames");
    std::fs::remove_file(&log).expect("removed");
    std::fs::write(&place.out, "mine").expect("a file");
    walcast(0, &["restore", "-o", out, "--force", place.archive()]);
    assert!(place.bytes() == place.maker.newest().bytes);
}

#[test]
fn an_archive_that_is_not_there_or_empty_is_told_or_taken() {
    let place = Place::new();
    let out = text(&place.out);
    let empty = place.maker.dir.path().join("empty");
    std::fs::create_dir(&empty).expect("a directory");
    for archive in ["/nowhere/archive", text(&empty)] {
        let said = walcast(5, &["restore", "-o", out, archive]);
        assert!(said.stderr.contains(archive), "{}", said.stderr);
        walcast(0, &["restore", "-o", out, "--if-archive-exists", archive]);
        assert_eq!(place.beside(), [""; 0]);
    }
    walcast(2, &["restore", "-o", out, "ftp://h/x"]);
    walcast(2, &["restore", place.archive()]);
    let far = "89abcdef01234567/0000000000000003:00000000000010f8";
    walcast(
        5,
        &["restore", "-o", out, "--to-position", far, place.archive()],
    );
    let before = [
        "restore",
        "-o",
        out,
        "--to-time",
        "2001-01-01T00:00:00Z",
        place.archive(),
    ];
    walcast(5, &before);
    assert_eq!(place.beside(), [""; 0]);
}

#[test]
fn damage_is_named_with_what_can_be_done() {
    let place = Place::new();
    let out = text(&place.out);
    let objects = place.maker.objects();
    let last = objects
        .iter()
        .rfind(|key| matches!(key, Key::Wal { .. }))
        .expect("one");
    let path = place.maker.root.join(last.to_string());
    let bytes = std::fs::read(&path).expect("an object");
    std::fs::write(&path, &bytes[..bytes.len() - 5]).expect("cut");
    let said = walcast(1, &["restore", "-o", out, place.archive()]);
    assert!(
        said.stderr.contains(&last.to_string()) && said.stderr.contains("--sound"),
        "{}",
        said.stderr
    );
    assert_eq!(said.stderr.lines().count(), 1, "{}", said.stderr);
    assert_eq!(place.beside(), [""; 0]);
    let said = walcast(1, &["archive", "verify", place.archive()]);
    assert!(said.stderr.contains(&last.to_string()), "{}", said.stderr);
    let said = walcast(0, &["restore", "-o", out, "--sound", place.archive()]);
    assert!(said.stderr.contains(&last.to_string()), "{}", said.stderr);
    let position = said.stdout.trim_end().parse().expect("a position");
    assert!(place.bytes() == place.maker.at(position).bytes);
}

#[test]
fn every_failing_disk_operation_is_named_and_leaves_nothing() {
    let place = Place::new();
    let out = text(&place.out);
    for fault in [
        "restore.create=enospc",
        "pages.create=enospc",
        "pages.allocate=enospc",
        "restore.write=enospc",
        "restore.write=short@3",
        "restore.read=eio",
        "restore.sync=eio",
        "restore.open-object=eio@2",
        "restore.read-object=eio@5",
        "place.mode=eio",
        "place.rename=enospc",
    ] {
        let said = walcast_with(fault, &["restore", "-o", out, place.archive()]);
        assert_eq!(said.code, Some(1), "{fault}: {}", said.stderr);
        let (operation, _) = fault.split_once('=').expect("a rule");
        assert!(said.stderr.contains(operation), "{fault}: {}", said.stderr);
        assert_eq!(place.beside(), [""; 0], "{fault}");
    }
    walcast(0, &["restore", "-o", out, place.archive()]);
}

#[test]
fn killed_at_any_moment_it_leaves_no_database() {
    let place = Place::new();
    let out = text(&place.out);
    for fault in [
        "restore.create=kill",
        "restore.write=kill@1",
        "restore.write=kill@2",
        "restore.write=kill@4",
        "restore.sync=kill",
        "place.mode=kill@1",
        "place.rename=kill@1",
    ] {
        let said = walcast_with(fault, &["restore", "-o", out, place.archive()]);
        assert_eq!(
            said.code, None,
            "{fault}: it was not killed: {}",
            said.stderr
        );
        assert!(!place.out.exists(), "{fault}");
    }
    walcast(0, &["restore", "-o", out, place.archive()]);
    assert!(place.bytes() == place.maker.newest().bytes);
}

#[test]
fn a_signal_ends_it_in_order() {
    let place = Place::new();
    let child = Command::new(env!("CARGO_BIN_EXE_walcast"))
        .args(["restore", "-o", text(&place.out), place.archive()])
        .env("WALCAST_FAULTS", "restore.read-object=stall")
        .stderr(Stdio::piped())
        .spawn()
        .expect("walcast runs");
    // It has begun once its directory is there; the stalls give it seconds to live.
    while place.beside().is_empty() {
        std::thread::yield_now();
    }
    kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).expect("a signal");
    let output = child.wait_with_output().expect("an end");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("interrupted"));
    assert_eq!(place.beside(), [""; 0]);
}

fn json(args: &[&str]) -> serde_json::Value {
    serde_json::from_str(&walcast(0, args).stdout).expect("JSON")
}

#[test]
fn the_lists_show_what_is_there() {
    let maker = made(2, 2, 3);
    let archive = text(&maker.root);
    let generations = json(&["generations", "--json", archive]);
    let generations = generations["generations"].as_array().expect("a list");
    assert_eq!(generations.len(), 2);
    let newest = maker.newest();
    assert_eq!(generations[1]["position"], newest.position.to_string());
    assert_eq!(generations[1]["time_us"], newest.time_us);
    assert_eq!(generations[1]["fork"], generations[0]["position"]);
    assert_eq!(generations[1]["gaps"].as_array().map(Vec::len), Some(0));
    let snapshots = json(&["snapshots", "--json", archive]);
    let positions: Vec<_> = snapshots["snapshots"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|row| row["position"].as_str().expect("a position").to_owned())
        .collect();
    let mut expected: Vec<String> = maker.snapshots.iter().map(ToString::to_string).collect();
    assert_eq!(positions.len(), expected.len());
    expected.retain(|position| !positions.contains(position));
    assert_eq!(expected, [""; 0]);
    let wal = json(&[
        "wal",
        "--json",
        "--generation",
        &newest.position.generation.to_string(),
        archive,
    ]);
    let wal = wal["wal"].as_array().expect("a list");
    let segments = maker.objects().into_iter().filter(|key| {
        matches!(key, Key::Wal { generation, .. } if newest.position.generation == (*generation).into())
    });
    assert_eq!(wal.len(), segments.count());
    // A log that is missing is told of.
    let index = newest.position.index;
    let log = maker.root.join(format!(
        "generations/{}/wal/{index:016x}",
        newest.position.generation
    ));
    std::fs::remove_dir_all(log).expect("removed");
    for (command, words) in [
        (
            "generations",
            &["GENERATION", "NEWEST POSITION", "gap: ", "is missing"][..],
        ),
        ("snapshots", &["INDEX", "WRITTEN"]),
        ("wal", &["OFFSET", "0000000000000000"]),
    ] {
        let said = walcast(0, &[command, archive]).stdout;
        for word in words {
            assert!(said.contains(word), "{command}: {word}: {said}");
        }
    }
}

#[test]
fn a_database_of_a_configuration_stands_for_its_archives() {
    let place = Place::new();
    let file = place.maker.dir.path().join("walcast.yml");
    let (database, archive) = (text(&place.out), place.archive());
    let yaml = format!(
        "dbs:\n  - path: {database}\n    archives:\n      - url: /nowhere/archive\n      - url: {archive}\n"
    );
    std::fs::write(&file, yaml).expect("a file");
    let file = text(&file);
    let list = json(&["databases", "--config", file, "--json"]);
    assert_eq!(list["databases"][0]["archives"][1], archive);
    // The archive that has the newest state is asked first, and the other one not at all.
    for name in [database, "b.db"] {
        walcast(0, &["restore", "--config", file, "--force", name]);
        assert!(place.bytes() == place.maker.newest().bytes);
    }
    // A position may be in any of them.
    let state = &place.maker.states[4];
    let position = state.position.to_string();
    let to = [
        "restore",
        "--config",
        file,
        "--force",
        "--to-position",
        &position,
        "b.db",
    ];
    let said = walcast(0, &to);
    assert!(said.stderr.contains("/nowhere/archive"), "{}", said.stderr);
    assert!(place.bytes() == state.bytes);
    let said = walcast(5, &["restore", "--config", file, "c.db"]);
    assert!(said.stderr.contains("c.db"), "{}", said.stderr);
    // How far it is behind, where the database is.
    let own = place.out.with_file_name("b.db-walcast");
    std::fs::create_dir(&own).expect("a directory");
    std::fs::write(
        own.join("position"),
        format!("{}\n", place.maker.newest().position),
    )
    .expect("a file");
    let yaml = format!("dbs:\n  - path: {database}\n    archives:\n      - url: {archive}\n");
    std::fs::write(file, yaml).expect("a file");
    let rows = json(&["generations", "--json", "--config", file, "b.db"]);
    assert_eq!(rows["generations"][0]["lag_seconds"], 0.0);
    std::fs::write(
        own.join("position"),
        format!("{}\n", place.maker.states[0].position),
    )
    .expect("a file");
    let rows = json(&["generations", "--json", "--config", file, "b.db"]);
    assert!(
        rows["generations"][0]["lag_seconds"]
            .as_f64()
            .expect("a number")
            > 0.0
    );
}

#[test]
fn an_archive_is_verified_with_and_without_documents() {
    let place = Place::new();
    let scratch = text(place.out.parent().expect("a directory"));
    let verified = json(&[
        "archive",
        "verify",
        "--json",
        "--scratch",
        scratch,
        place.archive(),
    ]);
    assert_eq!(verified["is_recorded"], true);
    assert_eq!(
        verified["position"],
        place.maker.newest().position.to_string()
    );
    place.maker.without_documents();
    let said = walcast(
        0,
        &["archive", "verify", "--scratch", scratch, place.archive()],
    );
    assert!(
        said.stdout.contains("no checksum is recorded"),
        "{}",
        said.stdout
    );
    assert_eq!(place.beside(), [""; 0]);
}
