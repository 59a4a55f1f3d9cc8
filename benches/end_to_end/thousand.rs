//! One process with 1,000 databases, ten of them busy: the start, what they cost while idle, and the lag of the busy ones
//! beside that of one database alone.

use crate::clock::now_ns;
use crate::cluster::{Cluster, NAME, Server, runtime};
use crate::context::Context;
use crate::helper::Helper;
use crate::lag::observe;
use crate::load;
use crate::observe::{Processor, descriptors, memory_mib, threads};
use crate::report::Target;
use crate::table::create;
use anyhow::bail;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use walcast::model::DatabaseState;

const SCENARIO: &str = "thousand";
const BUSY: usize = 10;
/// Commits per second of each busy one.
const RATE: u64 = 100;
/// Rows that each has before: about 30 pages.
const ROWS: u64 = 1000;
/// All databases of a process have started in this time, or something is wrong.
const STARTED: Duration = Duration::from_secs(180);

/// A primary and a replica of many databases.
struct Fleet {
    root: PathBuf,
    runtime: Runtime,
    names: Vec<String>,
}

pub fn run(context: &mut Context) -> anyhow::Result<()> {
    let count = context.pick(200, 1000);
    let seconds = context.pick(5, 20);
    let alone = alone(context, seconds)?;
    let root = context.directory()?;
    let fleet = Fleet::make(root.path(), count)?;

    let (primary, took) = fleet.primary()?;
    let report = &mut context.report;
    report.add(SCENARIO, "databases", "", Target::Report, count as f64);
    let figure = "first start of the primary to all captured";
    report.add(SCENARIO, figure, "s", Target::Report, took);
    let (replica, took) = fleet.replica(&primary)?;
    let figure = "first start of the replica to all level";
    report.add(SCENARIO, figure, "s", Target::Report, took);
    fleet.end([replica, primary])?;

    let (primary, took) = fleet.primary()?;
    let figure = "start of the primary to all captured";
    report.add(SCENARIO, figure, "s", Target::AtMost(5.0), took);
    let (replica, took) = fleet.replica(&primary)?;
    let figure = "start of the replica to all level";
    report.add(SCENARIO, figure, "s", Target::AtMost(5.0), took);

    idle(context, seconds, [&primary, &replica])?;
    busy(context, seconds, &fleet, [&primary, &replica], alone)?;
    fleet.settled(&primary, &replica)?;
    fleet.end([replica, primary])
}

/// The median lag with one database in each process, ms.
fn alone(context: &mut Context, seconds: u64) -> anyhow::Result<f64> {
    let root = context.directory()?;
    let db = root.path().join(NAME);
    drop(create(&db)?);
    let cluster = Cluster::start(root.path(), &db, 1)?;
    let files = [cluster.replicas[0].path.clone()];
    let level = || cluster.wait_level(0).map(drop);
    let run = observe(root.path(), &db, (RATE, seconds), &files, level)?;
    cluster.verify()?;
    let figure = "beside: commit to visible, one database, p50";
    let p50 = run.readers[0].at(0.5);
    context
        .report
        .add(SCENARIO, figure, "ms", Target::Report, p50);
    Ok(p50)
}

/// What they cost while nobody commits.
fn idle(context: &mut Context, seconds: u64, servers: [&Server; 2]) -> anyhow::Result<()> {
    std::thread::sleep(Duration::from_secs(5));
    let before = Processor::of(servers.map(|server| server.process.id()))?;
    std::thread::sleep(Duration::from_secs(seconds));
    for (server, share) in servers.into_iter().zip(before.shares()?) {
        let pid = server.process.id();
        let mut add = |figure: &str, unit, target, value| {
            let figure = format!("idle: {figure}, {}", server.process.name());
            context.report.add(SCENARIO, &figure, unit, target, value);
        };
        add("CPU", "% of a core", Target::AtMost(5.0), share);
        let memory = |line| memory_mib(pid, line);
        add("memory", "MiB", Target::AtMost(300.0), memory("VmRSS")?);
        add(
            "memory of its own",
            "MiB",
            Target::Report,
            memory("RssAnon")?,
        );
        add("threads", "", Target::Report, threads(pid)?);
        add("descriptors", "", Target::Report, descriptors(pid)?);
    }
    Ok(())
}

