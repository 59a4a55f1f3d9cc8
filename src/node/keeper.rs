//! Keeps what runs as it should be: what the directories and upstreams have, and what the configuration says now.

use super::databases::{self, Changed, Databases};
use super::descriptors;
use super::finder::News;
use super::finding::Place;
use super::places::Places;
use super::plan::{self, Plan};
use super::reload::{Source, needs_restart};
use crate::config::{Config, Entry, Readiness};
use crate::model::ProcessMeters;
use crate::security::ServerSecurity;
use crate::server::{Outlook, Registry};
use std::collections::{BTreeSet, HashMap};
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
    places: Places,
    news: mpsc::Receiver<News>,
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
        let (sender, news) = mpsc::channel(QUEUE);
        let mut keeper = Keeper {
            readiness: watch::Sender::new(config.server.readiness.clone()),
            config,
            source,
            registry,
            security,
            databases,
            meters,
            places: Places::new(sender),
            news,
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
                // Nothing is half done where the end comes first: what is read is taken in one go, afterwards.
                _ = hangups.recv() => tokio::select! {
                    () = end.cancelled() => break,
                    () = self.reload() => {}
                },
                Some(news) = self.news.recv() => {
                    if self.places.take(news) {
                        self.reconcile();
                    }
                }
                () = self.databases.ended() => {
                    self.reconcile();
                }
            }
        }
        self.places.clear();
        self.databases.finish().await;
    }

    fn reconcile(&mut self) -> Changed {
        let (mut plan, clashes): (Plan, Vec<String>) =
            plan::plan(&self.config.entries, self.places.found());
        let mut clashes: BTreeSet<String> = clashes.into_iter().collect();
        clashes.extend(descriptors::fit(&mut plan, descriptors::allowed()));
        for clash in clashes.difference(&self.said) {
            tracing::warn!("{clash}");
        }
        self.said = clashes;
        // Before one is taken off that comes back, and again when all are there.
        self.tell(&plan);
        let changed = self.databases.reconcile(&plan);
        self.tell(&plan);
        let all = self.places.settled();
        self.settled
            .send_if_modified(|settled| !std::mem::replace(settled, all) && all);
        changed
    }

    /// Tells the server what it knows of its databases.
    fn tell(&self, plan: &Plan) {
        let known = self.places.knows_its_primaries();
        self.registry.set_outlook(Outlook {
            unknown: self.places.unknown(),
            unsettled: !known || self.databases.is_missing_primaries(plan),
        });
    }

    fn look_where_it_says(&mut self) {
        let places = places(&self.config).collect();
        self.places.look_at(places, &self.databases);
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
