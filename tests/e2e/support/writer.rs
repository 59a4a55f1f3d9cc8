//! The test application: a process that writes, and notes in a history file what it committed.
//!
//! Options (`key=value`): `db`, `history`, `seed`, `commits` (0: until told to stop), `rate`
//! (commits a second, 0: unthrottled), `mix`, `conns`, `page_size`, `auto_vacuum`,
//! `autocheckpoint`, `synchronous`, `busy_timeout` (ms), `rows`, `blob_kb`, `max_mb`, `big_mb`.
//! It is the only writer, so each SQLITE_BUSY it meets was added by somebody: all are counted, by
//! what it was doing, as `busy.OP.STEP.EXTENDED_CODE`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, TransactionBehavior};

use super::child::{Spec, Stop};
use super::history::HistoryWriter;
use super::ops::{Change, Mix, Op, Sizes};
use super::rng::Rng;
use super::schema::{self, Meta};

/// A failure and what was being done.
type Failed = (&'static str, rusqlite::Error);

struct Writer {
    spec: Spec,
    db: PathBuf,
    conns: Vec<Connection>,
    /// The version that a read transaction on the last connection holds.
    held: Option<u64>,
    rng: Rng,
    sizes: Sizes,
    history: HistoryWriter,
    meta: Meta,
    counts: BTreeMap<String, u64>,
    slowest: Duration,
}

/// Runs to the end and gives the report.
pub fn main(spec: &Spec) -> Spec {
    let mut writer = Writer::open(spec);
    let mix = Mix::parse(spec.get("mix").unwrap_or("full"));
    let (commits, rate): (u64, u64) = (spec.or("commits", 0), spec.or("rate", 0));
    let stop = Stop::of(spec);
    let goal = writer.meta.version + commits;
    let (begin, first) = (Instant::now(), writer.meta.version);
    while !stop.told() && (commits == 0 || writer.meta.version + 1 < goal) {
        let op = mix.choose(&mut writer.rng);
        writer.step(op);
        if rate > 0 {
            let due =
                begin + Duration::from_secs(1) * u32_of(writer.meta.version - first) / u32_of(rate);
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
    }
    writer.finish()
}

fn u32_of(n: u64) -> u32 {
    u32::try_from(n).expect("a test makes fewer than 2^32 commits")
}

impl Writer {
    fn open(spec: &Spec) -> Self {
        let db = spec.path("db");
        let count: usize = spec.or("conns", 3);
        let mut first = connect(spec, &db);
        let mut history = HistoryWriter::open(&spec.path("history"));
        let seed: u64 = spec.or("seed", 1);
        let meta = Self::first_state(&mut first, &mut history, seed);
        let mut conns = vec![first];
        conns.extend((1..count).map(|_| connect(spec, &db)));
        Self {
            spec: spec.clone(),
            db,
            conns,
            held: None,
            // Another run on the same database must not repeat the same changes.
            rng: Rng::new(seed ^ meta.version.rotate_left(17)),
            sizes: Sizes {
                rows: spec.or("rows", 4000),
                blob_bytes: spec.or("blob_kb", 2048) << 10,
                max_blob_bytes: spec.or("max_mb", 24) << 20,
                big_bytes: spec.or("big_mb", 16) << 20,
            },
            history,
            meta,
            counts: BTreeMap::new(),
            slowest: Duration::ZERO,
        }
    }

    /// Finds the state in the database, or makes the first one.
    fn first_state(conn: &mut Connection, history: &mut HistoryWriter, seed: u64) -> Meta {
        let has_tables: bool = conn
            .query_row(
                "SELECT count(*) FROM sqlite_schema WHERE name = 'meta'",
                [],
                |r| r.get(0),
            )
            .expect("read the schema");
        if has_tables {
            let meta = Meta::load(conn).expect("read meta");
            history.line("start", meta.version, &meta.state);
            return meta;
        }
        history.line("start", 0, "-");
        let tx = conn
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .expect("begin the first transaction");
        let meta = schema::create(&tx, seed).expect("create the tables");
        history.line("intent", meta.version, &meta.state);
        tx.commit().expect("commit the first transaction");
        history.line("done", meta.version, &meta.state);
        meta
    }

    fn count(&mut self, key: String) {
        *self.counts.entry(key).or_default() += 1;
    }

    /// One piece of work. BUSY is counted; any other error ends the process.
    fn step(&mut self, op: Op) -> bool {
        let result = match op {
            Op::Vacuum => self.vacuum(),
            Op::Checkpoint => self.checkpoint(),
            Op::Reopen => self.reopen(),
            Op::Hold => self.hold(),
            Op::Rollback => self.transaction(op, false),
            _ => self.transaction(op, true),
        };
        let Err((step, error)) = result else {
            self.count(format!("op.{}", op.name()));
            return true;
        };
        let code = match &error {
            rusqlite::Error::SqliteFailure(e, _)
                if matches!(e.code, ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) =>
            {
                e.extended_code
            }
            _ => panic!("{} failed at {step}: {error}", op.name()),
        };
        self.count(format!("busy.{}.{step}.{code}", op.name()));
        false
    }

    /// A connection to write with: never the one that holds a read transaction.
    fn pick(&mut self) -> usize {
        let usable = self.conns.len() - usize::from(self.held.is_some());
        usize::try_from(self.rng.below(usable as u64)).expect("an index fits a usize")
    }

    fn transaction(&mut self, op: Op, commit: bool) -> Result<(), Failed> {
        let at = self.pick();
        let read_first = self.rng.one_in(2);
        let began = Instant::now();
        let conn = &self.conns[at];
        let mut next = self.meta.clone();
        let result = (|| {
            begin(conn, read_first)?;
            let mut change = Change {
                conn,
                rng: &mut self.rng,
                meta: &mut next,
                sizes: &self.sizes,
                digest: 0,
            };
            change.apply(op).map_err(|e| ("write", e))?;
            let digest = change.digest;
            next = next.next(digest);
            next.store(conn).map_err(|e| ("write", e))?;
            if !commit {
                return conn.execute_batch("ROLLBACK").map_err(|e| ("rollback", e));
            }
            self.history.line("intent", next.version, &next.state);
            conn.execute_batch("COMMIT").map_err(|e| {
                self.history.line("abort", next.version, &next.state);
                ("commit", e)
            })?;
            self.history.line("done", next.version, &next.state);
            self.meta = next;
            Ok(())
        })();
        if result.is_err() && !conn.is_autocommit() {
            conn.execute_batch("ROLLBACK").expect("roll back");
        }
        self.slowest = self.slowest.max(began.elapsed());
        result
    }

    fn vacuum(&mut self) -> Result<(), Failed> {
        let at = self.pick();
        let incremental = self.spec.or("auto_vacuum", 0) == 2 && self.rng.one_in(2);
        let sql = if incremental {
            "PRAGMA incremental_vacuum"
        } else {
            "VACUUM"
        };
        let conn = &self.conns[at];
        let run = || {
            let mut statement = conn.prepare(sql)?;
            let mut rows = statement.query([])?;
            while rows.next()?.is_some() {}
            Ok(())
        };
        run().map_err(|e| ("vacuum", e))
    }

    /// RESTART and TRUNCATE wait for readers: beside our own open read only PASSIVE is tried.
    fn checkpoint(&mut self) -> Result<(), Failed> {
        const MODES: [&str; 4] = ["PASSIVE", "FULL", "RESTART", "TRUNCATE"];
        let choice = if self.held.is_some() {
            0
        } else {
            self.rng.below(4)
        };
        let mode = MODES[usize::try_from(choice).unwrap_or(0)];
        let at = self.pick();
        let busy: i64 = self.conns[at]
            .query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |r| r.get(0))
            .map_err(|e| (mode, e))?;
        let answer = if busy == 0 { "ok" } else { "busy" };
        self.count(format!("ckpt.{mode}.{answer}"));
        Ok(())
    }

    fn reopen(&mut self) -> Result<(), Failed> {
        let at = self.pick();
        // With one connection this close is the last: SQLite may delete the log at it.
        drop(self.conns.remove(at));
        let fresh = connect(&self.spec, &self.db);
        self.conns.insert(at, fresh);
        Ok(())
    }

    /// The read transaction sees one state from its begin to its end.
    fn hold(&mut self) -> Result<(), Failed> {
        let Some(conn) = self.conns.last().filter(|_| self.conns.len() > 1) else {
            return Ok(());
        };
        match self.held {
            None => {
                conn.execute_batch("BEGIN").map_err(|e| ("begin", e))?;
                let version = match Meta::load(conn) {
                    Ok(meta) => meta.version,
                    Err(error) => {
                        conn.execute_batch("ROLLBACK").expect("roll back");
                        return Err(("read", error));
                    }
                };
                assert_eq!(
                    version, self.meta.version,
                    "a new read sees the last commit"
                );
                self.held = Some(version);
            }
            Some(version) => {
                let now = Meta::load(conn).map_err(|e| ("read", e))?;
                assert_eq!(now.version, version, "a read transaction saw another state");
                conn.execute_batch("COMMIT").map_err(|e| ("end", e))?;
                self.held = None;
            }
        }
        Ok(())
    }

    /// A last commit, so that the end of the log is a version; then closes as an application does.
    fn finish(mut self) -> Spec {
        if self.held.is_some() {
            self.step(Op::Hold);
        }
        let end = Instant::now() + Duration::from_secs(10);
        while !self.step(Op::One) {
            assert!(
                Instant::now() < end,
                "the last commit stays busy: {:?}",
                self.counts
            );
        }
        let slowest = self.slowest.as_micros();
        let mut report = Spec::new("writer")
            .with("version", self.meta.version)
            .with("state", &self.meta.state)
            .with("slowest_us", slowest);
        for (key, value) in &self.counts {
            report = report.with(key, value);
        }
        report
    }
}

/// As applications do it: with the lock first, or by a read that becomes a write (which meets
/// BUSY_SNAPSHOT when somebody else has written between).
fn begin(conn: &Connection, read_first: bool) -> Result<(), Failed> {
    if !read_first {
        return conn
            .execute_batch("BEGIN IMMEDIATE")
            .map_err(|e| ("begin", e));
    }
    conn.execute_batch("BEGIN").map_err(|e| ("begin", e))?;
    Meta::load(conn).map(drop).map_err(|e| ("read", e))
}

/// Opens as the application would, with the pragmas of the spec.
fn connect(spec: &Spec, db: &std::path::Path) -> Connection {
    let conn = Connection::open(db).expect("open the database");
    conn.busy_timeout(Duration::from_secs(10))
        .expect("set the busy timeout of the opening");
    let set = format!(
        "PRAGMA page_size = {}; PRAGMA auto_vacuum = {}; PRAGMA synchronous = {};
         PRAGMA wal_autocheckpoint = {};",
        spec.or("page_size", 4096),
        spec.or("auto_vacuum", 0),
        spec.get("synchronous").unwrap_or("NORMAL"),
        spec.or("autocheckpoint", 1000),
    );
    conn.execute_batch(&set).expect("set pragmas");
    let mode: String = conn
        .query_row("PRAGMA journal_mode = WAL", [], |r| r.get(0))
        .expect("switch to WAL");
    assert_eq!(mode, "wal");
    conn.busy_timeout(Duration::from_millis(spec.or("busy_timeout", 1000)))
        .expect("set the busy timeout");
    conn
}
