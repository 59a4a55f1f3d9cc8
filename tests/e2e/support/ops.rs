//! What the test application does, one function for each kind of change. Every one keeps the
//! promises of `schema` and notes in `Meta` what a reader must find.

use rusqlite::{Connection, OptionalExtension, Result, params};

use super::rng::Rng;
use super::schema::{self, ACCOUNTS, Meta, NAME_LEN, X_ROWS};

/// How many `x_` tables may exist.
const X_TABLES: u64 = 6;

/// The kinds of work, in the words of the `mix` option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    One,
    Hundred,
    Blob,
    /// Many blobs in one transaction: `big_mb`.
    Big,
    Ddl,
    Grow,
    Shrink,
    MassDelete,
    Savepoint,
    /// A large transaction that is rolled back: uncommitted frames in the log.
    Rollback,
    Vacuum,
    Checkpoint,
    /// Closes a connection and opens it again.
    Reopen,
    /// Begins or ends a read transaction on the last connection, beside the writes.
    Hold,
}

const NAMES: [(&str, Op); 14] = [
    ("one", Op::One),
    ("hundred", Op::Hundred),
    ("blob", Op::Blob),
    ("big", Op::Big),
    ("ddl", Op::Ddl),
    ("grow", Op::Grow),
    ("shrink", Op::Shrink),
    ("massdel", Op::MassDelete),
    ("savepoint", Op::Savepoint),
    ("rollback", Op::Rollback),
    ("vacuum", Op::Vacuum),
    ("ckpt", Op::Checkpoint),
    ("reopen", Op::Reopen),
    ("hold", Op::Hold),
];

impl Op {
    pub fn name(self) -> &'static str {
        NAMES
            .iter()
            .find_map(|&(name, op)| (op == self).then_some(name))
            .expect("every Op stands in NAMES")
    }
}

/// Weighted choice of work.
#[derive(Clone, Debug)]
pub struct Mix(Vec<(Op, u64)>);

/// Everything, in proportions that keep commits frequent.
pub const FULL: &str = "one:60,hundred:10,blob:4,ddl:4,grow:2,shrink:2,massdel:1,savepoint:4,\
                        rollback:2,vacuum:1,ckpt:4,reopen:2,hold:3";

impl Mix {
    /// `full`, or `op:weight,...`.
    ///
    /// # Panics
    /// At a word that is no op, or a weight that is no number.
    pub fn parse(text: &str) -> Self {
        let text = if text == "full" { FULL } else { text };
        let parts = text.split(',').map(|part| {
            let (name, weight) = part.split_once(':').unwrap_or((part, "1"));
            let op = NAMES.iter().find(|(n, _)| *n == name);
            let (_, op) = op.unwrap_or_else(|| panic!("no such op: {name}"));
            (*op, weight.parse().expect("a weight is a number"))
        });
        Self(parts.collect())
    }

    pub fn choose(&self, rng: &mut Rng) -> Op {
        let total: u64 = self.0.iter().map(|(_, w)| w).sum();
        let mut at = rng.below(total);
        for &(op, weight) in &self.0 {
            if at < weight {
                return op;
            }
            at -= weight;
        }
        Op::One
    }
}

/// Bounds of the work.
#[derive(Clone, Debug)]
pub struct Sizes {
    /// Ids of `a` and `b` are below this.
    pub rows: u64,
    pub blob_bytes: u64,
    /// Blobs together stay below this, but for one `Big`.
    pub max_blob_bytes: u64,
    pub big_bytes: u64,
}

/// One transaction under way.
pub struct Change<'a> {
    pub conn: &'a Connection,
    pub rng: &'a mut Rng,
    pub meta: &'a mut Meta,
    pub sizes: &'a Sizes,
    /// Of all that was changed, in order.
    pub digest: u64,
}

