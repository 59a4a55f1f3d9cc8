//! Real `walcast` processes, and databases to give them.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rusqlite::Connection;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long anything may take on a busy machine.
const DEADLINE: Duration = Duration::from_secs(120);

/// Tries until it works.
pub fn until<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(value) = check() {
            return value;
        }
        assert!(Instant::now() < end, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

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

/// A server that ends with the test.
pub struct Server {
    child: Child,
    pub url: String,
    log: Arc<Mutex<String>>,
}

impl Server {
    /// Starts `walcast` with these arguments and waits for its address.
    pub fn start(args: &[&str]) -> Server {
        Server::start_with(args, |_| {})
    }

    /// The same, changed before it starts.
    pub fn start_with(args: &[&str], change: impl FnOnce(&mut Command)) -> Server {
        let mut command = Command::new(env!("CARGO_BIN_EXE_walcast"));
        change(&mut command);
        let mut child = command
            .args(args)
            .args(["--listen", "127.0.0.1:0"])
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("walcast runs");
        let log = Arc::new(Mutex::new(String::new()));
        let stderr = BufReader::new(child.stderr.take().expect("a pipe"));
        let kept = log.clone();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                *kept.lock().expect("no panic") += &(line + "\n");
            }
        });
        let mut server = Server {
            child,
            url: String::new(),
            log,
        };
        server.url = format!("http://{}", server.told("listening on "));
        server
    }

    /// What follows these words on stderr, in a line or in a JSON object.
    pub fn told(&self, words: &str) -> String {
        until(words, || {
            let log = self.log();
            let ended = log.rfind('\n').map_or("", |end| &log[..end]);
            let (_, rest) = ended.split_once(words)?;
            let end = rest.find(['\n', '"']).unwrap_or(rest.len());
            Some(rest[..end].to_owned())
        })
    }

    /// The pid.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("a pid"))
    }

    /// Its stderr so far.
    pub fn log(&self) -> String {
        self.log.lock().expect("no panic").clone()
    }

    /// Waits until its database is healthy.
    pub fn wait_healthy(&self, db: &str) {
        let health = ["health", "--server", &self.url, "--db", db];
        until("health", || (walcast(&health).code == 0).then_some(()));
    }

    /// Ends it in order.
    pub fn stop(mut self) {
        kill(self.pid(), Signal::SIGTERM).expect("a signal");
        self.child.wait().expect("an end");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
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
