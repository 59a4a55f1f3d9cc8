//! A primary and replicas as processes, and whether they did their work right.

use crate::machine::program;
use anyhow::{Context as _, bail};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use walcast::client::Admin;
use walcast::demo::compare::Pages;
use walcast::demo::process::Process;
use walcast::format::position::Position;
use walcast::model::DatabaseStatus;

/// The database's name.
pub const NAME: &str = "app.db";
/// A process that does not listen in this time will not.
const READY: Duration = Duration::from_secs(30);
/// A replica that is not level in this time is wrong.
pub const LEVEL: Duration = Duration::from_secs(300);
/// Larger ones are compared by their checksums alone: SQLite gives an image of at most 2 GB.
const COMPARED: u64 = 1 << 30;

/// A walcast.
pub struct Server {
    pub process: Process,
    /// Its first database.
    pub path: PathBuf,
    pub admin: Admin,
    name: String,
}

/// A thread of its own answers the servers' keepalives while this one waits for other things.
pub fn runtime() -> anyhow::Result<Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?)
}

/// A primary with its replicas. All end when it is dropped.
pub struct Cluster {
    pub primary: Server,
    pub replicas: Vec<Server>,
    /// Where replicas find the primary: its own address, unless something is between.
    pub upstream: String,
    root: PathBuf,
    runtime: Runtime,
}

impl Cluster {
    /// Starts a primary on a database and `replicas` replicas, and waits until they are level.
    pub fn start(root: &Path, db: &Path, replicas: usize) -> anyhow::Result<Cluster> {
        Cluster::start_with(root, db, replicas, &[])
    }

    /// The same, with more arguments for the primary.
    pub fn start_with(
        root: &Path,
        db: &Path,
        replicas: usize,
        more: &[OsString],
    ) -> anyhow::Result<Cluster> {
        let runtime = runtime()?;
        let mut args = vec![OsString::from("primary")];
        args.extend_from_slice(more);
        let databases = [(NAME.to_owned(), db.to_owned())];
        let primary = Server::start(&runtime, root, "primary", &databases, args)?;
        let mut cluster = Cluster {
            upstream: primary.admin.url().to_owned(),
            primary,
            replicas: Vec::new(),
            root: root.to_owned(),
            runtime,
        };
        for number in 0..replicas {
            cluster.add_replica(&format!("replica-{number}"))?;
        }
        for number in 0..replicas {
            cluster.wait_level(number)?;
        }
        Ok(cluster)
    }

    /// Starts a replica, and waits only until it listens.
    pub fn add_replica(&mut self, name: &str) -> anyhow::Result<usize> {
        let directory = self.root.join(name);
        std::fs::create_dir_all(&directory)?;
        let args = ["replica", "--upstream", &self.upstream, "--name", name]
            .map(OsString::from)
            .to_vec();
        let databases = [(NAME.to_owned(), directory.join(NAME))];
        let server = Server::start(&self.runtime, &self.root, name, &databases, args)?;
        self.replicas.push(server);
        Ok(self.replicas.len() - 1)
    }

    /// Ends a replica, as an operator would; its files stay.
    pub fn stop_replica(&mut self, number: usize) -> anyhow::Result<()> {
        self.replicas.remove(number).end(READY)
    }

    /// The primary's position: all that was committed before this call.
    pub fn tip(&self) -> anyhow::Result<Position> {
        let deadline = Instant::now() + READY;
        loop {
            match self.runtime.block_on(self.primary.admin.position(NAME)) {
                Ok(Some(position)) => return Ok(position),
                Ok(None) => {}
                Err(error) if Instant::now() > deadline => return Err(error.into()),
                Err(_) => {}
            }
            if Instant::now() > deadline {
                bail!("the primary has no position after {} s", READY.as_secs());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until a replica's readers see all that was committed before this call.
    pub fn wait_level(&self, number: usize) -> anyhow::Result<Position> {
        let tip = self.tip()?;
        self.wait_for(number, tip)?;
        Ok(tip)
    }

    /// Waits until a replica's readers see a position.
    pub fn wait_for(&self, number: usize, position: Position) -> anyhow::Result<()> {
        let replica = &self.replicas[number];
        let deadline = Instant::now() + LEVEL;
        let mut last = String::new();
        while Instant::now() < deadline {
            let wait = replica.admin.wait(NAME, position, Duration::from_secs(10));
            match self.runtime.block_on(wait) {
                Ok(waited) if waited.reached => return Ok(()),
                Ok(waited) => {
                    last = format!("it is at {:?}", waited.position.map(|p| p.to_string()))
                }
                // Before its first snapshot, or in another generation: not yet.
                Err(error) => {
                    last = error.to_string();
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        }
        bail!(
            "{} has not reached {position} in {} s: {last}\n{}",
            replica.name,
            LEVEL.as_secs(),
            replica.process.log()
        )
    }

    /// What a server says of its database.
    pub fn status(&self, server: &Server) -> anyhow::Result<DatabaseStatus> {
        let statuses = self.runtime.block_on(server.admin.databases())?;
        statuses
            .into_iter()
            .next()
            .context("a server without its database")
    }

    /// Waits until all replicas are level with the primary, which nobody writes any more, and proves that they are equal.
    pub fn verify(&self) -> anyhow::Result<()> {
        let tip = self.tip()?;
        for number in 0..self.replicas.len() {
            self.wait_for(number, tip)?;
        }
        let primary = self.status(&self.primary)?;
        let pages = (primary.size_bytes < COMPARED)
            .then(|| Pages::read(&self.primary.path))
            .transpose()?;
        for replica in &self.replicas {
            let status = self.status(replica)?;
            if (status.position, status.dbsum) != (primary.position, primary.dbsum) {
                bail!(
                    "{}: {:?} {:?} instead of {:?} {:?}",
                    replica.name,
                    status.position,
                    status.dbsum,
                    primary.position,
                    primary.dbsum
                );
            }
            let difference = match &pages {
                Some(pages) => pages.difference(&Pages::read(&replica.path)?),
                None => None,
            };
            if let Some(difference) = difference {
                bail!("{} differs: {difference}", replica.name);
            }
        }
        Ok(())
    }
}

impl Server {
    /// Starts it, and waits only until it listens. `args` begin with the command; the databases, at least one, go
    /// behind them.
    pub fn start(
        runtime: &Runtime,
        root: &Path,
        name: &str,
        databases: &[(String, PathBuf)],
        mut args: Vec<OsString>,
    ) -> anyhow::Result<Server> {
        args.extend(["--listen", "127.0.0.1:0"].map(OsString::from));
        for (database, path) in databases {
            let mut database = OsString::from(format!("{database}="));
            database.push(path);
            args.extend(["--db".into(), database]);
        }
        let mut process =
            Process::start(&program(), name, &root.join(format!("{name}.log")), &args)?;
        let deadline = Instant::now() + READY;
        let url = loop {
            if let Some(url) = process.url()? {
                break url;
            }
            if Instant::now() > deadline {
                bail!("{name} does not listen:\n{}", process.log());
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        // The channel belongs to the runtime in which it is made.
        let admin = runtime.block_on(async { Admin::connect_lazy(&url) })?;
        Ok(Server {
            process,
            path: databases[0].1.clone(),
            admin,
            name: name.to_owned(),
        })
    }

    /// Ends it, as an operator would; its files stay.
    pub fn end(&mut self, patience: Duration) -> anyhow::Result<()> {
        self.process.terminate();
        let deadline = Instant::now() + patience;
        while self.process.ended().is_none() {
            if Instant::now() > deadline {
                bail!("{} does not end", self.name);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}
