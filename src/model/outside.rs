//! What nobody can foresee: the wall clock, and chance. A simulation (`tests/sim`) puts its own in their place.

use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

/// The wall clock and chance of a simulation.
#[derive(Clone, Copy, Debug)]
pub struct Outside {
    /// µs since 1970-01-01 UTC.
    pub clock_us: fn() -> i64,
    /// Any number.
    pub random_u64: fn() -> u64,
}

static SIMULATED: OnceLock<Outside> = OnceLock::new();

/// For the whole process, and for its whole life; the first call counts.
#[doc(hidden)]
pub fn simulate(outside: Outside) {
    let _ = SIMULATED.set(outside);
}

/// The wall clock, µs since 1970-01-01 UTC.
pub fn clock_us() -> i64 {
    if let Some(outside) = SIMULATED.get() {
        return (outside.clock_us)();
    }
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| i64::try_from(d.as_micros()).unwrap_or(i64::MAX))
}

/// A number that nobody can guess.
pub fn random_u64() -> Result<u64, getrandom::Error> {
    match SIMULATED.get() {
        Some(outside) => Ok((outside.random_u64)()),
        None => getrandom::u64(),
    }
}
