//! Reads a primary's shadow WAL from outside: standard lz4 frames whose bytes, put together, are a
//! WAL that SQLite accepts. Answers which of the writer's commits the log holds.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use super::history::History;
use super::schema::mark;
use super::walfile;

/// What one generation's files hold.
#[derive(Debug, Default)]
pub struct Shadow {
    pub generations: u64,
    pub indexes: u64,
    pub files: u64,
    pub wal_bytes: u64,
    pub commits: u64,
    marks: HashSet<String>,
}

const PREFIX: &[u8] = b"walcast-state:";
const MARK_LEN: usize = 14 + 16 + 1 + 16 + 1;

/// The `<db>-walcast` directory of a database.
pub fn directory(db: &Path) -> PathBuf {
    let mut path = db.as_os_str().to_owned();
    path.push("-walcast");
    path.into()
}

fn sorted(dir: &Path) -> Result<Vec<PathBuf>, String> {
    let wrong = |e: std::io::Error| format!("list {}: {e}", dir.display());
    let entries = std::fs::read_dir(dir).map_err(wrong)?;
    let mut paths = entries
        .map(|e| e.map(|e| e.path()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(wrong)?;
    paths.sort();
    Ok(paths)
}

/// Reads every generation under `dir` (a `<db>-walcast`); `scratch` takes one index at a time.
///
/// # Errors
/// A file that is no lz4, a gap between files, bytes that are no valid WAL to their end.
pub fn read(dir: &Path, scratch: &Path) -> Result<Shadow, String> {
    let mut shadow = Shadow::default();
    for generation in sorted(&dir.join("generations"))? {
        shadow.generations += 1;
        for index in sorted(&generation.join("wal"))? {
            let bytes = shadow.read_index(&index)?;
            shadow.take_wal(&index, &bytes, scratch)?;
        }
    }
    Ok(shadow)
}

impl Shadow {
    fn read_index(&mut self, index: &Path) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        for path in sorted(index)? {
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            let offset = name
                .strip_suffix(".wal.lz4")
                .and_then(|hex| u64::from_str_radix(hex, 16).ok())
                .ok_or_else(|| format!("a foreign file: {}", path.display()))?;
            // Without its header an index cannot be proven: retention must take whole indexes.
            if bytes.len() as u64 != offset {
                return Err(format!("{} follows byte {}", path.display(), bytes.len()));
            }
            decompress(&path, &mut bytes)?;
            self.files += 1;
        }
        self.indexes += 1;
        Ok(bytes)
    }

    fn take_wal(&mut self, index: &Path, bytes: &[u8], scratch: &Path) -> Result<(), String> {
        if bytes.is_empty() {
            return Ok(());
        }
        let wrong = |e: std::io::Error| format!("{}: {e}", index.display());
        std::fs::write(scratch, bytes).map_err(wrong)?;
        let file = File::open(scratch).map_err(wrong)?;
        let wal = walfile::read(&file, u32::MAX)
            .map_err(wrong)?
            .ok_or_else(|| format!("{} has no WAL header", index.display()))?;
        let frame = walfile::FRAME_HEADER + u64::from(wal.page_size);
        let valid = walfile::HEADER + u64::from(wal.frames) * frame;
        if valid != bytes.len() as u64 {
            let len = bytes.len();
            return Err(format!(
                "{}: {valid} of {len} bytes are valid",
                index.display()
            ));
        }
        self.wal_bytes += valid;
        self.commits += wal.commits;
        let starts = bytes.windows(PREFIX.len()).enumerate();
        for (at, _) in starts.filter(|(_, window)| *window == PREFIX) {
            let text = bytes.get(at..at + MARK_LEN).unwrap_or_default();
            self.marks
                .insert(String::from_utf8_lossy(text).into_owned());
        }
        Ok(())
    }

    /// The oldest version that the log still holds.
    pub fn first_version(&self) -> Option<u64> {
        let hex = |m: &String| u64::from_str_radix(m.get(14..30)?, 16).ok();
        self.marks.iter().filter_map(hex).min()
    }

    /// Versions of the history, from `first` on, that the log does not hold.
    pub fn missing(&self, history: &History, first: u64) -> Vec<u64> {
        let mut missing: Vec<u64> = history
            .committed_states()
            .filter(|&(version, state)| {
                version >= first && !self.marks.contains(&mark(version, state))
            })
            .map(|(version, _)| version)
            .collect();
        missing.sort_unstable();
        missing
    }
}

/// Appends what all frames of a file hold; one file is many frames.
fn decompress(path: &Path, bytes: &mut Vec<u8>) -> Result<(), String> {
    let wrong = |e: std::io::Error| format!("{}: {e}", path.display());
    let mut input = BufReader::new(File::open(path).map_err(wrong)?);
    while std::io::BufRead::fill_buf(&mut input).is_ok_and(|b| !b.is_empty()) {
        let before = bytes.len();
        lz4_flex::frame::FrameDecoder::new(&mut input)
            .read_to_end(bytes)
            .map_err(wrong)?;
        if bytes.len() == before {
            return Err(format!("{}: an empty frame", path.display()));
        }
    }
    Ok(())
}
