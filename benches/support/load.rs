//! The application: commits at a rate, or as fast as it can.

use crate::clock::{now_ns, precise_sleeps, sleep_until};
use crate::helper::{End, ready, write_times};
use crate::observe::own_cpu_seconds;
use crate::table::Table;
use clap::Args;
use std::path::PathBuf;
use walcast::demo::stats::percentile;

#[derive(Args, Clone)]
pub struct LoadArgs {
    #[arg(long)]
    pub db: PathBuf,
    /// Commits per second; 0: unthrottled
    #[arg(long, default_value_t = 0)]
    pub rate: u64,
    /// Rows in each transaction
    #[arg(long, default_value_t = 1)]
    pub rows: u64,
    /// Bytes of text in each row
    #[arg(long, default_value_t = 100)]
    pub body: usize,
    /// Seconds; 0: until the input ends
    #[arg(long, default_value_t = 0)]
    pub seconds: u64,
    /// Rows after which old ones are written over; 0: never
    #[arg(long, default_value_t = 0)]
    pub ring: u64,
    /// Where to write the time of each commit
    #[arg(long)]
    pub times: Option<PathBuf>,
}

/// Text that compresses as an application's rows do.
pub fn body(seed: u64, length: usize) -> String {
    let mut text = String::with_capacity(length + 64);
    let mut state = seed;
    while text.len() < length {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        text.push_str(&format!(
            "{{\"order\":{},\"sku\":\"{:06x}\",\"qty\":{}}}",
            mixed >> 40,
            mixed & 0xff_ffff,
            mixed % 9
        ));
    }
    text.truncate(length);
    text
}

/// Fills a table with about so many MiB: rows of 1,000 bytes, of which four fill a page of 4096.
pub fn fill(table: &mut dyn Table, mib: u64) -> anyhow::Result<()> {
    const BODY: usize = 1000;
    let rows = mib * 256 * 4;
    let bodies: Vec<String> = (0..4096).map(|seed| body(seed, BODY)).collect();
    let body = |row: u64| bodies[(row.wrapping_mul(0x9e37_79b9) >> 8 & 4095) as usize].clone();
    for first in (1..=rows).step_by(50_000) {
        table.fill(first..(first + 50_000).min(rows + 1), &body)?;
    }
    Ok(())
}

pub fn run(args: &LoadArgs, table: &mut dyn Table) -> anyhow::Result<()> {
    precise_sleeps();
    let mut work = Work::new(table, args)?;
    let told = End::watch();
    ready();
    let (cpu, server) = (own_cpu_seconds()?, work.table.server_cpu()?);
    let begin = now_ns();
    let until = match args.seconds {
        0 => u64::MAX,
        seconds => begin + seconds * 1_000_000_000,
    };
    let mut took: Vec<u64> = Vec::new();
    while now_ns() < until && !told.has_come() {
        if let Some(step) = 1_000_000_000u64.checked_div(args.rate) {
            sleep_until(begin + took.len() as u64 * step);
        }
        let before = now_ns();
        work.commit()?;
        took.push(now_ns() - before);
    }
    let end = now_ns();
    println!("cpu_s {}", own_cpu_seconds()? - cpu);
    println!("server_cpu_s {}", work.table.server_cpu()? - server);
    println!("newest {}", work.done * args.rows);
    report(&mut took, (begin, end));
    match &args.times {
        Some(path) => write_times(path, &work.times),
        None => Ok(()),
    }
}

fn report(took: &mut [u64], (begin, end): (u64, u64)) {
    took.sort_unstable();
    let seconds = (end - begin) as f64 / 1e9;
    println!("commits {}", took.len());
    println!("seconds {seconds}");
    println!("rate {}", took.len() as f64 / seconds);
    for (name, p) in [("p50_ms", 0.5), ("p99_ms", 0.99), ("max_ms", 1.0)] {
        println!("{name} {}", percentile(took, p).unwrap_or(0) as f64 / 1e6);
    }
    // An f64 holds it to the nanosecond for 104 days of uptime, and to a few for ever.
    println!("end_ns {end}");
}

struct Work<'a> {
    table: &'a mut dyn Table,
    args: &'a LoadArgs,
    bodies: Vec<String>,
    done: u64,
    times: Vec<u64>,
}

impl<'a> Work<'a> {
    fn new(table: &'a mut dyn Table, args: &'a LoadArgs) -> anyhow::Result<Work<'a>> {
        // Made before: the application is to be as fast as its database is.
        let bodies = (0..1024).map(|seed| body(seed, args.body)).collect();
        // A second load on one database goes on behind the first.
        let done = if args.ring == 0 {
            table.newest()? / args.rows
        } else {
            0
        };
        let times = vec![0; usize::try_from(done)?];
        Ok(Work {
            table,
            args,
            bodies,
            done,
            times,
        })
    }

    fn commit(&mut self) -> anyhow::Result<()> {
        let seq = self.done + 1;
        if self.args.rows == 1 {
            self.insert(seq, seq)?;
        } else {
            self.table.begin()?;
            let first = self.done * self.args.rows;
            for row in first + 1..=first + self.args.rows {
                self.insert(row, seq)?;
            }
            self.table.commit()?;
        }
        if self.args.times.is_some() {
            self.times.push(now_ns());
        }
        self.done = seq;
        Ok(())
    }

    fn insert(&mut self, row: u64, seq: u64) -> anyhow::Result<()> {
        let id = row.checked_rem(self.args.ring).unwrap_or(row);
        let body = &self.bodies[(row % 1024) as usize];
        self.table.insert(id, seq, body)
    }
}
