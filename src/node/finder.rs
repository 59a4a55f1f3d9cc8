//! A task for each place where databases come and go: it looks each second, and tells what has changed.

use super::directory;
use super::finding::{Finding, Found, Place, printable};
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
/// The same for a mirror, whose upstream had to see it before: both together take less than two seconds.
const MIRROR_INTERVAL: Duration = Duration::from_millis(750);

/// Files that are told of, one line each: whoever sends other names each second must not fill the log and the memory.
const MOST_SAID: usize = 100;

/// What is told of a place.
pub type News = (Place, Told);

/// What a finder tells.
#[derive(Debug)]
pub enum Told {
    /// What the place has.
    Looked(Found),
    /// Copies that an earlier run left in a mirror's directory, before its upstream was asked.
    Left(Found),
    /// It could not be looked at: why. What is known stays as it is.
    Failed(String),
}

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
    let interval = if upstream.is_some() {
        MIRROR_INTERVAL
    } else {
        INTERVAL
    };
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut said = Said::default();
    let mut followed = mirror::Followed::new();
    let mut known = None;
    if upstream.is_some() {
        let left = left_in(&place, &pattern).await;
        followed.extend(left.databases.keys().map(|name| (name.clone(), 0)));
        if news.send((place.clone(), Told::Left(left))).await.is_err() {
            return;
        }
    }
    loop {
        ticks.tick().await;
        let looked = match &upstream {
            None => in_directory(&place, &pattern).await,
            Some(admin) => match admin.listing().await {
                Ok(list) => {
                    // What cannot be looked at may be there.
                    let has_copy = |name: &str| place.dir.join(name).try_exists().unwrap_or(true);
                    Ok(mirror::look(&list, &pattern, &mut followed, has_copy))
                }
                Err(error) => Err(error.to_string()),
            },
        };
        let dir = place.dir.display();
        let found = match looked {
            Ok(found) => found,
            // What is known stays as it is: an answer that did not come does not say that all is gone.
            Err(problem) => {
                let problem = printable(&problem);
                if said.once(&format!("{dir}: {problem}; looking again each second")) {
                    let failed = Told::Failed(problem);
                    if news.send((place.clone(), failed)).await.is_err() {
                        return;
                    }
                }
                continue;
            }
        };
        said.better();
        for line in &found.nameless {
            said.of_file(format!("{dir}: {line}"));
        }
        if known.as_ref() != Some(&found) {
            known = Some(found.clone());
            let looked = Told::Looked(found);
            if news.send((place.clone(), looked)).await.is_err() {
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

/// The copies in a mirror's directory. What cannot be read is found out when the upstream names it.
async fn left_in(place: &Place, pattern: &GlobMatcher) -> Found {
    let (dir, pattern) = (place.dir.clone(), pattern.clone());
    let looked = tokio::task::spawn_blocking(move || directory::copies(&dir, &pattern)).await;
    let names = looked.ok().and_then(Result::ok).unwrap_or_default();
    let databases = names.into_iter().map(|name| (name, Finding::Kept));
    Found {
        databases: databases.collect(),
        ..Found::default()
    }
}

/// What was logged already: a fault that goes on is one line.
#[derive(Default)]
struct Said {
    problem: Option<String>,
    files: BTreeSet<String>,
}

impl Said {
    /// True if it is news.
    fn once(&mut self, problem: &str) -> bool {
        let news = self.problem.as_deref() != Some(problem);
        if news {
            tracing::warn!("{problem}");
            self.problem = Some(problem.to_owned());
        }
        news
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
