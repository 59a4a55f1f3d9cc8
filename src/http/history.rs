//! The last ten minutes, one sample each second.

use serde::{Serialize, Serializer};
use std::collections::VecDeque;

/// Samples kept.
pub const KEPT: usize = 600;

/// One second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// ms since 1970-01-01 UTC.
    pub time_ms: i64,
    /// Seconds behind.
    pub behind: f32,
    /// Payload bytes sent or received in this second.
    pub bytes: f32,
    /// Commits captured, or publications made, in this second.
    pub commits: f32,
}

/// `[time, behind, bytes, commits]`: hundreds of them go into one answer.
impl Serialize for Sample {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let round = |value: f32| (f64::from(value) * 1000.0).round() / 1000.0;
        (
            self.time_ms,
            round(self.behind),
            round(self.bytes),
            round(self.commits),
        )
            .serialize(serializer)
    }
}

/// A ring of samples.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(transparent)]
pub struct History(VecDeque<Sample>);

impl History {
    /// The newest sample; the oldest goes.
    pub fn push(&mut self, sample: Sample) {
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back(sample);
    }

    /// The same for one of a thousand databases, most of which are quiet: of a quiet stretch only its first and its last
    /// second are kept, so that it costs nothing.
    pub fn push_sparse(&mut self, sample: Sample) {
        let old = sample.time_ms - KEPT as i64 * 1000;
        while self.0.front().is_some_and(|first| first.time_ms < old) {
            self.0.pop_front();
        }
        let [.., before, last] = self.0.make_contiguous() else {
            return self.push(sample);
        };
        if before.is_quiet() && last.is_quiet() && sample.is_quiet() {
            *last = sample;
        } else {
            self.push(sample);
        }
    }
}

impl Sample {
    fn is_quiet(&self) -> bool {
        self.behind == 0.0 && self.bytes == 0.0 && self.commits == 0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quiet_database_costs_two_samples() {
        let mut history = History::default();
        let sample = |second: i64, bytes| Sample {
            time_ms: second * 1000,
            behind: 0.0,
            bytes,
            commits: 0.0,
        };
        for second in 0..100 {
            history.push_sparse(sample(second, 0.0));
        }
        history.push_sparse(sample(100, 5.0));
        history.push_sparse(sample(101, 0.0));
        let times: Vec<i64> = history.0.iter().map(|s| s.time_ms / 1000).collect();
        assert_eq!(times, [0, 99, 100, 101]);
        history.push_sparse(sample(700, 1.0));
        assert_eq!(
            history.0.front().map(|s| s.time_ms),
            Some(100_000),
            "older ones went"
        );
    }

    #[test]
    fn the_oldest_goes_and_an_answer_is_short() {
        let mut history = History::default();
        for second in 0..KEPT as i64 + 5 {
            history.push(Sample {
                time_ms: second * 1000,
                behind: 0.25,
                bytes: 10.0,
                commits: 1.0,
            });
        }
        let text = serde_json::to_string(&history).expect("numbers");
        assert!(text.starts_with("[[5000,0.25,10.0,1.0],[6000,"), "{text}");
        assert_eq!(history.0.len(), KEPT);
    }
}
