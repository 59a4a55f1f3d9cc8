//! Processes and files from outside: CPU time, memory, and how large a log grew.

use anyhow::Context as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Clock ticks in a second in /proc (USER_HZ, 100 on every Linux that Rust runs on).
const TICKS: f64 = 100.0;
const MIB: f64 = (1 << 20) as f64;

/// CPU seconds that a process has used, in user mode and in the kernel.
pub fn cpu_seconds(pid: u32) -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, in parentheses, may hold anything; behind it fields are separated by blanks, the third comes first.
    let (_, fields) = stat.rsplit_once(')').context("read /proc/PID/stat")?;
    let field = |n: usize| fields.split_whitespace().nth(n - 3)?.parse::<f64>().ok();
    let ticks = field(14).zip(field(15)).context("read CPU times")?;
    Ok((ticks.0 + ticks.1) / TICKS)
}

/// What processes use of the processor, from a moment on.
pub struct Processor<const N: usize> {
    pids: [u32; N],
    used: [f64; N],
    since: Instant,
}

impl<const N: usize> Processor<N> {
    /// From now on.
    pub fn of(pids: [u32; N]) -> anyhow::Result<Processor<N>> {
        let since = Instant::now();
        let mut used = [0.0; N];
        for (used, pid) in used.iter_mut().zip(pids) {
            *used = cpu_seconds(pid)?;
        }
        Ok(Processor { pids, used, since })
    }

    /// Percent of a core since then.
    pub fn shares(&self) -> anyhow::Result<[f64; N]> {
        let seconds = self.since.elapsed().as_secs_f64();
        let mut shares = self.used;
        for (share, pid) in shares.iter_mut().zip(self.pids) {
            *share = (cpu_seconds(pid)? - *share) * 100.0 / seconds;
        }
        Ok(shares)
    }
}

/// Threads of a process.
pub fn threads(pid: u32) -> anyhow::Result<f64> {
    Ok(std::fs::read_dir(format!("/proc/{pid}/task"))?.count() as f64)
}

/// Open descriptors of a process.
pub fn descriptors(pid: u32) -> anyhow::Result<f64> {
    Ok(std::fs::read_dir(format!("/proc/{pid}/fd"))?.count() as f64)
}

/// A line of /proc/PID/status in MiB: `VmRSS` (now) or `VmHWM` (the most it ever was).
pub fn memory_mib(pid: u32, line: &str) -> anyhow::Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let value = status
        .lines()
        .find_map(|l| l.strip_prefix(line)?.strip_prefix(':'));
    let kib = value.and_then(|v| v.trim().trim_end_matches("kB").trim().parse::<f64>().ok());
    Ok(kib.with_context(|| format!("read {line}"))? / 1024.0)
}

/// Size of a file, MiB; 0 if there is none.
pub fn file_mib(path: &std::path::Path) -> f64 {
    std::fs::metadata(path).map_or(0.0, |file| file.len() as f64 / MIB)
}

/// The `-wal` beside a database.
pub fn wal_of(db: &std::path::Path) -> PathBuf {
    let mut name = db.as_os_str().to_owned();
    name.push("-wal");
    PathBuf::from(name)
}

/// Watches the size of files. It only asks for their metadata: opening them would disturb SQLite's locks, were they in
/// use in this process.
pub struct LargestSizes {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<f64>>,
}

impl LargestSizes {
    /// Looks every 5 ms.
    pub fn watch(files: Vec<PathBuf>) -> LargestSizes {
        let stop = Arc::new(AtomicBool::new(false));
        let flag = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut largest = vec![0.0f64; files.len()];
            while !flag.load(Ordering::Relaxed) {
                for (file, largest) in files.iter().zip(&mut largest) {
                    *largest = largest.max(file_mib(file));
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            largest
        });
        LargestSizes { stop, thread }
    }

    /// The largest sizes, MiB, in the order of the files.
    pub fn finish(self) -> Vec<f64> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the thread only looks at files")
    }
}
