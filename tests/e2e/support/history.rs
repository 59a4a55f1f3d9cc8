//! The writer's history file, one line each, appended as it happens:
//!
//! ```text
//! base V S     (first line only) what was before V, in state S, was checked and is not kept
//! start V S    the writer (re)started and found version V, state S in the database (0 -: none)
//! intent V S   about to COMMIT version V
//! done V S     COMMIT of V returned
//! abort V S    COMMIT of V failed and was rolled back
//! ```
//!
//! A killed writer may leave an intent without an answer; the next `start` says how it went.
//! Many writers at once have a file each in one directory, without `start`: versions are given under SQLite's write lock.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// The appending side.
pub struct HistoryWriter(File);

impl HistoryWriter {
    /// Opens for appending. A line that a kill tore is ended first.
    ///
    /// # Panics
    /// When the file cannot be read or opened.
    pub fn open(path: &Path) -> Self {
        let torn = std::fs::read(path).is_ok_and(|b| b.last().is_some_and(|&c| c != b'\n'));
        let mut file = File::options()
            .create(true)
            .append(true)
            .open(path)
            .expect("open the history file");
        if torn {
            file.write_all(b" torn\n").expect("end a torn line");
        }
        Self(file)
    }

    /// One `write`, so that a kill leaves a whole line or none.
    ///
    /// # Panics
    /// When the write fails.
    pub fn line(&mut self, kind: &str, version: u64, state: &str) {
        let line = format!("{kind} {version} {state}\n");
        self.0
            .write_all(line.as_bytes())
            .expect("append to the history");
    }
}

/// What a history proves.
#[derive(Debug, Default)]
pub struct History {
    /// The states that were, or (only for an intent that a kill left open at the very end) may
    /// have been, committed at each version.
    states: HashMap<u64, Vec<String>>,
    /// Versions known to be committed.
    pub committed: u64,
    /// A version whose fate a kill at the very end left open.
    pub open_end: Option<u64>,
    pub first: u64,
    pub last: u64,
    pub starts: u64,
    pub aborts: u64,
    pub problems: Vec<String>,
}

impl History {
    /// Of one writer, or a directory of many.
    ///
    /// # Panics
    /// When it cannot be read.
    pub fn read(path: &Path) -> Self {
        if path.is_dir() {
            let texts = files(path).into_iter().map(std::fs::read_to_string);
            let texts: std::io::Result<Vec<_>> = texts.collect();
            return Self::merge(&texts.expect("read the histories"));
        }
        let text = std::fs::read_to_string(path)
            .unwrap_or_else(|e| panic!("read the history {}: {e}", path.display()));
        Self::parse(&text)
    }

    pub fn parse(text: &str) -> Self {
        let mut history = Self::default();
        let mut open: Option<(u64, String)> = None;
        let mut lines = text.split_inclusive('\n').peekable();
        while let Some(line) = lines.next() {
            let next_is_start = lines.peek().is_none_or(|n| n.starts_with("start "));
            match parse_line(line) {
                Some((kind, version, state)) => history.take(&mut open, kind, version, state),
                // Only a kill tears a line, and after a kill there is a start or nothing.
                None if next_is_start => {}
                None => history.problems.push(format!("unreadable line {line:?}")),
            }
        }
        if let Some((version, state)) = open {
            history.open_end = Some(version);
            history.states.entry(version).or_default().push(state);
        }
        history
    }

    /// Each version was committed once, whoever did it; none is missing, but for what kills left open.
    pub fn merge(texts: &[String]) -> Self {
        let mut all = Self::default();
        let mut unknown: Vec<(u64, String)> = Vec::new();
        for text in texts {
            let mut one = Self::default();
            let mut open = None;
            for line in text.split_inclusive('\n') {
                match parse_line(line) {
                    // Where this writer's own versions go on is not its own doing.
                    Some((kind, version, state)) => {
                        one.last = version.saturating_sub(1);
                        one.take(&mut open, kind, version, state);
                    }
                    None if !line.ends_with('\n') => {}
                    None => one.problems.push(format!("unreadable line {line:?}")),
                }
            }
            unknown.extend(open);
            all.problems.extend(one.problems);
            all.aborts += one.aborts;
            all.committed += one.committed;
            all.last = all.last.max(one.states.keys().copied().max().unwrap_or(0));
            for (version, mut states) in one.states {
                all.states.entry(version).or_default().append(&mut states);
            }
        }
        let twice = all.states.iter().filter(|(_, states)| states.len() > 1);
        let twice = twice.map(|(version, states)| format!("version {version} twice: {states:?}"));
        all.problems.extend(twice.collect::<Vec<_>>());
        for (version, state) in unknown {
            if version > all.last {
                all.open_end = Some(version);
            }
            let states = all.states.entry(version).or_default();
            // A version that somebody has committed was not this one.
            if all.open_end == Some(version) || states.is_empty() {
                states.push(state);
            }
        }
        all.first = all.states.keys().copied().min().unwrap_or(0);
        let missing = (all.first..all.last).find(|version| !all.states.contains_key(version));
        if let Some(version) = missing {
            all.problems
                .push(format!("nobody has committed version {version}"));
        }
        all
    }

