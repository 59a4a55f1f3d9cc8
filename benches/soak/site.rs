//! A primary, a replica, an application and readers, watched from outside; in epochs, so that what the checkers need never
//! grows: at an epoch's end all rests, is checked, and is thrown away.

mod logs;

use crate::shared::{Shared, lock};
use crate::support::Scratch;
use crate::support::checker::Required;
use crate::support::child::Spec;
use crate::support::cluster::{Cluster, NAME};
use crate::support::compare::compare;
use crate::support::history::last_done;
use crate::support::load::Load;
use crate::support::proc::{Walcast, tail};
use crate::watch::version_in;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use walcast::client::Admin;

/// A replica that is not level in this time after a fault is wrong.
pub const HEAL_BOUND: Duration = Duration::from_secs(60);

/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// What the sampler and the lag's probe look at; changes with each start of a process.
#[derive(Default)]
pub struct Watched {
    /// Processes by their part.
    pub pids: Vec<(String, u32)>,
    pub history: PathBuf,
    pub primary_db: PathBuf,
    pub replica_db: PathBuf,
    /// No fault is at work, and the last one has healed: lag counts.
    pub calm: bool,
    /// The one that the harness has stopped itself.
    pub stopped: Option<u32>,
    /// Counts changes of `calm`: whoever measured over one of them has measured nothing.
    pub changes: u64,
}

/// How a site is set up.
pub struct Setup {
    pub name: &'static str,
    /// Arguments for the servers beside the kit's.
    pub primary_args: Vec<String>,
    pub replica_args: Vec<String>,
    pub primary_env: Vec<(String, String)>,
    pub replica_env: Vec<(String, String)>,
    /// Options of the writer.
    pub load: Spec,
    /// Readers of the replica: mode and options.
    pub readers: Vec<(&'static str, Spec)>,
    /// A reader of the application's own database, too.
    pub local_reader: bool,
    /// Table and rows that no checker looks at.
    pub prepare: fn(&Path),
}

pub struct Site {
    pub shared: Arc<Shared>,
    pub watched: Arc<Mutex<Watched>>,
    pub setup: Setup,
    pub cluster: Cluster,
    pub load: Load,
    dir: PathBuf,
    epoch: u32,
    /// How much of each server's log was looked through.
    read_logs: HashMap<PathBuf, usize>,
}

impl Site {
    /// Starts everything, and waits until the replica is level.
    pub fn start(
        shared: &Arc<Shared>,
        dir: &Path,
        setup: Setup,
        watched: &Arc<Mutex<Watched>>,
    ) -> Site {
        let mut cluster = Cluster::new(&Scratch::at(dir));
        let sides = [
            (
                &mut cluster.primary,
                &setup.primary_args,
                &setup.primary_env,
            ),
            (
                &mut cluster.replica,
                &setup.replica_args,
                &setup.replica_env,
            ),
        ];
        for (server, args, envs) in sides {
            args.iter().for_each(|arg| server.arg(arg));
            envs.iter().for_each(|(key, value)| server.env(key, value));
        }
        let first = dir.join("epoch-0");
        std::fs::create_dir_all(&first).expect("make the first epoch's directory");
        let load = Load::new(&first, cluster.primary_db(), setup.load.clone());
        let mut site = Site {
            shared: shared.clone(),
            watched: watched.clone(),
            setup,
            cluster,
            load,
            dir: dir.to_owned(),
            epoch: 0,
            read_logs: HashMap::new(),
        };
        site.load.start_writer();
        site.load.wait_commits(10);
        (site.setup.prepare)(site.cluster.primary_db());
        site.cluster.start_primary();
        site.cluster.start_replica();
        site.wait_version(site.load.version())
            .unwrap_or_else(|why| panic!("the first start: {why}"));
        site.start_readers();
        site.calm(true);
        site
    }

    fn start_readers(&mut self) {
        let replica = self.cluster.replica_db().to_owned();
        for (mode, options) in &self.setup.readers {
            self.load.add_reader(&replica, mode, options.clone());
        }
        if self.setup.local_reader {
            let primary = self.cluster.primary_db().to_owned();
            let options = self.setup.readers[0].1.clone();
            self.load.add_reader(&primary, "short", options);
        }
        self.publish();
    }

