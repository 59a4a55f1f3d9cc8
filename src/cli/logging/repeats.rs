//! Leaves out a warning or an error that was told a moment ago.
//!
//! Two lines are the same if they come from the same place in the code, for the same database, and differ in digits at most:
//! a port, a position or a count changes each time. The next one after the pause says how many were left out.

use std::collections::HashMap;
use std::fmt::{self, Write as _};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;
use xxhash_rust::xxh3::xxh3_64;

/// The same fault is told once in this time.
const PAUSE: Duration = Duration::from_secs(30);
/// Faults that are remembered at one time.
const REMEMBERED: usize = 4096;

/// How a count is added to a line.
type Adder = fn(&mut String, u64);

/// Another format, without repeated faults.
pub(super) struct Limited<F> {
    inner: F,
    add: Adder,
    faults: Mutex<Faults>,
}

impl<F> Limited<F> {
    /// Around a format for people.
    pub(super) fn text(inner: F) -> Limited<F> {
        Limited::new(inner, |line, left_out| {
            let _ = write!(line, " ({left_out} more lines like it were left out)");
        })
    }

    /// Around a format of one JSON object for each line.
    pub(super) fn json(inner: F) -> Limited<F> {
        Limited::new(inner, |line, left_out| {
            if line.ends_with('}') {
                line.pop();
                let _ = write!(line, ",\"left_out\":{left_out}}}");
            }
        })
    }

    fn new(inner: F, add: Adder) -> Limited<F> {
        Limited {
            inner,
            add,
            faults: Mutex::default(),
        }
    }
}

impl<S, N, F> FormatEvent<S, N> for Limited<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut left_out = 0;
        if *event.metadata().level() <= Level::WARN {
            let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
            match faults.told(key(event), Instant::now()) {
                Some(count) => left_out = count,
                // Nothing is written then: an empty line is no line.
                None => return Ok(()),
            }
        }
        if left_out == 0 {
            return self.inner.format_event(context, writer, event);
        }
        let mut line = String::new();
        self.inner
            .format_event(context, Writer::new(&mut line), event)?;
        line.truncate(line.trim_end().len());
        (self.add)(&mut line, left_out);
        writeln!(writer, "{line}")
    }
}

/// When each fault was told last, and how often it came since.
#[derive(Default)]
struct Faults {
    seen: HashMap<u64, (Instant, u64)>,
}

impl Faults {
    /// Whether it is told now, with the number of times that it was not.
    fn told(&mut self, key: u64, now: Instant) -> Option<u64> {
        let over = |at: Instant| now.saturating_duration_since(at) >= PAUSE;
        match self.seen.get_mut(&key) {
            Some((at, left_out)) if !over(*at) => {
                *left_out += 1;
                return None;
            }
            Some(entry) => {
                let (_, left_out) = std::mem::replace(entry, (now, 0));
                return Some(left_out);
            }
            None => {}
        }
        if self.seen.len() >= REMEMBERED {
            self.seen.retain(|_, (at, _)| !over(*at));
        }
        // A flood of different faults: a line too many is better than one too few, and memory has a bound.
        if self.seen.len() < REMEMBERED {
            self.seen.insert(key, (now, 0));
        }
        Some(0)
    }
}

/// What makes a line the same: its place in the code and its fields, with each run of digits as one.
fn key(event: &Event<'_>) -> u64 {
    struct Text(String);
    impl Visit for Text {
        fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
            let _ = write!(self.0, "{}", field.name());
            if field.name() == "database" {
                let _ = write!(self.0, "={value:?};");
            } else {
                let shown = format!("{value:?}");
                self.0.push_str(&without_numbers(&shown));
            }
        }
    }
    let metadata = event.metadata();
    let place = (metadata.file().unwrap_or_default(), metadata.line());
    let mut text = Text(format!("{place:?}"));
    event.record(&mut text);
    xxh3_64(text.0.as_bytes())
}

fn without_numbers(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for word in text.split_inclusive(|c: char| !c.is_ascii_alphanumeric()) {
        let (body, end) = match word.char_indices().next_back() {
            Some((at, c)) if !c.is_ascii_alphanumeric() => word.split_at(at),
            _ => (word, ""),
        };
        // Positions and checksums are numbers too.
        let number = body.chars().any(|c| c.is_ascii_digit())
            && body
                .chars()
                .all(|c| c.is_ascii_hexdigit() || c.is_ascii_digit());
        out.push_str(if number { "#" } else { body });
        out.push_str(end);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_comes_with_the_next_one_after_the_pause() {
        let mut faults = Faults::default();
        let start = Instant::now();
        assert_eq!(faults.told(1, start), Some(0));
        for second in 0..30 {
            assert_eq!(faults.told(1, start + Duration::from_secs(second)), None);
        }
        assert_eq!(faults.told(2, start), Some(0));
        assert_eq!(faults.told(1, start + PAUSE), Some(30));
        assert_eq!(faults.told(1, start + PAUSE), None);
        assert_eq!(faults.told(1, start + PAUSE * 2), Some(1));
    }

    #[test]
    fn memory_has_a_bound() {
        let mut faults = Faults::default();
        let start = Instant::now();
        for key in 0..10 * REMEMBERED as u64 {
            assert_eq!(faults.told(key, start), Some(0));
        }
        assert_eq!(faults.seen.len(), REMEMBERED);
        assert_eq!(faults.told(u64::MAX, start + PAUSE), Some(0));
        assert_eq!(faults.seen.len(), 1);
    }

    #[test]
    fn numbers_are_not_what_makes_a_line_another() {
        assert_eq!(
            without_numbers(
                "port 4040 at 89abcdef01234567/0000000000000003:00000000000010f8, deaf"
            ),
            "port # at #/#:#, deaf"
        );
        assert_ne!(without_numbers("a.db2x"), without_numbers("a.db3x"));
    }

    #[test]
    fn a_count_is_part_of_the_line() {
        let text = Limited::text(()).add;
        let mut line = "WARN the disk is full".to_owned();
        text(&mut line, 7);
        assert_eq!(
            line,
            "WARN the disk is full (7 more lines like it were left out)"
        );
        let json = Limited::json(()).add;
        let mut line = r#"{"message":"the disk is full"}"#.to_owned();
        json(&mut line, 7);
        assert_eq!(line, r#"{"message":"the disk is full","left_out":7}"#);
    }
}
