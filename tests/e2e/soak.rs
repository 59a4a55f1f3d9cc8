//! The verdict of `benches/soak`, on planted leaks; and the one of its clock that could hide them.

#[allow(dead_code, reason = "the benchmark's own use of it is more")]
#[path = "../../benches/soak/clock.rs"]
mod clock;
#[allow(dead_code, reason = "the benchmark's own use of it is more")]
#[path = "../../benches/soak/verdict.rs"]
mod verdict;

use clock::{Awake, Clock};
use std::time::Duration;
use verdict::{Allowance, Row, judge, median, quantile};

#[test]
fn a_gap_is_no_time() {
    let mut awake = Awake::default();
    for ms in [100, 1900, 60_000, 100] {
        awake.step(Duration::from_millis(ms), false);
    }
    assert_eq!(awake.time, Duration::from_millis(2100));
    assert_eq!(awake.gaps, [Duration::from_secs(60)]);
}

#[test]
fn nor_is_what_somebody_stopped() {
    let mut awake = Awake::default();
    for (ms, held) in [
        (50, false),
        (500, true),
        (60_000, true),
        (50, false),
        (500, true),
    ] {
        awake.step(Duration::from_millis(ms), held);
    }
    assert_eq!(awake.time, Duration::from_millis(100));
    assert_eq!(awake.gaps, [60_500, 500].map(Duration::from_millis));
}

#[test]
fn a_clock_that_is_looked_at_goes_on() {
    let clock = Clock::start();
    let first = clock.awake();
    std::thread::sleep(Duration::from_millis(5));
    assert!(clock.awake() >= first + Duration::from_millis(5));
    assert_eq!((clock.freezes(), clock.frozen()), (0, Duration::ZERO));
}

const MEMORY: Allowance = Allowance {
    factor: 1.1,
    more: 2.0,
};
const HOURS: f64 = 7200.0;

/// A sample each five seconds.
fn sampled(value: impl Fn(f64) -> f64) -> Vec<(f64, f64)> {
    (0..1440)
        .map(|i| f64::from(i) * 5.0)
        .map(|at| (at, value(at)))
        .collect()
}

fn judged(value: impl Fn(f64) -> f64) -> Row {
    judge("memory", "MiB", &sampled(value), HOURS, MEMORY)
}

/// Between -1 and 1, and everywhere the same.
fn noise(at: f64) -> f64 {
    (at * 12.9898).sin()
}

#[test]
fn what_is_flat_is_ok() {
    let row = judged(|at| 20.0 + 3.0 * noise(at));
    assert!(row.is_flat(), "{row:?}");
    assert!(row.slope.abs() < 0.3, "{row:?}");
}

#[test]
fn warming_up_is_no_leak() {
    let row = judged(|at| 60.0 - 50.0 * (-at / 200.0).exp());
    assert!(row.is_flat(), "{row:?}");
}

#[test]
fn a_leak_is_not_ok() {
    // 1.5 KiB a second.
    let row = judged(|at| 20.0 + 1.5 * at / 1024.0 + noise(at));
    assert!(!row.is_flat(), "{row:?}");
    assert!((row.slope - 5.27).abs() < 0.1, "{row:?}");
}

#[test]
fn one_descriptor_in_ten_minutes_is_not_ok() {
    let allowance = Allowance {
        factor: 1.0,
        more: 3.0,
    };
    let samples = sampled(|at| 20.0 + (at / 600.0).floor());
    let row = judge("descriptors", "", &samples, HOURS, allowance);
    assert!(!row.is_flat(), "{row:?}");
}

#[test]
fn a_step_in_the_last_quarter_is_not_ok() {
    let row = judged(|at| if at < 5500.0 { 20.0 } else { 30.0 });
    assert!(!row.is_flat(), "{row:?}");
}

#[test]
fn peaks_are_no_leak() {
    let row = judged(|at| if at % 100.0 == 0.0 { 90.0 } else { 20.0 });
    assert!(row.is_flat(), "{row:?}");
}

#[test]
fn too_few_samples_prove_nothing() {
    let row = judge("memory", "MiB", &[(30.0, 1.0), (90.0, 1.0)], 100.0, MEMORY);
    assert!(!row.is_flat(), "{row:?}");
    let none = judge("memory", "MiB", &[], 100.0, MEMORY);
    assert!(!none.is_flat(), "{none:?}");
}

#[test]
fn what_was_not_measured_does_not_count() {
    let row = judged(|at| if at % 10.0 == 0.0 { f64::NAN } else { 20.0 });
    assert!(row.is_flat(), "{row:?}");
    assert_eq!(row.early, 20.0);
    assert!(!judged(|_| f64::NAN).is_flat());
}

#[test]
fn quantiles() {
    assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
    assert_eq!(median(vec![4.0, 1.0]), 2.5);
    assert_eq!(quantile(vec![0.0, 10.0], 0.9), 9.0);
    assert!(median(Vec::new()).is_nan());
}
