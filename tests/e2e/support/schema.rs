//! The tables of the test application, and the promises in them that a reader can check.
//!
//! * `acct`: transfers only, so the balances always sum to `TOTAL`.
//! * `a`, `b`: mirrored row by row in the same transaction.
//! * `blobs`: large values whose ends carry their own name `h`.
//! * `x_N`: come and go by DDL; `v` is `N` in each of the `X_ROWS` rows.
//! * `meta` (and `ddl`, for the schema): one row with what a reader must find at this version.
//!
//! `tests/python/common.py` holds the same statements: change both.

use rusqlite::{Connection, Transaction, params};
use xxhash_rust::xxh3::xxh3_64_with_seed;

pub const ACCOUNTS: i64 = 64;
pub const TOTAL: i64 = ACCOUNTS * 1000;
pub const X_ROWS: i64 = 20;
/// Bytes of the name at each end of a blob.
pub const NAME_LEN: usize = 16;

const TABLES: &str = "
CREATE TABLE acct(id INTEGER PRIMARY KEY, bal INTEGER NOT NULL);
CREATE TABLE a(id INTEGER PRIMARY KEY, h INTEGER NOT NULL, t TEXT NOT NULL);
CREATE TABLE b(id INTEGER PRIMARY KEY, h INTEGER NOT NULL, t TEXT NOT NULL);
CREATE INDEX a_h ON a(h);
CREATE TABLE blobs(id INTEGER PRIMARY KEY, h TEXT NOT NULL, n INTEGER NOT NULL, data BLOB NOT NULL);
CREATE TABLE meta(id INTEGER PRIMARY KEY CHECK(id = 1), version INTEGER NOT NULL,
  state TEXT NOT NULL, n_a INTEGER NOT NULL, sum_a INTEGER NOT NULL, n_blob INTEGER NOT NULL,
  len_blob INTEGER NOT NULL, mark TEXT NOT NULL);
CREATE TABLE ddl(id INTEGER PRIMARY KEY CHECK(id = 1), tables TEXT NOT NULL);";

pub const SQL_META: &str = "SELECT version, state, n_a, sum_a, n_blob, len_blob,
  (SELECT tables FROM ddl WHERE id = 1) FROM meta WHERE id = 1";
pub const SQL_ACCT: &str = "SELECT count(*), coalesce(sum(bal), 0) FROM acct";
pub const SQL_A: &str = "SELECT count(*), coalesce(sum(id * 31 + h), 0) FROM a";
pub const SQL_B: &str = "SELECT count(*), coalesce(sum(id * 31 + h), 0) FROM b";
pub const SQL_MIRROR: &str = "SELECT count(*) FROM a LEFT JOIN b ON a.id = b.id
  WHERE b.id IS NULL OR a.h <> b.h OR a.t <> b.t";
pub const SQL_INDEX: &str = "SELECT count(h) FROM a INDEXED BY a_h WHERE h >= 0";
pub const SQL_BLOBS: &str = "SELECT count(*), coalesce(sum(length(data)), 0) FROM blobs";
pub const SQL_BLOB_AT: &str = "SELECT CAST(substr(data, 1, 16) AS TEXT) = h
  AND CAST(substr(data, -16) AS TEXT) = h AND length(data) = n
  FROM blobs ORDER BY id LIMIT 1 OFFSET ?1";
pub const SQL_TABLES: &str = "SELECT coalesce(group_concat(sql, ';'), '') FROM
  (SELECT sql FROM sqlite_schema WHERE name GLOB 'x_*' AND sql IS NOT NULL ORDER BY name)";
pub const SQL_X_NAMES: &str =
    "SELECT name FROM sqlite_schema WHERE type = 'table' AND name GLOB 'x_*' ORDER BY name";

/// What `meta` says of one committed state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Counts commits, from 1.
    pub version: u64,
    /// 16 hex digits, chained over all changes.
    pub state: String,
    pub n_a: i64,
    pub sum_a: i64,
    pub n_blob: i64,
    pub len_blob: i64,
    /// The SQL of all `x_` tables and indexes.
    pub tables: String,
}

impl Meta {
    /// # Errors
    /// SQLite's; "no such table" while there is no state.
    pub fn load(conn: &Connection) -> rusqlite::Result<Self> {
        conn.prepare_cached(SQL_META)?.query_row([], |r| {
            Ok(Self {
                version: r.get::<_, i64>(0)?.cast_unsigned(),
                state: r.get(1)?,
                n_a: r.get(2)?,
                sum_a: r.get(3)?,
                n_blob: r.get(4)?,
                len_blob: r.get(5)?,
                tables: r.get(6)?,
            })
        })
    }

    /// The next version, its state chained from this one and from `changes`.
    #[must_use]
    pub fn next(&self, changes: u64) -> Self {
        let mut next = self.clone();
        next.version += 1;
        next.state = chain(&self.state, next.version, changes);
        next
    }

    /// # Errors
    /// SQLite's.
    pub fn store(&self, tx: &Connection) -> rusqlite::Result<()> {
        tx.prepare_cached(
            "UPDATE meta SET version = ?1, state = ?2, n_a = ?3, sum_a = ?4, n_blob = ?5,
               len_blob = ?6, mark = ?7 WHERE id = 1",
        )?
        .execute(params![
            self.version.cast_signed(),
            self.state,
            self.n_a,
            self.sum_a,
            self.n_blob,
            self.len_blob,
            mark(self.version, &self.state),
        ])?;
        Ok(())
    }
}

fn chain(previous: &str, version: u64, changes: u64) -> String {
    let mut bytes = previous.as_bytes().to_vec();
    bytes.extend_from_slice(&changes.to_le_bytes());
    format!("{:016x}", xxh3_64_with_seed(&bytes, version))
}

/// Text that can be found in raw WAL bytes: which states the log holds. It is stored in `meta`,
/// whose one row is rewritten by each commit, and is short enough for one page of 512 bytes (the
/// long text of the schema has a table of its own for this reason).
pub fn mark(version: u64, state: &str) -> String {
    format!("walcast-state:{version:016x}:{state};")
}

/// Makes the tables, at version 1, in one transaction.
///
/// # Errors
/// SQLite's.
pub fn create(tx: &Transaction, seed: u64) -> rusqlite::Result<Meta> {
    tx.execute_batch(TABLES)?;
    for id in 1..=ACCOUNTS {
        tx.execute(
            "INSERT INTO acct VALUES(?1, ?2)",
            params![id, TOTAL / ACCOUNTS],
        )?;
    }
    let meta = Meta {
        version: 1,
        state: chain("", 1, seed),
        n_a: 0,
        sum_a: 0,
        n_blob: 0,
        len_blob: 0,
        tables: String::new(),
    };
    tx.execute("INSERT INTO meta VALUES(1, 0, '', 0, 0, 0, 0, '')", [])?;
    tx.execute("INSERT INTO ddl VALUES(1, '')", [])?;
    meta.store(tx)?;
    Ok(meta)
}
