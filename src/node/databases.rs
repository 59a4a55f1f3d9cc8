//! The databases that run, and the steps from those to the ones that should.

use super::placeholder::Placeholder;
use super::plan::{Action, Plan, Spec, diff};
use crate::archive::ArchiveOptions;
use crate::archiver::{Archiver, ArchiverConfig};
use crate::client::{Admin, ClientError, Upstream};
use crate::config::{Config, Entry, ReplicaOptions, UpstreamEntry, identity};
use crate::model::Role;
use crate::primary::{Primary, PrimaryConfig};
use crate::replica::{Replica, ReplicaConfig};
use crate::server::{Archived, Registry, Served};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// What is being let go when the process ends has this long for it.
pub(super) const LAST: Duration = Duration::from_secs(5);

/// One connection for each upstream.
pub type Upstreams = HashMap<UpstreamEntry, Upstream>;

/// Connections for all upstreams of a configuration; those that are there already stay. Checks what can be checked
/// without the network.
pub fn connect(config: &Config, have: &Upstreams) -> Result<Upstreams, ClientError> {
    let mut upstreams = Upstreams::new();
    for entry in &config.entries {
        let upstream = match entry {
            Entry::Database(database) => database.upstream.as_ref().map(|(entry, _)| entry),
            Entry::Directory(directory) => directory.upstream.as_ref(),
        };
        let Some(entry) = upstream else { continue };
        if !upstreams.contains_key(entry) {
            let upstream = match have.get(entry) {
                Some(upstream) => upstream.clone(),
                None => Upstream::connect_to(entry, config.server.insecure)?,
            };
            upstreams.insert(entry.clone(), upstream);
        }
    }
    Ok(upstreams)
}

/// The databases that run.
pub struct Databases {
    registry: Registry,
    server_id: String,
    upstreams: Upstreams,
    running: Plan,
    /// Archives that are another's are taken from it.
    take_over: bool,
    /// Archives that were written to since the process began.
    archived: HashSet<String>,
    /// Files that are being let go. Whoever takes one again waits for that: the lock is held until then, and closing a
    /// file late would drop the locks of the next one that has it open in this process.
    ending: HashSet<PathBuf>,
    tasks: JoinSet<PathBuf>,
}

/// What a reconciliation did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// Databases that were started.
    pub started: usize,
    /// Databases that were let go.
    pub stopped: usize,
}

impl Databases {
    /// None runs yet.
    pub fn new(
        registry: Registry,
        server_id: String,
        upstreams: Upstreams,
        take_over: bool,
    ) -> Databases {
        Databases {
            take_over,
            archived: HashSet::new(),
            registry,
            server_id,
            upstreams,
            running: Plan::new(),
            ending: HashSet::new(),
            tasks: JoinSet::new(),
        }
    }

    /// The connections from now on.
    pub fn use_upstreams(&mut self, upstreams: Upstreams) {
        self.upstreams = upstreams;
    }

    /// The connections.
    pub fn upstreams(&self) -> &Upstreams {
        &self.upstreams
    }

    /// A client on the connection to an upstream.
    pub fn admin(&self, entry: &UpstreamEntry) -> Option<Admin> {
        self.upstreams.get(entry).map(Upstream::admin)
    }

    /// Does what leads to `wanted`. A database whose file is still being let go is started by the next call after that.
    pub fn reconcile(&mut self, wanted: &Plan) -> Changed {
        let mut changed = Changed::default();
        for action in diff(&self.running, wanted) {
            match action {
                Action::Stop(name) => {
                    self.stop(&name);
                    changed.stopped += 1;
                }
                Action::Start(name) => {
                    changed.started += usize::from(self.start(name, wanted));
                }
            }
        }
        changed
    }

    /// Primaries that should run and do not yet, or are about to be opened anew: who asks for them now does not see them.
    pub fn is_missing_primaries(&self, wanted: &Plan) -> bool {
        let mut primaries = wanted
            .iter()
            .filter(|(_, spec)| matches!(spec, Spec::Primary { .. }));
        primaries.any(|(name, spec)| self.running.get(name) != Some(spec))
    }

    fn is_ending(&self, path: &Path) -> bool {
        !self.ending.is_empty() && self.ending.contains(&identity(path))
    }

