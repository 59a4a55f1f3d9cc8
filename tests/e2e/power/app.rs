//! The application of the recordings, in a process of its own: everything that changes the shape of a database or of its log,
//! small.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;
use rusqlite::config::DbConfig;

use crate::support::child::Spec;
use crate::support::rng::Rng;

/// Opens the database as the application does, and makes what is missing.
pub fn open(db: &Path, page_size: u32, synchronous: &str) -> rusqlite::Result<Connection> {
    let conn = Connection::open(db)?;
    conn.busy_timeout(Duration::from_secs(10))?;
    // The log outlives this process, as it does where another one has the database open.
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    conn.execute_batch(&format!(
        "PRAGMA page_size = {page_size}; PRAGMA auto_vacuum = INCREMENTAL"
    ))?;
    let mode: String = conn.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    assert_eq!(mode, "wal");
    conn.execute_batch(&format!(
        "PRAGMA synchronous = {synchronous}; PRAGMA cache_size = 20;
         CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY, n INT, b BLOB);
         CREATE TABLE IF NOT EXISTS mark(id INTEGER PRIMARY KEY, v INT)"
    ))?;
    Ok(conn)
}

/// The last commit of a stretch: who sees it has seen all before it.
pub fn mark(conn: &Connection, value: u64) -> rusqlite::Result<()> {
    conn.execute("INSERT OR REPLACE INTO mark VALUES(1, ?1)", [value as i64])?;
    Ok(())
}

/// One thing that applications do.
pub fn act(conn: &Connection, rng: &mut Rng) -> rusqlite::Result<()> {
    let blob = |rng: &mut Rng, len: u64| rng.bytes(len as usize);
    let checkpoint = |mode: &str| {
        // Busy is an answer as well.
        conn.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |_| Ok(()))
    };
    match rng.below(100) {
        0..=39 => {
            let bytes = blob(rng, 200);
            conn.execute("INSERT INTO t(n, b) VALUES(1, ?1)", [bytes])?;
        }
        40..=59 => {
            let sql = "UPDATE t SET n = n + 1, b = ?1 WHERE id % 7 = ?2";
            conn.execute(sql, (blob(rng, 150), rng.below(7) as i64))?;
        }
        60..=64 => {
            let len = rng.between(2_000, 40_000);
            conn.execute("INSERT INTO t(n, b) VALUES(2, ?1)", [blob(rng, len)])?;
        }
        65..=69 => {
            // Larger than the cache: frames of an open transaction are in the log.
            conn.execute_batch("BEGIN")?;
            for _ in 0..rng.between(20, 120) {
                conn.execute("INSERT INTO t(n, b) VALUES(3, ?1)", [blob(rng, 900)])?;
            }
            conn.execute_batch(if rng.one_in(4) { "ROLLBACK" } else { "COMMIT" })?;
        }
        70..=77 => {
            conn.execute("DELETE FROM t WHERE id % 3 = ?1", [rng.below(3) as i64])?;
        }
        78..=79 => {
            conn.query_row("PRAGMA incremental_vacuum(5)", [], |_| Ok(()))
                .or_else(nothing)?;
        }
        80 => conn.execute_batch("VACUUM")?,
        81..=83 => {
            let table = format!("x{}", rng.below(3));
            conn.execute_batch(&format!(
                "DROP TABLE IF EXISTS {table}; CREATE TABLE {table}(a, b)"
            ))?;
        }
        84..=91 => checkpoint("PASSIVE")?,
        92..=94 => checkpoint("FULL")?,
        95..=97 => checkpoint("RESTART")?,
        _ => checkpoint("TRUNCATE")?,
    }
    Ok(())
}

fn nothing(error: rusqlite::Error) -> rusqlite::Result<()> {
    match error {
        rusqlite::Error::QueryReturnedNoRows => Ok(()),
        other => Err(other),
    }
}

/// A reader of the copy that keeps its log from beginning anew, until it checkpoints all of it itself, without a sync.
struct Holder {
    reader: Connection,
    copy: PathBuf,
}

impl Holder {
    fn begin(copy: PathBuf) -> Holder {
        let reader = Connection::open(&copy).expect("open the copy");
        reader
            .execute_batch("BEGIN; SELECT count(*) FROM mark")
            .expect("begin to read");
        Holder { reader, copy }
    }

    /// With `synchronous=OFF` SQLite syncs neither the log before a checkpoint nor the database after it. The first is
    /// this reader's own risk, and done for it here; the second must not become everybody's.
    /// Answers with the header of the log that was held.
    fn end(self, mark: u64) -> String {
        super::workload::wait_mark(&self.copy, mark);
        let path = self.copy.with_file_name("app.db-wal");
        let log = File::open(&path).expect("open the log");
        log.sync_all().expect("sync the log");
        let header = super::workload::log_header(&path).expect("a log that is held has one");
        self.reader
            .execute_batch("COMMIT; PRAGMA synchronous = OFF")
            .expect("end reading");
        let (busy, frames, copied): (i64, i64, i64) = self
            .reader
            .query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })
            .expect("checkpoint");
        assert_eq!((busy, frames), (0, copied), "the checkpoint is not whole");
        header
    }
}

/// Options: `db`, `page_size`, `synchronous`, `seed`, `acts`, `mark`, `autocheckpoint`; `last`: a checkpoint at the end;
/// `hold`: a copy, which a reader holds meanwhile, and checkpoints at the end; the report has the `header` of its log.
/// Or `wait`: a copy, on which a reader waits for the mark. Or `remove`: the directory of a copy that somebody deletes, with what it says of itself, but not with its log.
pub fn main(spec: &Spec) -> Spec {
    if spec.get("wait").is_some() {
        super::workload::wait_mark(&spec.path("wait"), spec.or("mark", 0));
        return Spec::new("power");
    }
    if spec.get("remove").is_some() {
        let side = spec.path("remove");
        for name in [
            "app.db-walcast/position",
            "app.db-walcast/durable",
            "app.db",
        ] {
            let path = side.join(name);
            std::fs::remove_file(&path).expect("remove a file");
            let directory = std::fs::File::open(path.parent().expect("a directory"));
            directory
                .and_then(|d| d.sync_all())
                .expect("sync the directory");
        }
        return Spec::new("power");
    }
    let synchronous: String = spec.or("synchronous", "NORMAL".to_owned());
    let conn = open(&spec.path("db"), spec.or("page_size", 4096), &synchronous)
        .expect("open the database");
    let mut rng = Rng::new(spec.or("seed", 1));
    let holder = spec.get("hold").map(|_| Holder::begin(spec.path("hold")));
    let pages: u64 = spec.or("autocheckpoint", 40);
    conn.execute_batch(&format!("PRAGMA wal_autocheckpoint = {pages}"))
        .expect("set the autocheckpoint");
    for _ in 0..spec.or("acts", 10) {
        act(&conn, &mut rng).expect("act as an application");
        // It thinks for a moment: walcast then captures commits one by one, as often as in heaps, and what is done once a
        // second is done some times.
        if !rng.one_in(3) {
            std::thread::sleep(Duration::from_micros(rng.below(30_000)));
        }
    }
    mark(&conn, spec.or("mark", 0)).expect("mark the end");
    let mut report = Spec::new("power");
    if let Some(holder) = holder {
        report = report.with("header", holder.end(spec.or("mark", 0)));
    }
    if let Some(mode) = spec.get("last") {
        let sql = format!("PRAGMA wal_checkpoint({mode})");
        conn.query_row(&sql, [], |_| Ok(())).expect("checkpoint");
    }
    report
}
