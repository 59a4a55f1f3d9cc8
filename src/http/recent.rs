//! The last warnings and errors of the log, for the status page.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer};

/// Lines kept.
const KEPT: usize = 50;
/// Characters of a line kept.
const LONGEST: usize = 500;

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Line {
    /// Grows by one with each line since the start.
    pub number: u64,
    /// When, ms since 1970-01-01 UTC.
    pub time_ms: i64,
    /// `error` or `warn`.
    pub level: &'static str,
    /// The database it is about; empty if none.
    pub database: String,
    /// What it says.
    pub text: String,
}

/// A tracing layer that keeps them. A clone is the same one.
#[derive(Clone, Debug, Default)]
pub struct Recent(Arc<Mutex<Lines>>);

#[derive(Debug, Default)]
struct Lines {
    next: u64,
    lines: VecDeque<Line>,
}

/// Logging is of the process, and so are its last lines.
static OF_THE_PROCESS: LazyLock<Recent> = LazyLock::new(Recent::default);

impl Recent {
    /// The one that the process's logging fills: `.with(Recent::of_the_process())`.
    pub fn of_the_process() -> Recent {
        OF_THE_PROCESS.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The lines from `number` on, the oldest first.
    pub fn since(&self, number: u64) -> Vec<Line> {
        let lines = self.lock();
        let new = lines.lines.iter().filter(|line| line.number >= number);
        new.cloned().collect()
    }

    /// The number of the next line.
    pub fn next(&self) -> u64 {
        self.lock().next
    }

    fn push(&self, level: &'static str, database: String, text: String) {
        let time_ms = crate::model::clock_us() / 1000;
        let mut lines = self.lock();
        let number = lines.next;
        lines.next += 1;
        if lines.lines.len() == KEPT {
            lines.lines.pop_front();
        }
        lines.lines.push_back(Line {
            number,
            time_ms,
            level,
            database,
            text,
        });
    }
}

impl<S: Subscriber> Layer<S> for Recent {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let level = match *event.metadata().level() {
            Level::ERROR => "error",
            Level::WARN => "warn",
            _ => return,
        };
        let mut words = Words::default();
        event.record(&mut words);
        let Words {
            database,
            message,
            others,
        } = words;
        let text: String = (message + &others).chars().take(LONGEST).collect();
        self.push(level, database, text);
    }
}

/// The fields of one event.
#[derive(Default)]
struct Words {
    database: String,
    message: String,
    others: String,
}

impl Visit for Words {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        // Writing to a string does not fail.
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            "database" => write!(self.database, "{value:?}"),
            name => write!(self.others, " {name}={value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing_subscriber::layer::SubscriberExt as _;

    #[test]
    fn the_last_warnings_and_errors_are_kept_with_their_database() {
        let recent = Recent::default();
        let subscriber = tracing_subscriber::registry().with(recent.clone());
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!("all is well");
            tracing::warn!(database = %"a.db", upstream = "http://h:1", "disconnected: {}", "gone");
            for i in 0..KEPT {
                tracing::error!("number {i}");
            }
        });
        let lines = recent.since(0);
        assert_eq!(lines.len(), KEPT, "the oldest line went");
        assert_eq!(lines[0].number, 1);
        assert_eq!(lines[0].level, "error");
        assert_eq!(recent.next(), KEPT as u64 + 1);
        assert_eq!(recent.since(KEPT as u64).len(), 1);

        let recent = Recent::default();
        let subscriber = tracing_subscriber::registry().with(recent.clone());
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(database = %"a.db", upstream = "http://h:1", "disconnected: {}", "gone");
        });
        let lines = recent.since(0);
        assert_eq!(lines[0].database, "a.db");
        assert_eq!(lines[0].text, "disconnected: gone upstream=http://h:1");
    }
}
