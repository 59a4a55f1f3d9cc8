//! Once a second: all databases, what changed of them, and the history. One look serves all pages that are open.

use super::history::{History, Sample};
use super::process::Began;
use super::recent::{Line, Recent};
use super::told::{Told, Viewer};
use super::view::{Health, Row};
use crate::server::Registry;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::broadcast;

/// Between two looks.
const INTERVAL: Duration = Duration::from_secs(1);
/// Ticks that a page may be late before it is sent everything anew.
const BACKLOG: usize = 16;

/// All databases in a few numbers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    pub databases: usize,
    pub primaries: usize,
    /// Databases whose health, or that of one of their replicas, is not well.
    pub attention: usize,
    /// Replicas of the databases here, and how many of them are connected.
    pub followers: usize,
    pub connected: usize,
    pub behind: f64,
    pub bytes_per_second: f64,
    pub commits_per_second: f64,
    pub size: u64,
    pub health: Health,
}

/// Who serves.
#[derive(Clone, Debug, Serialize)]
pub struct Server {
    pub id: String,
    pub version: &'static str,
    pub started_ms: i64,
    /// The URL by which replicas connect, for the page's advice.
    pub upstream: String,
}

/// Everything, for a page that has just opened.
#[derive(Serialize)]
struct Full<'a> {
    server: &'a Server,
    now_ms: i64,
    summary: &'a Summary,
    rows: Vec<&'a Row>,
    history: &'a History,
    errors: Vec<Line>,
}

/// What changed in one second; the new lines of the log come after it, see [`Told`].
#[derive(Serialize)]
struct Tick<'a> {
    now_ms: i64,
    summary: &'a Summary,
    rows: Vec<&'a Row>,
    gone: Vec<&'a str>,
    point: Sample,
}

/// One database between two looks.
struct Known {
    row: Row,
    history: History,
}

struct State {
    known: BTreeMap<String, Known>,
    history: History,
    summary: Summary,
    seen: Instant,
    next_line: u64,
}

/// The looks, shared by the task that makes them and all pages.
pub struct Sampler {
    registry: Registry,
    recent: Recent,
    server: Server,
    state: Mutex<State>,
    ticks: broadcast::Sender<Arc<Told>>,
}

