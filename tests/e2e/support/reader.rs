//! A reader process: reads in transactions, checks every promise of `schema`, and logs what it saw.
//!
//! Options (`key=value`): `db`, `log`, `mode` (`short`, `long`, `reconnect`, `readonly`), `seed`,
//! `busy_timeout` (ms, 1000), `pause_us` between reads (1000), `hold_ms` of a long read (up to,
//! 500), `quick_every` reads a `quick_check` (200), `reads` (0: until told to stop), `wait_first`
//! (1: until the first good read the database may be missing or empty), `isolate` (0: reads without
//! a transaction, to prove that the checks notice).
//!
//! The log, one line each; `CONN` counts the connections it opened:
//! ```text
//! r CONN VERSION STATE     one read transaction saw this
//! e CONN CODE OP MESSAGE   SQLite gave this extended error code
//! v CONN TEXT              a promise was broken
//! ```

use std::collections::HashSet;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags, OptionalExtension};

use super::child::{Spec, Stop};
use super::rng::Rng;
use super::schema::{self, ACCOUNTS, Meta, TOTAL, X_ROWS};

/// A broken promise, or an error of SQLite.
enum Wrong {
    Promise(String),
    Sqlite(&'static str, rusqlite::Error),
}

type Checked<T> = Result<T, Wrong>;

/// Names what was being done when SQLite failed.
trait During<T> {
    fn during(self, op: &'static str) -> Checked<T>;
}

impl<T> During<T> for rusqlite::Result<T> {
    fn during(self, op: &'static str) -> Checked<T> {
        self.map_err(|e| Wrong::Sqlite(op, e))
    }
}

struct Reader {
    db: PathBuf,
    mode: String,
    busy_timeout: Duration,
    hold_ms: u64,
    quick_every: u64,
    stop: Stop,
    rng: Rng,
    log: File,
    conn: Option<Connection>,
    opened: u64,
    reads: u64,
    errors: u64,
    violations: u64,
    seen: HashSet<u64>,
    last: u64,
    slowest: Duration,
    waiting: bool,
    isolate: bool,
}

/// Runs to the end and gives the counts.
pub fn main(spec: &Spec) -> Spec {
    let mut reader = Reader::new(spec);
    let pause = spec.or("pause_us", 1000);
    let goal: u64 = spec.or("reads", 0);
    while !reader.stop.told() && (goal == 0 || reader.reads < goal) {
        reader.turn();
        // A pace, not a wait: readers at full speed would measure the machine's two cores.
        std::thread::sleep(Duration::from_micros(reader.rng.below(2 * pause + 1)));
    }
    Spec::new("reader")
        .with("reads", reader.reads)
        .with("errors", reader.errors)
        .with("violations", reader.violations)
        .with("distinct", reader.seen.len())
        .with("opened", reader.opened)
        .with("last", reader.last)
        .with("slowest_us", reader.slowest.as_micros())
}

impl Reader {
    fn new(spec: &Spec) -> Self {
        let log = File::options()
            .create(true)
            .append(true)
            .open(spec.path("log"))
            .expect("open the reader's log");
        Self {
            db: spec.path("db"),
            mode: spec.get("mode").unwrap_or("short").to_owned(),
            busy_timeout: Duration::from_millis(spec.or("busy_timeout", 1000)),
            hold_ms: spec.or("hold_ms", 500),
            quick_every: spec.or("quick_every", 200),
            stop: Stop::of(spec),
            rng: Rng::new(spec.or("seed", 1)),
            log,
            conn: None,
            opened: 0,
            reads: 0,
            errors: 0,
            violations: 0,
            seen: HashSet::new(),
            last: 0,
            slowest: Duration::ZERO,
            waiting: spec.or("wait_first", 0) == 1,
            isolate: spec.or("isolate", 1) == 1,
        }
    }

    fn line(&mut self, kind: &str, text: &str) {
        let text = text.replace('\n', " ");
        let line = format!("{kind} {} {text}\n", self.opened);
        self.log
            .write_all(line.as_bytes())
            .expect("append to the log");
    }

    /// One read transaction, logged.
    fn turn(&mut self) {
        let began = Instant::now();
        let result = self.read();
        if self.mode != "long" {
            self.slowest = self.slowest.max(began.elapsed());
        }
        match result {
            Ok(meta) => {
                self.waiting = false;
                self.reads += 1;
                self.seen.insert(meta.version);
                self.line("r", &format!("{} {}", meta.version, meta.state));
                if meta.version < self.last {
                    let text = format!("version went back from {} to {}", self.last, meta.version);
                    self.broken(&text);
                }
                self.last = meta.version;
            }
            Err(Wrong::Promise(text)) => self.broken(&text),
            Err(Wrong::Sqlite(op, error)) => self.failed(op, &error),
        }
        let Some(conn) = self.conn.as_ref() else {
            return;
        };
        let open = !conn.is_autocommit();
        if open && let Err(error) = conn.execute_batch("ROLLBACK") {
            self.failed("rollback", &error);
        }
        if self.mode == "reconnect" || self.waiting {
            self.conn = None;
        }
    }

    fn broken(&mut self, text: &str) {
        self.violations += 1;
        self.line("v", text);
    }

    fn failed(&mut self, op: &str, error: &rusqlite::Error) {
        let code = match error {
            rusqlite::Error::SqliteFailure(e, _) => e.extended_code,
            // Not SQLite's: a value of the wrong type, a missing row.
            _ => -1,
        };
        let text = error.to_string();
        // Before there is a first state: no file yet, or a database without tables.
        if self.waiting && (code == 14 || text.contains("no such table: meta")) {
            return;
        }
        self.errors += 1;
        self.line("e", &format!("{code} {op} {text}"));
    }

