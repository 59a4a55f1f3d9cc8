//! Who holds the log: the processes with a read lock, as the kernel lists them.
//!
//! `/proc/locks` is read instead of asking by `fcntl`: that would need a descriptor of the `-shm` file, and closing one
//! drops SQLite's own locks.

use std::path::Path;

/// Lock bytes of READ0 to READ4 in the `-shm` file (`UNIX_SHM_BASE` 120 + 3).
const FIRST_READ_BYTE: u64 = 123;
const LAST_READ_BYTE: u64 = 127;

/// A sentence for status.
pub fn describe(database: &Path) -> String {
    let mut processes = reading_processes(database);
    processes.retain(|pid| *pid != std::process::id());
    if processes.is_empty() {
        return "a reader holds it with a long transaction".to_owned();
    }
    let list: Vec<String> = processes.iter().map(ToString::to_string).collect();
    format!(
        "a reader holds it with a long transaction (process {})",
        list.join(", ")
    )
}

#[cfg(target_os = "linux")]
fn reading_processes(database: &Path) -> Vec<u32> {
    use std::os::unix::fs::MetadataExt;
    let mut shm = database.as_os_str().to_owned();
    shm.push("-shm");
    let Ok(metadata) = std::fs::metadata(shm) else {
        return Vec::new();
    };
    let Ok(locks) = std::fs::read_to_string("/proc/locks") else {
        return Vec::new();
    };
    let mut found: Vec<u32> = locks
        .lines()
        .filter_map(|line| parse_line(line, metadata.ino()))
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

#[cfg(not(target_os = "linux"))]
fn reading_processes(_database: &Path) -> Vec<u32> {
    Vec::new()
}

/// `1: POSIX  ADVISORY  READ 1234 fe:00:5678 124 124`
fn parse_line(line: &str, inode: u64) -> Option<u32> {
    let mut words = line
        .split_whitespace()
        .skip_while(|w| *w != "POSIX")
        .skip(3);
    let pid = words.next()?.parse().ok()?;
    let file = words.next()?.rsplit(':').next()?.parse::<u64>().ok()?;
    let first = words.next()?.parse::<u64>().ok()?;
    let last = words.next()?.parse::<u64>().unwrap_or(u64::MAX);
    (file == inode && first <= LAST_READ_BYTE && last >= FIRST_READ_BYTE).then_some(pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_proc_locks_names_the_reader() {
        let line = "12: POSIX  ADVISORY  READ  4321 fe:00:99 124 124";
        assert_eq!(parse_line(line, 99), Some(4321));
        assert_eq!(parse_line(line, 98), None);
        let dms = "13: POSIX  ADVISORY  READ  4321 fe:00:99 128 128";
        assert_eq!(parse_line(dms, 99), None);
    }
}
