//! A task for each place where databases come and go: it looks each second, and tells what has changed.

use super::directory;
use super::finding::{Found, Place, printable};
use super::mirror;
use crate::client::Admin;
use crate::config::parse_pattern;
use globset::GlobMatcher;
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

/// What comes or goes is known within this, and a moment for the look itself.
const INTERVAL: Duration = Duration::from_secs(1);

/// Files that are told of, one line each: whoever sends other names each second must not fill the log and the memory.
const MOST_SAID: usize = 100;

/// What a place had when it was looked at.
pub type News = (Place, Found);

/// Looks until it is dropped.
pub struct Finder(JoinHandle<()>);

impl Drop for Finder {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Finder {
    /// Starts looking. `upstream`: whose databases they are; `None`: the directory's own.
    pub fn start(place: Place, upstream: Option<Admin>, news: mpsc::Sender<News>) -> Finder {
        // A pattern was checked where it was read; one that matches nothing finds nothing.
        let pattern = parse_pattern(&place.pattern).ok();
        Finder(tokio::spawn(async move {
            if let Some(pattern) = pattern {
                run(place, pattern, upstream, news).await;
            }
        }))
    }
}

async fn run(
    place: Place,
    pattern: GlobMatcher,
    upstream: Option<Admin>,
    news: mpsc::Sender<News>,
) {
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut said = Said::default();
    let mut followed = mirror::Followed::new();
    let mut known = None;
    loop {
        ticks.tick().await;
        let looked = match &upstream {
            None => in_directory(&place, &pattern).await,
            Some(admin) => match admin.databases().await {
                Ok(list) => Ok(mirror::look(&list, &pattern, &mut followed)),
                Err(error) => Err(error.to_string()),
            },
        };
        let dir = place.dir.display();
        let found = match looked {
            Ok(found) => found,
            // What is known stays as it is: an answer that did not come does not say that all is gone.
            Err(problem) => {
                said.once(format!(
                    "{dir}: {}; looking again each second",
                    printable(&problem)
                ));
                continue;
            }
        };
        said.better();
        for line in &found.nameless {
            said.of_file(format!("{dir}: {line}"));
        }
        if known.as_ref() != Some(&found) {
            known = Some(found.clone());
            if news.send((place.clone(), found)).await.is_err() {
                return;
            }
        }
    }
}

async fn in_directory(place: &Place, pattern: &GlobMatcher) -> Result<Found, String> {
    let (dir, pattern) = (place.dir.clone(), pattern.clone());
    let looked = tokio::task::spawn_blocking(move || directory::scan(&dir, &pattern)).await;
    match looked {
        Ok(Ok(found)) => Ok(found),
        // An empty one and none are the same: it may be made later, or be gone for good.
        Ok(Err(error)) if error.kind() == ErrorKind::NotFound => Ok(Found::default()),
        Ok(Err(error)) => Err(format!("read the directory: {error}")),
        Err(error) => Err(format!("read the directory: {error}")),
    }
}

/// What was logged already: a fault that goes on is one line.
#[derive(Default)]
struct Said {
    problem: Option<String>,
    files: BTreeSet<String>,
}

impl Said {
    fn once(&mut self, problem: String) {
        if self.problem.as_ref() != Some(&problem) {
            tracing::warn!("{problem}");
            self.problem = Some(problem);
        }
    }

    fn better(&mut self) {
        self.problem = None;
    }

    fn of_file(&mut self, line: String) {
        if self.files.len() < MOST_SAID && !self.files.contains(&line) {
            tracing::warn!("{line}");
            self.files.insert(line);
        }
    }
}
