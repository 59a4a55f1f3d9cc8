//! Sizes and durations for people. How they are read is the configuration's: a file and an argument mean the same.

pub use crate::config::{parse_duration, parse_mode, parse_size};

/// A number of bytes for people, such as `1.5 GiB`.
pub fn show_size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    // 1023.95 would round to 1024.0.
    while value >= 1023.95 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{bytes} B")
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

/// Seconds for people, such as `12 ms`, `3.4 s` or `2 h 5 min`.
pub fn show_seconds(seconds: f64) -> String {
    let whole = seconds as u64;
    if seconds < 0.001 {
        "0 s".to_owned()
    } else if seconds < 1.0 {
        format!("{:.0} ms", seconds * 1000.0)
    } else if whole < 60 {
        format!("{seconds:.1} s")
    } else if whole < 3600 {
        format!("{} min {} s", whole / 60, whole % 60)
    } else {
        format!("{} h {} min", whole / 3600, whole % 3600 / 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(show_size(0), "0 B");
        assert_eq!(show_size(1536), "1.5 KiB");
        assert_eq!(show_size((1 << 20) - 1), "1.0 MiB");
        assert_eq!(show_size(u64::MAX), "16777216.0 TiB");
    }

    #[test]
    fn durations() {
        assert_eq!(show_seconds(0.0), "0 s");
        assert_eq!(show_seconds(0.0124), "12 ms");
        assert_eq!(show_seconds(3.44), "3.4 s");
        assert_eq!(show_seconds(125.0), "2 min 5 s");
        assert_eq!(show_seconds(7500.0), "2 h 5 min");
    }
}
