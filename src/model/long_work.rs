//! Work that takes long, and what is said of it while it lasts: nothing of a short one.

use std::time::{Duration, Instant};

/// Time between two lines of the log.
const LINES: Duration = Duration::from_secs(5);
/// Time between two changes of what status says.
const TEXTS: Duration = Duration::from_secs(1);

/// One piece of work, counted in bytes.
#[derive(Clone, Debug)]
pub struct LongWork {
    began: Instant,
    next_line: Instant,
    next_text: Instant,
}

/// What is to be said now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// Such as `312 of 1,024 MiB (30%), 95 MiB/s`.
    pub text: String,
    /// Whether it is due for the log.
    pub line: bool,
}

impl LongWork {
    /// It begins.
    pub fn begin(now: Instant) -> LongWork {
        LongWork {
            began: now,
            next_line: now + LINES,
            next_text: now + TEXTS,
        }
    }

    /// So many bytes are done, of about `total`; `Some`: that is to be said now.
    pub fn at(&mut self, done: u64, total: u64, now: Instant) -> Option<Told> {
        let line = now >= self.next_line;
        if !line && now < self.next_text {
            return None;
        }
        self.next_text = now + TEXTS;
        if line {
            self.next_line = now + LINES;
        }
        let text = text(done, total, now.saturating_duration_since(self.began));
        Some(Told { text, line })
    }
}

fn text(done: u64, total: u64, time: Duration) -> String {
    // What is announced is about right: more may come.
    let total = total.max(done);
    let mib = |bytes: u64| grouped(bytes >> 20);
    // The last bytes are not done before the whole is.
    let percent = (u128::from(done) * 100)
        .checked_div(u128::from(total))
        .unwrap_or(0)
        .min(99);
    let rate = done as f64 / f64::from(1 << 20) / time.as_secs_f64().max(0.001);
    format!(
        "{} of {} MiB ({percent}%), {rate:.0} MiB/s",
        mib(done),
        mib(total)
    )
}

/// With a comma after each three digits.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.char_indices() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn a_line_in_five_seconds_and_a_text_in_one() {
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        let mut work = LongWork::begin(start);
        assert_eq!(
            work.at(MIB, 9 * MIB, after(999)),
            None,
            "short work is silent"
        );
        let told = work.at(MIB, 9 * MIB, after(1000)).expect("a text");
        assert!(!told.line);
        assert_eq!(work.at(MIB, 9 * MIB, after(1500)), None);
        assert!(work.at(MIB, 9 * MIB, after(5000)).expect("a line").line);
        assert!(!work.at(MIB, 9 * MIB, after(6000)).expect("a text").line);
        assert!(work.at(MIB, 9 * MIB, after(10_000)).expect("a line").line);
    }

    #[test]
    fn it_says_how_much_of_how_much() {
        let second = Duration::from_secs(1);
        let cases = [
            (312 * MIB, 1024 * MIB, "312 of 1,024 MiB (30%), 312 MiB/s"),
            (0, 0, "0 of 0 MiB (0%), 0 MiB/s"),
            (7 * MIB, 5 * MIB, "7 of 7 MiB (99%), 7 MiB/s"),
            (
                1_234_567 * MIB,
                1_234_567 * MIB,
                "1,234,567 of 1,234,567 MiB (99%), 1234567 MiB/s",
            ),
        ];
        for (done, total, wanted) in cases {
            assert_eq!(text(done, total, second), wanted);
        }
        assert_eq!(
            text(u64::MAX, u64::MAX, Duration::ZERO)
                .matches("99%")
                .count(),
            1
        );
    }
}
