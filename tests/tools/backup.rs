//! `walcast backup`: each result is an ordinary database of one position, and can be written.

use crate::kit::*;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Gid, Pid, chown, getuid};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

/// It opens, is whole, and takes a write.
fn assert_writable(path: &Path) {
    let connection = rusqlite::Connection::open(path).expect("a database");
    let check: String = connection
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .expect("a check");
    assert_eq!(check, "ok");
    connection
        .execute("INSERT INTO t(a, b) VALUES ('mine', x'00')", [])
        .expect("a write");
    connection
        .execute_batch("CREATE TABLE u(x); PRAGMA journal_mode=DELETE")
        .expect("a schema and a mode of its own");
}

#[test]
fn a_primary_a_replica_and_a_replicas_file_give_the_same() {
    let pair = Pair::start();
    let at = pair.level();
    let (app, copy) = (pair.app(), pair.copy());
    let before = rows(&app);
    let results: Vec<_> = ["primary", "replica", "file"]
        .map(|from| pair.dir.path().join(format!("from-{from}.db")))
        .into();
    let primary = ["--server", &pair.primary.url, "--db", "app.db"];
    let replica = ["--server", &pair.replica.url, "--db", "app.db"];
    let file = ["--db", text(&copy)];
    for (source, to) in [&primary[..], &replica, &file].into_iter().zip(&results) {
        let mut args = vec!["backup"];
        args.extend(source);
        args.extend(["--to", text(to), "--mode", "0600"]);
        assert_eq!(ok(&args), at);
        let mode = std::fs::metadata(to).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    let bytes: Vec<_> = results
        .iter()
        .map(|to| std::fs::read(to).expect("a file"))
        .collect();
    assert!(
        bytes[0] == bytes[1] && bytes[0] == bytes[2],
        "the three differ"
    );
    for to in &results {
        assert_eq!(rows(to), before);
        assert_writable(to);
    }
    // And nothing is left beside them.
    assert_eq!(hidden(pair.dir.path()), [""; 0]);
}

/// What is in a directory under a hidden name.
fn hidden(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).expect("a directory");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    names
        .map(|name| name.into_string().expect("UTF-8"))
        .filter(|name| name.starts_with('.'))
        .collect()
}

/// Neither the umask nor the group of the process decides who reads a backup.
#[test]
fn a_backup_has_its_mode_and_the_group_of_its_directory() {
    let pair = Pair::start();
    pair.level();
    let to = pair.dir.path().join("to");
    std::fs::create_dir(&to).expect("a directory");
    if getuid().is_root() {
        chown(&to, None, Some(Gid::from_raw(4242))).expect("a group");
    }
    let group = std::fs::metadata(&to).expect("a directory").gid();
    let copy = pair.copy();
    let sources = [
        ["--server", &pair.primary.url, "--db", "app.db"].to_vec(),
        ["--server", &pair.replica.url, "--db", "app.db"].to_vec(),
        ["--db", text(&copy)].to_vec(),
    ];
    for (i, source) in sources.iter().enumerate() {
        for (mode, wanted) in [(None, 0o640), (Some("0664"), 0o664)] {
            let path = to.join(format!("{i}-{wanted:o}.db"));
            let mut command = Command::new("sh");
            command.args(["-c", "umask 077; exec \"$@\"", "sh"]);
            command.args([env!("CARGO_BIN_EXE_walcast"), "backup", "--to", text(&path)]);
            command.args(source);
            command.args(mode.map(|mode| ["--mode", mode]).into_iter().flatten());
            let done = command.output().expect("a shell");
            assert!(done.status.success(), "{done:?}");
            let got = std::fs::metadata(&path).expect("a backup");
            assert_eq!(got.mode() & 0o7777, wanted, "{source:?}");
            assert_eq!(got.gid(), group, "{source:?}");
        }
    }
}

#[test]
fn ctrl_c_leaves_nothing() {
    let pair = Pair::start();
    fill(&pair.app(), 6000);
    pair.level();
    let copy = pair.copy();
    let sources = [
        ["--server", &pair.replica.url, "--db", "app.db"].to_vec(),
        ["--db", text(&copy)].to_vec(),
    ];
    for source in sources {
        let to = pair.dir.path().join("b.db");
        let mut child = Command::new(env!("CARGO_BIN_EXE_walcast"))
            .args(["backup", "--to", text(&to)])
            .args(source)
            // 12 MiB in steps of 50 ms.
            .env("WALCAST_FAULTS", "backup.write=stall")
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("walcast runs");
        until("the copy to begin", || {
            let names = hidden(pair.dir.path());
            let begun = names
                .iter()
                .any(|n| pair.dir.path().join(n).join("copy.tmp").exists());
            assert!(
                child.try_wait().expect("a child").is_none(),
                "it is done already"
            );
            begun.then_some(())
        });
        let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
        kill(pid, Signal::SIGINT).expect("a signal");
        let ended = child.wait_with_output().expect("an end");
        let stderr = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!(ended.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains("interrupted"), "{stderr}");
        assert_eq!(hidden(pair.dir.path()), [""; 0]);
        assert!(!to.exists());
    }
}

