//! The test kit: processes, load, observation, and the checkers that judge what was observed.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub mod checker;
pub mod child;
pub mod cli;
pub mod cluster;
pub mod compare;
pub mod content;
pub mod crowd;
pub mod dump;
pub mod foreign;
pub mod history;
pub mod load;
#[path = "../../common/mount.rs"]
pub mod mount;
#[path = "../../common/skip.rs"]
mod skip;
pub use skip::{skip, skip_if_allowed};
pub mod ops;
pub mod plan;
pub mod proc;
pub mod proxy;
pub mod python;
pub mod reader;
pub mod rng;
pub mod scene;
pub mod schema;
pub mod shadow;
pub mod walfile;
pub mod writer;

mod selftest;

/// How long anything may take before a test calls it hung.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Between two looks at a condition that is waited for: three times as long as the look took, so that what is waited for has most
/// of the processor, within these.
const PAUSES: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(200)];

/// More between two looks does not count.
const LONGEST_LOOK: Duration = Duration::from_secs(10);

/// True when the environment variable is set to `1`.
fn flag(name: &str) -> bool {
    std::env::var(name).is_ok_and(|v| v == "1")
}

/// A count that is small in CI and as the issue names it under `WALCAST_FULL=1`.
pub fn scaled(ci: u64, full: u64) -> u64 {
    if flag("WALCAST_FULL") { full } else { ci }
}

/// Polls `check` until it gives a value; the last refusal is what a timeout reports.
///
/// # Errors
/// What `check` said last, when `limit` has passed.
pub fn poll_for<T>(
    what: &str,
    limit: Duration,
    mut check: impl FnMut() -> Result<T, String>,
) -> Result<T, String> {
    let (mut waited, mut last) = (Duration::ZERO, Instant::now());
    let [shortest, longest] = PAUSES;
    loop {
        let began = Instant::now();
        match check() {
            Ok(value) => return Ok(value),
            Err(why) if waited >= limit => {
                return Err(format!("gave up after {limit:?} waiting for {what}: {why}"));
            }
            Err(_) => std::thread::sleep((began.elapsed() * 3).clamp(shortest, longest)),
        }
        // Who was suspended has not waited, and neither did those waited for get on.
        waited += last.elapsed().min(LONGEST_LOOK);
        last = Instant::now();
    }
}

/// How long is waited for anything: [`DEADLINE`], and more where counts are full.
pub fn deadline() -> Duration {
    DEADLINE * scaled(1, 20) as u32
}

/// `poll_for` with the usual deadline, for tests.
///
/// # Panics
/// When the deadline passes.
pub fn wait_for<T>(what: &str, check: impl FnMut() -> Result<T, String>) -> T {
    poll_for(what, deadline(), check).unwrap_or_else(|why| panic!("{why}"))
}

/// A directory for one test. It is kept, and its path printed, when the test fails.
pub struct Scratch {
    dir: Option<tempfile::TempDir>,
    path: PathBuf,
}

impl Scratch {
    /// # Panics
    /// When no temporary directory can be made.
    pub fn new(name: &str) -> Self {
        Self::within(&std::env::temp_dir(), name)
    }

    /// Where a sync costs nothing, if there is such a place: for thousands of small runs.
    ///
    /// # Panics
    /// When no temporary directory can be made.
    pub fn in_memory(name: &str) -> Self {
        let memory = Path::new("/dev/shm");
        let usual = std::env::temp_dir();
        Self::within(if memory.is_dir() { memory } else { &usual }, name)
    }

    fn within(parent: &Path, name: &str) -> Self {
        let dir = tempfile::Builder::new()
            .prefix(&format!("walcast-{name}-"))
            .tempdir_in(parent)
            .expect("make a temporary directory");
        let path = dir.path().to_path_buf();
        Self {
            dir: Some(dir),
            path,
        }
    }

    /// A directory of the caller's, who keeps or removes it.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn at(path: &Path) -> Self {
        std::fs::create_dir_all(path).expect("make a directory");
        Self {
            dir: None,
            path: path.to_owned(),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(dir) = self.dir.take()
        {
            eprintln!(
                "files of the failed test are kept in {}",
                dir.keep().display()
            );
        }
    }
}