impl Sampler {
    /// Looks for the first time.
    pub fn new(
        registry: Registry,
        recent: Recent,
        id: String,
        upstream: String,
        began: Began,
    ) -> Sampler {
        let sampler = Sampler {
            registry,
            recent,
            server: Server {
                id,
                version: env!("CARGO_PKG_VERSION"),
                started_ms: began.time_ms,
                upstream,
            },
            state: Mutex::new(State {
                known: BTreeMap::new(),
                history: History::default(),
                summary: summarize(&BTreeMap::new()),
                seen: Instant::now(),
                next_line: 0,
            }),
            ticks: broadcast::Sender::new(BACKLOG),
        };
        sampler.look();
        sampler
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks each second. Never returns.
    pub async fn run(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        ticks.tick().await;
        loop {
            ticks.tick().await;
            let sampler = self.clone();
            // A look asks the file system for the size of each log.
            let looked = tokio::task::spawn_blocking(move || sampler.look()).await;
            if let Err(error) = looked {
                tracing::error!("the status page is not kept up to date: {error}");
                return;
            }
        }
    }

    /// Everything as of the last look that this one may know, and each change from then on; `None` if there was a database
    /// then that it may not see.
    pub fn subscribe(&self, viewer: &Viewer) -> Option<(String, broadcast::Receiver<Arc<Told>>)> {
        let state = self.state();
        if !state.known.keys().all(|name| viewer.may_see(name)) {
            return None;
        }
        // Under the lock: no tick lies between the two.
        let receiver = self.ticks.subscribe();
        let mut errors = self.recent.since(0);
        errors.retain(|line| viewer.may_read(line));
        let full = Full {
            server: &self.server,
            now_ms: now_ms(),
            summary: &state.summary,
            rows: state.known.values().map(|known| &known.row).collect(),
            history: &state.history,
            errors,
        };
        Some((json(&full), receiver))
    }

    /// The history of one database, if it is known.
    pub fn history_of(&self, database: &str) -> Option<String> {
        let state = self.state();
        state.known.get(database).map(|known| json(&known.history))
    }

    fn look(&self) {
        let mut rows: Vec<Row> = self.registry.list().iter().map(Row::of).collect();
        let time_ms = now_ms();
        let mut state = self.state();
        let seconds = state.seen.elapsed().as_secs_f64().max(0.001);
        state.seen = Instant::now();
        let mut old = std::mem::take(&mut state.known);
        let mut changed = Vec::new();
        for row in &mut rows {
            let before = old.remove(&row.name);
            if let Some(before) = &before {
                row.rates(&before.row, seconds);
            }
            if before.as_ref().is_none_or(|before| before.row != *row) {
                changed.push(row.name.clone());
            }
            let mut history = before.map(|before| before.history).unwrap_or_default();
            history.push_sparse(row.sample(time_ms));
            let row = row.clone();
            state.known.insert(row.name.clone(), Known { row, history });
        }
        state.summary = summarize(&state.known);
        let point = Sample {
            time_ms,
            behind: state.summary.behind as f32,
            bytes: state.summary.bytes_per_second as f32,
            commits: state.summary.commits_per_second as f32,
        };
        state.history.push(point);
        let lines = self.recent.since(state.next_line);
        state.next_line = lines.last().map_or(state.next_line, |line| line.number + 1);
        if self.ticks.receiver_count() > 0 {
            let tick = Tick {
                now_ms: time_ms,
                summary: &state.summary,
                rows: changed
                    .iter()
                    .filter_map(|name| state.known.get(name))
                    .map(|known| &known.row)
                    .collect(),
                gone: old.keys().map(String::as_str).collect(),
                point,
            };
            // Who has just left needs nothing.
            let json = json(&tick);
            let _ = self.ticks.send(Arc::new(Told {
                json,
                names: changed,
                lines,
            }));
        }
    }
}

fn now_ms() -> i64 {
    crate::model::clock_us() / 1000
}

/// Strings and finite numbers only: serialising them does not fail.
pub fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|error| format!("{{\"fault\":\"{error}\"}}"))
}

fn summarize(known: &BTreeMap<String, Known>) -> Summary {
    let rows = || known.values().map(|known| &known.row);
    let followers = || rows().flat_map(|row| &row.replicas);
    Summary {
        databases: known.len(),
        primaries: rows().filter(|row| row.role == "primary").count(),
        attention: rows().filter(|row| row.worst() >= Health::Warn).count(),
        followers: followers().count(),
        connected: followers().filter(|f| f.since_ms > 0).count(),
        behind: rows().map(|row| row.behind).fold(0.0, f64::max),
        bytes_per_second: rows().map(|row| row.bytes_per_second).sum(),
        commits_per_second: rows().map(|row| row.commits_per_second).sum(),
        size: rows().map(|row| row.size).sum(),
        health: rows().map(Row::worst).max().unwrap_or(Health::Ok),
    }
}

impl Row {
    fn rates(&mut self, before: &Row, seconds: f64) {
        // A database that was taken off and came back counts from zero again.
        let rate =
            |now: u64, then: u64| (now.saturating_sub(then) as f64 / seconds * 10.0).round() / 10.0;
        self.commits_per_second = rate(self.commits, before.commits);
        self.bytes_per_second = rate(self.bytes, before.bytes);
    }

    fn sample(&self, time_ms: i64) -> Sample {
        Sample {
            time_ms,
            behind: self.behind as f32,
            bytes: self.bytes_per_second as f32,
            commits: self.commits_per_second as f32,
        }
    }
}
