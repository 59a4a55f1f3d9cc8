//! What a directory, or an upstream, has at this moment.

use crate::config::{self, DirectoryEntry, UpstreamEntry, parse_pattern};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// Where databases are looked for. Entries whose places are equal have found the same: what one knew the other goes on
/// with after a reload.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The directory.
    pub dir: PathBuf,
    /// Which names.
    pub pattern: String,
    /// The server whose databases they are.
    pub upstream: Option<UpstreamEntry>,
}

impl Place {
    /// Where this entry looks.
    pub fn of(entry: &DirectoryEntry) -> Place {
        Place {
            dir: entry.dir.clone(),
            pattern: entry.pattern.clone(),
            upstream: entry.upstream.clone(),
        }
    }
}

impl Place {
    /// True if the same directory is looked into for the same kind of databases.
    pub fn is_like(&self, other: &Place) -> bool {
        self.dir == other.dir && self.upstream.is_some() == other.upstream.is_some()
    }
}

/// All that was found at one place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// By name.
    pub databases: BTreeMap<String, Finding>,
    /// What has no name that can be used: one line each.
    pub nameless: BTreeSet<String>,
}

/// One database that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// To be served.
    Here,
    /// Not to be served: why, and what to do.
    Refused(String),
    /// A copy is here, and that the upstream has it no more is not known: it is followed, unless somebody else has it.
    Kept,
    /// The upstream had it and has it no more.
    Gone,
}

impl Finding {
    /// What a copy in the directory tells, and not the upstream.
    pub fn is_left(&self) -> bool {
        matches!(self, Finding::Kept | Finding::Gone)
    }
}

/// Endings of the files that SQLite keeps beside a database.
const BESIDE: [&str; 3] = ["-wal", "-shm", "-journal"];
/// The end of the name of walcast's own directory beside a database.
pub const OURS: &str = "-walcast";

/// True for files that are never databases, whatever the pattern says.
pub fn belongs_to_another(name: &str) -> bool {
    BESIDE.iter().any(|end| name.ends_with(end)) || name.split('/').any(|part| part.ends_with(OURS))
}

impl Found {
    /// What of this, which was found at one place, another one that looks into the same directory will have as well, as
    /// far as that can be told without a look.
    pub fn at(&self, place: &Place, other: &Place) -> Found {
        let mut found = Found::default();
        if !place.is_like(other) {
            return found;
        }
        if let Ok(pattern) = parse_pattern(&other.pattern) {
            let matching = self.databases.iter().filter(|(n, _)| pattern.is_match(n));
            found.databases = matching.map(|(n, f)| (n.clone(), f.clone())).collect();
        }
        found
    }

    /// Adds what another one has more.
    pub fn add_missing(&mut self, other: Found) {
        for (name, finding) in other.databases {
            self.databases.entry(name).or_insert(finding);
        }
    }

    /// Notes a database, or why its name cannot be used.
    pub fn note(&mut self, name: &str, finding: Finding) {
        match config::parse_name(name) {
            Ok(name) => {
                self.databases.insert(name, finding);
            }
            Err(why) => {
                self.nameless
                    .insert(format!("left out: {}", printable(&why)));
            }
        }
    }
}

/// For one line of a log, whatever a stranger sent.
pub fn printable(text: &str) -> String {
    const LONGEST: usize = 300;
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .take(LONGEST)
        .collect()
}
