//! What is measured of each system.

use crate::bench::directory_in;
use crate::clock::now_ns;
use crate::figures::Figures;
use crate::helper::{Helper, Measured, read_times};
use crate::lags::Seen;
use crate::system::{Application, Kind, Needs, Reader, System};
use anyhow::bail;
use clap::ValueEnum;
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::time::Duration;

/// A copy that is not level in this time, s, does not keep up.
const PATIENCE: u64 = 120;

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Scenario {
    /// From the commit's return to a reader of the copy that sees it, 100 commits/s
    Lag100,
    /// The same, 1,000 commits/s
    Lag1000,
    /// An application as fast as it can, alone and replicated, and how late a reader sees it
    Flood,
    /// CPU at 1,000 commits/s, memory, and CPU when nothing happens
    Cost,
    /// Bytes that go to the replica at 1,000 commits/s
    Wire,
    /// A new replica of 1 GiB
    Copy,
    /// A replica that was away at 1,000 commits/s
    Catchup,
}

/// The names of a lag's two lines.
pub type LagNames = [&'static str; 2];
pub const LAG_100: LagNames = [
    "commit to visible, 100/s, p50",
    "commit to visible, 100/s, p99",
];
pub const LAG_1000: LagNames = [
    "commit to visible, 1,000/s, p50",
    "commit to visible, 1,000/s, p99",
];
pub const LAG_FLOOD: LagNames = [
    "commit to visible, unthrottled, p50",
    "commit to visible, unthrottled, p99",
];

/// One system in one scenario.
pub struct Turn<'a> {
    pub figures: &'a mut Figures,
    pub quick: bool,
    /// Where its files are.
    pub root: &'a Path,
    pub kind: Kind,
    pub needs: &'a Needs,
}

/// A load that was looked at.
struct Watched {
    load: Measured,
    seen: Seen,
    /// Whether the reader saw all of it before it lost patience.
    complete: bool,
    /// From the last commit to when the reader had seen all, s.
    level: f64,
    /// CPU that a server used for the application and the reader, s.
    server_cpu: f64,
}

