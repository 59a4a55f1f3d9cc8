//! The reader: looks for the newest row every 100 µs, and keeps when it first saw each.

use crate::clock::{now_ns, precise_sleeps};
use crate::helper::{End, ready, write_times};
use crate::table::Table;
use anyhow::Context as _;
use clap::Args;
use std::path::PathBuf;
use std::time::Duration;

const LOOK_EVERY: Duration = Duration::from_micros(100);

#[derive(Args)]
pub struct ProberArgs {
    #[arg(long)]
    pub db: PathBuf,
    /// Where to write when each row was seen
    #[arg(long)]
    pub times: PathBuf,
    /// Seconds for what is to be seen yet, once told to end
    #[arg(long, default_value_t = 60)]
    pub patience: u64,
}

pub fn run(args: &ProberArgs, table: &mut dyn Table) -> anyhow::Result<()> {
    precise_sleeps();
    let mut seen: Vec<u64> = Vec::with_capacity(1 << 20);
    table.newest().context("read the newest row")?;
    let server = table.server_cpu()?;
    let end = End::watch();
    ready();
    let mut told = None;
    loop {
        // Asked for before the look: whoever ends us without a goal knows that all is there.
        let goal = end.goal();
        let newest = usize::try_from(table.newest().context("read the newest row")?)?;
        if newest > seen.len() {
            seen.resize(newest, now_ns());
        }
        if let Some(goal) = goal {
            let until = *told.get_or_insert(now_ns() + args.patience * 1_000_000_000);
            if seen.len() as u64 >= goal || now_ns() > until {
                break;
            }
        }
        std::thread::sleep(LOOK_EVERY);
    }
    println!("end_ns {}", now_ns());
    println!("server_cpu_s {}", table.server_cpu()? - server);
    write_times(&args.times, &seen)
}