    /// Tells the watchers which processes there are now.
    pub fn publish(&self) {
        let mut watched = lock(&self.watched);
        let mut pids = Vec::new();
        pids.extend(
            self.cluster
                .primary
                .pid()
                .map(|pid| ("primary".to_owned(), pid)),
        );
        pids.extend(
            self.cluster
                .replica
                .pid()
                .map(|pid| ("replica".to_owned(), pid)),
        );
        let (writer, readers) = self.load.pids();
        pids.extend(writer.map(|pid| ("application".to_owned(), pid)));
        let readers = readers.into_iter().enumerate();
        pids.extend(readers.map(|(n, pid)| (format!("reader{n}"), pid)));
        watched.pids = pids;
        watched.history = self.load.history().to_owned();
        watched.primary_db = self.cluster.primary_db().to_owned();
        watched.replica_db = self.cluster.replica_db().to_owned();
    }

    /// Whether lag counts from now on.
    pub fn calm(&self, calm: bool) {
        let mut watched = lock(&self.watched);
        watched.calm = calm;
        watched.changes += 1;
    }

    /// Waits for a condition; only time awake counts.
    pub fn wait<T>(
        &self,
        what: &str,
        limit: Duration,
        mut check: impl FnMut() -> Result<T, String>,
    ) -> Result<T, String> {
        let end = self.shared.clock.awake() + limit;
        loop {
            match check() {
                Ok(value) => return Ok(value),
                Err(why) if self.shared.clock.awake() >= end => {
                    return Err(format!("no {what} in {} s: {why}", limit.as_secs()));
                }
                Err(_) => std::thread::sleep(LOOK),
            }
        }
    }

    /// Waits until a reader of the replica sees this version.
    pub fn wait_version(&mut self, version: u64) -> Result<(), String> {
        let db = self.cluster.replica_db().to_owned();
        self.wait(
            &format!("version {version} on the replica"),
            HEAL_BOUND,
            || match version_in(&db) {
                Ok(now) if now >= version => Ok(()),
                Ok(now) => Err(format!("it is at {now}")),
                Err(why) => Err(why),
            },
        )
    }

    /// After the end of a fault: the application commits, and a reader of the replica sees that commit. How long it took.
    /// Servers that ended are started again, as a supervisor does; `excused` says of a log whether the fault was why.
    pub fn wait_healed(&mut self, excused: &dyn Fn(&str) -> bool) -> Result<Duration, String> {
        let began = self.shared.clock.awake();
        let goal = last_done(self.load.history()) + 1;
        loop {
            self.mourn(excused)?;
            let committed = last_done(self.load.history());
            let seen = version_in(self.cluster.replica_db());
            let awake = self.shared.clock.awake();
            match seen {
                Ok(seen) if seen >= goal => return Ok(awake.saturating_sub(began)),
                seen if awake >= began + HEAL_BOUND => {
                    return Err(format!(
                        "not level in {} s: version {goal} is looked for, {committed} is committed, the replica: {seen:?}",
                        HEAL_BOUND.as_secs()
                    ));
                }
                _ => std::thread::sleep(LOOK),
            }
        }
    }

    /// Everything rests; replica and primary are compared, what readers saw is checked, and all that is forgotten.
    ///
    /// # Errors
    /// When it makes no sense to go on.
    pub fn rest(&mut self) -> Result<(), String> {
        self.calm(false);
        // The kit's own limits know nothing of processes that somebody has stopped.
        while self.shared.clock.is_held() {
            std::thread::sleep(Duration::from_millis(100));
        }
        let epoch = self.epoch_dir();
        let report = self.load.stop_writer();
        let version = report.or("version", 0);
        let level = self
            .wait_version(version)
            .and_then(|()| self.wait_same_position());
        let equal = level
            .clone()
            .and_then(|_| compare(&epoch, self.cluster.primary_db(), self.cluster.replica_db()));
        self.load.stop_readers();
        let checked = self.load.verdict(&Required::new(5, 1, 1));
        self.look_through_logs();
        let name = self.setup.name;
        for (key, value) in report.prefixed("busy.") {
            let what = format!("{name}: the application met {key}");
            self.shared.count(&what, value.parse().unwrap_or(1));
        }
        match (equal, checked) {
            (Ok(equal), Ok(summary)) => {
                self.shared
                    .states
                    .fetch_add(summary.reads, Ordering::Relaxed);
                self.shared
                    .commits
                    .fetch_add(summary.commits, Ordering::Relaxed);
                self.shared.rests.fetch_add(1, Ordering::Relaxed);
                self.shared.say(&format!(
                    "{name}: version {version}: equal in {} pages, {} states checked",
                    equal.pages, summary.reads
                ));
            }
            (equal, checked) => {
                for why in [equal.err(), checked.err()].into_iter().flatten() {
                    self.shared.fail(&format!("{name}: at rest: {why}"));
                }
                self.keep_evidence();
            }
        }
        std::fs::remove_dir_all(&epoch).map_err(|e| format!("remove {}: {e}", epoch.display()))?;
        self.begin_epoch(version, report.get("state").unwrap_or("-"));
        level.map(drop)
    }

