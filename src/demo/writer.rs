//! The application of the demonstration: an ordinary program that commits to its SQLite database and has never heard of
//! walcast.

use anyhow::Context as _;
use rusqlite::{Connection, params};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::stats::percentile;

/// Rows that are kept; older ones are deleted, so that a demonstration left alone does not fill the disk.
const KEEP: i64 = 1_000_000;
/// How many rows go at once.
const BATCH: i64 = 1_000;
/// Time between two reports.
const REPORT: Duration = Duration::from_millis(250);
/// An application that was held up longer than this does not try to make up for it.
const MAX_BEHIND: Duration = Duration::from_secs(1);

/// The writer's arguments.
#[derive(clap::Args, Debug)]
pub struct WriterArgs {
    /// The database; it is created
    #[arg(long)]
    db: PathBuf,
    /// Commits per second; 0: as fast as possible
    #[arg(long)]
    rate: u32,
}

/// Commits until its standard input ends, and reports on standard output.
pub fn run(args: WriterArgs) -> anyhow::Result<ExitCode> {
    let stop = stop_at_end_of_input();
    let mut shop = Shop::open(&args.db)?;
    let mut pace = Pace::new(args.rate);
    let mut window = Window::new();
    // The first commit is reported at once: the database is there.
    shop.sell()?;
    window.print(shop.sold)?;
    while !stop.load(Ordering::Relaxed) {
        pace.wait();
        let before = Instant::now();
        shop.sell()?;
        window.add(before.elapsed());
        if window.is_over() {
            window.print(shop.sold)?;
        }
    }
    window.print(shop.sold)?;
    Ok(ExitCode::SUCCESS)
}

/// True once whoever started us has closed our input, or died.
fn stop_at_end_of_input() -> Arc<AtomicBool> {
    let stop = Arc::new(AtomicBool::new(false));
    let ended = stop.clone();
    thread::spawn(move || {
        let mut byte = [0];
        while matches!(std::io::stdin().read(&mut byte), Ok(1)) {}
        ended.store(true, Ordering::Relaxed);
    });
    stop
}

struct Shop {
    connection: Connection,
    sold: i64,
}

impl Shop {
    fn open(path: &Path) -> anyhow::Result<Shop> {
        let connection =
            Connection::open(path).with_context(|| format!("open {}", path.display()))?;
        connection.busy_timeout(Duration::from_secs(5))?;
        connection.execute_batch(
            "PRAGMA journal_mode=WAL;
             PRAGMA synchronous=NORMAL;
             CREATE TABLE IF NOT EXISTS orders(
                 id INTEGER PRIMARY KEY, at_us INTEGER NOT NULL,
                 customer TEXT NOT NULL, item TEXT NOT NULL, cents INTEGER NOT NULL)",
        )?;
        let sold = connection.query_row("SELECT ifnull(max(id), 0) FROM orders", [], |row| {
            row.get(0)
        })?;
        Ok(Shop { connection, sold })
    }

    /// One order, one commit.
    fn sell(&mut self) -> rusqlite::Result<()> {
        let id = self.sold + 1;
        let order = Order::of(id);
        self.connection
            .prepare_cached("INSERT INTO orders VALUES (?1, ?2, ?3, ?4, ?5)")?
            .execute(params![
                id,
                crate::model::clock_us(),
                order.customer,
                order.item,
                order.cents
            ])?;
        self.sold = id;
        if id > KEEP && id % BATCH == 0 {
            self.connection
                .prepare_cached("DELETE FROM orders WHERE id <= ?1")?
                .execute([id - KEEP])?;
        }
        Ok(())
    }
}

/// An order's content follows from its number.
#[derive(Debug, PartialEq)]
struct Order {
    customer: String,
    item: &'static str,
    cents: i64,
}

impl Order {
    fn of(id: i64) -> Order {
        const ITEMS: [&str; 6] = [
            "tea",
            "coffee",
            "bread",
            "apples",
            "cheese",
            "a pot of honey",
        ];
        // Fibonacci hashing: cheap, and looks random enough for a shop.
        let mixed = id.cast_unsigned().wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let item = ITEMS[usize::try_from(mixed % 6).unwrap_or_default()];
        Order {
            customer: format!("customer-{:04}", mixed % 9973),
            item,
            cents: i64::try_from(mixed % 4000).unwrap_or_default() + 99,
        }
    }
}

/// Keeps a rate on the long run: a late commit does not make all later ones late.
struct Pace {
    step: Option<Duration>,
    next: Instant,
}

impl Pace {
    fn new(rate: u32) -> Pace {
        Pace {
            step: Duration::from_secs(1).checked_div(rate),
            next: Instant::now(),
        }
    }

    fn wait(&mut self) {
        let Some(step) = self.step else { return };
        self.next += step;
        let now = Instant::now();
        match self.next.checked_duration_since(now) {
            Some(early) => thread::sleep(early),
            None if now - self.next > MAX_BEHIND => self.next = now,
            None => {}
        }
    }
}

/// What commits took since the last report.
struct Window {
    since: Instant,
    took_us: Vec<u32>,
}

impl Window {
    fn new() -> Window {
        Window {
            since: Instant::now(),
            took_us: Vec::new(),
        }
    }

    fn add(&mut self, took: Duration) {
        self.took_us
            .push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
    }

    fn is_over(&self) -> bool {
        self.since.elapsed() >= REPORT
    }

    fn print(&mut self, sold: i64) -> anyhow::Result<()> {
        self.took_us.sort_unstable();
        let [p50, p99] = [0.50, 0.99].map(|p| percentile(&self.took_us, p).unwrap_or(0));
        let report = Report {
            commits: sold,
            p50_us: p50,
            p99_us: p99,
        };
        writeln!(std::io::stdout(), "{}", report.to_line()).context("report")?;
        self.took_us.clear();
        self.since = Instant::now();
        Ok(())
    }
}

/// A line of the writer's output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Commits since the start.
    pub commits: i64,
    /// What half of the recent commits took at most, µs.
    pub p50_us: u32,
    /// What 99 of 100 of them took at most, µs.
    pub p99_us: u32,
}

impl Report {
    fn to_line(self) -> String {
        format!("{} {} {}", self.commits, self.p50_us, self.p99_us)
    }

    /// Reads a line of the writer's output.
    pub fn parse(line: &str) -> Option<Report> {
        let mut words = line.split(' ');
        let report = Report {
            commits: words.next()?.parse().ok()?,
            p50_us: words.next()?.parse().ok()?,
            p99_us: words.next()?.parse().ok()?,
        };
        words.next().is_none().then_some(report)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_sale_is_one_row_and_the_content_is_the_same_every_time() {
        let here = tempfile::tempdir().expect("a directory");
        let path = here.path().join("shop.db");
        let mut shop = Shop::open(&path).expect("a shop");
        for _ in 0..20 {
            shop.sell().expect("a sale");
        }
        drop(shop);
        let shop = Shop::open(&path).expect("the same shop");
        assert_eq!(shop.sold, 20);
        let found: (i64, String) = shop
            .connection
            .query_row(
                "SELECT count(*), max(customer) FILTER (WHERE id = 7) FROM orders",
                [],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .expect("rows");
        assert_eq!(found, (20, Order::of(7).customer));
    }

    #[test]
    fn reports_round_trip() {
        let report = Report {
            commits: 12_034,
            p50_us: 21,
            p99_us: 400,
        };
        assert_eq!(Report::parse(&report.to_line()), Some(report));
        for wrong in ["", "1 2", "1 2 3 4", "a 2 3"] {
            assert_eq!(Report::parse(wrong), None, "{wrong}");
        }
    }
}
