//! An application of many connections: threads of one process, several such processes at once. Each thread draws what it does
//! and the settings of its connections from `plan`, numbers its commits under SQLite's write lock, and notes each with the
//! digest of the content (`content`) in a history file of its own.
//!
//! Options (`key=value`): `db.NAME` (a database, `main` or another one that is attached by that name), `history.NAME` (the
//! directory of its histories), `who`, `seed`, `threads`.
//! `SQLITE_BUSY` is a part of this life: it is counted, by what was done, as `busy.WHAT`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::thread;

use rusqlite::fallible_iterator::FallibleIterator;
use rusqlite::{Batch, Connection, ErrorCode, Result};

use super::child::{Spec, Stop};
use super::content::Content;
use super::history::HistoryWriter;
use super::plan::{Plan, Words, pragmas};
use super::rng::Rng;

/// One database, and where a thread notes its commits.
struct Database {
    name: String,
    path: PathBuf,
    history: HistoryWriter,
    page_size: u64,
}

struct Member {
    plan: Plan,
    databases: Vec<Database>,
    rng: Rng,
    conn: Connection,
    /// A second connection, with a read transaction open or not.
    beside: Connection,
    held: Option<Vec<Content>>,
    counts: BTreeMap<String, u64>,
}

/// Makes a database by the plan, with its first state.
///
/// # Panics
/// When SQLite fails.
pub fn create(path: &Path, settings: &[(&str, &str)], history: &Path, rng: &mut Rng) {
    let conn = Connection::open(path).expect("create the database");
    let plan = Plan::load();
    let page_size = settings.iter().find(|(name, _)| *name == "page_size");
    let words = Words {
        db: "main",
        page_size: page_size.map_or(4096, |(_, size)| size.parse().expect("a page size")),
    };
    run(&conn, &pragmas("main", settings)).expect("set the database up");
    run(&conn, "PRAGMA journal_mode = WAL; BEGIN IMMEDIATE").expect("begin");
    for script in plan.schema(words, rng) {
        run(&conn, &script).unwrap_or_else(|e| panic!("{script}: {e}"));
    }
    run(&conn, "UPDATE version SET n = 1").expect("the first version");
    let first = Content::of(&conn, "main").expect("the first state");
    first.store(&conn, "main").expect("mark it");
    let mut history = HistoryWriter::open(history);
    history.line("intent", first.version, &first.state);
    run(&conn, "COMMIT").expect("commit the first state");
    history.line("done", first.version, &first.state);
}

/// Runs until told to stop, and gives what was counted.
pub fn main(spec: &Spec) -> Spec {
    let threads: u64 = spec.or("threads", 2);
    let members: Vec<_> = (0..threads)
        .map(|number| {
            let spec = spec.clone();
            thread::spawn(move || Member::new(&spec, number).life(&Stop::of(&spec)))
        })
        .collect();
    let mut total: BTreeMap<String, u64> = BTreeMap::new();
    for member in members {
        for (key, value) in member.join().expect("a thread of the application") {
            *total.entry(key).or_default() += value;
        }
    }
    let counts = total.iter();
    counts.fold(Spec::new("crowd"), |report, (k, v)| report.with(k, v))
}

impl Member {
    fn new(spec: &Spec, number: u64) -> Self {
        let seed: u64 = spec.or("seed", 1);
        let mut rng = Rng::new(seed ^ (number + 1).rotate_left(48));
        let who = spec.get("who").unwrap_or("crowd");
        let databases: Vec<Database> = spec
            .prefixed("db.")
            .map(|(key, path)| {
                let name = key["db.".len()..].to_owned();
                let histories = spec.path(&format!("history.{name}"));
                let conn = Connection::open(path).expect("open the database");
                let page_size = conn.query_row("PRAGMA page_size", [], |r| r.get::<_, i64>(0));
                Database {
                    history: HistoryWriter::open(&histories.join(format!("{who}-{number}"))),
                    path: PathBuf::from(path),
                    page_size: page_size.expect("read the page size").cast_unsigned(),
                    name,
                }
            })
            .collect();
        let plan = Plan::load();
        Self {
            conn: connect(&plan, &databases, &mut rng),
            beside: connect(&plan, &databases, &mut rng),
            plan,
            databases,
            rng,
            held: None,
            counts: BTreeMap::new(),
        }
    }

    fn life(mut self, stop: &Stop) -> BTreeMap<String, u64> {
        while !stop.told() {
            let what = match self.rng.below(100) {
                0..70 => ("commit", self.commit()),
                70..85 => ("idle", self.idle()),
                85..92 => ("hold", self.hold()),
                92..97 => ("undo", self.undo()),
                _ => ("reopen", self.reopen()),
            };
            let key = match what {
                (name, Ok(())) => name.to_owned(),
                (name, Err(error)) => {
                    let busy = code(&error);
                    let busy = matches!(busy, ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked);
                    assert!(busy, "{name}: {error}");
                    format!("busy.{name}")
                }
            };
            *self.counts.entry(key).or_default() += 1;
            if !self.conn.is_autocommit() {
                run(&self.conn, "ROLLBACK").expect("roll back");
            }
        }
        self.counts
    }

    /// Mostly with the lock first, else as a read that becomes a write.
    fn begin(&mut self) -> Result<()> {
        let how = ["IMMEDIATE", "IMMEDIATE", "EXCLUSIVE", "DEFERRED"];
        let how = how[self.rng.below(4) as usize];
        run(&self.conn, &format!("BEGIN {how}"))?;
        if how == "DEFERRED" {
            run(&self.conn, "SELECT n FROM version")?;
        }
        Ok(())
    }

