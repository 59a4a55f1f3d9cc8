//! Keeps what runs as it should be: what the directories and upstreams have, and what the configuration says now.

use super::databases::{self, Changed, Databases};
use super::descriptors;
use super::finder::{Finder, News};
use super::finding::{Found, Place};
use super::plan::{self, Plan};
use super::reload::{Source, needs_restart};
use crate::config::{Config, Entry, Readiness};
use crate::model::ProcessMeters;
use crate::security::ServerSecurity;
use crate::server::Registry;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use tokio::signal::unix::Signal;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// News that wait to be taken.
const QUEUE: usize = 16;

/// The keeper's own state; one task has it.
pub struct Keeper {
    config: Config,
    source: Option<Source>,
    registry: Registry,
    security: ServerSecurity,
    databases: Databases,
    readiness: watch::Sender<Readiness>,
    meters: Arc<ProcessMeters>,
    finders: HashMap<Place, Finder>,
    found: HashMap<Place, Found>,
    news: (mpsc::Sender<News>, mpsc::Receiver<News>),
    settled: watch::Sender<bool>,
    /// Clashes, and what else leaves databases out, that were logged.
    said: BTreeSet<String>,
}

impl Keeper {
    /// Starts what the configuration names, and looking where it says. Call it inside a tokio runtime.
    pub fn start(
        config: Config,
        source: Option<Source>,
        registry: Registry,
        security: ServerSecurity,
        databases: Databases,
        meters: Arc<ProcessMeters>,
    ) -> Keeper {
        let mut keeper = Keeper {
            readiness: watch::Sender::new(config.server.readiness.clone()),
            config,
            source,
            registry,
            security,
            databases,
            meters,
            finders: HashMap::new(),
            found: HashMap::new(),
            news: mpsc::channel(QUEUE),
            settled: watch::Sender::new(false),
            said: BTreeSet::new(),
        };
        keeper.look_where_it_says();
        keeper.reconcile();
        keeper
    }

    /// True once every place was looked at once: what is there by then was there at the start.
    pub fn settled(&self) -> watch::Receiver<bool> {
        self.settled.subscribe()
    }

    /// When the process is ready, as the configuration says now.
    pub fn readiness(&self) -> watch::Receiver<Readiness> {
        self.readiness.subscribe()
    }

    /// Runs until it is told to end; the databases are the server's then.
    pub async fn run(mut self, mut hangups: Signal, end: CancellationToken) {
        loop {
            tokio::select! {
                () = end.cancelled() => break,
                _ = hangups.recv() => self.reload().await,
                Some((place, found)) = self.news.1.recv() => self.take(place, found),
                () = self.databases.ended() => {
                    self.reconcile();
                }
            }
        }
        self.finders.clear();
        self.databases.finish().await;
    }

    fn take(&mut self, place: Place, found: Found) {
        // It may have been told before a reload took the place away.
        if self.finders.contains_key(&place) {
            self.found.insert(place, found);
            self.reconcile();
        }
    }

    fn reconcile(&mut self) -> Changed {
        let (mut plan, clashes): (Plan, Vec<String>) =
            plan::plan(&self.config.entries, &self.found);
        let mut clashes: BTreeSet<String> = clashes.into_iter().collect();
        clashes.extend(descriptors::fit(&mut plan, descriptors::allowed()));
        for clash in clashes.difference(&self.said) {
            tracing::warn!("{clash}");
        }
        self.said = clashes;
        let changed = self.databases.reconcile(&plan);
        let all = self
            .finders
            .keys()
            .all(|place| self.found.contains_key(place));
        self.settled
            .send_if_modified(|settled| !std::mem::replace(settled, all) && all);
        changed
    }

    /// Starts the finders that are missing and ends those that are too many.
    fn look_where_it_says(&mut self) {
        let places: HashSet<Place> = places(&self.config).collect();
        self.finders.retain(|place, _| places.contains(place));
        self.found.retain(|place, _| places.contains(place));
        for place in places {
            if self.finders.contains_key(&place) {
                continue;
            }
            let admin = place
                .upstream
                .as_ref()
                .and_then(|u| self.databases.admin(u));
            let finder = Finder::start(place.clone(), admin, self.news.0.clone());
            self.finders.insert(place, finder);
        }
    }

    /// Reads the file again. It is taken as a whole or not at all.
    async fn reload(&mut self) {
        let Some(source) = self.source.clone() else {
            tracing::info!("SIGHUP: there is no configuration file to read again; nothing changes");
            return;
        };
        let prepared = self.prepare(source).await;
        match &prepared {
            Ok(_) => self.meters.reloads.add(1),
            Err(_) => self.meters.reload_failures.add(1),
        }
        match prepared {
            Ok(changed) => tracing::info!(
                started = changed.started,
                stopped = changed.stopped,
                databases = self.registry.list().len(),
                "reloaded"
            ),
            Err(problem) => tracing::error!("not reloaded, nothing changes: {problem}"),
        }
    }

    async fn prepare(&mut self, source: Source) -> Result<Changed, String> {
        let mut new = source.load().await?;
        // Who is served how on the open ports stays: what needs a restart keeps its old value.
        let old = &self.config.server;
        let restart = needs_restart(&self.config, &new);
        let mut server = old.clone();
        server.access.clone_from(&new.server.access);
        server.readiness.clone_from(&new.server.readiness);
        server.max_staleness = new.server.max_staleness;
        new.exec.clone_from(&self.config.exec);
        new.server = server;
        let clashes = plan::plan(&new.entries, &HashMap::new()).1;
        if let Some(clash) = clashes.first() {
            return Err(clash.clone());
        }
        let upstreams = databases::connect(&new, self.databases.upstreams());
        let upstreams = upstreams.map_err(|error| error.to_string())?;
        if new.server != self.config.server {
            let replaced = self.security.replace(&new.server);
            replaced.map_err(|error| error.to_string())?;
        }
        // Nothing fails from here on.
        if !restart.is_empty() {
            tracing::warn!("changed, but not before a restart: {}", restart.join(", "));
        }
        self.registry.set_max_staleness(new.server.max_staleness);
        self.readiness.send_replace(new.server.readiness.clone());
        self.databases.use_upstreams(upstreams);
        self.config = new;
        self.look_where_it_says();
        Ok(self.reconcile())
    }
}

fn places(config: &Config) -> impl Iterator<Item = Place> + '_ {
    config.entries.iter().filter_map(|entry| match entry {
        Entry::Directory(directory) => Some(Place::of(directory)),
        Entry::Database(_) => None,
    })
}
