//! How far readers are behind, from the primary's clock and the local monotonic clock alone.
//!
//! Each message that carries the primary's clock bounds the difference of the two clocks from above (it took some time to
//! arrive). The smallest difference of the last minutes is the best estimate; the wall clock here is never asked, so it
//! may be an hour off.

use crate::format::position::Position;
use std::time::Duration;
use tokio::time::Instant;

/// Clock differences are kept for between one and two of these: clocks drift.
const WINDOW: Duration = Duration::from_secs(60);

/// Lag and staleness of one replica.
#[derive(Debug)]
pub struct Lag {
    origin: Instant,
    /// Smallest (local − primary) in µs, of the window before and of this one.
    offsets: [Option<i64>; 2],
    window_began: Instant,
    upstream: Option<Position>,
    applied: Option<Position>,
    /// By the primary's clock: when the oldest commit that is not applied was known to exist.
    behind_since_us: Option<i64>,
    level_at: Option<Instant>,
}

impl Lag {
    /// Knows nothing yet.
    pub fn new(now: Instant) -> Lag {
        Lag {
            origin: now,
            offsets: [None, None],
            window_began: now,
            upstream: None,
            applied: None,
            behind_since_us: None,
            level_at: None,
        }
    }

    fn local_us(&self, now: Instant) -> i64 {
        i64::try_from(now.duration_since(self.origin).as_micros()).unwrap_or(i64::MAX)
    }

    /// A stream begins, and the primary said that it is at `position`. It may be behind what it once said: a power cut took
    /// commits from it, or its files were restored.
    pub fn greeted(&mut self, position: Position, clock_us: i64, now: Instant) {
        if self.upstream.is_some_and(|before| position < before) {
            self.upstream = None;
            // It was of what the primary has no more.
            self.behind_since_us = None;
        }
        self.seen(position, clock_us, now);
    }

    /// What readers see is of no history that the primary has: how far it is behind is known again with the next
    /// [`Lag::applied`].
    pub fn forget_applied(&mut self) {
        self.applied = None;
    }

    /// The primary said that it is at `position` when its clock was `clock_us`.
    pub fn seen(&mut self, position: Position, clock_us: i64, now: Instant) {
        if now.duration_since(self.window_began) > WINDOW {
            self.offsets = [self.offsets[1], None];
            self.window_began = now;
        }
        let offset = self.local_us(now).saturating_sub(clock_us);
        let smallest = self.offsets[1].map_or(offset, |o| o.min(offset));
        self.offsets[1] = Some(smallest);
        let newer = match self.upstream {
            Some(before) => before.generation != position.generation || before < position,
            None => true,
        };
        if newer {
            self.upstream = Some(position);
        }
        if self.is_level() {
            self.level_at = Some(now);
            self.behind_since_us = None;
        } else if self.behind_since_us.is_none() {
            self.behind_since_us = Some(clock_us);
        }
    }

    /// Readers see this position now; it was committed at `time_us` by the primary's clock.
    pub fn applied(&mut self, position: Position, time_us: i64, now: Instant) {
        self.applied = Some(position);
        if self.is_level() {
            self.level_at = Some(now);
            self.behind_since_us = None;
        } else {
            self.behind_since_us = Some(time_us);
        }
    }

    /// True if readers see all that the primary is known to have. No lag in seconds says so: that is zero as well in the
    /// moment in which something new is heard of.
    pub fn is_level(&self) -> bool {
        match (self.applied, self.upstream) {
            (Some(applied), Some(upstream)) => {
                applied.generation == upstream.generation && applied >= upstream
            }
            _ => false,
        }
    }

    /// The primary's newest known position.
    pub fn upstream(&self) -> Option<Position> {
        self.upstream
    }

    /// The primary's clock now, as well as it can be known, µs since 1970.
    pub fn primary_clock_us(&self, now: Instant) -> Option<i64> {
        let offset = self.offsets.iter().flatten().min()?;
        Some(self.local_us(now).saturating_sub(*offset))
    }

