//! Load and observation together: one writer and any number of readers, and the verdict on them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::checker::{Required, Summary, check};
use super::child::{Child, Spec};
use super::cluster::Cluster;
use super::history::{History, HistoryWriter, last_done};
use super::{python, wait_for};

/// How a reader reads: the kit's four modes.
pub const MODES: [&str; 4] = ["short", "long", "reconnect", "readonly"];

/// A writer that can be killed and started again, its history, and readers of any database that
/// should hold the same states.
pub struct Load {
    dir: PathBuf,
    spec: Spec,
    history: PathBuf,
    writer: Option<Child>,
    writer_runs: u32,
    readers: Vec<(Child, PathBuf)>,
    /// What each of them was started with, for another start.
    reader_specs: Vec<Spec>,
}

impl Load {
    /// `options` go to each run of the writer on `db`. Nothing is started yet.
    pub fn new(dir: &Path, db: &Path, options: Spec) -> Self {
        let history = dir.join("history");
        Self {
            dir: dir.to_owned(),
            spec: options
                .with("role", "writer")
                .with_path("db", db)
                .with_path("history", &history),
            history,
            writer: None,
            writer_runs: 0,
            readers: Vec::new(),
            reader_specs: Vec::new(),
        }
    }

    /// `new` on a database that is at this version, in this state, and whose history before is no longer kept.
    pub fn continued(dir: &Path, db: &Path, options: Spec, version: u64, state: &str) -> Self {
        let load = Self::new(dir, db, options);
        HistoryWriter::open(&load.history).line("base", version, state);
        load
    }

    /// A writer on the cluster's primary with some commits, then both processes; the replica is level with them.
    pub fn replicated(dir: &Path, cluster: &mut Cluster, options: Spec, commits: u64) -> Self {
        let mut load = Self::new(dir, cluster.primary_db(), options);
        load.start_writer();
        load.wait_commits(commits);
        cluster.start_primary();
        cluster.start_replica();
        cluster.wait_version(load.version());
        load
    }

    pub fn history(&self) -> &Path {
        &self.history
    }

    /// Starts a run of the writer, until it is told to stop.
    pub fn start_writer(&mut self) {
        self.writer_runs += 1;
        let name = format!("writer{}", self.writer_runs);
        self.writer = Some(Child::start(&self.dir, &name, self.spec.clone()));
    }

    /// Starts a run of the Python writer on the same database and history.
    pub fn start_python_writer(&mut self) {
        self.writer_runs += 1;
        let name = format!("writer{}", self.writer_runs);
        self.writer = Some(python::start(
            &self.dir,
            &name,
            "writer.py",
            self.spec.clone(),
        ));
    }

    /// The last version that is surely committed.
    pub fn version(&self) -> u64 {
        last_done(&self.history)
    }

    /// Waits until the writer has committed `more` versions from now.
    ///
    /// # Panics
    /// When the writer ends, or does not get there.
    pub fn wait_commits(&mut self, more: u64) {
        let goal = self.version() + more;
        let history = self.history.clone();
        let Some(writer) = self.writer.as_mut() else {
            panic!("no writer is running");
        };
        wait_for(&format!("version {goal} of the writer"), || {
            let ended = (!writer.is_running()).then(|| writer.log());
            match last_done(&history) {
                now if now >= goal => Ok(Ok(())),
                now => ended.map_or(Err(format!("at {now}")), |log| Ok(Err(log))),
            }
        })
        .unwrap_or_else(|log| panic!("the writer ended:\n{log}"));
    }

    pub fn kill_writer(&mut self) {
        if let Some(mut writer) = self.writer.take() {
            writer.kill9();
        }
    }

    /// Stops the writer after a last commit; its report names that version.
    ///
    /// # Panics
    /// When it fails.
    pub fn stop_writer(&mut self) -> Spec {
        let mut writer = self.writer.take().expect("a running writer");
        let report = writer.stop().unwrap_or_else(|why| panic!("{why}"));
        eprintln!("writer: {}", report.text().replace('\n', " "));
        report
    }

    /// Waits for the end of a writer that has a number of commits to make.
    ///
    /// # Panics
    /// When it fails.
    pub fn finish_writer(&mut self, limit: Duration) -> Spec {
        let mut writer = self.writer.take().expect("a running writer");
        let report = writer.finish(limit).unwrap_or_else(|why| panic!("{why}"));
        eprintln!("writer: {}", report.text().replace('\n', " "));
        report
    }

    /// One more reader of `db`, in Rust.
    pub fn add_reader(&mut self, db: &Path, mode: &str, options: Spec) {
        let (spec, log) = self.reader_spec(db, mode, options);
        let name = format!("reader{}", self.readers.len());
        let child = Child::start(&self.dir, &name, spec.clone());
        self.readers.push((child, log));
        self.reader_specs.push(spec);
    }

    /// Kills all readers (in Rust), in the middle of whatever they do; their logs stay.
    pub fn kill_readers(&mut self) {
        for (child, _) in &mut self.readers {
            child.kill9();
        }
    }

    /// Starts them again, on the same logs.
    pub fn restart_readers(&mut self) {
        for (number, spec) in self.reader_specs.iter().enumerate() {
            let name = format!("reader{number}");
            self.readers[number].0 = Child::start(&self.dir, &name, spec.clone());
        }
    }

