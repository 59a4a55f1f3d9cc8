//! A reader that waits for a row of a copy that may not be there yet, and one that says what a copy holds.

use crate::clock::now_ns;
use crate::helper::ready;
use crate::reader;
use crate::table::Table;
use anyhow::bail;
use clap::Args;
use std::path::PathBuf;
use std::time::{Duration, Instant};

const LOOK_EVERY: Duration = Duration::from_millis(1);

#[derive(Args)]
pub struct WaitArgs {
    #[arg(long)]
    db: PathBuf,
    /// The row's id; 0: until the table is there
    #[arg(long)]
    newest: u64,
    /// Seconds
    #[arg(long)]
    patience: u64,
}

#[derive(Args)]
pub struct DigestArgs {
    #[arg(long)]
    pub db: PathBuf,
}

/// Says when the row was seen first.
pub fn wait(args: &WaitArgs) -> anyhow::Result<()> {
    let deadline = Instant::now() + Duration::from_secs(args.patience);
    let mut table = None;
    ready();
    loop {
        let seen = look(&mut table, args);
        if matches!(seen, Ok(newest) if newest >= args.newest) {
            println!("at_ns {}", now_ns());
            return Ok(());
        }
        if Instant::now() > deadline {
            match seen {
                Ok(newest) => bail!(
                    "{newest} rows of {} were there after {} s",
                    args.newest,
                    args.patience
                ),
                Err(error) => return Err(error),
            }
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

fn look(table: &mut Option<Box<dyn Table>>, args: &WaitArgs) -> anyhow::Result<u64> {
    let open = match table {
        Some(open) => open,
        None => table.insert(reader(&args.db)?),
    };
    let newest = open.newest();
    if newest.is_err() {
        // The file may have been made anew under that name.
        *table = None;
    }
    newest
}

/// Says what a table holds.
pub fn digest(table: &mut dyn Table) -> anyhow::Result<()> {
    ready();
    let digest = table.digest()?;
    for (name, value) in ["rows", "sequence", "bytes"].into_iter().zip(digest) {
        println!("{name} {value}");
    }
    Ok(())
}
