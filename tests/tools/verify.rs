//! `walcast verify`.

use crate::kit::*;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

fn servers<'a>(pair: &'a Pair, rest: &[&'a str]) -> Vec<&'a str> {
    let mut args = vec![
        "verify",
        "--primary",
        &pair.primary.url,
        "--replica",
        &pair.replica.url,
        "--db",
        "app.db",
    ];
    args.extend(rest);
    args
}

/// Changes a byte of a page in a file, past SQLite.
fn damage(path: &Path, pgno: u64) {
    let mut file = std::fs::File::options()
        .read(true)
        .write(true)
        .open(path)
        .expect("a file");
    let at = SeekFrom::Start((pgno - 1) * 4096 + 2000);
    let mut byte = [0];
    file.seek(at).expect("seek");
    file.read_exact(&mut byte).expect("a byte");
    file.seek(at).expect("seek");
    file.write_all(&[byte[0] ^ 0x40]).expect("a byte");
}

/// All of the log is in the file, so that damage in the file is what readers see.
fn checkpoint(path: &Path) {
    let connection = rusqlite::Connection::open(path).expect("a database");
    until("a checkpoint of all", || {
        let sql = "PRAGMA wal_checkpoint(PASSIVE)";
        let row = connection.query_row(sql, [], |row| {
            Ok((row.get::<_, i64>(1)?, row.get::<_, i64>(2)?))
        });
        let (log, done) = row.expect("a checkpoint");
        (log == done).then_some(())
    });
}

struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn servers_are_compared_at_one_position_while_writes_go_on() {
    let pair = Pair::start();
    let (stop, written) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let connection = fill(&pair.app(), 0);
            while !stop.load(Ordering::SeqCst) {
                let sql = "INSERT OR REPLACE INTO t(id, a, b) VALUES (abs(random()) % 2000, 1, randomblob(3000))";
                connection.execute(sql, []).expect("a row");
                written.fetch_add(1, Ordering::SeqCst);
            }
        });
        // The scope waits for the writer, also where an assertion fails.
        let _stop = StopAtEnd(&stop);
        let mut positions = Vec::new();
        for _ in 0..5 {
            let said = walcast(&servers(&pair, &["--json"]));
            assert_eq!(said.code, 0, "{said:?}");
            let json: serde_json::Value = serde_json::from_str(&said.stdout).expect("JSON");
            assert_eq!(json["equal"], true);
            positions.push(json["position"].as_str().expect("a position").to_owned());
            let before = written.load(Ordering::SeqCst);
            until("more writes", || {
                (written.load(Ordering::SeqCst) > before).then_some(())
            });
            // The next comparison is at a later position of the replica.
            pair.level();
        }
        let unique: std::collections::BTreeSet<_> = positions.iter().collect();
        assert_eq!(
            unique.len(),
            positions.len(),
            "nothing was written meanwhile: {positions:?}"
        );
    });
    // Who only looked is not listed as a replica that left.
    let status = ok(&["status", "--server", &pair.primary.url, "--json"]);
    let json: serde_json::Value = serde_json::from_str(&status).expect("JSON");
    let replicas = json["databases"][0]["replicas"]
        .as_array()
        .expect("replicas");
    assert_eq!(replicas.len(), 1, "{status}");
}

#[test]
fn a_damaged_page_of_a_replica_is_named() {
    let pair = Pair::start();
    pair.level();
    checkpoint(&pair.copy());
    damage(&pair.copy(), 7);
    damage(&pair.copy(), 9);
    let said = walcast(&servers(&pair, &[]));
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.stdout.contains("2 of "), "{said:?}");
    assert!(said.stdout.contains("pages differ: 7, 9\n"), "{said:?}");
    // It tells damage from a wrong copy, and what heals it.
    assert!(said.stdout.contains("restart its walcast"), "{said:?}");
}

#[test]
fn a_damaged_page_of_a_primary_is_no_answer_about_the_replica() {
    let pair = Pair::start();
    pair.level();
    checkpoint(&pair.app());
    damage(&pair.app(), 7);
    let said = walcast(&servers(&pair, &[]));
    assert_eq!(said.code, 7, "{said:?}");
    assert!(
        said.stderr.contains("a page is damaged at the source"),
        "{said:?}"
    );
}