    /// The process ids of the writer and of each reader.
    pub fn pids(&self) -> (Option<u32>, Vec<u32>) {
        let writer = self.writer.as_ref().map(Child::pid);
        (writer, self.readers.iter().map(|(c, _)| c.pid()).collect())
    }

    /// What the writer or a reader that ended by itself printed.
    pub fn ended(&mut self) -> Option<String> {
        let readers = self.readers.iter_mut().map(|(child, _)| child);
        self.writer
            .iter_mut()
            .chain(readers)
            .find_map(|child| (!child.is_running()).then(|| child.log()))
    }

    /// One more reader of `db`, in Python.
    pub fn add_python_reader(&mut self, db: &Path, mode: &str, options: Spec) {
        let (spec, log) = self.reader_spec(db, mode, options);
        let name = format!("reader{}", self.readers.len());
        let child = python::start(&self.dir, &name, "reader.py", spec);
        self.readers.push((child, log));
    }

    fn reader_spec(&self, db: &Path, mode: &str, options: Spec) -> (Spec, PathBuf) {
        let number = self.readers.len();
        let log = self.dir.join(format!("reader{number}.seen"));
        let spec = options
            .with("role", "reader")
            .with("mode", mode)
            .with("seed", number + 1)
            .with_path("db", db)
            .with_path("log", &log);
        (spec, log)
    }

    /// Four Rust readers, one in each mode, and two in Python where there is one.
    pub fn add_readers(&mut self, db: &Path, options: &Spec) {
        for mode in MODES {
            self.add_reader(db, mode, options.clone());
        }
        if python::available().is_some() {
            for mode in ["short", "long"] {
                self.add_python_reader(db, mode, options.clone());
            }
        }
    }

    /// Waits until each reader has logged `lines` more than nothing: the proof needs them at work.
    ///
    /// # Panics
    /// When one does not get there.
    pub fn wait_reads(&self, lines: usize) {
        for (child, log) in &self.readers {
            wait_for(&format!("{lines} reads in {}", log.display()), || {
                let text = std::fs::read_to_string(log).unwrap_or_default();
                let found = text.lines().filter(|l| l.starts_with("r ")).count();
                let refusal = || format!("{found} reads; {}", child.log());
                if found >= lines {
                    Ok(())
                } else {
                    Err(refusal())
                }
            });
        }
    }

    /// How many lines of each kind (`r`, `e`, `v`) each reader has logged so far.
    pub fn logged(&self, kind: char) -> Vec<usize> {
        let count = |(_, log): &(Child, PathBuf)| {
            let text = std::fs::read_to_string(log).unwrap_or_default();
            text.lines().filter(|line| line.starts_with(kind)).count()
        };
        self.readers.iter().map(count).collect()
    }

    /// Waits until each reader has logged `more` lines of a kind from now.
    ///
    /// # Panics
    /// When one does not get there.
    pub fn wait_logged(&self, kind: char, more: usize) {
        let before = self.logged(kind);
        wait_for(&format!("{more} more '{kind}' of each reader"), || {
            let now = self.logged(kind);
            let all = before.iter().zip(&now).all(|(b, n)| *n >= b + more);
            if all {
                Ok(())
            } else {
                Err(format!("{before:?}, now {now:?}"))
            }
        });
    }

    /// Stops all readers; their reports.
    ///
    /// # Panics
    /// When one fails.
    pub fn stop_readers(&mut self) -> Vec<Spec> {
        let stop = |(child, _): &mut (Child, PathBuf)| {
            let report = child.stop().unwrap_or_else(|why| panic!("{why}"));
            eprintln!("reader: {}", report.text().replace('\n', " "));
            report
        };
        self.readers.iter_mut().map(stop).collect()
    }

    /// The checker's verdict on all that was logged.
    ///
    /// # Errors
    /// All that is wrong.
    pub fn verdict(&self, required: &Required) -> Result<Summary, String> {
        let logs: Vec<PathBuf> = self.readers.iter().map(|(_, log)| log.clone()).collect();
        check(&self.history, &logs, required)
    }

    /// `verdict`, for tests.
    ///
    /// # Panics
    /// With all that is wrong.
    pub fn assert_right(&self, required: &Required) {
        match self.verdict(required) {
            Ok(summary) => eprintln!("checked: {summary:?}"),
            Err(why) => panic!("the run is wrong:\n{why}"),
        }
    }

    /// The history as it stands.
    pub fn read_history(&self) -> History {
        History::read(&self.history)
    }
}

impl Drop for Load {
    /// A test that gave up waiting has not asked the checker: what the readers met is the cause
    /// more often than not.
    fn drop(&mut self) {
        const SHOWN: usize = 10;
        if !std::thread::panicking() {
            return;
        }
        for (_, log) in &self.readers {
            let text = std::fs::read_to_string(log).unwrap_or_default();
            let (good, bad): (Vec<_>, Vec<_>) = text.lines().partition(|l| l.starts_with("r "));
            let name = log.file_name().unwrap_or_default().to_string_lossy();
            let (good, count) = (good.len(), bad.len());
            eprintln!("--- {name}: {good} good reads, {count} errors and broken promises ---");
            for line in bad.iter().take(SHOWN) {
                eprintln!("{line}");
            }
        }
    }
}
