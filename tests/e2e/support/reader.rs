//! A reader process: reads in transactions, checks every promise of `schema`, and logs what it saw.
//!
//! Options (`key=value`): `db`, `log`, `mode` (`short`, `long`, `reconnect`, `readonly`), `seed`,
//! `busy_timeout` (ms, 1000), `pause_us` between reads (1000), `hold_ms` of a long read (up to,
//! 500), `quick_every` reads a `quick_check` (200), `reads` (0: until told to stop), `wait_first`
//! (1: until the first good read the database may be missing or empty), `isolate` (0: reads without
//! a transaction, to prove that the checks notice), `content` (1: not the tables of `schema`, but any, by the digest of
//! `content`; with settings that `plan` draws).
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
use super::content::Content;
use super::crowd::run;
use super::plan::{Plan, pragmas};
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
    content: bool,
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
            content: spec.or("content", 0) == 1,
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
            Ok(Content { version, state }) => {
                self.waiting = false;
                self.reads += 1;
                self.seen.insert(version);
                self.line("r", &format!("{version} {state}"));
                if version < self.last {
                    let text = format!("version went back from {} to {version}", self.last);
                    self.broken(&text);
                }
                self.last = version;
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
        if self.waiting && (code == 14 || text.contains("no such table: ")) {
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
        if self.content {
            let settings = Plan::load().settings("reader", &mut self.rng);
            run(&conn, &pragmas("main", &settings)).during("settings")?;
        }
        Ok(conn)
    }

    fn read(&mut self) -> Checked<Content> {
        let conn = match self.conn.take() {
            Some(conn) => conn,
            None => self.open()?,
        };
        let conn = &*self.conn.insert(conn);
        if self.isolate {
            conn.execute_batch("BEGIN").during("begin")?;
        }
        let thorough = self.reads.is_multiple_of(4);
        let number = self.rng.below(1 << 12);
        // Before a check of all: in SQLite 3.54 that of FTS5 alone takes no notice of others' commits, a query does.
        let due = self.quick_every > 0 && self.reads % self.quick_every == self.quick_every - 1;
        let seen = observe(conn, self.content, thorough || due, number)?;
        if due {
            let check = ["quick_check", "integrity_check"][usize::from(self.content)];
            says_ok(conn, check)?;
        }
        if self.mode == "long" {
            let hold = Duration::from_millis(self.rng.between(1, self.hold_ms));
            hold_and_reread(conn, self.content, &seen, hold, &self.stop)?;
        }
        if self.isolate {
            conn.execute_batch("COMMIT").during("commit")?;
        }
        Ok(seen)
    }
}

/// What is there, if it is what it has to be.
fn observe(conn: &Connection, content: bool, thorough: bool, number: u64) -> Checked<Content> {
    if !content {
        let meta = Meta::load(conn).during("meta")?;
        check_state(conn, &meta, thorough, number.cast_signed())?;
        let Meta { version, state, .. } = meta;
        return Ok(Content { version, state });
    }
    let seen = Content::of(conn, "main").during("content")?;
    let marked = seen.is_marked(conn, "main").during("mark")?;
    let found = !thorough || words_are_found(conn, number % 50).during("words")?;
    match (marked, found) {
        (true, true) => Ok(seen),
        (marked, _) => Err(Wrong::Promise(format!(
            "at version {} with the content {}: {}",
            seen.version,
            seen.state,
            if marked {
                "FTS5 misses rows"
            } else {
                "the mark names another"
            }
        ))),
    }
}

/// FTS5 finds the rows that have the word.
fn words_are_found(conn: &Connection, number: u64) -> rusqlite::Result<bool> {
    let sql = format!(
        "SELECT (SELECT count(*) FROM words WHERE words MATCH 'w{number}')
           = (SELECT count(*) FROM words_content WHERE ' ' || c0 || ' ' GLOB '* w{number} *')"
    );
    conn.query_row(&sql, [], |r| r.get(0))
}

/// Stays in the read transaction, and finds the same state again and again.
fn hold_and_reread(
    conn: &Connection,
    content: bool,
    seen: &Content,
    hold: Duration,
    stop: &Stop,
) -> Checked<()> {
    let end = Instant::now() + hold;
    while Instant::now() < end && !stop.told() {
        std::thread::sleep(hold / 4);
        let again = observe(conn, content, true, 0)?;
        if again != *seen {
            return Err(Wrong::Promise(format!(
                "a read transaction saw version {} state {}, then {} {}",
                seen.version, seen.state, again.version, again.state
            )));
        }
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

fn says_ok(conn: &Connection, check: &'static str) -> Checked<()> {
    let answer: String = conn
        .query_row(&format!("PRAGMA {check}(1)"), [], |r| r.get(0))
        .during(check)?;
    if answer == "ok" {
        return Ok(());
    }
    Err(Wrong::Promise(format!("{check}: {answer}")))
}
