//! A reader of a replica: it looks at the newest row all the time and keeps how old it was when it first saw it.
//!
//! This is what any program beside the replica would see: an ordinary connection to the file, in a process that knows
//! nothing of walcast.

use super::stats::percentile;
use anyhow::Context as _;
use rusqlite::{Connection, OpenFlags};
use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Between two looks.
pub const LOOK_EVERY: Duration = Duration::from_millis(1);
/// Between two tries to open a database that is not there yet.
const TRY_EVERY: Duration = Duration::from_millis(20);
/// What percentiles are taken of.
const RECENT: Duration = Duration::from_secs(5);

/// How late a reader sees commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lag {
    /// Half of the recent looks were at most this late.
    pub p50: Duration,
    /// 99 of 100.
    pub p99: Duration,
}

#[derive(Default)]
struct Seen {
    newest: i64,
    recent: VecDeque<(Instant, Duration)>,
    problem: Option<String>,
}

struct Shared {
    stop: AtomicBool,
    seen: Mutex<Seen>,
}

impl Shared {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        // Whole after every statement: a panic in between cannot leave it half changed.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A thread that looks at one database until it is dropped.
pub struct Watcher {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    /// Begins to look; the database need not exist yet.
    pub fn start(path: &Path) -> anyhow::Result<Watcher> {
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            seen: Mutex::default(),
        });
        let (of_thread, path) = (shared.clone(), path.to_owned());
        let thread = thread::Builder::new()
            .name("watch".to_owned())
            .spawn(move || look(&of_thread, &path))
            .context("start a thread")?;
        Ok(Watcher {
            shared,
            thread: Some(thread),
        })
    }

    /// The number of the newest row that was seen; 0: none yet.
    pub fn newest(&self) -> i64 {
        self.shared.seen().newest
    }

    /// How late the commits of the last seconds were seen; `None` if there were none.
    pub fn lag(&self) -> Option<Lag> {
        let mut seen = self.shared.seen();
        forget_old(&mut seen.recent, Instant::now());
        let mut lags: Vec<Duration> = seen.recent.iter().map(|(_, lag)| *lag).collect();
        drop(seen);
        lags.sort_unstable();
        Some(Lag {
            p50: percentile(&lags, 0.50)?,
            p99: percentile(&lags, 0.99)?,
        })
    }

    /// Why it sees nothing at the moment.
    pub fn problem(&self) -> Option<String> {
        self.shared.seen().problem.clone()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic of it was printed by itself.
            let _ = thread.join();
        }
    }
}

fn forget_old(recent: &mut VecDeque<(Instant, Duration)>, now: Instant) {
    while recent
        .front()
        .is_some_and(|(at, _)| now.duration_since(*at) > RECENT)
    {
        recent.pop_front();
    }
}

fn look(shared: &Shared, path: &Path) {
    while !shared.stop.load(Ordering::Relaxed) {
        if let Err(error) = look_until_it_fails(shared, path) {
            shared.seen().problem = Some(error.to_string());
            thread::sleep(TRY_EVERY);
        }
    }
}

fn look_until_it_fails(shared: &Shared, path: &Path) -> rusqlite::Result<()> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(Duration::from_secs(1))?;
    let mut newest = connection.prepare("SELECT id, at_us FROM orders ORDER BY id DESC LIMIT 1")?;
    let mut last = 0;
    while !shared.stop.load(Ordering::Relaxed) {
        let (id, at_us): (i64, i64) = newest.query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let late_us = crate::model::clock_us() - at_us;
        if id != last {
            let now = Instant::now();
            let mut seen = shared.seen();
            // What was there when we came says nothing of how late it came.
            if last != 0 {
                let late = Duration::from_micros(late_us.try_into().unwrap_or(0));
                seen.recent.push_back((now, late));
            }
            forget_old(&mut seen.recent, now);
            seen.newest = id;
            seen.problem = None;
            last = id;
        }
        thread::sleep(LOOK_EVERY);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn until(what: &str, mut done: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !done() {
            assert!(Instant::now() < deadline, "{what}");
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn sees_rows_of_a_database_that_comes_later() {
        let here = tempfile::tempdir().expect("a directory");
        let path = here.path().join("shop.db");
        let watcher = Watcher::start(&path).expect("a thread");
        until("a problem", || watcher.problem().is_some());
        assert_eq!((watcher.newest(), watcher.lag()), (0, None));
        let writer = Connection::open(&path).expect("a database");
        writer
            .execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE orders(id INTEGER PRIMARY KEY, at_us INTEGER)")
            .expect("a table");
        let sell = |id: i64| {
            let row = [id, crate::model::clock_us() - 1_000_000];
            writer
                .execute("INSERT INTO orders VALUES (?1, ?2)", row)
                .expect("a row");
            until("the row", || watcher.newest() == id);
        };
        sell(1);
        assert_eq!(watcher.lag(), None, "it may have been there before");
        sell(2);
        let lag = watcher.lag().expect("a lag");
        assert!(
            lag.p50 >= Duration::from_secs(1) && lag.p99 >= lag.p50,
            "{lag:?}"
        );
        assert_eq!(watcher.problem(), None);
    }
}
