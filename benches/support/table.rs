//! The table that the application writes and readers look at: in SQLite here, elsewhere in other databases.

use rusqlite::{Connection, OpenFlags, params};
use std::path::Path;
use std::time::Duration;

/// What a table holds: rows, the sum of `seq`, bytes of all bodies. Copies that are equal have the same.
pub type Digest = [i64; 3];

/// `t(id INTEGER PRIMARY KEY, seq INTEGER, body TEXT)`, through one connection.
pub trait Table {
    /// The largest id; 0: none.
    fn newest(&mut self) -> anyhow::Result<u64>;

    /// Writes a row; a commit of its own outside of a transaction.
    fn insert(&mut self, id: u64, seq: u64, body: &str) -> anyhow::Result<()>;

    /// Begins a transaction.
    fn begin(&mut self) -> anyhow::Result<()>;

    /// Commits it.
    fn commit(&mut self) -> anyhow::Result<()>;

    /// Writes many rows, whose `seq` is their id, as fast as it can.
    fn fill(
        &mut self,
        rows: std::ops::Range<u64>,
        body: &dyn Fn(u64) -> String,
    ) -> anyhow::Result<()> {
        self.begin()?;
        for id in rows {
            self.insert(id, id, &body(id))?;
        }
        self.commit()
    }

    /// What it holds.
    fn digest(&mut self) -> anyhow::Result<Digest>;

    /// CPU seconds that a server's process has used for this connection; 0 where the library does the work.
    fn server_cpu(&self) -> anyhow::Result<f64> {
        Ok(0.0)
    }
}

/// A database of SQLite's.
pub struct SqliteTable(Connection);

impl SqliteTable {
    /// As an application has it: prepared statements, WAL, synchronous=NORMAL, pages of 4096 bytes, automatic checkpoints as
    /// they are.
    pub fn application(db: &Path) -> anyhow::Result<SqliteTable> {
        Ok(SqliteTable(open(db)?))
    }

    /// As a reader has it.
    pub fn reader(db: &Path) -> anyhow::Result<SqliteTable> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(db, flags)?;
        connection.busy_timeout(Duration::from_secs(1))?;
        Ok(SqliteTable(connection))
    }
}

/// Makes the database that the application uses.
pub fn create(db: &Path) -> anyhow::Result<Connection> {
    let connection = open(db)?;
    connection.execute_batch(
        "CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY, seq INTEGER, body TEXT)",
    )?;
    Ok(connection)
}

fn open(db: &Path) -> anyhow::Result<Connection> {
    let connection = Connection::open(db)?;
    connection.busy_timeout(Duration::from_secs(10))?;
    connection.execute_batch(
        "PRAGMA page_size=4096; PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL",
    )?;
    Ok(connection)
}

impl Table for SqliteTable {
    fn newest(&mut self) -> anyhow::Result<u64> {
        let newest: i64 = self
            .0
            .prepare_cached("SELECT ifnull(max(id), 0) FROM t")?
            .query_row([], |row| row.get(0))?;
        Ok(u64::try_from(newest)?)
    }

    fn insert(&mut self, id: u64, seq: u64, body: &str) -> anyhow::Result<()> {
        self.0
            .prepare_cached("INSERT OR REPLACE INTO t VALUES (?1, ?2, ?3)")?
            .execute(params![id.cast_signed(), seq.cast_signed(), body])?;
        Ok(())
    }

    fn begin(&mut self) -> anyhow::Result<()> {
        self.0.prepare_cached("BEGIN")?.execute([])?;
        Ok(())
    }

    fn commit(&mut self) -> anyhow::Result<()> {
        self.0.prepare_cached("COMMIT")?.execute([])?;
        Ok(())
    }

    fn digest(&mut self) -> anyhow::Result<Digest> {
        let sql = "SELECT count(*), ifnull(sum(seq), 0), ifnull(sum(length(body)), 0) FROM t";
        let row = self
            .0
            .query_row(sql, [], |row| Ok([row.get(0)?, row.get(1)?, row.get(2)?]))?;
        Ok(row)
    }
}
