//! The databases of one server, which come and go while it runs.

use super::database::{PrimaryDatabase, Served};
use super::errors::{Reason, Refusal};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Names that a refusal shows: a status travels in an HTTP/2 header, which has a limit of its own.
const SHOWN: usize = 10;

/// A database cannot be added.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// There is one of that name.
    #[error("two databases are named '{0}'; give one of them another name")]
    NameTaken(String),
    /// The server is ending.
    #[error("the server is ending, so '{0}' is not started")]
    Ending(String),
}

/// The databases of one server, by name. A clone is the same registry.
#[derive(Clone)]
pub struct Registry(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    changes: watch::Sender<u64>,
}

/// What a server knows of the databases that it should have. By default: all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outlook {
    /// Mirrored upstreams whose databases are not known yet, by URL, each with why.
    pub unknown: BTreeMap<String, String>,
    /// Primaries may come that are here already: not every directory was looked into, or one is being opened anew.
    pub unsettled: bool,
}

struct State {
    databases: BTreeMap<String, Entry>,
    outlook: Outlook,
    max_staleness: Option<Duration>,
    sealed: bool,
}

/// A database, and whether it is still served.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) served: Served,
    pub(super) removed: CancellationToken,
}

impl Entry {
    /// The status with which the calls of a database end that was taken off the server. `UNAVAILABLE`, so that a client
    /// asks again: a database whose configuration changed is back by then, and of one that is gone the answer is
    /// `NOT_FOUND`, which is final.
    pub(super) fn refusal(&self) -> Refusal {
        let name = self.served.database().name();
        let message = format!("'{name}' was taken off this server");
        Refusal::new(Reason::DatabaseRemoved, message).about(name)
    }

    /// What a database refuses because it was stopped is told as the removal that it follows from.
    pub(super) fn explain(&self, refusal: Refusal) -> Refusal {
        if self.removed.is_cancelled() {
            self.refusal()
        } else {
            refusal
        }
    }
}

impl Registry {
    /// An empty one. `max_staleness`: replicas that have not been level for longer do not count as healthy.
    pub fn new(max_staleness: Option<Duration>) -> Registry {
        Registry(Arc::new(Inner {
            state: Mutex::new(State {
                databases: BTreeMap::new(),
                outlook: Outlook::default(),
                max_staleness,
                sealed: false,
            }),
            changes: watch::Sender::new(0),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change is one insertion or removal: there is no half of it.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self) {
        self.0.changes.send_modify(|count| *count += 1);
    }

    /// Serves a database from now on. On an error it was not taken, and the caller stops it.
    pub fn add(&self, served: Served) -> Result<(), RegistryError> {
        let name = served.database().name().to_owned();
        {
            let mut state = self.state();
            if state.sealed {
                return Err(RegistryError::Ending(name));
            }
            if state.databases.contains_key(&name) {
                return Err(RegistryError::NameTaken(name));
            }
            let removed = CancellationToken::new();
            state.databases.insert(name, Entry { served, removed });
        }
        self.changed();
        Ok(())
    }

    /// Serves it no more: its calls end with the reason `DATABASE_REMOVED`. The caller stops it.
    pub fn remove(&self, name: &str) -> Option<Served> {
        let entry = self.state().databases.remove(name)?;
        entry.removed.cancel();
        self.changed();
        Some(entry.served)
    }

    /// The database of that name; the refusal names those that exist.
    pub fn find(&self, name: &str) -> Result<Served, Refusal> {
        self.entry(name, &|_| true).map(|entry| entry.served)
    }

    /// For a caller that may know of some databases: the others are not there.
    pub(super) fn entry(
        &self,
        name: &str,
        visible: &dyn Fn(&str) -> bool,
    ) -> Result<Entry, Refusal> {
        let state = self.state();
        if let Some(entry) = state.databases.get(name)
            && visible(name)
        {
            return Ok(entry.clone());
        }
        let names = state.databases.keys().map(String::as_str);
        let known = known(&names.filter(|name| visible(name)).collect::<Vec<_>>());
        if name.is_empty() {
            let message = format!("database is missing; this server has {known}");
            return Err(Refusal::new(Reason::FieldInvalid, message).field("database"));
        }
        let message = format!("no database '{name}' here; this server has {known}");
        Err(Refusal::new(Reason::DatabaseUnknown, message).about(name))
    }

    /// All databases, by name.
    pub fn list(&self) -> Vec<Served> {
        let state = self.state();
        state.databases.values().map(|e| e.served.clone()).collect()
    }

    /// All databases, and whether every primary that is here is among them: of one moment, so that who sees one missing
    /// sees why.
    pub fn listing(&self) -> (Vec<Served>, bool) {
        let state = self.state();
        let databases = state.databases.values().map(|e| e.served.clone());
        (databases.collect(), !state.outlook.unsettled)
    }

    /// Upstreams whose databases are not known yet, each with why: what is here is less than readers were promised.
    pub fn unknown(&self) -> BTreeMap<String, String> {
        self.state().outlook.unknown.clone()
    }

    /// What is known from now on.
    pub fn set_outlook(&self, outlook: Outlook) {
        let mut state = self.state();
        if state.outlook != outlook {
            state.outlook = outlook;
            drop(state);
            self.changed();
        }
    }

    /// All primaries, by name.
    pub(super) fn primaries(&self) -> Vec<Arc<dyn PrimaryDatabase>> {
        let primary = |served| match served {
            Served::Primary(primary) => Some(primary),
            Served::Replica(_) => None,
        };
        self.list().into_iter().filter_map(primary).collect()
    }

    /// A number that grows with each database that comes or goes.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    /// How long a replica may be behind and still be healthy.
    pub fn max_staleness(&self) -> Option<Duration> {
        self.state().max_staleness
    }

    /// Changes that; a health that follows from it changes with it.
    pub fn set_max_staleness(&self, max_staleness: Option<Duration>) {
        self.state().max_staleness = max_staleness;
        self.changed();
    }

    /// From now on no database comes: what [`Registry::list`] answers after this is all that has to be closed.
    pub(super) fn seal(&self) {
        self.state().sealed = true;
    }
}

fn known(names: &[&str]) -> String {
    if names.is_empty() {
        return "none".to_owned();
    }
    let shown = names[..names.len().min(SHOWN)].join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
