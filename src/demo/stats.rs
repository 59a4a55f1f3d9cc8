//! Percentiles, and numbers for people.

use std::time::Duration;

/// The value that a part `p` (0 to 1) of the values does not exceed (nearest rank). `sorted` is in rising order; `None`
/// if it is empty.
pub fn percentile<T: Copy>(sorted: &[T], p: f64) -> Option<T> {
    let rank = (p * sorted.len() as f64).ceil() as usize;
    sorted
        .get(rank.max(1).min(sorted.len()).checked_sub(1)?)
        .copied()
}

/// A whole number with its thousands apart: `12,034`.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number of bytes: `5.1 MB`.
pub fn bytes(number: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut value = number as f64;
    let mut unit = 0;
    // 999.95 would be shown as 1000.0.
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{number} B")
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

/// A short time, with three digits where there is room for them: `21 µs`, `0.41 ms`, `13.4 ms`, `2.3 s`.
pub fn short_time(time: Duration) -> String {
    let us = time.as_micros();
    let ms = time.as_secs_f64() * 1000.0;
    match us {
        0..100 => format!("{us} µs"),
        100..10_000 => format!("{ms:.2} ms"),
        10_000..100_000 => format!("{ms:.1} ms"),
        100_000..1_000_000 => format!("{ms:.0} ms"),
        _ => format!("{:.1} s", time.as_secs_f64()),
    }
}

/// A clock: `0:12`, `1:02:03`.
pub fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 {
        format!("{hours}:{minutes:02}:{seconds:02}")
    } else {
        format!("{minutes}:{seconds:02}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let hundred: Vec<u32> = (1..=100).collect();
        assert_eq!(percentile(&hundred, 0.50), Some(50));
        assert_eq!(percentile(&hundred, 0.99), Some(99));
        assert_eq!(percentile(&hundred, 1.0), Some(100));
        assert_eq!(percentile(&hundred, 0.0), Some(1));
        assert_eq!(percentile(&[7], 0.99), Some(7));
        assert_eq!(percentile::<u32>(&[], 0.5), None);
    }

    #[test]
    fn numbers_for_people() {
        let whole = [0, 999, 1000, 12_034, 1_234_567].map(thousands);
        assert_eq!(whole, ["0", "999", "1,000", "12,034", "1,234,567"]);
        let sizes = [999, 1000, 5_123_456, 999_960].map(bytes);
        assert_eq!(sizes, ["999 B", "1.0 kB", "5.1 MB", "1.0 MB"]);
        let times =
            [21, 412, 13_400, 250_000, 2_340_000].map(|us| short_time(Duration::from_micros(us)));
        assert_eq!(times, ["21 µs", "0.41 ms", "13.4 ms", "250 ms", "2.3 s"]);
        assert_eq!(clock(Duration::from_secs(72)), "1:12");
        assert_eq!(clock(Duration::from_secs(3723)), "1:02:03");
    }
}