    fn take(&mut self, open: &mut Option<(u64, String)>, kind: &str, version: u64, state: &str) {
        let same = open
            .as_ref()
            .is_some_and(|(v, s)| *v == version && s == state);
        match kind {
            "base" if self.starts == 0 && self.last == 0 && open.is_none() => {
                self.last = version;
                self.first = version;
                self.states.insert(version, vec![state.to_owned()]);
            }
            "start" => {
                self.starts += 1;
                if same {
                    self.commit(version, state);
                } else if version != self.last {
                    self.problems.push(format!(
                        "started at version {version}, but {} was committed",
                        self.last
                    ));
                } else if version > 0 && !self.allows(version, state) {
                    self.problems.push(format!(
                        "started at version {version} in an unknown state {state}"
                    ));
                }
                *open = None;
            }
            "intent" => {
                if let Some((v, _)) = open {
                    self.problems.push(format!(
                        "intent of {version} while {v} is open, without a start"
                    ));
                }
                *open = Some((version, state.to_owned()));
            }
            "done" if same => {
                self.commit(version, state);
                *open = None;
            }
            "abort" if same => {
                self.aborts += 1;
                *open = None;
            }
            _ => self
                .problems
                .push(format!("{kind} {version} {state} without its intent")),
        }
    }

    fn commit(&mut self, version: u64, state: &str) {
        if version != self.last + 1 {
            self.problems
                .push(format!("version {version} follows {}", self.last));
        }
        if self.committed == 0 {
            self.first = version;
        }
        self.committed += 1;
        self.last = version;
        self.states
            .entry(version)
            .or_default()
            .push(state.to_owned());
    }

    /// Whether a reader may have seen this.
    pub fn allows(&self, version: u64, state: &str) -> bool {
        self.states
            .get(&version)
            .is_some_and(|states| states.iter().any(|s| s == state))
    }

    /// All committed versions with their states, for a search in a log.
    pub fn committed_states(&self) -> impl Iterator<Item = (u64, &str)> {
        self.states
            .iter()
            .filter(|(v, _)| Some(**v) != self.open_end)
            .flat_map(|(v, states)| states.iter().map(|s| (*v, s.as_str())))
    }
}

fn parse_line(line: &str) -> Option<(&str, u64, &str)> {
    let mut words = line.strip_suffix('\n')?.split(' ');
    let (kind, version, state) = (words.next()?, words.next()?, words.next()?);
    let whole = words.next().is_none() && (state == "-" || state.len() == 16);
    let known = ["base", "start", "intent", "done", "abort"].contains(&kind);
    (whole && known).then_some(())?;
    Some((kind, version.parse().ok()?, state))
}

/// The histories in a directory.
fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).expect("list the histories");
    entries.map(|e| e.expect("an entry").path()).collect()
}

/// The last version whose COMMIT returned so far; 0 when none did. Reads only each file's end, so
/// that it can be polled.
pub fn last_done(path: &Path) -> u64 {
    if path.is_dir() {
        return files(path).iter().map(|p| last_done(p)).max().unwrap_or(0);
    }
    const TAIL: u64 = 4096;
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let from = file.metadata()?.len().saturating_sub(TAIL);
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().unwrap_or_default();
    String::from_utf8_lossy(&bytes)
        .lines()
        .rev()
        .find_map(|line| line.strip_prefix("done ")?.split(' ').next()?.parse().ok())
        .unwrap_or(0)
}