#[test]
fn what_cannot_be_compared_is_said() {
    let pair = Pair::start();
    pair.level();
    let swapped = [
        "verify",
        "--primary",
        &pair.replica.url,
        "--replica",
        &pair.primary.url,
        "--db",
        "app.db",
    ];
    let said = walcast(&swapped);
    assert_eq!(said.code, 5, "{said:?}");
    let said = walcast(&[
        "verify",
        "--primary",
        &pair.primary.url,
        "--replica",
        &pair.replica.url,
    ]);
    assert_eq!(said.code, 2, "{said:?}");
    let said = walcast(&[
        "verify",
        "--primary",
        &pair.primary.url,
        "--replica",
        "/x",
        "--db",
        "a",
    ]);
    assert_eq!(said.code, 2, "{said:?}");
    let other = ["--replica-db", "other.db"];
    assert_eq!(walcast(&servers(&pair, &other)).code, 5);
    let nobody = [
        "verify",
        "--primary",
        "http://127.0.0.1:1",
        "--replica",
        &pair.replica.url,
        "--db",
        "app.db",
    ];
    assert_eq!(walcast(&nobody).code, 3);
    assert_eq!(
        walcast(&["verify", "--primary", "/no", "--replica", "/no"]).code,
        7
    );
}

#[test]
fn a_replica_that_is_cut_off_is_not_compared_with_another_state() {
    let pair = Pair::start();
    pair.level();
    // A second primary of a copy of the file: a history that the replica does not follow.
    let other = pair.dir.path().join("other.db");
    ok(&[
        "backup",
        "--server",
        &pair.primary.url,
        "--db",
        "app.db",
        "--to",
        text(&other),
    ]);
    let stranger = Server::start(&["primary", "--db", &format!("app.db={}", text(&other))]);
    stranger.wait_healthy("app.db");
    let said = walcast(&[
        "verify",
        "--primary",
        &stranger.url,
        "--replica",
        &pair.replica.url,
        "--db",
        "app.db",
    ]);
    assert_eq!(said.code, 5, "{said:?}");
}

#[test]
fn files_are_compared_with_their_logs() {
    let pair = Pair::start();
    pair.level();
    let (app, copy) = (pair.app(), pair.copy());
    let files = ["verify", "--primary", text(&app), "--replica", text(&copy)];
    let said = ok(&files);
    assert!(said.starts_with("equal: "), "{said}");
    // One has its rows in the log, the other in the file.
    checkpoint(&copy);
    ok(&files);
    damage(&copy, 5);
    let said = walcast(&files);
    assert_eq!(said.code, 1, "{said:?}");
    assert!(
        said.stdout.contains("1 of ") && said.stdout.contains("differ: 5\n"),
        "{said:?}"
    );
    // A backup of it without a log compares as well.
    let plain = pair.dir.path().join("plain.db");
    ok(&[
        "backup",
        "--server",
        &pair.primary.url,
        "--db",
        "app.db",
        "--to",
        text(&plain),
    ]);
    let connection = rusqlite::Connection::open(&plain).expect("a database");
    connection
        .execute_batch("PRAGMA journal_mode=DELETE")
        .expect("another mode");
    drop(connection);
    let said = walcast(&["verify", "--primary", text(&app), "--replica", text(&plain)]);
    // The mode is in page 1, and no replica has another one.
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.stdout.contains("differ: 1\n"), "{said:?}");
}

#[test]
fn a_whole_database_needs_a_token_that_may_have_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let token = |name: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, format!("{name}-0123456789abcdef0123456789abcdef\n"))
            .expect("a file");
        path
    };
    let (one, other) = (token("one"), token("other"));
    let (app, copy) = (dir.path().join("app.db"), dir.path().join("copy.db"));
    drop(fill(&app, 50));
    let db = format!("app.db={}", text(&copy));
    let primary = Server::start(&[
        "primary",
        "--db",
        text(&app),
        "--access-token-file",
        text(&one),
    ]);
    primary.wait_healthy("app.db");
    let replica = [
        "replica",
        "--upstream",
        &primary.url,
        "--upstream-token-file",
        text(&one),
        "--db",
        &db,
        "--access-token-file",
        text(&other),
    ];
    let replica = Server::start(&replica);
    replica.wait_healthy("app.db");
    let verify = [
        "verify",
        "--primary",
        &primary.url,
        "--replica",
        &replica.url,
        "--db",
        "app.db",
    ];
    let with = |rest: &[&str]| walcast(&[&verify[..], rest].concat());
    let both = [
        "--token-file",
        text(&one),
        "--replica-token-file",
        text(&other),
    ];
    assert_eq!(with(&both).code, 0, "{:?}", with(&both));
    assert_eq!(with(&[]).code, 5);
    let wrong = with(&["--token-file", text(&one)]);
    assert_eq!(wrong.code, 5, "{wrong:?}");
    for (server, token) in [(&primary, &one), (&replica, &other)] {
        let to = dir.path().join("b.db");
        let backup = [
            "backup",
            "--server",
            &server.url,
            "--db",
            "app.db",
            "--to",
            text(&to),
            "--force",
        ];
        assert_eq!(walcast(&backup).code, 5);
        assert!(
            !to.exists() || server.url == replica.url,
            "a refused backup left a file"
        );
        ok(&[&backup[..], &["--token-file", text(token)]].concat());
    }
}
