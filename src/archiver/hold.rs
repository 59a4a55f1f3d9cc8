//! The time by which the retention counts ages. A clock that jumps forward makes all snapshots old at once. So what it gained
//! is held back until all from before the jump is old by the time that passed, or until the clock goes back.
//!
//! That walcast was not there for a while looks like a jump, and is taken for one: for as long as the kept time, things stay
//! longer by that while.

use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::Instant;

/// A difference that is none: clocks are set by so much, and two of them differ by it.
pub const SLACK_US: i64 = 60_000_000;

/// What the wall clock gained.
#[derive(Debug)]
pub struct Hold {
    /// What it said, and when that was by the time that nobody sets.
    seen: (i64, Instant),
    /// How far it jumped, and when.
    jumps: VecDeque<(i64, Instant)>,
}

impl Hold {
    /// `written_us`: the last time that is known from the archive.
    pub fn new(written_us: Option<i64>, clock_us: i64, now: Instant) -> Hold {
        Hold {
            seen: (written_us.map_or(clock_us, |us| us.min(clock_us)), now),
            jumps: VecDeque::new(),
        }
    }

    /// The time without what was gained within `age`.
    pub fn now_us(&mut self, clock_us: i64, now: Instant, age: Duration) -> i64 {
        let (before_us, before) = std::mem::replace(&mut self.seen, (clock_us, now));
        let passed = now.saturating_duration_since(before).as_micros();
        let passed = i64::try_from(passed).unwrap_or(i64::MAX);
        let gained = clock_us.saturating_sub(before_us).saturating_sub(passed);
        if gained > SLACK_US {
            self.jumps.push_back((gained, now));
        } else if gained < -SLACK_US {
            self.went_back(gained.saturating_neg());
        }
        self.jumps
            .retain(|(_, at)| now.saturating_duration_since(*at) < age);
        let held = self.jumps.iter().map(|(gained, _)| *gained);
        held.fold(clock_us, i64::saturating_sub)
    }

    /// The last jumps were errors, as far as this reaches.
    fn went_back(&mut self, mut by: i64) {
        while let Some((gained, _)) = self.jumps.back_mut() {
            let part = by.min(*gained);
            (*gained, by) = (*gained - part, by - part);
            if *gained > 0 {
                return;
            }
            self.jumps.pop_back();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3600 * 1_000_000;
    const YEAR: i64 = 8766 * HOUR;
    const AGE: Duration = Duration::from_secs(7 * 24 * 3600);

    /// A clock, and the time that passes.
    struct Times {
        hold: Hold,
        clock_us: i64,
        now: Instant,
    }

    impl Times {
        fn new(written_us: Option<i64>) -> Times {
            let (clock_us, now) = (50 * YEAR, Instant::now());
            Times {
                hold: Hold::new(written_us, clock_us, now),
                clock_us,
                now,
            }
        }

        /// So many hours pass, and the clock is set by so much.
        fn pass(&mut self, hours: i64, set_us: i64) -> i64 {
            self.clock_us += hours * HOUR + set_us;
            self.now += Duration::from_micros((hours * HOUR).unsigned_abs());
            self.hold.now_us(self.clock_us, self.now, AGE)
        }
    }

    #[test]
    fn a_jump_forward_is_held_back_until_all_before_it_is_old() {
        let mut times = Times::new(None);
        assert_eq!(times.pass(1, 0), 50 * YEAR + HOUR);
        assert_eq!(times.pass(1, YEAR), 50 * YEAR + 2 * HOUR);
        assert_eq!(times.pass(1, HOUR), 50 * YEAR + 3 * HOUR, "both of them");
        for _ in 0..6 {
            times.pass(24, 0);
        }
        assert_eq!(times.pass(22, 0), 50 * YEAR + 169 * HOUR, "not yet");
        // The first is over, then the second.
        assert_eq!(times.pass(1, 0), times.clock_us - HOUR);
        assert_eq!(times.pass(1, 0), times.clock_us);
    }

    #[test]
    fn a_clock_that_comes_back_is_believed_again() {
        let mut times = Times::new(None);
        times.pass(1, YEAR);
        assert_eq!(times.pass(1, -YEAR), times.clock_us);
        // In two steps, and somewhat too far.
        times.pass(1, YEAR);
        assert_eq!(times.pass(1, -YEAR / 2), 50 * YEAR + 4 * HOUR);
        assert_eq!(times.pass(1, -YEAR / 2 - HOUR), times.clock_us);
        assert_eq!(times.clock_us, 50 * YEAR + 4 * HOUR);
    }

    #[test]
    fn small_differences_are_none() {
        let mut times = Times::new(None);
        for set in [SLACK_US, -SLACK_US, 1, -1] {
            assert_eq!(times.pass(1, set), times.clock_us);
        }
    }

    #[test]
    fn a_clock_that_is_wrong_at_the_start_is_compared_with_the_archive() {
        let written = 49 * YEAR;
        let mut times = Times::new(Some(written));
        assert_eq!(times.pass(1, 0), written + HOUR);
        assert_eq!(times.pass(168, 0), times.clock_us);
        // The archive's own time was wrong.
        let mut times = Times::new(Some(51 * YEAR));
        assert_eq!(times.pass(1, 0), times.clock_us);
    }
}