    /// Seconds by which readers are behind what the primary is known to have; 0 when level.
    pub fn lag_seconds(&self, now: Instant) -> f64 {
        match (self.behind_since_us, self.primary_clock_us(now)) {
            (Some(since), Some(clock)) => (clock.saturating_sub(since).max(0)) as f64 / 1e6,
            _ => 0.0,
        }
    }

    /// Seconds since the replica last knew that it had all; negative if it never did.
    pub fn staleness_seconds(&self, now: Instant) -> f64 {
        self.level_at
            .map_or(-1.0, |at| now.duration_since(at).as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::position::Generation;

    fn at(offset: u64) -> Position {
        Position {
            generation: Generation(1),
            index: 0,
            offset,
        }
    }

    #[test]
    fn who_has_just_heard_of_something_new_is_not_level() {
        let start = Instant::now();
        let mut lag = Lag::new(start);
        lag.applied(at(100), 7, start);
        lag.seen(at(100), 7, start);
        assert!(lag.is_level());
        let other = Position {
            generation: Generation(2),
            ..at(100)
        };
        for new in [at(200), other] {
            lag.seen(new, 8, start);
            assert_eq!(lag.lag_seconds(start), 0.0);
            assert!(!lag.is_level(), "{new}");
        }
    }

    #[test]
    fn lag_is_right_with_clocks_an_hour_apart() {
        let start = Instant::now();
        let mut lag = Lag::new(start);
        let hour = 3_600_000_000_i64;
        let ms = |n: u64| start + Duration::from_millis(n);
        lag.applied(at(100), hour, ms(0));
        lag.seen(at(100), hour, ms(0));
        assert_eq!(lag.lag_seconds(ms(500)), 0.0);
        // A commit made at 1000 ms is seen at 1001 ms, and not applied until 1250 ms.
        lag.seen(at(200), hour + 1_000_000, ms(1001));
        assert!((lag.lag_seconds(ms(1250)) - 0.25).abs() < 0.002);
        lag.applied(at(200), hour + 1_000_000, ms(1250));
        assert_eq!(lag.lag_seconds(ms(1300)), 0.0);
        assert!((lag.staleness_seconds(ms(3250)) - 2.0).abs() < 0.002);
    }

    #[test]
    fn a_primary_that_lost_commits_is_where_it_says() {
        let start = Instant::now();
        let mut lag = Lag::new(start);
        lag.seen(at(500), 1, start);
        lag.applied(at(500), 1, start);
        assert!(lag.is_level());
        // It comes back without its last commits, and goes on with others.
        lag.greeted(at(300), 2, start);
        assert_eq!(lag.upstream(), Some(at(300)));
        lag.forget_applied();
        assert!(!lag.is_level(), "what is seen here is of no history there");
        lag.applied(at(300), 2, start);
        assert!(lag.is_level());
        lag.seen(at(400), 3, start);
        assert!(!lag.is_level());
        lag.applied(at(400), 3, start);
        assert!(lag.is_level());
    }

    #[test]
    fn a_stream_that_begins_anew_does_not_shorten_the_lag() {
        let start = Instant::now();
        let mut lag = Lag::new(start);
        lag.applied(at(100), 1_000_000, start);
        lag.seen(at(200), 1_000_000, start);
        let later = start + Duration::from_secs(5);
        lag.greeted(at(300), 6_000_000, later);
        assert!((lag.lag_seconds(later) - 5.0).abs() < 0.002);
    }

    #[test]
    fn a_replica_that_was_never_level_says_so() {
        let start = Instant::now();
        let mut lag = Lag::new(start);
        assert!(lag.staleness_seconds(start) < 0.0);
        lag.seen(at(5), 0, start);
        assert!(lag.staleness_seconds(start) < 0.0);
    }
}