#[test]
fn a_copy_has_the_mode_that_was_asked_for() {
    let pair = Pair::with(&["--mode", "0660"]);
    let mode = std::fs::metadata(pair.copy()).expect("a copy").mode();
    assert_eq!(mode & 0o7777, 0o660);
}

#[test]
fn sqlites_own_backup_of_a_replica_is_read_only() {
    let pair = Pair::start();
    pair.level();
    let to = pair.dir.path().join("marked.db");
    let copy =
        "import sqlite3, sys; sqlite3.connect(sys.argv[1]).backup(sqlite3.connect(sys.argv[2]))";
    let done = std::process::Command::new("python3")
        .args(["-c", copy, text(&pair.copy()), text(&to)])
        .status();
    assert!(done.expect("python3 runs").success());
    let copy = rusqlite::Connection::open(&to).expect("a database");
    let error = copy
        .execute("INSERT INTO t(a) VALUES (1)", [])
        .expect_err("read-only");
    assert!(error.to_string().contains("readonly"), "{error}");
}

#[test]
fn a_stopped_replicas_file_is_enough() {
    let pair = Pair::start();
    let at = pair.level();
    let Pair {
        dir,
        primary,
        replica,
    } = pair;
    replica.stop();
    primary.stop();
    let (copy, to) = (dir.path().join("copy/app.db"), dir.path().join("b.db"));
    assert_eq!(ok(&["backup", "--db", text(&copy), "--to", text(&to)]), at);
    assert_writable(&to);
}

#[test]
fn a_copy_under_load_is_a_state_that_was_committed() {
    let pair = Pair::start();
    let connection = rusqlite::Connection::open(pair.app()).expect("a database");
    connection
        .execute_batch("CREATE TABLE two(n); INSERT INTO two VALUES (0), (0)")
        .expect("a table");
    pair.level();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Both rows are always equal in a committed state.
            let (mut n, writer) = (0, fill(&pair.app(), 0));
            while !stop.load(Ordering::SeqCst) {
                n += 1;
                let sql = "BEGIN; UPDATE two SET n = n + 1 WHERE rowid = 1;
                     UPDATE t SET b = randomblob(2000) WHERE id % 7 = 3; UPDATE two SET n = n + 1 WHERE rowid = 2; COMMIT";
                writer.execute_batch(sql).expect("a commit");
            }
            assert!(n > 0);
        });
        let copies = (0..3).flat_map(|i| [("primary", i), ("replica", i)]);
        let results: Vec<_> = copies
            .map(|(from, i)| {
                let to = pair.dir.path().join(format!("{from}{i}.db"));
                let server = if from == "primary" {
                    &pair.primary
                } else {
                    &pair.replica
                };
                let said = walcast(&[
                    "backup",
                    "--server",
                    &server.url,
                    "--db",
                    "app.db",
                    "--to",
                    text(&to),
                ]);
                (to, said)
            })
            .collect();
        stop.store(true, Ordering::SeqCst);
        for (to, said) in results {
            assert_eq!(said.code, 0, "{said:?}");
            let connection = rusqlite::Connection::open(&to).expect("a database");
            let sql = "SELECT count(DISTINCT n) FROM two";
            let different: i64 = connection
                .query_row(sql, [], |row| row.get(0))
                .expect("a count");
            assert_eq!(different, 1);
            drop(connection);
            assert_writable(&to);
        }
    });
}

#[test]
fn what_is_there_is_not_touched() {
    let pair = Pair::start();
    pair.level();
    let to = pair.dir.path().join("mine.db");
    std::fs::write(&to, "mine").expect("a file");
    let backup = [
        "backup",
        "--server",
        &pair.primary.url,
        "--db",
        "app.db",
        "--to",
        text(&to),
    ];
    let said = walcast(&backup);
    assert_eq!(said.code, 5, "{said:?}");
    assert!(said.stderr.contains("--force"), "{said:?}");
    assert_eq!(std::fs::read(&to).expect("a file"), b"mine");
    let mut forced = backup.to_vec();
    forced.push("--force");
    ok(&forced);
    assert_writable(&to);
    // The primary's own file, and a replica's: even by force.
    let live = [pair.app(), pair.copy()];
    for live in &live {
        forced[6] = text(live);
        assert_eq!(walcast(&forced).code, 5);
    }
    // An ordinary database is no replica's file.
    let said = walcast(&["backup", "--db", text(&pair.app()), "--to", "/tmp/never.db"]);
    assert_eq!(said.code, 5, "{said:?}");
    assert!(said.stderr.contains(".backup"), "{said:?}");
    let said = walcast(&[
        "backup",
        "--server",
        &pair.primary.url,
        "--db",
        "other.db",
        "--to",
        "/tmp/never.db",
    ]);
    assert_eq!(said.code, 5, "{said:?}");
    assert!(!Path::new("/tmp/never.db").exists());
}
