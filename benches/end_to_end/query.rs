//! Queries, timed: many lookups by key, and one pass over all rows.

use crate::clock::now_ns;
use crate::helper::ready;
use clap::Args;
use rusqlite::{Connection, OpenFlags};
use std::path::PathBuf;
use std::time::Duration;

/// Lookups that are timed together.
const LOOKUPS: u64 = 20_000;

#[derive(Args)]
pub struct QueryArgs {
    #[arg(long)]
    pub db: PathBuf,
}

pub fn run(args: QueryArgs) -> anyhow::Result<()> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(&args.db, flags)?;
    connection.busy_timeout(Duration::from_secs(1))?;
    let mut lookup = connection.prepare("SELECT length(body) FROM t WHERE id = ?1")?;
    let mut scan = connection.prepare("SELECT count(*), sum(length(body)) FROM t")?;
    let rows: i64 = scan.query_row([], |row| row.get(0))?;
    let rows = u64::try_from(rows)?.max(1);
    ready();
    let begin = now_ns();
    let mut bytes = 0;
    for i in 0..LOOKUPS {
        let id = i.wrapping_mul(0x9e37_79b9_7f4a_7c15) % rows + 1;
        bytes += lookup.query_row([id.cast_signed()], |row| row.get::<_, i64>(0))?;
    }
    println!(
        "lookup_us {}",
        (now_ns() - begin) as f64 / 1e3 / LOOKUPS as f64
    );
    println!("bytes {bytes}");
    let begin = now_ns();
    scan.query_row([], |row| row.get::<_, i64>(1))?;
    println!("scan_ms {}", (now_ns() - begin) as f64 / 1e6);
    Ok(())
}
