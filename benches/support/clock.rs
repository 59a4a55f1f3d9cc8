//! One clock for all processes of the machine, and sleeping precisely.

use nix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// CLOCK_MONOTONIC, ns.
pub fn now_ns() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("the clock exists");
    let seconds = u64::try_from(time.tv_sec()).expect("after the boot");
    let ns = u64::try_from(time.tv_nsec()).expect("a part of a second");
    seconds * 1_000_000_000 + ns
}

/// Lets this thread's sleeps end when they should, not up to 50 µs later.
pub fn precise_sleeps() {
    nix::sys::prctl::set_timerslack(1).expect("set the timer slack");
}

/// Sleeps until a moment of [`now_ns`].
pub fn sleep_until(ns: u64) {
    if let Some(rest) = ns.checked_sub(now_ns()) {
        std::thread::sleep(Duration::from_nanos(rest));
    }
}
