//! Real `walcast` processes, an application that writes, and the archive's files.

pub use crate::server::{DEADLINE, Server, until};
use rusqlite::{Connection, params};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

impl Server {
    /// `walcast status --json`; null while it does not answer.
    pub fn status(&self) -> serde_json::Value {
        let output = Command::new(env!("CARGO_BIN_EXE_walcast"))
            .args(["status", "--json", "--server", &self.url])
            .stdin(Stdio::null())
            .output()
            .expect("walcast runs");
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    /// The archives of its databases.
    pub fn archives(&self) -> Vec<serde_json::Value> {
        let mut archives = Vec::new();
        find_archives(&self.status(), &mut archives);
        archives
    }

    /// Waits until its only archive is in this state, and gives the reason.
    pub fn wait_archive(&self, state: &str) -> String {
        let mut seen = Vec::new();
        let end = Instant::now() + DEADLINE;
        loop {
            let archives = self.archives();
            if let [archive] = &archives[..]
                && archive["state"] == state
            {
                return archive["reason"].as_str().unwrap_or_default().to_owned();
            }
            if seen.last() != Some(&archives) {
                seen.push(archives);
            }
            assert!(
                Instant::now() < end,
                "never {state}: {seen:#?}\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// `walcast position`.
    pub fn position(&self) -> String {
        until("a position", || {
            let output = Command::new(env!("CARGO_BIN_EXE_walcast"))
                .args(["position", "--server", &self.url, "--db", "app.db"])
                .stdin(Stdio::null())
                .output()
                .expect("walcast runs");
            let text = String::from_utf8(output.stdout).expect("UTF-8");
            output.status.success().then(|| text.trim_end().to_owned())
        })
    }

    /// Waits until all that is committed now is in its only archive, and can be restored from it.
    pub fn wait_level(&self) {
        let mut position = self.position();
        self.wait_archive("streaming");
        let mut seen = serde_json::Value::Null;
        let end = Instant::now() + DEADLINE;
        loop {
            let archive = self.archives().pop().unwrap_or_default();
            let durable = archive["durable"].as_str().unwrap_or_default();
            if durable.get(..16) != position.get(..16) {
                // Another generation may have begun since.
                position = self.position();
            } else if durable >= position.as_str() {
                return;
            }
            assert!(
                Instant::now() < end,
                "not at {position}: {archive}\n{}",
                self.log()
            );
            if archive != seen {
                seen = archive;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn find_archives(value: &serde_json::Value, archives: &mut Vec<serde_json::Value>) {
    match value {
        serde_json::Value::Array(items) => items.iter().for_each(|v| find_archives(v, archives)),
        serde_json::Value::Object(fields) => {
            let name = fields.get("name").and_then(|name| name.as_str());
            if name.is_some_and(|name| name.starts_with("archive ")) {
                archives.push(value.clone());
            }
            fields.values().for_each(|v| find_archives(v, archives));
        }
        _ => {}
    }
}

/// A database, its archive, and a configuration with both.
pub struct Place {
    pub dir: tempfile::TempDir,
}

impl Place {
    pub fn new() -> Place {
        let dir = tempfile::tempdir().expect("a directory");
        Place { dir }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn db(&self) -> PathBuf {
        self.path("app.db")
    }

    pub fn archive(&self) -> PathBuf {
        self.path("archive")
    }

    /// Writes `walcast.yml`: `database` and `archive` are more keys, each with its line.
    pub fn configure(&self, database: &str, archive: &str) -> PathBuf {
        let indent = |text: &str, by: &str| -> String {
            text.lines().map(|line| format!("{by}{line}\n")).collect()
        };
        let text = format!(
            "listen: 127.0.0.1:0\nhttp-listen: 127.0.0.1:0\ndrain-timeout: 60s\ndbs:\n  - path: {}\n{}    archives:\n      \
             - url: {}\n{}",
            self.db().display(),
            indent(database, "    "),
            self.archive().display(),
            indent(archive, "        ")
        );
        let path = self.path("walcast.yml");
        std::fs::write(&path, text).expect("a configuration");
        path
    }

    /// Starts a server with that configuration.
    pub fn run(&self, database: &str, archive: &str) -> Server {
        let config = self.configure(database, archive);
        Server::start_at(&["run", "--config", config.to_str().expect("UTF-8")])
    }

    /// Names of all objects below the archive.
    pub fn objects(&self) -> Vec<String> {
        let mut names = Vec::new();
        let root = self.archive();
        let mut open = vec![root.clone()];
        while let Some(dir) = open.pop() {
            // Retention may be at work.
            for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
                let path = entry.path();
                match path.is_dir() {
                    true => open.push(path),
                    false => {
                        let name = path.strip_prefix(&root).expect("below it");
                        names.push(name.to_str().expect("UTF-8").to_owned());
                    }
                }
            }
        }
        names.sort();
        names
    }

    /// How many of the objects end like this.
    pub fn count(&self, end: &str) -> usize {
        self.objects()
            .iter()
            .filter(|name| name.ends_with(end))
            .count()
    }
}

/// One row in `t` for each transaction, numbered; `c` holds the last number. So a state tells which one it is, and all that
/// must be in it.
pub fn create(db: &Path) -> Connection {
    let connection = Connection::open(db).expect("a database");
    connection
        .busy_timeout(Duration::from_secs(60))
        .expect("a timeout");
    connection
        .execute_batch(
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;
             CREATE TABLE IF NOT EXISTS t(n INTEGER PRIMARY KEY, data BLOB);
             CREATE TABLE IF NOT EXISTS c(n INTEGER);
             INSERT INTO c SELECT 0 WHERE NOT EXISTS (SELECT * FROM c);",
        )
        .expect("a schema");
    connection
}

/// What row `n` holds: a few hundred bytes, rarely some MiB.
pub fn data(n: u64) -> Vec<u8> {
    let mut x = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let size = match n % 150 {
        149 => 10 << 20,
        _ => 200 + (x >> 55) as usize,
    };
    let mut bytes = Vec::with_capacity(size + 8);
    while bytes.len() < size {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        bytes.extend_from_slice(&x.to_le_bytes());
    }
    bytes.truncate(size);
    bytes
}

/// Commits transaction `n`.
pub fn commit(connection: &mut Connection, n: u64) {
    let n = i64::try_from(n).expect("small");
    let tx = connection.transaction().expect("a transaction");
    tx.execute("INSERT INTO t VALUES (?1, ?2)", params![n, data(n as u64)])
        .expect("a row");
    tx.execute("UPDATE c SET n = ?1", params![n])
        .expect("a number");
    tx.commit().expect("committed");
}

/// Has the log begin anew with the next commit: a new index.
pub fn restart_log(connection: &Connection) {
    connection
        .query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(()))
        .expect("a checkpoint");
}

/// Asserts that a database is exactly the state after one of the transactions, and gives its number.
pub fn state_of(db: &Path) -> u64 {
    let connection = Connection::open(db).expect("a database");
    let check: String = connection
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .expect("a check");
    assert_eq!(check, "ok");
    let last: i64 = connection
        .query_row("SELECT n FROM c", [], |row| row.get(0))
        .expect("a number");
    let mut rows = connection
        .prepare("SELECT n, data FROM t ORDER BY n")
        .expect("a query");
    let mut rows = rows.query([]).expect("rows");
    let mut n = 0;
    while let Some(row) = rows.next().expect("a row") {
        n += 1;
        assert_eq!(
            row.get::<_, i64>(0).expect("a number"),
            n,
            "a row is missing"
        );
        let bytes: Vec<u8> = row.get(1).expect("data");
        assert!(bytes == data(n as u64), "row {n} is not what was written");
    }
    assert_eq!(n, last, "half a transaction");
    last as u64
}

/// An application that commits without an end.
pub struct Writer {
    committed: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    held: Arc<Mutex<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// About so many commits each second.
    pub fn start(db: &Path, pause: Duration) -> Writer {
        let committed = Arc::new(AtomicU64::new(0));
        let stop = Arc::new(AtomicBool::new(false));
        let held = Arc::new(Mutex::new(()));
        let (db, told, end) = (db.to_owned(), committed.clone(), stop.clone());
        let turn = held.clone();
        let thread = std::thread::spawn(move || {
            let mut connection = create(&db);
            let mut n: i64 = connection
                .query_row("SELECT n FROM c", [], |row| row.get(0))
                .expect("a number");
            while !end.load(Ordering::Relaxed) {
                let turn_taken = turn.lock().expect("no panic");
                n += 1;
                commit(&mut connection, n as u64);
                told.store(n as u64, Ordering::Release);
                drop(turn_taken);
                std::thread::sleep(pause);
            }
        });
        Writer {
            committed,
            stop,
            held,
            thread: Some(thread),
        }
    }

    /// The last transaction that was acknowledged.
    pub fn committed(&self) -> u64 {
        assert!(
            self.thread.as_ref().is_some_and(|t| !t.is_finished()),
            "the writer failed"
        );
        self.committed.load(Ordering::Acquire)
    }

    /// Nothing is committed while the guard lives.
    pub fn hold(&self) -> MutexGuard<'_, ()> {
        self.held.lock().expect("no panic")
    }

    /// Waits for so many more.
    pub fn wait(&self, more: u64) {
        let goal = self.committed() + more;
        until("more commits", || (self.committed() >= goal).then_some(()));
    }

    /// Ends it; the last transaction.
    pub fn stop(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread
            .take()
            .expect("it runs")
            .join()
            .expect("no panic");
        self.committed.load(Ordering::Acquire)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// `GET /metrics` of the second port.
pub fn metrics(server: &Server) -> String {
    let log = server.told("http://");
    let address = log.split(['/', ' ']).next().expect("an address").to_owned();
    let mut stream = TcpStream::connect(&address).expect("the second port");
    write!(stream, "GET /metrics HTTP/1.0\r\nHost: {address}\r\n\r\n").expect("a request");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    text
}

/// The short command, with one archive.
pub fn primary(db: &Path, archive: &Path, more: &[&str]) -> Server {
    let mut args = vec![
        "primary",
        "--db",
        db.to_str().expect("UTF-8"),
        "--archive",
        archive.to_str().expect("UTF-8"),
        "--listen",
        "127.0.0.1:0",
    ];
    args.extend(more);
    Server::start_at(&args)
}

/// A place whose database has these transactions, and a primary that archives it: some are in its snapshot, and the log has
/// all up to the last.
pub fn archived(in_snapshot: u64, last: u64) -> (Place, Connection, Server) {
    let place = Place::new();
    let mut connection = create(&place.db());
    (1..=in_snapshot).for_each(|n| commit(&mut connection, n));
    let server = primary(&place.db(), &place.archive(), &[]);
    server.wait_level();
    (in_snapshot + 1..=last).for_each(|n| commit(&mut connection, n));
    (place, connection, server)
}
