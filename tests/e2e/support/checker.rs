//! The judge: does what the readers saw agree with what the writer committed, and was it enough?

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::history::History;

/// What a run must show to count as a proof.
#[derive(Clone, Debug)]
pub struct Required {
    /// Commits in the writer's history.
    pub commits: u64,
    /// Good read transactions in each reader's log.
    pub reads: u64,
    /// Different versions seen by each reader.
    pub distinct: u64,
    /// Extended SQLite codes that a reader may meet. None in an ordinary run.
    pub allowed_errors: Vec<i32>,
}

impl Required {
    pub fn new(commits: u64, reads: u64, distinct: u64) -> Self {
        Self {
            commits,
            reads,
            distinct,
            allowed_errors: Vec::new(),
        }
    }
}

/// What was found, for the test's output.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Summary {
    pub commits: u64,
    pub reads: u64,
    pub allowed_errors: u64,
}

/// Judges a history and the logs of its readers.
///
/// # Errors
/// Everything that is wrong, one line each (the first `SHOWN` of each log).
pub fn check(history: &Path, logs: &[PathBuf], required: &Required) -> Result<Summary, String> {
    let history = History::read(history);
    let mut wrong = history.problems.clone();
    if history.committed < required.commits {
        wrong.push(format!(
            "only {} commits, {} are required",
            history.committed, required.commits
        ));
    }
    if logs.is_empty() && required.reads > 0 {
        wrong.push("no reader's log".to_owned());
    }
    let mut summary = Summary {
        commits: history.committed,
        ..Summary::default()
    };
    for path in logs {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        match std::fs::read_to_string(path) {
            Ok(text) => {
                let log = check_log(&history, &text, required);
                summary.reads += log.reads;
                summary.allowed_errors += log.allowed_errors;
                wrong.extend(log.wrong.into_iter().map(|w| format!("{name}: {w}")));
            }
            Err(e) => wrong.push(format!("{name}: {e}")),
        }
    }
    if wrong.is_empty() {
        Ok(summary)
    } else {
        Err(wrong.join("\n"))
    }
}

/// How many broken promises of one log are shown.
const SHOWN: usize = 20;

#[derive(Debug, Default)]
struct Log {
    reads: u64,
    allowed_errors: u64,
    seen: HashSet<u64>,
    conn: u64,
    last: u64,
    wrong: Vec<String>,
    more: usize,
}

fn check_log(history: &History, text: &str, required: &Required) -> Log {
    let mut log = Log::default();
    let mut lines = text.split_inclusive('\n').enumerate().peekable();
    while let Some((at, line)) = lines.next() {
        let whole = line.ends_with('\n');
        // A killed reader may leave a piece of its last line; a piece proves nothing.
        if !whole && lines.peek().is_none() {
            break;
        }
        if let Err(why) = log.line(line.trim_end_matches('\n'), history, required) {
            log.complain(format!("line {}: {why}", at + 1));
        }
    }
    if log.more > 0 {
        let more = log.more;
        log.wrong.push(format!("and {more} more"));
    }
    let distinct = log.seen.len() as u64;
    for (what, found, least) in [
        ("reads", log.reads, required.reads),
        ("different versions seen", distinct, required.distinct),
    ] {
        if found < least {
            log.wrong
                .push(format!("only {found} {what}, {least} are required"));
        }
    }
    log
}

impl Log {
    fn complain(&mut self, text: String) {
        if self.wrong.len() < SHOWN {
            self.wrong.push(text);
        } else {
            self.more += 1;
        }
    }

    fn line(&mut self, line: &str, history: &History, required: &Required) -> Result<(), String> {
        let unreadable = || format!("unreadable: {line:?}");
        let mut words = line.splitn(3, ' ');
        let kind = words.next().ok_or_else(unreadable)?;
        let conn: u64 = words
            .next()
            .and_then(|w| w.parse().ok())
            .ok_or_else(unreadable)?;
        let rest = words.next().ok_or_else(unreadable)?;
        if conn < self.conn {
            // A restarted reader counts its connections anew, and must say so with its first.
            if conn > 1 {
                return Err(format!("connection {conn} after {}", self.conn));
            }
        }
        self.conn = conn;
        match kind {
            "r" => {
                let (version, state) = rest.split_once(' ').ok_or_else(unreadable)?;
                let version = version.parse().map_err(|_| unreadable())?;
                self.read(version, state, history)
            }
            "e" => {
                let code = rest.split(' ').next().and_then(|c| c.parse().ok());
                match code {
                    Some(code) if required.allowed_errors.contains(&code) => {
                        self.allowed_errors += 1;
                        Ok(())
                    }
                    _ => Err(format!("error {rest}")),
                }
            }
            "v" => Err(format!("broken promise: {rest}")),
            _ => Err(unreadable()),
        }
    }

    /// Versions never go back, over reconnects too: it is one database, and time passes.
    fn read(&mut self, version: u64, state: &str, history: &History) -> Result<(), String> {
        self.reads += 1;
        self.seen.insert(version);
        let last = std::mem::replace(&mut self.last, version);
        if !history.allows(version, state) {
            return Err(format!(
                "version {version} state {state} was never committed"
            ));
        }
        if version < last {
            return Err(format!("version {version} after {last}"));
        }
        Ok(())
    }
}
