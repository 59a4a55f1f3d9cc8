//! The process as the system sees it, under the names that every Prometheus client uses.

/// Numbers of this process; `None` where the system does not tell.
#[derive(Debug, Default, PartialEq)]
pub struct Process {
    /// Seconds of CPU used since its start.
    pub cpu_seconds: Option<f64>,
    /// Bytes of memory that are in RAM.
    pub resident_bytes: Option<u64>,
    /// Open descriptors.
    pub open_fds: Option<u64>,
    /// Descriptors that it may open.
    pub max_fds: Option<u64>,
    /// Threads.
    pub threads: Option<u64>,
}

/// When this process began to serve.
#[derive(Clone, Copy, Debug)]
pub struct Began {
    /// ms since 1970-01-01 UTC.
    pub time_ms: i64,
}

impl Began {
    /// Now.
    pub fn now() -> Began {
        Began {
            time_ms: crate::model::clock_us() / 1000,
        }
    }
}

/// Reads them: three small files of `/proc` and one directory.
#[cfg(target_os = "linux")]
pub fn read() -> Process {
    let mut process = std::fs::read_to_string("/proc/self/stat")
        .ok()
        .and_then(|stat| parse_stat(&stat))
        .unwrap_or_default();
    process.resident_bytes = std::fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|status| resident(&status));
    process.open_fds = std::fs::read_dir("/proc/self/fd")
        .ok()
        // The directory itself is open while it is read.
        .map(|entries| (entries.count() as u64).saturating_sub(1));
    process.max_fds = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE)
        .ok()
        .map(|(soft, _)| soft);
    process
}

/// Elsewhere nothing is told.
#[cfg(not(target_os = "linux"))]
pub fn read() -> Process {
    Process::default()
}

/// proc(5): the fields after the name in parentheses, which may itself hold spaces and parentheses.
#[cfg(target_os = "linux")]
fn parse_stat(stat: &str) -> Option<Process> {
    /// USER_HZ, which Linux has fixed for programs, whatever the kernel uses inside.
    const TICKS: f64 = 100.0;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    // Field 3 of the manual page is the first one here.
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    Some(Process {
        cpu_seconds: Some((number(14)? + number(15)?) as f64 / TICKS),
        threads: number(20),
        ..Process::default()
    })
}

/// In bytes here, not in pages, whose size differs between machines.
#[cfg(target_os = "linux")]
fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    line.trim()
        .strip_suffix(" kB")?
        .parse::<u64>()
        .ok()?
        .checked_mul(1024)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_those_of_the_manual_page() {
        let stat = "1 (a) b) S 2 3 4 5 6 7 8 9 10 11 150 50 0 0 20 0 12 0 99 1000000 256 1 1";
        let process = parse_stat(stat).expect("a line");
        assert_eq!(process.cpu_seconds, Some(2.0));
        assert_eq!(process.threads, Some(12));
        let status = "Name:\tVmRSS:\nVmHWM:\t    9999 kB\nVmRSS:\t    1020 kB\nRssAnon:\t 1 kB\n";
        assert_eq!(resident(status), Some(1020 * 1024));
    }

    #[test]
    fn this_process_has_memory_and_descriptors() {
        let process = read();
        assert!(process.resident_bytes.is_some_and(|bytes| bytes > 100_000));
        assert!(process.open_fds.is_some_and(|fds| fds >= 3));
        assert!(process.max_fds >= process.open_fds);
    }
}
