//! Which databases there should be, and what is to be done so that there are: pure functions.

use super::finding::{Finding, Found, Place};
use crate::config::{
    self, DatabaseEntry, DirectoryEntry, Entry, PrimaryOptions, ReplicaOptions, UpstreamEntry,
};
use crate::model::Role;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

/// One database that should be there. While its spec stays equal it is not touched.
#[derive(Clone, Debug, PartialEq)]
pub enum Spec {
    /// Captured.
    Primary {
        /// The file.
        path: PathBuf,
        /// How its log is kept.
        options: PrimaryOptions,
    },
    /// Followed.
    Replica {
        /// The copy.
        path: PathBuf,
        /// Where from, and its name there; `None`: from its archive alone.
        upstream: Option<(UpstreamEntry, String)>,
        /// How the copy is kept.
        options: Box<ReplicaOptions>,
    },
    /// Only shown.
    Shown {
        /// The file.
        path: PathBuf,
        /// What it would be.
        role: Role,
        /// Where it came from; empty for a primary.
        upstream: String,
        /// It is no fault: the upstream let it go.
        orphan: bool,
        /// Why it is not served, and what to do.
        reason: String,
    },
}

impl Spec {
    /// Its file.
    pub fn path(&self) -> &Path {
        match self {
            Spec::Primary { path, .. } | Spec::Replica { path, .. } | Spec::Shown { path, .. } => {
                path
            }
        }
    }

    /// The same database, only shown.
    pub fn refused(&self, reason: &str) -> Spec {
        let (role, upstream) = match self {
            Spec::Primary { .. } => (Role::Primary, String::new()),
            Spec::Replica { upstream, .. } => {
                let url = upstream.as_ref().map(|(entry, _)| entry.url.clone());
                (Role::Replica, url.unwrap_or_default())
            }
            Spec::Shown { .. } => return self.clone(),
        };
        Spec::Shown {
            path: self.path().to_owned(),
            role,
            upstream,
            orphan: false,
            reason: reason.to_owned(),
        }
    }
}

/// Databases by name.
pub type Plan = BTreeMap<String, Spec>;

/// A step from one plan to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Let it go.
    Stop(String),
    /// Begin it, as the wanted plan has it.
    Start(String),
}

/// All that has to be done, stops first: a file changes its name by a stop and a start. What is equal in both is in none
/// of them.
pub fn diff(running: &Plan, wanted: &Plan) -> Vec<Action> {
    let differs = |name: &String, spec: &Spec, other: &Plan| other.get(name) != Some(spec);
    let stops = running
        .iter()
        .filter(|(name, spec)| differs(name, spec, wanted))
        .map(|(name, _)| Action::Stop(name.clone()));
    let starts = wanted
        .iter()
        .filter(|(name, spec)| differs(name, spec, running))
        .map(|(name, _)| Action::Start(name.clone()));
    stops.chain(starts).collect()
}

/// What the entries come to with what was found in their directories, and a line for each database that is left out
/// since its name or its file is taken. Entries that name their file come before those that are found.
pub fn plan(entries: &[Entry], found: &HashMap<Place, Found>) -> (Plan, Vec<String>) {
    let mut making = Making::default();
    for entry in entries {
        if let Entry::Database(database) = entry {
            making.add(
                &database.name,
                config::identity(&database.path),
                of(database),
            );
        }
    }
    let directories = entries.iter().filter_map(|entry| match entry {
        Entry::Directory(directory) => Some((directory, found.get(&Place::of(directory))?)),
        Entry::Database(_) => None,
    });
    for (directory, found) in directories.clone() {
        let real = config::identity(&directory.dir);
        for (name, finding) in found.databases.iter().filter(|(_, f)| !f.is_left()) {
            making.add(name, real.join(name), found_in(directory, name, finding));
        }
    }
    // A copy may be another entry's, whose directory is the same: that one comes first, and nothing is wrong.
    let clashes = making.clashes.clone();
    for (directory, found) in directories {
        let real = config::identity(&directory.dir);
        for (name, finding) in found.databases.iter().filter(|(_, f)| f.is_left()) {
            making.add(name, real.join(name), found_in(directory, name, finding));
        }
    }
    (making.plan, clashes)
}

#[derive(Default)]
struct Making {
    plan: Plan,
    files: HashSet<PathBuf>,
    clashes: Vec<String>,
}

impl Making {
    fn add(&mut self, name: &str, file: PathBuf, spec: Spec) {
        let path = spec.path().display();
        if let Some(other) = self.plan.get(name) {
            let other = other.path().display();
            self.clashes.push(format!(
                "{path} is left out: the name '{name}' is {other}'s; give one of them another name"
            ));
        } else if self.files.contains(&file) {
            self.clashes.push(format!(
                "{path} is left out as '{name}': the file is served under another name already"
            ));
        } else {
            self.files.insert(file);
            self.plan.insert(name.to_owned(), spec);
        }
    }
}

fn of(entry: &DatabaseEntry) -> Spec {
    match entry.is_replica() {
        false => Spec::Primary {
            path: entry.path.clone(),
            options: entry.primary.clone(),
        },
        true => Spec::Replica {
            path: entry.path.clone(),
            upstream: entry.upstream.clone(),
            options: Box::new(entry.replica.clone()),
        },
    }
}

fn found_in(entry: &DirectoryEntry, name: &str, finding: &Finding) -> Spec {
    let path = entry.dir.join(name);
    let url = entry.upstream.as_ref().map(|upstream| upstream.url.clone());
    let (reason, orphan) = match (finding, &entry.upstream) {
        (Finding::Here | Finding::Kept, None) => {
            let mut options = entry.primary.clone();
            for archive in &mut options.archives {
                *archive = archive.of(name);
            }
            return Spec::Primary { path, options };
        }
        (Finding::Here | Finding::Kept, Some(upstream)) => {
            let mut options = Box::new(entry.replica.clone());
            options.archive = options.archive.map(|archive| archive.of(name));
            return Spec::Replica {
                path,
                upstream: Some((upstream.clone(), name.to_owned())),
                options,
            };
        }
        (Finding::Refused(reason), _) => (reason.clone(), false),
        (Finding::Gone, _) => {
            let url = url.as_deref().unwrap_or_default();
            let reason = format!(
                "{url} has it no more: no longer followed, the copy stays as it was; it is followed again if it comes back"
            );
            (reason, true)
        }
    };
    Spec::Shown {
        path,
        role: if entry.upstream.is_some() {
            Role::Replica
        } else {
            Role::Primary
        },
        upstream: url.unwrap_or_default(),
        orphan,
        reason,
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
