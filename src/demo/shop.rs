//! The application's process, from outside.

use super::writer::Report;
use anyhow::{Context as _, bail};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// The rate is that of this time.
const RATE_OVER: Duration = Duration::from_secs(2);

#[derive(Default)]
struct Reports {
    last: Report,
    recent: VecDeque<(Instant, i64)>,
}

impl Reports {
    fn add(&mut self, report: Report, now: Instant) {
        self.last = report;
        self.recent.push_back((now, report.commits));
        // The oldest that stays is the last from before the time.
        while self
            .recent
            .get(1)
            .is_some_and(|(at, _)| now.duration_since(*at) >= RATE_OVER)
        {
            self.recent.pop_front();
        }
    }

    fn rate(&self) -> f64 {
        let (Some((from, before)), Some((to, after))) = (self.recent.front(), self.recent.back())
        else {
            return 0.0;
        };
        let seconds = to.duration_since(*from).as_secs_f64();
        if seconds > 0.0 {
            (after - before) as f64 / seconds
        } else {
            0.0
        }
    }
}

/// The process that commits. It ends when we do: its input is a pipe from us.
pub struct Application {
    child: Child,
    input: Option<ChildStdin>,
    reports: Arc<Mutex<Reports>>,
    log: PathBuf,
}

impl Application {
    /// Starts it.
    pub fn start(
        program: &Path,
        database: &Path,
        rate: u32,
        log: &Path,
    ) -> anyhow::Result<Application> {
        let errors = File::create(log).with_context(|| format!("create {}", log.display()))?;
        let mut child = Command::new(program)
            .arg("demo-writer")
            .arg("--db")
            .arg(database)
            .args(["--rate", &rate.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors)
            .process_group(0)
            .spawn()
            .context("start the application")?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let reports = Arc::new(Mutex::new(Reports::default()));
        let application = Application {
            child,
            input,
            reports: reports.clone(),
            log: log.to_owned(),
        };
        let output = output.context("read what the application says")?;
        thread::Builder::new()
            .name("application".to_owned())
            .spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    if let Some(report) = Report::parse(&line) {
                        reports
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .add(report, Instant::now());
                    }
                }
            })
            .context("start a thread")?;
        Ok(application)
    }

    /// What it said last.
    pub fn report(&self) -> Report {
        self.reports
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .last
    }

    /// Commits per second, of late.
    pub fn rate(&self) -> f64 {
        self.reports
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .rate()
    }

    /// # Errors
    /// If it has ended without being asked to.
    pub fn check(&mut self) -> anyhow::Result<()> {
        match self
            .child
            .try_wait()
            .context("look after the application")?
        {
            Some(status) => bail!(
                "the application ended by itself ({status}): {}",
                self.said()
            ),
            None => Ok(()),
        }
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.log)
            .unwrap_or_default()
            .trim()
            .to_owned()
    }

    /// Lets it make its last commit.
    pub fn ask_to_end(&mut self) {
        self.input = None;
    }

    /// Whether it has ended.
    ///
    /// # Errors
    /// If it did not end well.
    pub fn has_ended(&mut self) -> anyhow::Result<bool> {
        match self
            .child
            .try_wait()
            .context("look after the application")?
        {
            None => Ok(false),
            Some(status) if status.success() => Ok(true),
            Some(status) => bail!("the application failed ({status}): {}", self.said()),
        }
    }
}

impl Drop for Application {
    fn drop(&mut self) {
        // It may have ended; killed or not, it is reaped.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_of_late() {
        let start = Instant::now();
        let mut reports = Reports::default();
        assert_eq!(reports.rate(), 0.0);
        let mut at = |second: u64, commits| {
            let report = Report {
                commits,
                ..Report::default()
            };
            reports.add(report, start + Duration::from_secs(second));
            reports.rate()
        };
        assert_eq!(at(0, 1), 0.0);
        assert_eq!(at(1, 101), 100.0);
        assert_eq!(at(2, 1101), 550.0);
        assert_eq!(at(3, 2101), 1000.0);
    }
}
