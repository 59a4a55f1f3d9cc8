//! A power cut that leaves what was written up to some moment, and nothing of what came after: the application's log and the
//! shadow WAL lose the same tail. Nothing is left then that could tell, so the generation goes on, over the same positions.

use super::Primary;
use crate::rng::Rng;
use std::fs::File;
use std::path::{Path, PathBuf};
use walcast::format::commits::{HEADER_SIZE, RECORD_SIZE, parse_all};
use walcast::ownership;

impl Primary {
    /// The shadow WAL as it was when the application's log had so many bytes. What is synced remains.
    pub(super) fn lose_since(&self, log_len: u64, rng: &mut Rng) {
        let root = ownership::directory_of(&self.path());
        for commits in entries(&root.join("commits")) {
            if let Some(sidecar) = entries(&commits).pop() {
                self.lose_records(&sidecar, log_len, rng);
            }
        }
        for generation in entries(&root.join("generations")) {
            if let Some(index) = entries(&generation.join("wal")).pop() {
                self.lose_segments(&index, log_len, rng);
            }
        }
    }

    /// No index's records are synced before it is complete, so those of the newest are what decides.
    fn lose_records(&self, sidecar: &Path, log_len: u64, rng: &mut Rng) {
        let bytes = std::fs::read(sidecar).expect("read");
        let Ok(commits) = parse_all(&bytes) else {
            return;
        };
        let records = commits.records.iter();
        let mut kept = records
            .filter(|record| record.end_offset <= log_len)
            .count();
        if rng.one_in(4) {
            // Its moment was a little earlier.
            kept = kept.saturating_sub(rng.between(1, 3) as usize);
        }
        let left = (HEADER_SIZE + kept * RECORD_SIZE) as u64;
        let left = left.max(self.synced_of(sidecar).unwrap_or(0));
        if left < bytes.len() as u64 {
            let file = File::options().write(true).open(sidecar).expect("open");
            file.set_len(left).expect("truncate");
            if rng.one_in(4) {
                // The size came to disk, the bytes did not.
                file.set_len(bytes.len() as u64).expect("grow");
            }
        }
    }

    /// Segments without records prove nothing, so some of them may have come to disk later.
    fn lose_segments(&self, index: &Path, log_len: u64, rng: &mut Rng) {
        for segment in entries(index) {
            let name = segment.file_name().expect("a name").to_string_lossy();
            let start = name.get(..16).map(|hex| u64::from_str_radix(hex, 16));
            let is_later = start.is_some_and(|start| start.is_ok_and(|start| start >= log_len));
            if is_later && self.synced_of(&segment).is_none() && rng.one_in(2) {
                std::fs::remove_file(&segment).expect("remove");
            }
        }
    }

    fn synced_of(&self, path: &Path) -> Option<u64> {
        self.synced.lock().expect("no panic").get(path).copied()
    }
}

/// What is in a directory, by name.
fn entries(directory: &Path) -> Vec<PathBuf> {
    let found = std::fs::read_dir(directory).into_iter().flatten();
    let mut paths: Vec<PathBuf> = found.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths
}
