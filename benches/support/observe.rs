//! Processes and files from outside: CPU time, memory, and how large a log grew.

use anyhow::Context as _;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
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
    let stat = Stat::of(pid)?;
    Ok((stat.field(14)? + stat.field(15)?) / TICKS)
}

/// CPU seconds of its children that have ended.
pub fn ended_children_cpu_seconds(pid: u32) -> anyhow::Result<f64> {
    let stat = Stat::of(pid)?;
    Ok((stat.field(16)? + stat.field(17)?) / TICKS)
}

/// The processes that a process has started and that have not ended.
pub fn children(of: u32) -> anyhow::Result<Vec<u32>> {
    let mut children = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // Others end meanwhile.
        let parent = Stat::of(pid).and_then(|stat| stat.field(4));
        if parent.is_ok_and(|parent| parent == f64::from(of)) {
            children.push(pid);
        }
    }
    Ok(children)
}

/// Memory of a process that is its own, and its share of what it has in common with others, MiB.
pub fn proportional_memory_mib(pid: u32) -> anyhow::Result<f64> {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    line_mib(&rollup, "Pss").context("read the Pss")
}

/// `/proc/PID/stat`.
struct Stat(String);

impl Stat {
    fn of(pid: u32) -> anyhow::Result<Stat> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // The name, in parentheses, may hold anything.
        let (_, fields) = stat.rsplit_once(')').context("read /proc/PID/stat")?;
        Ok(Stat(fields.to_owned()))
    }

    /// By its number in proc(5). Fields are separated by blanks; behind the name the third comes first.
    fn field(&self, number: usize) -> anyhow::Result<f64> {
        let field = self.0.split_whitespace().nth(number - 3);
        Ok(field.context("a short /proc/PID/stat")?.parse()?)
    }
}

/// CPU seconds that this process has used.
pub fn own_cpu_seconds() -> anyhow::Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let seconds = |time: TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    Ok(seconds(usage.user_time()) + seconds(usage.system_time()))
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
    line_mib(&status, line).with_context(|| format!("read {line}"))
}

/// `LINE: N kB` of a file in /proc.
fn line_mib(text: &str, line: &str) -> Option<f64> {
    let value = text
        .lines()
        .find_map(|l| l.strip_prefix(line)?.strip_prefix(':'))?;
    let kib: f64 = value.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kib / 1024.0)
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