    fn stop(&mut self, name: &str) {
        let Some(spec) = self.running.remove(name) else {
            return;
        };
        if let Some(served) = self.registry.remove(name) {
            tracing::info!(database = %name, "let go");
            self.end(served, identity(spec.path()));
        }
    }

    fn end(&mut self, served: Served, path: PathBuf) {
        self.ending.insert(path.clone());
        served.database().stop();
        self.tasks.spawn(async move {
            served.database().stopped().await;
            path
        });
    }

    /// False if it has to wait, or the server ends.
    fn start(&mut self, name: String, wanted: &Plan) -> bool {
        let Some(spec) = wanted
            .get(&name)
            .filter(|spec| !self.is_ending(spec.path()))
        else {
            return false;
        };
        let Some(served) = self.serve(&name, spec) else {
            return false;
        };
        // It can be refused only when the server ends.
        if let Err(error) = self.registry.add(served.clone()) {
            tracing::info!("{error}");
            self.end(served, identity(spec.path()));
            return false;
        }
        self.running.insert(name, spec.clone());
        true
    }

    fn archiver(&mut self, entry: &ArchiveOptions) -> ArchiverConfig {
        // Once each: an archive that was lost since is not taken back by a reload.
        let first = self.archived.insert(entry.location.to_string());
        ArchiverConfig {
            options: entry.clone(),
            take_over: self.take_over && first,
        }
    }

    fn serve(&mut self, name: &str, spec: &Spec) -> Option<Served> {
        Some(match spec {
            Spec::Primary { path, options } => {
                let primary = Primary::start(PrimaryConfig {
                    name: name.to_owned(),
                    path: path.clone(),
                    retain_bytes: options.retain_size,
                    retain_age: options.retain_age,
                    heartbeat: options.heartbeat,
                    server_id: self.server_id.clone(),
                });
                let archives = options.archives.iter();
                let archivers: Vec<_> = archives
                    .map(|entry| Archiver::start(self.archiver(entry), Arc::clone(&primary)))
                    .collect();
                match archivers.is_empty() {
                    true => Served::Primary(Arc::new(primary)),
                    false => Served::Primary(Arc::new(Archived::new(primary, archivers))),
                }
            }
            Spec::Replica {
                path,
                upstream,
                options,
            } => {
                let mut config = replica_config(name, path, options);
                let upstream = match upstream {
                    Some((entry, database)) => {
                        let upstream = self.upstreams.get(entry)?;
                        config.upstream_database.clone_from(database);
                        config.upstream = upstream.url().to_owned();
                        Some(upstream.clone())
                    }
                    None => None,
                };
                Served::Replica(Arc::new(Replica::start(config, upstream)))
            }
            Spec::Shown {
                path,
                role,
                upstream,
                orphan,
                reason,
            } => shown(name, path, *role, upstream, *orphan, reason),
        })
    }

    /// Waits until one of the files is let go. Pending while none is.
    pub async fn ended(&mut self) {
        match self.tasks.join_next().await {
            Some(Ok(path)) => {
                self.ending.remove(&path);
            }
            // A panic in there ends the process.
            Some(Err(_)) => {}
            None => std::future::pending().await,
        }
    }

    /// Waits for what is being let go. What runs is left to the server, which drains it first.
    pub async fn finish(mut self) {
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(LAST, all).await.is_err() {
            tracing::warn!("some databases took too long to be let go");
        }
    }
}

fn replica_config(name: &str, path: &Path, options: &ReplicaOptions) -> ReplicaConfig {
    let mut config = ReplicaConfig::new(name, path.to_owned(), "");
    if let Some(name) = &options.name {
        config.replica_name.clone_from(name);
    }
    config.scrub_interval = options.scrub_interval;
    config.wal_soft_limit = options.wal_soft_limit;
    config.wal_hard_limit = options.wal_hard_limit;
    config.mode = options.mode;
    config.archive.clone_from(&options.archive);
    config
}

fn shown(
    name: &str,
    path: &Path,
    role: Role,
    upstream: &str,
    orphan: bool,
    reason: &str,
) -> Served {
    tracing::warn!(database = %name, "{reason}");
    let placeholder = Arc::new(Placeholder::new(name, path, role, upstream, orphan, reason));
    match role {
        Role::Primary => Served::Primary(placeholder),
        Role::Replica => Served::Replica(placeholder),
    }
}
