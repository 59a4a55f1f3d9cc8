//! What all threads of the harness share: the clock, what is wrong, what was done.

use crate::clock::Clock;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::runtime::Runtime;

/// Failures that are shown in full at the end; all are in `failures.log`.
const KEPT: usize = 50;

pub struct Shared {
    pub clock: Clock,
    pub runtime: Runtime,
    /// Where everything is written.
    pub out: PathBuf,
    /// How long the run shall be.
    pub length: Duration,
    stopped: AtomicBool,
    log: Mutex<Log>,
    pub states: AtomicU64,
    pub commits: AtomicU64,
    pub rests: AtomicU64,
}

#[derive(Default)]
struct Log {
    failures: Vec<String>,
    more_failures: u64,
    heals: BTreeMap<String, Vec<Duration>>,
    counts: BTreeMap<String, u64>,
}

/// Locks; what a panic left is still true.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub fn new(out: &Path, length: Duration, runtime: Runtime) -> Shared {
        Shared {
            clock: Clock::start(),
            runtime,
            out: out.to_owned(),
            length,
            stopped: AtomicBool::new(false),
            log: Mutex::default(),
            states: AtomicU64::new(0),
            commits: AtomicU64::new(0),
            rests: AtomicU64::new(0),
        }
    }

    /// Ends the run early.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// Whether nothing new shall begin.
    pub fn is_over(&self) -> bool {
        self.is_stopped() || self.clock.awake() >= self.length
    }

    /// Sleeps, but not beyond the end.
    pub fn pause(&self, time: Duration) {
        let until = self.clock.awake() + time;
        while !self.is_over() {
            let rest = until.saturating_sub(self.clock.awake());
            if rest.is_zero() {
                return;
            }
            std::thread::sleep(rest.min(Duration::from_millis(100)));
        }
    }

    /// Says what happens, with the time.
    pub fn say(&self, text: &str) {
        eprintln!("{:>7.1} {text}", self.clock.awake().as_secs_f64());
    }

    /// Something is wrong. It is told and written down at once; the run goes on.
    pub fn fail(&self, text: &str) {
        self.say(&format!("WRONG: {text}"));
        let seconds = self.clock.awake().as_secs_f64();
        self.append("failures.log", &format!("{seconds:.1} {text}\n\n"));
        let mut log = lock(&self.log);
        if log.failures.len() < KEPT {
            log.failures.push(format!("at {seconds:.0} s: {text}"));
        } else {
            log.more_failures += 1;
        }
    }

    fn append(&self, name: &str, text: &str) {
        let written = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.out.join(name))
            .and_then(|mut file| file.write_all(text.as_bytes()));
        if let Err(error) = written {
            eprintln!("{name}: {error}");
        }
    }

    /// How many things were wrong so far.
    pub fn failures(&self) -> u64 {
        let log = lock(&self.log);
        log.failures.len() as u64 + log.more_failures
    }

    /// The first of them.
    pub fn first_failures(&self) -> Vec<String> {
        lock(&self.log).failures.clone()
    }

    /// A fault is over, and the replica was level again after this time.
    pub fn healed(&self, kind: &str, time: Duration) {
        let line = format!(
            "{:.1},{kind:?},{:.3}\n",
            self.clock.awake().as_secs_f64(),
            time.as_secs_f64()
        );
        self.append("faults.csv", &line);
        let mut log = lock(&self.log);
        log.heals.entry(kind.to_owned()).or_default().push(time);
    }

    /// Times to heal, by kind of fault.
    pub fn heals(&self) -> BTreeMap<String, Vec<Duration>> {
        lock(&self.log).heals.clone()
    }

    pub fn count(&self, what: &str, more: u64) {
        *lock(&self.log).counts.entry(what.to_owned()).or_default() += more;
    }

    /// What was counted, a line each.
    pub fn counted(&self) -> String {
        let mut text = String::new();
        for (what, number) in &lock(&self.log).counts {
            let _to_string = writeln!(text, "{what}: {number}");
        }
        text
    }
}
