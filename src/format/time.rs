//! Times as text: RFC 3339, in UTC when written. Microseconds since 1970, as in every document and message.
//!
//! Source: RFC 3339, 5.6; the calendar is Howard Hinnant's `civil_from_days`
//! (<https://howardhinnant.github.io/date_algorithms.html>).

const DAY_US: i64 = 86_400 * 1_000_000;

/// `2026-11-27T23:04:11.250000Z`, with as many digits of a second as are not zero.
pub fn write_time(time_us: i64) -> String {
    let (days, rest) = (time_us.div_euclid(DAY_US), time_us.rem_euclid(DAY_US));
    let (year, month, day) = civil(days);
    let (seconds, micros) = (rest / 1_000_000, rest % 1_000_000);
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let fraction = match (micros, micros % 1000) {
        (0, _) => String::new(),
        (_, 0) => format!(".{:03}", micros / 1000),
        _ => format!(".{micros:06}"),
    };
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z")
}

/// Reads such a time: a date, `T` or a space, a time, and `Z` or a difference to UTC such as `+02:00`. Digits below a
/// microsecond are cut off, so that what is meant as "until then" never becomes later.
pub fn parse_time(text: &str) -> Result<i64, String> {
    read(text).ok_or_else(|| {
        format!(
            "'{text}' is no time; write it like 2026-11-27T23:04:11Z or 2026-11-28T01:04:11.25+02:00"
        )
    })
}

fn read(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    if !text.is_ascii() || bytes.len() < 20 {
        return None;
    }
    let at = |from: usize, to: usize| number(&text[from..to]);
    let marks = [(4, "-"), (7, "-"), (10, "Tt "), (13, ":"), (16, ":")];
    if !marks
        .iter()
        .all(|&(place, mark)| mark.contains(char::from(bytes[place])))
    {
        return None;
    }
    let (year, month, day) = (at(0, 4)?, at(5, 7)?, at(8, 10)?);
    let (hour, minute, second) = (at(11, 13)?, at(14, 16)?, at(17, 19)?);
    let days = days(year, month, day);
    // A date that does not exist, such as the 31st of April, reads as another one.
    if civil(days) != (year, month, day) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let mut rest = &text[19..];
    let mut micros = 0;
    if let Some(digits) = rest.strip_prefix('.') {
        let end = digits.find(|c: char| !c.is_ascii_digit())?;
        let known = format!("{:0<6}", &digits[..end.min(6)]);
        micros = (end > 0).then(|| number(&known))??;
        rest = &digits[end..];
    }
    let shift = match rest {
        "Z" | "z" => 0,
        _ => {
            let (sign, clock) = rest.split_at_checked(1)?;
            let sign = match sign {
                "+" => 1,
                "-" => -1,
                _ => return None,
            };
            let (hours, minutes) = clock.split_once(':')?;
            let two = hours.len() == 2 && minutes.len() == 2;
            let (hours, minutes) = (number(hours)?, number(minutes)?);
            if !two || hours > 23 || minutes > 59 {
                return None;
            }
            sign * (hours * 60 + minutes)
        }
    };
    let seconds = (hour * 60 + minute - shift) * 60 + second;
    Some(days * DAY_US + seconds * 1_000_000 + micros)
}

fn number(digits: &str) -> Option<i64> {
    let all = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    all.then(|| digits.parse().ok()).flatten()
}

/// Year, month and day of a day that is counted from 1970-01-01.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

/// The inverse of [`civil`].
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let month = if month > 2 { month - 3 } else { month + 9 };
    let of_year = (153 * month + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_times() {
        for (text, time) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T23:59:59Z", 951_868_799_000_000),
            ("2026-11-27T23:04:11.250Z", 1_795_820_651_250_000),
            ("1969-12-31T23:59:59.999999Z", -1),
        ] {
            assert_eq!(parse_time(text), Ok(time), "{text}");
            assert_eq!(write_time(time), text);
        }
        for text in [
            "2026-11-28T01:04:11.25+02:00",
            "2026-11-27 17:34:11.2500009-05:30",
            "2026-11-27t23:04:11.25z",
        ] {
            assert_eq!(parse_time(text), Ok(1_795_820_651_250_000), "{text}");
        }
        for text in [
            "",
            "now",
            "2026-11-27",
            "2026-11-27T23:04:11",
            "2026-02-29T00:00:00Z",
            "2026-04-31T00:00:00Z",
            "2026-00-01T00:00:00Z",
            "2026-11-27T24:00:00Z",
            "2026-11-27T23:60:00Z",
            "2026-11-27T23:04:11.Z",
            "2026-11-27T23:04:11+2:00",
            "2026-11-27T23:04:11Z ",
            "2026-11-27T23:04:1éZ",
            "+026-11-27T23:04:11Z",
        ] {
            assert!(parse_time(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn reads_what_it_writes(time in -62_135_596_800_000_000_i64..253_402_300_800_000_000) {
            prop_assert_eq!(parse_time(&write_time(time)), Ok(time));
        }

        #[test]
        fn never_panics(text in "\\PC*", near in "[0-9TZ:.+-]{15,30}") {
            let _ = (parse_time(&text), parse_time(&near));
        }
    }
}
