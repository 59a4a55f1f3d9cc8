//! What the system says of processes and files. Only metadata of databases is asked for: opening one would disturb the
//! locks of SQLite in this process.

use std::path::Path;

/// Clock ticks in a second in /proc (USER_HZ, 100 on every Linux that Rust runs on).
const TICKS: f64 = 100.0;
pub const MIB: f64 = (1 << 20) as f64;

/// One look at a process; NaN where it is gone.
#[derive(Clone, Copy, Debug)]
pub struct Process {
    pub memory_mib: f64,
    pub descriptors: f64,
    pub threads: f64,
    /// Since its start, in user mode and in the kernel.
    pub cpu_seconds: f64,
}

impl Process {
    pub fn look(pid: u32) -> Process {
        let entries = |what: &str| {
            std::fs::read_dir(format!("/proc/{pid}/{what}"))
                .map_or(f64::NAN, |dir| dir.count() as f64)
        };
        Process {
            memory_mib: memory_mib(pid).unwrap_or(f64::NAN),
            descriptors: entries("fd"),
            threads: entries("task"),
            cpu_seconds: cpu_seconds(pid).unwrap_or(f64::NAN),
        }
    }
}

fn memory_mib(pid: u32) -> Option<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kib / 1024.0)
}

fn cpu_seconds(pid: u32) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything; behind it fields are separated by blanks, the third comes first.
    let (_, fields) = stat.rsplit_once(')')?;
    let field = |n: usize| fields.split_whitespace().nth(n - 3)?.parse::<f64>().ok();
    Some((field(14)? + field(15)?) / TICKS)
}

/// Size of a file, MiB; 0 if there is none.
pub fn file_mib(path: &Path) -> f64 {
    std::fs::metadata(path).map_or(0.0, |file| file.len() as f64 / MIB)
}

/// What a directory's files come to, MiB; files that go away meanwhile are nothing.
pub fn directory_mib(path: &Path) -> f64 {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(data) if data.is_dir() => directory_mib(&entry.path()),
            Ok(data) => data.len() as f64 / MIB,
            Err(_) => 0.0,
        })
        .sum()
}
