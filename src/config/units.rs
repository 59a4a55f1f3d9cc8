//! Sizes and durations, in files and on the command line.
//!
//! Two functions of twenty lines instead of two dependencies: the crates for this take more spellings than can be
//! documented ("1 month", "2 fortnights"), and round.

use std::fmt::Write as _;
use std::time::Duration;

/// A number of bytes such as `1GiB`, `16MiB`, `512KiB`, `100MB` or `4096B`.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let wrong = || format!("'{text}' is no size; write it like 16MiB, 1GiB or 500MB");
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    number.checked_mul(factor).ok_or_else(wrong)
}

/// The longest duration that can be said, 1000 years: added to any time of a clock it is still one.
pub const LONGEST_DURATION: Duration = Duration::from_secs(365_000 * 86_400);

/// A duration such as `500ms`, `10s`, `90m`, `24h`, `7d` or `1h30m`.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("'{text}' is no duration; write it like 500ms, 10s, 1h30m or 7d");
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, tail) = rest.split_at(digits);
        let letters = tail.len()
            - tail
                .trim_start_matches(|c: char| c.is_ascii_alphabetic())
                .len();
        let (unit, tail) = tail.split_at(letters);
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let seconds = |each: u64| number.checked_mul(each).map(Duration::from_secs);
        let part = match unit {
            "ms" => Some(Duration::from_millis(number)),
            "s" => seconds(1),
            "m" | "min" => seconds(60),
            "h" => seconds(3600),
            "d" => seconds(86_400),
            _ => None,
        };
        total = part
            .and_then(|part| total.checked_add(part))
            .ok_or_else(wrong)?;
        rest = tail;
    }
    if text.is_empty() {
        Err(wrong())
    } else if total > LONGEST_DURATION {
        Err(format!("'{text}' is too long; 365000d is the most"))
    } else {
        Ok(total)
    }
}

/// The size as [`parse_size`] reads it, exactly: in the largest of B to TiB that divides it.
pub fn write_size(bytes: u64) -> String {
    const UNITS: [(&str, u64); 4] = [
        ("TiB", 1 << 40),
        ("GiB", 1 << 30),
        ("MiB", 1 << 20),
        ("KiB", 1 << 10),
    ];
    let unit = UNITS
        .iter()
        .find(|(_, factor)| bytes != 0 && bytes.is_multiple_of(*factor));
    match unit {
        Some((unit, factor)) => format!("{}{unit}", bytes / factor),
        None => format!("{bytes}B"),
    }
}

/// The duration as [`parse_duration`] reads it, exactly but for what is below a millisecond: `24h`, `1h30m`, `1s500ms`.
pub fn write_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let parts = [
        (seconds / 3600, "h"),
        (seconds / 60 % 60, "m"),
        (seconds % 60, "s"),
        (u64::from(duration.subsec_millis()), "ms"),
    ];
    let mut text = String::new();
    for (number, unit) in parts.into_iter().filter(|(number, _)| *number > 0) {
        // Writing to a String cannot fail.
        let _ = write!(text, "{number}{unit}");
    }
    if text.is_empty() {
        "0s".to_owned()
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(parse_size("1GiB"), Ok(1 << 30));
        assert_eq!(parse_size("16MiB"), Ok(16 << 20));
        assert_eq!(parse_size("500MB"), Ok(500_000_000));
        assert_eq!(parse_size("0B"), Ok(0));
        for wrong in [
            "",
            "1",
            "MiB",
            "1 GiB",
            "1.5GiB",
            "-1MiB",
            "1gib",
            "99999999TiB",
        ] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
        for text in ["0B", "1023B", "1KiB", "1025B", "64KiB", "1536MiB", "3TiB"] {
            assert_eq!(write_size(parse_size(text).expect(text)), text);
        }
        assert_eq!(write_size(500_000_000), "500000000B");
        assert_eq!(parse_size(&write_size(u64::MAX)), Ok(u64::MAX));
    }

    #[test]
    fn durations() {
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("24h"), Ok(Duration::from_secs(86_400)));
        assert_eq!(parse_duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(parse_duration("0s"), Ok(Duration::ZERO));
        for wrong in [
            "",
            "10",
            "s",
            "1.5s",
            "-1s",
            "1 s",
            "1y",
            "99999999999999999999s",
            "18446744073709551615d",
        ] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
        for text in ["0s", "1ms", "1s500ms", "10s", "1m", "1h30m", "24h", "168h"] {
            assert_eq!(write_duration(parse_duration(text).expect(text)), text);
        }
        assert_eq!(write_duration(Duration::from_secs(7 * 86_400)), "168h");
        let most = LONGEST_DURATION;
        assert_eq!(parse_duration(&write_duration(most)), Ok(most));
        assert_eq!(parse_duration("365000d"), Ok(most));
        for wrong in ["365000d1ms", "18446744073709551615s"] {
            let error = parse_duration(wrong).expect_err(wrong);
            assert!(error.contains("365000d is the most"), "{error}");
        }
    }
}