    fn open(&mut self) -> Checked<Connection> {
        self.opened += 1;
        let access = if self.mode == "readonly" {
            OpenFlags::SQLITE_OPEN_READ_ONLY
        } else {
            OpenFlags::SQLITE_OPEN_READ_WRITE
        };
        let conn = Connection::open_with_flags(&self.db, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)
            .during("open")?;
        conn.busy_timeout(self.busy_timeout).during("open")?;
        Ok(conn)
    }

    fn read(&mut self) -> Checked<Meta> {
        let conn = match self.conn.take() {
            Some(conn) => conn,
            None => self.open()?,
        };
        let conn = &*self.conn.insert(conn);
        if self.isolate {
            conn.execute_batch("BEGIN").during("begin")?;
        }
        let meta = Meta::load(conn).during("meta")?;
        let thorough = self.reads.is_multiple_of(4);
        let blob = self.rng.below(1 << 12).cast_signed();
        check_state(conn, &meta, thorough, blob)?;
        if self.quick_every > 0 && self.reads % self.quick_every == self.quick_every - 1 {
            quick_check(conn)?;
        }
        if self.mode == "long" {
            let hold = Duration::from_millis(self.rng.between(1, self.hold_ms));
            hold_and_reread(conn, &meta, hold, &self.stop)?;
        }
        if self.isolate {
            conn.execute_batch("COMMIT").during("commit")?;
        }
        Ok(meta)
    }
}

/// Stays in the read transaction, and finds the same state again and again.
fn hold_and_reread(conn: &Connection, meta: &Meta, hold: Duration, stop: &Stop) -> Checked<()> {
    let end = Instant::now() + hold;
    while Instant::now() < end && !stop.told() {
        std::thread::sleep(hold / 4);
        let again = Meta::load(conn).during("reread")?;
        if again != *meta {
            return Err(Wrong::Promise(format!(
                "a read transaction saw version {} state {}, then {} {}",
                meta.version, meta.state, again.version, again.state
            )));
        }
        check_state(conn, meta, true, 0)?;
    }
    Ok(())
}

fn pair(conn: &Connection, sql: &str, op: &'static str) -> Checked<(i64, i64)> {
    conn.prepare_cached(sql)
        .and_then(|mut s| s.query_row([], |r| Ok((r.get(0)?, r.get(1)?))))
        .during(op)
}

fn number(conn: &Connection, sql: &str, op: &'static str) -> Checked<i64> {
    conn.prepare_cached(sql)
        .and_then(|mut s| s.query_row([], |r| r.get(0)))
        .during(op)
}

fn same<T: PartialEq + std::fmt::Debug>(
    what: &str,
    meta: &Meta,
    found: &T,
    expected: &T,
) -> Checked<()> {
    if found == expected {
        return Ok(());
    }
    Err(Wrong::Promise(format!(
        "at version {}: {what} is {found:?}, not {expected:?}",
        meta.version
    )))
}

/// Everything that `meta` promises of the other tables.
fn check_state(conn: &Connection, meta: &Meta, thorough: bool, blob: i64) -> Checked<()> {
    let acct = pair(conn, schema::SQL_ACCT, "acct")?;
    same("acct", meta, &acct, &(ACCOUNTS, TOTAL))?;
    let rows = (meta.n_a, meta.sum_a);
    same("a", meta, &pair(conn, schema::SQL_A, "a")?, &rows)?;
    same("b", meta, &pair(conn, schema::SQL_B, "b")?, &rows)?;
    let blobs = (meta.n_blob, meta.len_blob);
    same(
        "blobs",
        meta,
        &pair(conn, schema::SQL_BLOBS, "blobs")?,
        &blobs,
    )?;
    let sql: String = conn
        .prepare_cached(schema::SQL_TABLES)
        .and_then(|mut s| s.query_row([], |r| r.get(0)))
        .during("tables")?;
    same("the schema", meta, &sql, &meta.tables)?;
    if thorough {
        let differ = number(conn, schema::SQL_MIRROR, "mirror")?;
        same("rows that differ in a and b", meta, &differ, &0)?;
        let indexed = number(conn, schema::SQL_INDEX, "index")?;
        same("the index of a", meta, &indexed, &meta.n_a)?;
        check_x_tables(conn, meta)?;
        let good: Option<bool> = conn
            .prepare_cached(schema::SQL_BLOB_AT)
            .and_then(|mut s| {
                s.query_row([blob % meta.n_blob.max(1)], |r| r.get(0))
                    .optional()
            })
            .during("blob")?;
        same(
            "a blob's ends",
            meta,
            &good,
            &(meta.n_blob > 0).then_some(true),
        )?;
    }
    Ok(())
}

fn check_x_tables(conn: &Connection, meta: &Meta) -> Checked<()> {
    let names: Vec<String> = conn
        .prepare_cached(schema::SQL_X_NAMES)
        .and_then(|mut s| s.query_map([], |r| r.get(0))?.collect())
        .during("names")?;
    for name in names {
        let n = name.trim_start_matches("x_");
        let sql = format!("SELECT count(*), coalesce(sum(v = {n}), 0) FROM {name}");
        same(&name, meta, &pair(conn, &sql, "x")?, &(X_ROWS, X_ROWS))?;
    }
    Ok(())
}

fn quick_check(conn: &Connection) -> Checked<()> {
    let answer: String = conn
        .query_row("PRAGMA quick_check(1)", [], |r| r.get(0))
        .during("quick_check")?;
    if answer == "ok" {
        return Ok(());
    }
    Err(Wrong::Promise(format!("quick_check: {answer}")))
}