impl Turn<'_> {
    /// Measures it once.
    pub fn run(mut self, scenario: Scenario) -> anyhow::Result<()> {
        match scenario {
            Scenario::Lag100 => self.lag(100, LAG_100),
            Scenario::Lag1000 => self.lag(1000, LAG_1000),
            Scenario::Flood => self.flood(),
            Scenario::Cost => self.cost(),
            Scenario::Wire => self.wire(),
            Scenario::Copy => self.copy(),
            Scenario::Catchup => self.catchup(),
        }
    }

    /// How long a load, or an absence, is.
    fn seconds(&self) -> u64 {
        if self.quick { 2 } else { 20 }
    }

    fn add(&mut self, name: &'static str, unit: &'static str, value: f64) {
        self.figures.add(name, unit, self.kind, value);
    }

    fn note(&mut self, name: &'static str, unit: &'static str, text: &str) {
        self.figures.note(name, unit, self.kind, text);
    }

    /// The application's database, replicated, but without a replica yet.
    fn begin(&self, mib: u64, counted: bool) -> anyhow::Result<Box<dyn System>> {
        let application = Application::make(self.needs, self.root, mib)?;
        application.replicate(self.kind, self.needs, self.root, counted)
    }

    /// The same with a replica that is level.
    fn replicated(&self, counted: bool) -> anyhow::Result<Box<dyn System>> {
        let mut system = self.begin(0, counted)?;
        system.start_replica()?;
        system.reader().wait(0, PATIENCE)?;
        Ok(system)
    }

    fn watched(&self, db: &OsStr, reader: &Reader, rate: u64) -> anyhow::Result<Watched> {
        let (committed, seen) = (self.root.join("committed"), self.root.join("seen"));
        let args: [OsString; 4] = [
            "--times".into(),
            seen.clone().into(),
            "--patience".into(),
            PATIENCE.to_string().into(),
        ];
        let prober = reader.start("prober", &args)?;
        let load = load(db, rate, self.seconds(), Some(&committed))?.wait()?;
        let prober = prober.finish_at(load.get("newest")? as u64)?;
        let (committed, seen) = (read_times(&committed)?, read_times(&seen)?);
        let end = prober.get("end_ns")?;
        let level = seen.last().map_or(end, |at| *at as f64) - load.get("end_ns")?;
        Ok(Watched {
            complete: seen.len() == committed.len(),
            seen: Seen::at_least(&committed, &seen, end as u64),
            level: level.max(0.0) / 1e9,
            server_cpu: load.get("server_cpu_s")? + prober.get("server_cpu_s")?,
            load,
        })
    }

    fn add_lags(&mut self, names: LagNames, watched: &Watched) {
        for (name, p) in names.into_iter().zip([0.5, 0.99]) {
            self.add(name, "ms", watched.seen.at(p));
            if !watched.complete {
                self.note(name, "ms", &behind());
            }
        }
    }

    fn lag(&mut self, rate: u64, names: LagNames) -> anyhow::Result<()> {
        let system = self.replicated(false)?;
        let watched = self.watched(&system.application(), &system.reader(), rate)?;
        self.add_lags(names, &watched);
        if watched.complete {
            same(&*system)?;
        }
        Ok(())
    }

    /// With a reader of the application's own database where there is no copy: it costs the same.
    fn flood(&mut self) -> anyhow::Result<()> {
        let db = Application::make(self.needs, self.root, 0)?;
        let reader = Reader::Own(db.address());
        let alone = self.watched(&db.address(), &reader, 0)?;
        drop(db);
        let again = directory_in(self.root)?;
        self.flood_replicated(
            again.path(),
            alone.load.get("rate")?,
            alone.load.get("p50_ms")?,
        )
    }

    fn flood_replicated(&mut self, root: &Path, alone: f64, takes: f64) -> anyhow::Result<()> {
        let mut turn = Turn {
            figures: &mut *self.figures,
            root,
            ..*self
        };
        let system = turn.replicated(false)?;
        let before = system.cpu()?;
        let with = turn.watched(&system.application(), &system.reader(), 0)?;
        let used = system.cpu()? - before - with.server_cpu;
        let rate = with.load.get("rate")?;
        turn.add_lags(LAG_FLOOD, &with);
        turn.add("unthrottled: commits without replication", "1/s", alone);
        turn.add("unthrottled: a commit takes then, p50", "ms", takes);
        turn.add("unthrottled: commits with replication", "1/s", rate);
        turn.add("unthrottled: rate with / without", "", rate / alone);
        let cpu = "CPU for 100,000 commits, unthrottled: replication";
        turn.add(cpu, "s", used * 1e5 / with.load.get("commits")?);
        if turn.kind == Kind::LitestreamVfs {
            turn.note(cpu, "s", "without the VFS, which is a part of its readers");
        }
        let level = "unthrottled: level after the end";
        turn.add(level, "s", with.level);
        if with.complete {
            same(&*system)?;
        } else {
            turn.note(level, "s", &behind());
        }
        Ok(())
    }

    fn cost(&mut self) -> anyhow::Result<()> {
        let mut system = self.replicated(false)?;
        system.start_reader()?;
        let before = system.cpu()?;
        let load = load(&system.application(), 1000, self.seconds(), None)?.wait()?;
        system.reader().wait(load.get("newest")? as u64, PATIENCE)?;
        let used = system.cpu()? - before;
        let per_100k = 1e5 / load.get("commits")?;
        let server = load.get("server_cpu_s")?;
        let memory = system.memory_mib()?;
        self.add(
            "CPU for 100,000 commits at 1,000/s: replication",
            "s",
            (used - server) * per_100k,
        );
        let all = (used + load.get("cpu_s")?) * per_100k;
        self.add("the same with the application", "s", all);
        self.add("memory then, both sides", "MiB", memory);
        std::thread::sleep(Duration::from_secs(2));
        let seconds = if self.quick { 3 } else { 60 };
        let before = system.cpu()?;
        std::thread::sleep(Duration::from_secs(seconds));
        let idle = (system.cpu()? - before) * 60.0 / seconds as f64;
        self.add("idle CPU, both sides", "s/min", idle);
        same(&*system)
    }

    fn wire(&mut self) -> anyhow::Result<()> {
        const NAME: &str = "bytes to the replica for a commit at 1,000/s";
        let system = self.replicated(true)?;
        let before = match system.transferred() {
            Ok(bytes) => bytes,
            Err(why) => {
                self.note(NAME, "B", why);
                return Ok(());
            }
        };
        let load = load(&system.application(), 1000, self.seconds(), None)?.wait()?;
        system.reader().wait(load.get("newest")? as u64, PATIENCE)?;
        let bytes = system.transferred().map_err(anyhow::Error::msg)? - before;
        self.add(NAME, "B", bytes as f64 / load.get("commits")?);
        same(&*system)
    }

    fn copy(&mut self) -> anyhow::Result<()> {
        const NAME: &str = "a new replica of 1 GiB";
        const SPEED: &str = "its speed";
        if self.kind == Kind::LitestreamVfs {
            self.note(
                NAME,
                "s",
                "nothing is copied: readers get pages when they ask for them",
            );
            return Ok(());
        }
        let mib = if self.quick { 64 } else { 1024 };
        let application = Application::make(self.needs, self.root, mib)?;
        let size = application.size()?;
        let mut system = application.replicate(self.kind, self.needs, self.root, false)?;
        let begin = now_ns();
        system.start_replica()?;
        let rows = mib * 1024;
        let seconds = (system.reader().wait(rows, PATIENCE)? - begin) as f64 / 1e9;
        if self.quick {
            self.note(NAME, "s", "64 MiB only");
        }
        self.add(NAME, "s", seconds);
        self.add(SPEED, "MB/s", size / 1e6 / seconds);
        same(&*system)
    }

    fn catchup(&mut self) -> anyhow::Result<()> {
        const NAME: &str = "level again after 20 s away at 1,000/s";
        let mut system = self.replicated(false)?;
        if self.kind == Kind::LitestreamVfs {
            self.note(NAME, "s", "there is no replica that could be away");
            return Ok(());
        }
        let writer = load(&system.application(), 1000, 0, None)?;
        system.stop_replica()?;
        std::thread::sleep(Duration::from_secs(self.seconds()));
        let source = Reader::Own(system.application());
        let newest = source.digest()?[0] as u64;
        let begin = now_ns();
        system.start_replica()?;
        let seconds = (system.reader().wait(newest, PATIENCE)? - begin) as f64 / 1e9;
        let load = writer.finish()?;
        system.reader().wait(load.get("newest")? as u64, PATIENCE)?;
        if newest < self.seconds() * 900 {
            bail!("only {newest} commits were made meanwhile");
        }
        if self.quick {
            self.note(NAME, "s", "2 s only");
        }
        self.add(NAME, "s", seconds);
        same(&*system)
    }
}

fn behind() -> String {
    format!("at least: the copy was not level {PATIENCE} s after the last commit")
}

/// Starts the application.
fn load(db: &OsStr, rate: u64, seconds: u64, times: Option<&Path>) -> anyhow::Result<Helper> {
    let mut args: Vec<OsString> = vec!["--db".into(), db.into()];
    for (name, value) in [("--rate", rate), ("--seconds", seconds)] {
        args.extend([name.into(), value.to_string().into()]);
    }
    if let Some(times) = times {
        args.extend(["--times".into(), times.into()]);
    }
    Helper::start("load", args)
}

/// Proves that the copy, which is level, is equal.
fn same(system: &dyn System) -> anyhow::Result<()> {
    let source = Reader::Own(system.application()).digest()?;
    let copy = system.reader().digest()?;
    if source != copy {
        bail!(
            "the copy has {copy:?} where the application has {source:?} (rows, sum of seq, bytes)"
        );
    }
    system.verify()
}
