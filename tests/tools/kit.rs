//! Real `walcast` processes, and databases to give them.

pub use crate::server::{Server, until};
use rusqlite::Connection;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What a command said.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// Runs a command to its end.
pub fn walcast(args: &[&str]) -> Said {
    let output = Command::new(env!("CARGO_BIN_EXE_walcast"))
        .args(args)
        .stdin(Stdio::null())
        .output()
        .expect("walcast runs");
    Said {
        code: output.status.code().expect("an exit code"),
        stdout: String::from_utf8(output.stdout).expect("UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("UTF-8"),
    }
}

/// Runs a command that must succeed; its output without the last line's end.
pub fn ok(args: &[&str]) -> String {
    let said = walcast(args);
    assert_eq!(said.code, 0, "{args:?}: {said:?}");
    said.stdout.trim_end().to_owned()
}

impl Server {
    /// Waits until its database is healthy.
    pub fn wait_healthy(&self, db: &str) {
        let health = ["health", "--server", &self.url, "--db", db];
        until("health", || (walcast(&health).code == 0).then_some(()));
    }
}

/// A primary `app.db` with some rows, and a replica that is level with it.
pub struct Pair {
    pub dir: tempfile::TempDir,
    pub primary: Server,
    pub replica: Server,
}

impl Pair {
    pub fn start() -> Pair {
        Pair::with(&[])
    }

    /// With more arguments for the replica.
    pub fn with(replica: &[&str]) -> Pair {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::create_dir(dir.path().join("copy")).expect("a directory");
        let path = dir.path().join("app.db");
        fill(&path, 300);
        let primary = Server::start(&["primary", "--db", text(&path)]);
        primary.wait_healthy("app.db");
        let copy = dir.path().join("copy/app.db");
        let mut args = vec!["replica", "--upstream", &primary.url, "--db", text(&copy)];
        args.extend(replica);
        let replica = Server::start(&args);
        replica.wait_healthy("app.db");
        Pair {
            dir,
            primary,
            replica,
        }
    }

    pub fn app(&self) -> PathBuf {
        self.dir.path().join("app.db")
    }

    pub fn copy(&self) -> PathBuf {
        self.dir.path().join("copy/app.db")
    }

    /// Waits until the replica has all that was committed.
    pub fn level(&self) -> String {
        let at = ok(&["position", "--server", &self.primary.url, "--db", "app.db"]);
        ok(&[
            "wait",
            "--server",
            &self.replica.url,
            "--db",
            "app.db",
            "--position",
            &at,
        ]);
        at
    }
}

pub fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// A database in WAL mode.
pub fn fill(path: &Path, rows: u32) -> Connection {
    let connection = Connection::open(path).expect("a database");
    let sql = "PRAGMA journal_mode=WAL; CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY, a, b)";
    connection.execute_batch(sql).expect("a table");
    for i in 0..rows {
        let sql = "INSERT INTO t(a, b) VALUES (?1, randomblob(2000))";
        connection.execute(sql, [i]).expect("a row");
    }
    connection
}

/// The rows of a database, as a checksum that SQLite makes of all of them.
pub fn rows(path: &Path) -> (i64, String) {
    let connection = Connection::open(path).expect("a database");
    let sql = "SELECT count(*), hex(sum(a)) || hex(max(b)) || hex(min(b)) FROM t";
    let row = connection.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)));
    row.expect("rows")
}
