//! The table in PostgreSQL, by its protocol on a Unix socket.

use crate::observe::cpu_seconds;
use crate::table::{Digest, Table};
use anyhow::Context as _;
use postgres::{Client, Config, NoTls, Statement};
use std::io::Write as _;

/// What an address of PostgreSQL begins with, in a helper's `--db`.
pub const SCHEME: &str = "postgres:";

pub struct PgTable {
    client: Client,
    newest: Option<Statement>,
    insert: Option<Statement>,
    /// The server's process for this connection.
    backend: u32,
}

impl PgTable {
    /// Connects; `address` is [`SCHEME`] and libpq's words.
    pub fn connect(address: &str) -> anyhow::Result<PgTable> {
        let words = address
            .strip_prefix(SCHEME)
            .context("an address of PostgreSQL")?;
        let mut client = words.parse::<Config>()?.connect(NoTls)?;
        let backend: i32 = client
            .query_one("SELECT pg_backend_pid()", &[])?
            .try_get(0)?;
        Ok(PgTable {
            client,
            newest: None,
            insert: None,
            backend: u32::try_from(backend)?,
        })
    }

    /// Makes the table.
    pub fn create(&mut self) -> anyhow::Result<()> {
        let sql = "CREATE TABLE t(id BIGINT PRIMARY KEY, seq BIGINT, body TEXT)";
        Ok(self.client.batch_execute(sql)?)
    }

    /// A query's number.
    pub fn number(&mut self, sql: &str) -> anyhow::Result<i64> {
        Ok(self.client.query_one(sql, &[])?.try_get(0)?)
    }
}

/// Prepares a statement once.
fn prepared<'a>(
    client: &mut Client,
    statement: &'a mut Option<Statement>,
    sql: &str,
) -> anyhow::Result<&'a Statement> {
    if statement.is_none() {
        *statement = Some(client.prepare(sql)?);
    }
    statement.as_ref().context("it was prepared")
}

impl Table for PgTable {
    fn newest(&mut self) -> anyhow::Result<u64> {
        let sql = "SELECT coalesce(max(id), 0) FROM t";
        let statement = prepared(&mut self.client, &mut self.newest, sql)?;
        let newest: i64 = self.client.query_one(statement, &[])?.try_get(0)?;
        Ok(u64::try_from(newest)?)
    }

    fn insert(&mut self, id: u64, seq: u64, body: &str) -> anyhow::Result<()> {
        let sql = "INSERT INTO t VALUES ($1, $2, $3)";
        let statement = prepared(&mut self.client, &mut self.insert, sql)?;
        self.client
            .execute(statement, &[&id.cast_signed(), &seq.cast_signed(), &body])?;
        Ok(())
    }

    fn begin(&mut self) -> anyhow::Result<()> {
        Ok(self.client.batch_execute("BEGIN")?)
    }

    fn commit(&mut self) -> anyhow::Result<()> {
        Ok(self.client.batch_execute("COMMIT")?)
    }

    fn fill(
        &mut self,
        rows: std::ops::Range<u64>,
        body: &dyn Fn(u64) -> String,
    ) -> anyhow::Result<()> {
        let mut to = self.client.copy_in("COPY t FROM STDIN")?;
        for id in rows {
            // Bodies are JSON of numbers: nothing in them needs an escape.
            writeln!(to, "{id}\t{id}\t{}", body(id))?;
        }
        to.finish()?;
        Ok(())
    }

    fn digest(&mut self) -> anyhow::Result<Digest> {
        let sql = "SELECT count(*), coalesce(sum(seq), 0)::bigint, coalesce(sum(length(body)), 0)::bigint FROM t";
        let row = self.client.query_one(sql, &[])?;
        Ok([row.try_get(0)?, row.try_get(1)?, row.try_get(2)?])
    }

    fn server_cpu(&self) -> anyhow::Result<f64> {
        cpu_seconds(self.backend)
    }
}
