//! The reader: looks for the newest row every 100 µs, and keeps when it first saw each.

use crate::clock::{now_ns, precise_sleeps};
use crate::helper::{input_ended, ready, write_times};
use anyhow::Context as _;
use clap::Args;
use rusqlite::{Connection, OpenFlags};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::Duration;

const LOOK_EVERY: Duration = Duration::from_micros(100);

#[derive(Args)]
pub struct ProberArgs {
    #[arg(long)]
    pub db: PathBuf,
    /// Where to write when each row was seen
    #[arg(long)]
    pub times: PathBuf,
}

pub fn run(args: ProberArgs) -> anyhow::Result<()> {
    precise_sleeps();
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(&args.db, flags)?;
    connection.busy_timeout(Duration::from_secs(1))?;
    let mut newest = connection.prepare("SELECT ifnull(max(id), 0) FROM t")?;
    let mut seen: Vec<u64> = Vec::with_capacity(1 << 20);
    let ended = input_ended();
    ready();
    // One look more after the end: whoever ended us knows that all is there.
    let mut last = false;
    while !last {
        last = ended.load(Ordering::Relaxed);
        let id: i64 = newest
            .query_row([], |row| row.get(0))
            .context("read the newest row")?;
        let id = usize::try_from(id)?;
        if id > seen.len() {
            seen.resize(id, now_ns());
        }
        std::thread::sleep(LOOK_EVERY);
    }
    write_times(&args.times, &seen)
}
