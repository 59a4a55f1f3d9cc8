//! The digest of a whole database as SQL shows it: a state's name that no writer has to keep account of.
//!
//! `tests/python/crowd.py` and `crowd.js` make the same one: sha-256 over `user_version`, `application_id`, the schema by type and
//! name, and all rows of each table (those behind FTS5 as well) in the table's own order. Only `mark`, which holds the result,
//! is left out.

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Result};
use sha2::{Digest, Sha256};

use super::schema::mark;

/// One state as a reader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// Counts commits, from 1.
    pub version: u64,
    /// 16 hex digits.
    pub state: String,
}

const SCHEMA: &str = "SELECT type, name, tbl_name, sql FROM {db}.sqlite_schema ORDER BY type, name";
const TABLES: &str =
    "SELECT name FROM {db}.sqlite_schema WHERE type = 'table' AND rootpage > 0 AND name <> 'mark'
  ORDER BY name";

impl Content {
    /// Reads everything. Call it within a transaction.
    ///
    /// # Errors
    /// SQLite's.
    pub fn of(conn: &Connection, db: &str) -> Result<Self> {
        let version: i64 =
            conn.query_row(&format!("SELECT n FROM {db}.version"), [], |r| r.get(0))?;
        let mut sum = Sha256::new();
        for pragma in ["user_version", "application_id"] {
            rows(conn, &format!("PRAGMA {db}.{pragma}"), &mut sum)?;
        }
        rows(conn, &SCHEMA.replace("{db}", db), &mut sum)?;
        let names: Vec<String> = conn
            .prepare(&TABLES.replace("{db}", db))?
            .query_map([], |r| r.get(0))?
            .collect::<Result<_>>()?;
        for name in names {
            // Without an index, whose order another version of SQLite may not choose.
            let sql = format!("SELECT * FROM {db}.\"{name}\" NOT INDEXED");
            rows(conn, &sql, &mut sum)?;
        }
        let bytes = sum.finalize();
        Ok(Self {
            version: version.cast_unsigned(),
            state: bytes[..8].iter().map(|b| format!("{b:02x}")).collect(),
        })
    }

    /// Notes in `mark` what a reader must find.
    ///
    /// # Errors
    /// SQLite's.
    pub fn store(&self, conn: &Connection, db: &str) -> Result<()> {
        let sql = format!("UPDATE {db}.mark SET text = CAST(?1 AS BLOB)");
        let text = mark(self.version, &self.state).into_bytes();
        conn.execute(&sql, [text]).map(drop)
    }

    /// Whether the mark says so, too.
    ///
    /// # Errors
    /// SQLite's.
    pub fn is_marked(&self, conn: &Connection, db: &str) -> Result<bool> {
        let text: Vec<u8> =
            conn.query_row(&format!("SELECT text FROM {db}.mark"), [], |r| r.get(0))?;
        Ok(text == mark(self.version, &self.state).into_bytes())
    }
}

fn rows(conn: &Connection, sql: &str, sum: &mut Sha256) -> Result<()> {
    let mut statement = conn.prepare(sql)?;
    let columns = statement.column_count();
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        for column in 0..columns {
            match row.get_ref(column)? {
                ValueRef::Null => sum.update("n;"),
                ValueRef::Integer(n) => sum.update(format!("i{n};")),
                ValueRef::Real(x) => {
                    sum.update("r");
                    sum.update(x.to_be_bytes());
                }
                ValueRef::Text(bytes) => {
                    sum.update(format!("t{};", bytes.len()));
                    sum.update(bytes);
                }
                ValueRef::Blob(bytes) => {
                    sum.update(format!("b{};", bytes.len()));
                    sum.update(bytes);
                }
            }
        }
        sum.update("|");
    }
    sum.update("#");
    Ok(())
}