impl Change<'_> {
    /// The changes of a transactional op; the others (`Vacuum`, ...) are the writer's own.
    pub fn apply(&mut self, op: Op) -> Result<()> {
        match op {
            Op::Hundred => self.rows(100),
            Op::Blob => self.blob(self.sizes.blob_bytes),
            Op::Big => self.big(),
            Op::Ddl => self.ddl(),
            Op::Grow => self.grow(),
            Op::Shrink => self.shrink(),
            Op::MassDelete => self.mass_delete(),
            Op::Savepoint => self.savepoint(),
            Op::Rollback => self.rows(1000).and_then(|()| self.blob(4 << 20)),
            _ => self.rows(1),
        }
    }

    fn note(&mut self, what: u64, which: u64) {
        self.digest = Rng::new(self.digest ^ what.rotate_left(32) ^ which).next();
    }

    fn rows(&mut self, n: u64) -> Result<()> {
        for _ in 0..n {
            self.transfer()?;
            let id = 1 + self.rng.below(self.sizes.rows);
            self.put(id)?;
        }
        Ok(())
    }

    fn transfer(&mut self) -> Result<()> {
        let from = 1 + self.rng.below(ACCOUNTS.cast_unsigned());
        let to = 1 + self.rng.below(ACCOUNTS.cast_unsigned());
        let amount = self.rng.below(100);
        let mut add = self
            .conn
            .prepare_cached("UPDATE acct SET bal = bal + ?1 WHERE id = ?2")?;
        add.execute(params![-amount.cast_signed(), from.cast_signed()])?;
        add.execute(params![amount.cast_signed(), to.cast_signed()])?;
        self.note(from * 1000 + to, amount);
        Ok(())
    }

    /// Writes one row into `a` and its mirror.
    fn put(&mut self, id: u64) -> Result<()> {
        let h = self.rng.below(1 << 31).cast_signed();
        let text = format!("{h:08x}").repeat(1 + usize::try_from(h % 12).unwrap_or(0));
        let key = id.cast_signed();
        let old: Option<i64> = self
            .conn
            .prepare_cached("SELECT h FROM a WHERE id = ?1")?
            .query_row([key], |r| r.get(0))
            .optional()?;
        for sql in [
            "INSERT OR REPLACE INTO a VALUES(?1, ?2, ?3)",
            "INSERT OR REPLACE INTO b VALUES(?1, ?2, ?3)",
        ] {
            self.conn
                .prepare_cached(sql)?
                .execute(params![key, h, text])?;
        }
        match old {
            Some(old) => self.meta.sum_a -= old,
            None => {
                self.meta.n_a += 1;
                self.meta.sum_a += key * 31;
            }
        }
        self.meta.sum_a += h;
        self.note(id, h.cast_unsigned());
        Ok(())
    }

    fn grow(&mut self) -> Result<()> {
        let base = self.rng.below(self.sizes.rows);
        for id in base..(base + 2000).min(self.sizes.rows) {
            self.put(id + 1)?;
        }
        Ok(())
    }

    fn shrink(&mut self) -> Result<()> {
        let base = self.rng.below(self.sizes.rows).cast_signed();
        self.delete_rows(base, base + self.sizes.rows.cast_signed() / 2)
    }

    fn delete_rows(&mut self, from: i64, to: i64) -> Result<()> {
        let (count, sum): (i64, i64) = self
            .conn
            .prepare_cached(
                "SELECT count(*), coalesce(sum(id * 31 + h), 0) FROM a WHERE id BETWEEN ?1 AND ?2",
            )?
            .query_row([from, to], |r| Ok((r.get(0)?, r.get(1)?)))?;
        for sql in [
            "DELETE FROM a WHERE id BETWEEN ?1 AND ?2",
            "DELETE FROM b WHERE id BETWEEN ?1 AND ?2",
        ] {
            self.conn.prepare_cached(sql)?.execute([from, to])?;
        }
        self.meta.n_a -= count;
        self.meta.sum_a -= sum;
        self.note(from.cast_unsigned(), to.cast_unsigned());
        Ok(())
    }

    fn mass_delete(&mut self) -> Result<()> {
        self.delete_rows(0, i64::MAX)?;
        self.conn.execute_batch("DELETE FROM blobs")?;
        self.meta.n_blob = 0;
        self.meta.len_blob = 0;
        Ok(())
    }

    fn big(&mut self) -> Result<()> {
        let mut left = self.sizes.big_bytes;
        while left > 0 {
            let size = left.min(1 << 20);
            self.insert_blob(size)?;
            left -= size;
        }
        Ok(())
    }

    /// One blob of up to `max` bytes, in place of the oldest when there are too many.
    fn blob(&mut self, max: u64) -> Result<()> {
        let size = self.rng.between(1, max);
        while self.meta.n_blob > 0
            && self.meta.len_blob.cast_unsigned() + size > self.sizes.max_blob_bytes
        {
            let (id, len): (i64, i64) = self
                .conn
                .prepare_cached("SELECT id, length(data) FROM blobs ORDER BY id LIMIT 1")?
                .query_row([], |r| Ok((r.get(0)?, r.get(1)?)))?;
            self.conn
                .prepare_cached("DELETE FROM blobs WHERE id = ?1")?
                .execute([id])?;
            self.meta.n_blob -= 1;
            self.meta.len_blob -= len;
            self.note(id.cast_unsigned(), 0);
        }
        self.insert_blob(size)
    }

    fn insert_blob(&mut self, size: u64) -> Result<()> {
        let name = format!("{:016x}", self.rng.next());
        let middle = usize::try_from(size)
            .unwrap_or(0)
            .saturating_sub(2 * NAME_LEN);
        let mut data = name.clone().into_bytes();
        data.extend_from_slice(&self.rng.bytes(middle));
        data.extend_from_slice(name.as_bytes());
        let len = i64::try_from(data.len()).expect("a blob's size fits an i64");
        self.conn
            .prepare_cached("INSERT INTO blobs(h, n, data) VALUES(?1, ?2, ?3)")?
            .execute(params![name, len, data])?;
        self.meta.n_blob += 1;
        self.meta.len_blob += len;
        let digest = xxhash_rust::xxh3::xxh3_64(&data);
        self.note(len.cast_unsigned(), digest);
        Ok(())
    }

    fn savepoint(&mut self) -> Result<()> {
        let before = self.meta.clone();
        self.conn.execute_batch("SAVEPOINT part")?;
        self.rows(50)?;
        self.conn.execute_batch("ROLLBACK TO part; RELEASE part")?;
        *self.meta = before;
        self.rows(1)
    }

    fn ddl(&mut self) -> Result<()> {
        let n = self.rng.below(X_TABLES);
        let exists: bool = self
            .conn
            .prepare_cached("SELECT count(*) FROM sqlite_schema WHERE name = ?1")?
            .query_row([format!("x_{n}")], |r| r.get(0))?;
        let how = self.rng.below(4);
        let sql = match (exists, how) {
            (false, _) => create_x(n),
            (true, 0) => format!("DROP TABLE x_{n}"),
            // The version makes each column's name new.
            (true, 1) => format!(
                "ALTER TABLE x_{n} ADD COLUMN w{} INTEGER DEFAULT {n}",
                self.meta.version
            ),
            (true, 2) => format!("DROP INDEX IF EXISTS x_{n}_v; CREATE INDEX x_{n}_v ON x_{n}(v)"),
            (true, _) => format!(
                "ALTER TABLE x_{n} RENAME TO x_r; DROP TABLE x_r; {}",
                create_x(n)
            ),
        };
        self.conn.execute_batch(&sql)?;
        self.meta.tables = self
            .conn
            .prepare_cached(schema::SQL_TABLES)?
            .query_row([], |r| r.get(0))?;
        self.conn
            .prepare_cached("UPDATE ddl SET tables = ?1 WHERE id = 1")?
            .execute([&self.meta.tables])?;
        self.note(n, how);
        Ok(())
    }
}

fn create_x(n: u64) -> String {
    let rows: Vec<String> = (0..X_ROWS).map(|_| format!("({n})")).collect();
    format!(
        "CREATE TABLE x_{n}(id INTEGER PRIMARY KEY, v INTEGER NOT NULL);
         INSERT INTO x_{n}(v) VALUES{}",
        rows.join(",")
    )
}