/// Ten applications commit; the last one's commits are looked for on the replica.
fn busy(
    context: &mut Context,
    seconds: u64,
    fleet: &Fleet,
    [primary, replica]: [&Server; 2],
    alone: f64,
) -> anyhow::Result<()> {
    let mut others = Vec::new();
    for name in &fleet.names[1..BUSY] {
        let db = fleet.root.join("primary").join(name);
        let rate = RATE.to_string();
        let args: [OsString; 4] = ["--db".into(), db.into(), "--rate".into(), rate.into()];
        others.push(Helper::start("load", args)?);
    }
    let name = &fleet.names[0];
    let db = fleet.root.join("primary").join(name);
    let files = [fleet.root.join("replica").join(name)];
    let before = Processor::of([primary.process.id(), replica.process.id()])?;
    let run = observe(&fleet.root, &db, (RATE, seconds), &files, || {
        fleet.settled_one(primary, replica, name)
    })?;
    let cpu = before.shares()?;
    for other in others {
        other.finish()?;
    }
    let reader = &run.readers[0];
    let report = &mut context.report;
    let figure = "commit to visible, p50";
    report.add(SCENARIO, figure, "ms", Target::Report, reader.at(0.5));
    let figure = "commit to visible, p99";
    report.add(SCENARIO, figure, "ms", Target::Report, reader.at(0.99));
    let figure = "p50 / that of one database";
    let ratio = reader.at(0.5) / alone;
    report.add(SCENARIO, figure, "", Target::AtMost(2.0), ratio);
    let figure = "busy: CPU, primary";
    report.add(SCENARIO, figure, "% of a core", Target::Report, cpu[0]);
    let figure = "busy: CPU, replica";
    report.add(SCENARIO, figure, "% of a core", Target::Report, cpu[1]);
    Ok(())
}

impl Fleet {
    /// Makes the databases.
    fn make(root: &Path, count: usize) -> anyhow::Result<Fleet> {
        let template = root.join("template.db");
        let connection = create(&template)?;
        connection.execute_batch("BEGIN")?;
        for row in 1..=ROWS {
            let body = load::body(row, 100);
            connection
                .prepare_cached("INSERT INTO t VALUES (?1, ?1, ?2)")?
                .execute((row.cast_signed(), body))?;
        }
        connection.execute_batch("COMMIT")?;
        connection.close().map_err(|(_, error)| error)?;
        let names: Vec<String> = (0..count).map(|n| format!("tenant-{n:04}.db")).collect();
        for directory in ["primary", "replica"] {
            std::fs::create_dir_all(root.join(directory))?;
        }
        for name in &names {
            std::fs::copy(&template, root.join("primary").join(name))?;
        }
        let (root, runtime) = (root.to_owned(), runtime()?);
        Ok(Fleet {
            root,
            runtime,
            names,
        })
    }

    fn start(&self, name: &str, args: Vec<OsString>) -> anyhow::Result<(Server, f64)> {
        let place = |database: &String| (database.clone(), self.root.join(name).join(database));
        let databases: Vec<_> = self.names.iter().map(place).collect();
        let begin = now_ns();
        let server = Server::start(&self.runtime, &self.root, name, &databases, args)?;
        let deadline = Instant::now() + STARTED;
        loop {
            let states = self.states(&server)?;
            let ready = |state: &&DatabaseState| **state == DatabaseState::Streaming;
            let number = states.iter().filter(ready).count();
            if number == self.names.len() {
                return Ok((server, (now_ns() - begin) as f64 / 1e9));
            }
            if Instant::now() > deadline {
                let log = server.process.log();
                let end = &log[log.len().saturating_sub(3000)..];
                bail!("{name}: {number} of {} are ready:\n{end}", self.names.len());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn states(&self, server: &Server) -> anyhow::Result<Vec<DatabaseState>> {
        let databases = self.runtime.block_on(server.admin.databases());
        // Its first seconds are busy ones.
        Ok(databases
            .map(|list| list.into_iter().map(|status| status.state).collect())
            .unwrap_or_default())
    }

    fn primary(&self) -> anyhow::Result<(Server, f64)> {
        self.start("primary", vec!["primary".into()])
    }

    fn replica(&self, primary: &Server) -> anyhow::Result<(Server, f64)> {
        let args = [
            "replica",
            "--upstream",
            primary.admin.url(),
            "--name",
            "fleet",
        ];
        self.start("replica", args.map(OsString::from).to_vec())
    }

    /// Waits until one is level.
    fn settled_one(&self, primary: &Server, replica: &Server, name: &str) -> anyhow::Result<()> {
        let tip = self.runtime.block_on(primary.admin.position(name))?;
        let Some(tip) = tip else {
            bail!("{name} has no position")
        };
        let wait = replica.admin.wait(name, tip, Duration::from_secs(60));
        match self.runtime.block_on(wait)?.reached {
            true => Ok(()),
            false => bail!("{name} is not level after a minute"),
        }
    }

    /// Waits until all are level, and compares their checksums.
    fn settled(&self, primary: &Server, replica: &Server) -> anyhow::Result<()> {
        for name in &self.names[..BUSY] {
            self.settled_one(primary, replica, name)?;
        }
        let list = |server: &Server| self.runtime.block_on(server.admin.databases());
        for (ours, theirs) in list(primary)?.into_iter().zip(list(replica)?) {
            let (a, b) = (
                (&ours.name, ours.position, ours.dbsum),
                (&theirs.name, theirs.position, theirs.dbsum),
            );
            if a != b || theirs.snapshots != 0 {
                bail!(
                    "{a:?} on the primary is {b:?} on the replica, after {} snapshots",
                    theirs.snapshots
                );
            }
        }
        Ok(())
    }

    fn end(&self, servers: [Server; 2]) -> anyhow::Result<()> {
        for mut server in servers {
            server.end(STARTED)?;
        }
        Ok(())
    }
}
