//! Who plays in a demonstration: the application, the primary, the replicas, and a reader of each replica.

use super::place::{DATABASE, Place};
use super::process::Process;
use super::screen::{Facts, ReplicaView, View};
use super::shop::Application;
use super::watch::{Lag, Watcher};
use crate::client::Admin;
use crate::format::position::Position;
use crate::model::ReplicaStatus;
use anyhow::{Context as _, bail};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// A process that does not get ready in this time will not.
const READY: Duration = Duration::from_secs(30);
/// For replicas to become level once the application has stopped.
const LEVEL: Duration = Duration::from_secs(60);
/// For a process to end when it is asked to.
const END: Duration = Duration::from_secs(10);
/// For the first picture to show replicas that have taken their snapshot; what takes longer is shown as it is.
const FIRST_PICTURE: Duration = Duration::from_secs(5);
/// Between two looks at something that is awaited.
const POLL: Duration = Duration::from_millis(10);

/// A walcast process with a server.
struct Server {
    process: Process,
    path: PathBuf,
    admin: Admin,
}

impl Server {
    /// Starts a walcast and waits until it listens. `command` are its arguments before `--db`.
    async fn start(
        program: &Path,
        place: &Place,
        name: &str,
        command: &[&str],
    ) -> anyhow::Result<Server> {
        let path = place.database(name)?;
        let mut database = OsString::from(format!("{DATABASE}="));
        database.push(&path);
        let mut args: Vec<OsString> = command.iter().map(OsString::from).collect();
        args.extend(["--listen", "127.0.0.1:0", "--db"].map(OsString::from));
        args.push(database);
        let mut process = Process::start(program, name, &place.log(name), &args)?;
        let deadline = Instant::now() + READY;
        let url = loop {
            if let Some(url) = process.url()? {
                break url;
            }
            if Instant::now() > deadline {
                bail!("{name} does not listen after {} s", READY.as_secs());
            }
            sleep(POLL).await;
        };
        let admin = Admin::connect_lazy(&url)?;
        Ok(Server {
            process,
            path,
            admin,
        })
    }

    async fn position(&self) -> Option<Position> {
        self.admin.position(DATABASE).await.ok().flatten()
    }
}

struct Replica {
    server: Server,
    watcher: Watcher,
}

/// All processes. Dropping it ends them.
pub struct Cast {
    program: PathBuf,
    application: Application,
    primary: Server,
    replicas: Vec<Replica>,
}

impl Cast {
    /// Starts the application, which knows nothing of the rest, then a primary beside it, then the replicas.
    pub async fn start(place: &Place, rate: u32, replicas: u32) -> anyhow::Result<Cast> {
        let program = std::env::current_exe().context("find this program")?;
        let path = place.database("primary")?;
        let mut application = Application::start(&program, &path, rate, &place.log("application"))?;
        let deadline = Instant::now() + READY;
        while application.report().commits == 0 {
            application.check()?;
            if Instant::now() > deadline {
                bail!("the application made no commit in {} s", READY.as_secs());
            }
            sleep(POLL).await;
        }
        let primary = Server::start(&program, place, "primary", &["primary"]).await?;
        let mut cast = Cast {
            program,
            application,
            primary,
            replicas: Vec::new(),
        };
        for number in 1..=replicas {
            cast.add_replica(place, &format!("replica-{number}"))
                .await?;
        }
        let deadline = Instant::now() + FIRST_PICTURE;
        while cast
            .replicas
            .iter()
            .any(|replica| replica.watcher.newest() == 0)
            && Instant::now() < deadline
        {
            cast.check()?;
            sleep(POLL).await;
        }
        Ok(cast)
    }

    async fn add_replica(&mut self, place: &Place, name: &str) -> anyhow::Result<()> {
        let upstream = self.primary.admin.url();
        let command = ["replica", "--upstream", upstream, "--name", name];
        let server = Server::start(&self.program, place, name, &command).await?;
        let watcher = Watcher::start(&server.path)?;
        self.replicas.push(Replica { server, watcher });
        Ok(())
    }

    /// What does not change while it runs.
    pub fn facts(&self, place: &Place) -> Facts {
        Facts {
            program: self.program.clone(),
            root: place.root().to_owned(),
            primary: self.primary.path.clone(),
            replica: self
                .replicas
                .first()
                .map_or(PathBuf::new(), |first| first.server.path.clone()),
            url: self.primary.admin.url().to_owned(),
            replicas: self.replicas.len(),
        }
    }

    /// # Errors
    /// If a process has ended: which one, and the end of its log.
    pub fn check(&mut self) -> anyhow::Result<()> {
        self.application.check()?;
        self.check_servers()
    }