    fn epoch_dir(&self) -> PathBuf {
        self.dir.join(format!("epoch-{}", self.epoch))
    }

    fn begin_epoch(&mut self, version: u64, state: &str) {
        self.epoch += 1;
        let dir = self.epoch_dir();
        std::fs::create_dir_all(&dir).expect("make an epoch's directory");
        let options = self.setup.load.clone();
        self.load = Load::continued(&dir, self.cluster.primary_db(), options, version, state);
    }

    /// Goes on after a rest.
    pub fn go_on(&mut self) -> Result<(), String> {
        self.load.start_writer();
        self.load.wait_commits(1);
        self.start_readers();
        self.wait_healed(&|_| false)?;
        self.calm(true);
        Ok(())
    }

    /// SIGSTOP to a process of the site, then `meanwhile`, then SIGCONT.
    pub fn stopped<T>(&self, pid: u32, meanwhile: impl FnOnce() -> T) -> Result<T, String> {
        let to = Pid::from_raw(i32::try_from(pid).map_err(|e| e.to_string())?);
        lock(&self.watched).stopped = Some(pid);
        kill(to, Signal::SIGSTOP).map_err(|e| format!("SIGSTOP: {e}"))?;
        let done = meanwhile();
        kill(to, Signal::SIGCONT).map_err(|e| format!("SIGCONT: {e}"))?;
        lock(&self.watched).stopped = None;
        Ok(done)
    }

    /// While nobody commits: both sides name one position.
    pub fn wait_same_position(&self) -> Result<String, String> {
        let (primary, replica) = (self.cluster.primary_addr(), self.cluster.replica_addr());
        self.wait("same position on both sides", HEAL_BOUND, || {
            let (one, other) = (self.position(primary)?, self.position(replica)?);
            if one == other {
                Ok(one)
            } else {
                Err(format!("{one} against {other}"))
            }
        })
    }

    fn position(&self, server: SocketAddr) -> Result<String, String> {
        let url = format!("http://{server}");
        let answer = self
            .shared
            .runtime
            .block_on(async { Admin::connect_lazy(&url)?.position(NAME).await });
        match answer {
            Ok(Some(position)) => Ok(position.to_string()),
            Ok(None) => Err("no position".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Starts servers that ended by themselves. Unless its log is excused, such an end is a failure.
    ///
    /// # Errors
    /// When the application or a reader ended.
    fn mourn(&mut self, excused: &dyn Fn(&str) -> bool) -> Result<(), String> {
        for side in ["primary", "replica"] {
            let server = self.server(side);
            if server.is_running() {
                continue;
            }
            let log = server.log();
            server.kill9();
            if !excused(&log) {
                let (name, log) = (self.setup.name, tail(&log));
                self.shared
                    .fail(&format!("{name}: the {side} ended:\n{log}"));
            }
            self.start_server(side);
        }
        match self.load.ended() {
            Some(log) => Err(format!("the application or a reader ended:\n{log}")),
            None => Ok(()),
        }
    }

    pub fn server(&mut self, side: &str) -> &mut Walcast {
        match side {
            "primary" => &mut self.cluster.primary,
            _ => &mut self.cluster.replica,
        }
    }

    /// Starts a server that is down.
    pub fn start_server(&mut self, side: &str) {
        self.try_start_server(side)
            .unwrap_or_else(|why| panic!("{why}"));
    }

    /// # Errors
    /// The log of a server that ended again at once.
    pub fn try_start_server(&mut self, side: &str) -> Result<(), String> {
        match side {
            "primary" => self.cluster.try_start_primary()?,
            _ => self.cluster.try_start_replica()?,
        }
        self.publish();
        Ok(())
    }
}