    /// Some parts of the plan, in one database or in all.
    fn change(&mut self) -> Result<Vec<Option<Content>>> {
        let most = if self.rng.one_in(20) { 30 } else { 3 };
        let parts = self.rng.between(1, most);
        let only = self.rng.below(2 * self.databases.len() as u64);
        let mut next = Vec::new();
        for at in 0..self.databases.len() {
            if (only as usize) < self.databases.len() && only as usize != at {
                next.push(None);
                continue;
            }
            let database = &self.databases[at];
            let (db, page_size) = (database.name.as_str(), database.page_size);
            // Nothing has changed since the lock was taken, or the first write of this transaction is refused.
            run(&self.conn, &format!("UPDATE {db}.version SET n = n + 1"))?;
            for _ in 0..parts {
                let words = Words { db, page_size };
                let script = self.plan.script("change", words, &mut self.rng);
                part(&self.conn, &script)?;
            }
            // FTS5 writes what it has gathered at a savepoint, or else at the commit.
            run(&self.conn, "SAVEPOINT all_written; RELEASE all_written")?;
            let content = Content::of(&self.conn, db)?;
            content.store(&self.conn, db)?;
            next.push(Some(content));
        }
        Ok(next)
    }

    fn commit(&mut self) -> Result<()> {
        self.begin()?;
        let next = self.change()?;
        self.note("intent", &next);
        let result = run(&self.conn, "COMMIT");
        self.note(if result.is_ok() { "done" } else { "abort" }, &next);
        result
    }

    fn note(&mut self, kind: &str, next: &[Option<Content>]) {
        for (database, content) in self.databases.iter_mut().zip(next) {
            if let Some(content) = content {
                database.history.line(kind, content.version, &content.state);
            }
        }
    }

    /// All of a commit but its end.
    fn undo(&mut self) -> Result<()> {
        self.begin()?;
        self.change()?;
        run(&self.conn, "ROLLBACK")
    }

    fn idle(&mut self) -> Result<()> {
        let at = self.rng.below(self.databases.len() as u64) as usize;
        let words = Words {
            db: &self.databases[at].name,
            page_size: self.databases[at].page_size,
        };
        let script = self.plan.script("idle", words, &mut self.rng);
        run(&self.conn, &script)
    }

    /// Begins a read transaction beside the writes, or ends it where it began.
    fn hold(&mut self) -> Result<()> {
        let see = |conn: &Connection, databases: &[Database]| {
            let all = databases.iter().map(|d| Content::of(conn, &d.name));
            all.collect::<Result<Vec<_>>>()
        };
        if let Some(before) = self.held.take() {
            let now = see(&self.beside, &self.databases);
            run(&self.beside, "COMMIT")?;
            assert_eq!(now?, before, "a read transaction saw another state");
            return Ok(());
        }
        run(&self.beside, "BEGIN")?;
        match see(&self.beside, &self.databases) {
            Ok(seen) => self.held = Some(seen),
            Err(error) => {
                run(&self.beside, "ROLLBACK")?;
                return Err(error);
            }
        }
        Ok(())
    }

    fn reopen(&mut self) -> Result<()> {
        self.conn = connect(&self.plan, &self.databases, &mut self.rng);
        if self.held.is_none() {
            self.beside = connect(&self.plan, &self.databases, &mut self.rng);
        }
        Ok(())
    }
}

/// Opens with newly drawn settings for each database.
fn connect(plan: &Plan, databases: &[Database], rng: &mut Rng) -> Connection {
    let (first, others) = databases.split_first().expect("a database");
    // Without powersafe overwrite a commit is filled up to a whole sector, by its last frame again.
    let mut uri = |path: &Path| format!("file:{}?psow={}", path.display(), rng.below(2));
    let conn = Connection::open(uri(&first.path)).expect("open the database");
    let attached: Vec<String> = others.iter().map(|other| uri(&other.path)).collect();
    conn.busy_timeout(super::DEADLINE).expect("be patient");
    let mut settings = pragmas("main", &plan.settings("connection", rng));
    for (other, uri) in others.iter().zip(attached) {
        let sql = format!("ATTACH '{uri}' AS {}", other.name);
        run(&conn, &sql).expect("attach");
        settings += &pragmas(&other.name, &plan.settings("connection", rng));
    }
    run(&conn, &settings).unwrap_or_else(|e| panic!("{settings}: {e}"));
    conn
}

/// A part of a transaction: what SQLite refuses as such is undone alone.
fn part(conn: &Connection, script: &str) -> Result<()> {
    run(conn, "SAVEPOINT part")?;
    let result = run(conn, script);
    let Err(error) = result else {
        return run(conn, "RELEASE part");
    };
    let refused = matches!(
        code(&error),
        ErrorCode::Unknown | ErrorCode::ConstraintViolation
    );
    if !refused || conn.is_autocommit() {
        return Err(error);
    }
    run(conn, "ROLLBACK TO part; RELEASE part")
}

/// `Unknown` is SQLite's general error: no such table, and the like.
fn code(error: &rusqlite::Error) -> ErrorCode {
    match error {
        rusqlite::Error::SqliteFailure(e, _) => e.code,
        rusqlite::Error::SqlInputError { error, .. } => error.code,
        other => panic!("no error of SQLite: {other}"),
    }
}

/// All statements of a script, each to its end.
pub fn run(conn: &Connection, script: &str) -> Result<()> {
    let mut batch = Batch::new(conn, script);
    while let Some(mut statement) = batch.next()? {
        let mut rows = statement.raw_query();
        while rows.next()?.is_some() {}
    }
    Ok(())
}