    fn check_servers(&mut self) -> anyhow::Result<()> {
        self.primary.process.check()?;
        self.replicas
            .iter_mut()
            .try_for_each(|replica| replica.server.process.check())
    }

    /// The figures of this moment. What does not answer is left out.
    pub async fn view(&self, elapsed: Duration) -> View {
        let report = self.application.report();
        let known = self
            .primary
            .admin
            .replicas(DATABASE)
            .await
            .unwrap_or_default();
        let mut replicas = Vec::new();
        for replica in &self.replicas {
            let of_it = known
                .iter()
                .find(|status| status.name == replica.server.process.name());
            replicas.push(replica.view(of_it).await);
        }
        let us = |us| Duration::from_micros(u64::from(us));
        View {
            elapsed,
            rate: self.application.rate(),
            commits: report.commits,
            commit_takes: Lag {
                p50: us(report.p50_us),
                p99: us(report.p99_us),
            },
            position: self.primary.position().await,
            replicas,
        }
    }

    /// Stops the application; the number of commits it made.
    pub async fn stop_application(&mut self) -> anyhow::Result<i64> {
        self.application.ask_to_end();
        let deadline = Instant::now() + END;
        while !self.application.has_ended()? {
            if Instant::now() > deadline {
                bail!("the application does not end");
            }
            sleep(POLL).await;
        }
        Ok(self.application.report().commits)
    }

    /// Waits until every replica's readers see all that the application committed; the position of that.
    ///
    /// # Errors
    /// If a process ends, or a replica is not level in time.
    pub async fn level(&mut self) -> anyhow::Result<Position> {
        let deadline = Instant::now() + LEVEL;
        loop {
            self.check_servers()?;
            let target = self.primary.position().await;
            let behind = self.first_behind(target).await;
            match (target, behind) {
                (Some(target), None) => return Ok(target),
                (_, behind) if Instant::now() > deadline => {
                    let who = behind.map_or("primary", |replica| replica.server.process.name());
                    bail!(
                        "{} (see {who}.log with --keep)",
                        self.late(target, behind).await
                    );
                }
                _ => sleep(POLL).await,
            }
        }
    }

    async fn first_behind(&self, target: Option<Position>) -> Option<&Replica> {
        for replica in &self.replicas {
            if replica.server.position().await != target {
                return Some(replica);
            }
        }
        None
    }

    async fn late(&self, target: Option<Position>, behind: Option<&Replica>) -> String {
        let show = |position: Option<Position>| {
            position.map_or("no position".to_owned(), |p| p.to_string())
        };
        let Some(replica) = behind else {
            return format!("the primary has no position after {} s", LEVEL.as_secs());
        };
        let admin = &replica.server.admin;
        let statuses = admin.databases().await.unwrap_or_default();
        let state = statuses
            .first()
            .map_or("it does not answer".to_owned(), |status| {
                format!("{} {}", status.state, status.reason)
            });
        let reader = replica.watcher.problem().map_or(String::new(), |problem| {
            format!("; a reader of it sees: {problem}")
        });
        format!(
            "{} is at {} and not level with the primary at {} after {} s: {state}{reader}",
            replica.server.process.name(),
            show(replica.server.position().await),
            show(target),
            LEVEL.as_secs()
        )
    }

    /// The files: the primary's, and each replica's with its name.
    pub fn files(&self) -> (PathBuf, Vec<(String, PathBuf)>) {
        let replica = |replica: &Replica| {
            (
                replica.server.process.name().to_owned(),
                replica.server.path.clone(),
            )
        };
        (
            self.primary.path.clone(),
            self.replicas.iter().map(replica).collect(),
        )
    }

    /// Ends all processes as an operator would, replicas first; those that do not end in time are killed.
    pub async fn end(mut self) {
        let replicas = std::mem::take(&mut self.replicas);
        let mut servers: Vec<Server> = replicas.into_iter().map(|replica| replica.server).collect();
        end_all(&mut servers).await;
        end_all(std::slice::from_mut(&mut self.primary)).await;
    }
}

async fn end_all(servers: &mut [Server]) {
    servers.iter().for_each(|server| server.process.terminate());
    let deadline = Instant::now() + END;
    while servers
        .iter_mut()
        .any(|server| server.process.ended().is_none())
        && Instant::now() < deadline
    {
        sleep(POLL).await;
    }
}

impl Replica {
    async fn view(&self, known: Option<&ReplicaStatus>) -> ReplicaView {
        ReplicaView {
            name: self.server.process.name().to_owned(),
            state: known.map_or("connecting".to_owned(), |status| status.state.to_string()),
            position: self.server.position().await,
            lag: self.watcher.lag(),
            newest: self.watcher.newest(),
            sent: known.map_or(0, |status| status.bytes_sent),
        }
    }
}
