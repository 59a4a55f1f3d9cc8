//! Who holds the log: the processes with a read lock, as the kernel lists them.
//!
//! `/proc/locks` is read instead of asking by `fcntl`: that would need a descriptor of the `-shm` file, and closing one
//! drops SQLite's own locks.

use crate::format::walindex::{READERS, READMARK_NOT_USED};
use std::path::Path;

/// The lock byte of READ0 in the `-shm` file (`UNIX_SHM_BASE` 120 + 3); the others follow.
const FIRST_READ_BYTE: u64 = 123;

/// A sentence for status. `marks` are the read marks: of those who read, the ones whose state is the oldest are in the way,
/// and not those who come and go meanwhile.
pub fn describe(database: &Path, marks: [u32; READERS]) -> String {
    let mut readers = readers(database);
    readers.retain(|reader| reader.pid != std::process::id());
    let processes = oldest(&readers, marks);
    if processes.is_empty() {
        return "a reader holds it with a long transaction".to_owned();
    }
    let list: Vec<String> = processes.iter().map(ToString::to_string).collect();
    format!(
        "a reader holds it with a long transaction (process {})",
        list.join(", ")
    )
}

/// Who reads the oldest state, each process once.
fn oldest(readers: &[Reader], marks: [u32; READERS]) -> Vec<u32> {
    let state = |reader: &&Reader| marks[reader.slot];
    let used = |reader: &&Reader| state(reader) != READMARK_NOT_USED;
    let first = readers.iter().filter(used).map(|r| state(&r)).min();
    let mut processes: Vec<u32> = readers
        .iter()
        .filter(|reader| Some(state(reader)) == first)
        .map(|reader| reader.pid)
        .collect();
    processes.sort_unstable();
    processes.dedup();
    processes
}

/// A process that holds a read lock.
#[derive(Debug, PartialEq, Eq)]
struct Reader {
    pid: u32,
    slot: usize,
}

#[cfg(target_os = "linux")]
fn readers(database: &Path) -> Vec<Reader> {
    use std::os::unix::fs::MetadataExt;
    let mut shm = database.as_os_str().to_owned();
    shm.push("-shm");
    let Ok(metadata) = std::fs::metadata(shm) else {
        return Vec::new();
    };
    let Ok(locks) = std::fs::read_to_string("/proc/locks") else {
        return Vec::new();
    };
    of_file(&locks, metadata.ino())
}

#[cfg(not(target_os = "linux"))]
fn readers(_database: &Path) -> Vec<Reader> {
    Vec::new()
}

/// The readers of one file, of the locks of a whole machine.
fn of_file(locks: &str, inode: u64) -> Vec<Reader> {
    // With a thousand databases there are thousands of lines, and a few of them are of this file.
    let number = inode.to_string();
    let lines = locks.lines().filter(|line| line.contains(&number));
    lines.flat_map(|line| parse_line(line, inode)).collect()
}

/// `1: POSIX  ADVISORY  READ 1234 fe:00:5678 124 124`: the locks of one process lie side by side, and are one then.
fn parse_line(line: &str, inode: u64) -> Vec<Reader> {
    let parse = || {
        let mut words = line.split_whitespace().skip_while(|w| *w != "POSIX");
        let kind = words.nth(2)?;
        let pid = words.next()?.parse().ok()?;
        let file = words.next()?.rsplit(':').next()?.parse::<u64>().ok()?;
        let first = words.next()?.parse::<u64>().ok()?;
        let last = words.next()?.parse::<u64>().unwrap_or(u64::MAX);
        // Who has one exclusively sets a mark, for a moment.
        (kind == "READ" && file == inode).then_some((pid, first, last))
    };
    let Some((pid, first, last)) = parse() else {
        return Vec::new();
    };
    (0..READERS)
        .filter(|slot| (first..=last).contains(&(FIRST_READ_BYTE + *slot as u64)))
        .map(|slot| Reader { pid, slot })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_reads_the_oldest_state_is_in_the_way() {
        let reader = |pid, slot| Reader { pid, slot };
        let readers = [reader(7, 3), reader(5, 1), reader(5, 1), reader(9, 0)];
        assert_eq!(oldest(&readers, [0, 10, 20, 30, 40]), [9]);
        let without_log = [READMARK_NOT_USED, 10, READMARK_NOT_USED, 10, 5];
        assert_eq!(oldest(&readers, without_log), [5, 7]);
        assert_eq!(oldest(&readers[3..], without_log), [0; 0]);
    }

    #[test]
    fn a_line_of_proc_locks_names_the_reader() {
        let line = "12: POSIX  ADVISORY  READ  4321 fe:00:99 124 125";
        let slots = |inode| parse_line(line, inode).into_iter().map(|r| (r.pid, r.slot));
        assert_eq!(slots(99).collect::<Vec<_>>(), [(4321, 1), (4321, 2)]);
        assert_eq!(slots(98).count(), 0);
        for other in [
            "13: POSIX  ADVISORY  READ  4321 fe:00:99 128 128",
            "13: POSIX  ADVISORY  WRITE 4321 fe:00:99 124 124",
            "13: FLOCK  ADVISORY  READ  4321 fe:00:99 124 124",
        ] {
            assert_eq!(parse_line(other, 99), [], "{other}");
        }
    }

    #[test]
    fn who_reads_a_file_is_found_among_all_locks() {
        let locks = "\
1: POSIX  ADVISORY  READ  4321 fe:00:99 124 124
2: POSIX  ADVISORY  READ  99 fe:00:990 124 124
3: POSIX  ADVISORY  READ  99 fe:00:98 123 127
4: FLOCK  ADVISORY  WRITE 77 fe:00:99 0 EOF
5: OFDLCK ADVISORY  READ  -1 fe:00:99 124 124
6: POSIX  ADVISORY  READ  4322 fe:00:99 99 EOF
6: -> POSIX  ADVISORY  WRITE 4323 fe:00:99 124 124
7: POSIX  ADVISORY  READ  4324 00:99:1 123 123
8: LEASE  ACTIVE    READ  99 fe:00:97 0 EOF
9: POSIX  ADVISORY  READ  4325 fe:00:99 125 126
10: POSIX  ADVISORY
";
        let found = |inode| {
            let readers = of_file(locks, inode);
            let each = locks.lines().flat_map(|line| parse_line(line, inode));
            assert_eq!(readers, each.collect::<Vec<_>>(), "{inode}");
            readers.iter().map(|r| (r.pid, r.slot)).collect::<Vec<_>>()
        };
        let all = (0..READERS).map(|slot| (4322, slot));
        let expected = [(4321, 1)].into_iter().chain(all);
        let expected = expected.chain([(4325, 2), (4325, 3)]);
        assert_eq!(found(99), expected.collect::<Vec<_>>());
        assert_eq!(found(990), [(99, 1)]);
        assert_eq!(found(9), []);
        assert_eq!(found(4321), []);
    }
}
