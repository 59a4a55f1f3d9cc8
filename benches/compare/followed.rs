//! The file that `litestream restore -f` writes, as a reader has to look at it to see what is in it: opened anew each time.
//!
//! A reader that opens it before the first update of `-f` finds the WAL mode of the restored database, holds its lock for as
//! long as it is open, and `-f` waits for that lock for ever. One that opens it later keeps old pages, since `-f` changes the
//! counter that says so only when page 1 changes (Litestream 0.5.17).

use crate::table::{Digest, SqliteTable, Table};
use anyhow::bail;
use std::path::PathBuf;

/// What an address of such a file begins with, in a helper's `--db`.
pub const SCHEME: &str = "followed:";

pub struct Followed(pub PathBuf);

impl Table for Followed {
    fn newest(&mut self) -> anyhow::Result<u64> {
        SqliteTable::reader(&self.0)?.newest()
    }

    fn digest(&mut self) -> anyhow::Result<Digest> {
        SqliteTable::reader(&self.0)?.digest()
    }

    fn insert(&mut self, _id: u64, _seq: u64, _body: &str) -> anyhow::Result<()> {
        bail!("it is a copy")
    }

    fn begin(&mut self) -> anyhow::Result<()> {
        bail!("it is a copy")
    }

    fn commit(&mut self) -> anyhow::Result<()> {
        bail!("it is a copy")
    }
}
