//! A line of log that strangers can cause, but not as often as they like.

use std::sync::Mutex;
use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_secs(10);

/// Lets one through in ten seconds and counts the others.
#[derive(Debug, Default)]
pub struct Seldom(Mutex<(Option<Instant>, u64)>);

impl Seldom {
    /// `Some` if it may be said now: how many were not said since the last time.
    pub fn now(&self) -> Option<u64> {
        let mut state = self
            .0
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if state.0.is_some_and(|last| last.elapsed() < PAUSE) {
            state.1 += 1;
            return None;
        }
        let silent = state.1;
        *state = (Some(Instant::now()), 0);
        Some(silent)
    }
}
