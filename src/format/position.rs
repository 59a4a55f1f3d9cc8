//! The position: one point in the history of one database.
//!
//! Text form, the same in files, messages, logs and on the command line:
//!
//! ```text
//! 89abcdef01234567/0000000000000003:00000000000010f8
//! generation       index            offset            16 lower-case hex digits each
//! ```
//!
//! The form is strict, so that equal positions are equal strings and sort as text within a
//! generation.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// Hex digits of each of the three numbers.
const DIGITS: usize = 16;

/// One unbroken history of a database.
///
/// A random number, so generations have no order. A new one begins wherever continuity with
/// the old one cannot be proven.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Generation(pub u64);

/// The end of a committed transaction.
///
/// Canonical form: the end of the WAL file `index` is (`index`, its length), never
/// (`index + 1`, 0 or 32). Offset 0 appears only as (0, 0), where a generation begins with an
/// empty log. The type itself does not enforce this: it must be able to hold what a peer sent.
///
/// Ordered within a generation by (`index`, `offset`); positions of two generations have no
/// order ([`PartialOrd::partial_cmp`] is `None`, and all of `<`, `<=`, `>`, `>=` are false).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Position {
    /// The history this position is in.
    pub generation: Generation,
    /// Counts the WAL files in the generation, from 0.
    pub index: u64,
    /// Bytes from the start of that WAL file (its 32-byte header included).
    pub offset: u64,
}

/// A text that is not a position or not a generation.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PositionError {
    /// The two separators are not where they have to be, or the length is wrong.
    #[error(
        "expected a position like 89abcdef01234567/0000000000000003:00000000000010f8 \
         (generation/index:offset, 16 lower-case hex digits each), got {got:?}"
    )]
    Shape {
        /// The text, cut if it is long.
        got: String,
    },
    /// One of the numbers is not 16 lower-case hex digits.
    #[error("expected the {part} as 16 lower-case hex digits like 00000000000010f8, got {got:?}")]
    Number {
        /// Which of the three: `generation`, `index` or `offset`.
        part: &'static str,
        /// The text of that part, cut if it is long.
        got: String,
    },
}

impl Position {
    /// Length of the text form, in bytes.
    pub const TEXT_LEN: usize = 3 * DIGITS + 2;

    /// The position (0, 0): `generation` began with an empty log.
    pub const fn start_of(generation: Generation) -> Position {
        Position {
            generation,
            index: 0,
            offset: 0,
        }
    }
}

impl PartialOrd for Position {
    fn partial_cmp(&self, other: &Position) -> Option<Ordering> {
        (self.generation == other.generation)
            .then(|| (self.index, self.offset).cmp(&(other.index, other.offset)))
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}/{:016x}:{:016x}",
            self.generation, self.index, self.offset
        )
    }
}

impl FromStr for Generation {
    type Err = PositionError;

    fn from_str(text: &str) -> Result<Generation, PositionError> {
        parse_number("generation", text.as_bytes()).map(Generation)
    }
}

impl FromStr for Position {
    type Err = PositionError;

    fn from_str(text: &str) -> Result<Position, PositionError> {
        let bytes = text.as_bytes();
        let (slash, colon) = (DIGITS, 2 * DIGITS + 1);
        if bytes.len() != Self::TEXT_LEN || bytes[slash] != b'/' || bytes[colon] != b':' {
            return Err(PositionError::Shape {
                got: shown(text.as_bytes()),
            });
        }
        Ok(Position {
            generation: parse_number("generation", &bytes[..slash]).map(Generation)?,
            index: parse_number("index", &bytes[slash + 1..colon])?,
            offset: parse_number("offset", &bytes[colon + 1..])?,
        })
    }
}

/// Parses exactly 16 lower-case hex digits. Not `u64::from_str_radix`, which also takes a sign,
/// upper case and other lengths.
fn parse_number(part: &'static str, digits: &[u8]) -> Result<u64, PositionError> {
    let value = digits.iter().try_fold(0u64, |value, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u64::from(digit))
    });
    match value {
        Some(value) if digits.len() == DIGITS => Ok(value),
        _ => Err(PositionError::Number {
            part,
            got: shown(digits),
        }),
    }
}

/// What an error quotes of its input: enough to recognise it, whatever its size.
fn shown(text: &[u8]) -> String {
    const LIMIT: usize = 80;
    let mut shown = String::from_utf8_lossy(&text[..text.len().min(LIMIT)]).into_owned();
    if text.len() > LIMIT {
        shown.push_str("...");
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEXT: &str = "89abcdef01234567/0000000000000003:00000000000010f8";

    #[test]
    fn prints_and_parses_the_documented_example() {
        let position = Position {
            generation: Generation(0x89ab_cdef_0123_4567),
            index: 3,
            offset: 0x10f8,
        };
        assert_eq!(position.to_string(), TEXT);
        assert_eq!(TEXT.parse(), Ok(position));
        assert_eq!("89abcdef01234567".parse(), Ok(position.generation));
    }

    #[test]
    fn refuses_every_other_spelling() {
        let bad = [
            String::new(),
            "0".into(),
            TEXT.to_uppercase(),
            TEXT.replace('/', ":"),
            TEXT.replace(':', "/"),
            format!("{TEXT}\n"),
            format!(" {TEXT}"),
            TEXT.replacen("0000000000000003", "+000000000000003", 1),
            TEXT.replacen("0000000000000003", "3", 1),
            TEXT.replacen("10f8", "10g8", 1),
            // Right length in bytes, a separator within a character.
            format!("89abcdef0123456é{}", &TEXT[17..]),
        ];
        for text in bad {
            assert!(text.parse::<Position>().is_err(), "{text:?}");
        }
        assert!("89abcdef0123456".parse::<Generation>().is_err());
        assert!("89abcdef012345678".parse::<Generation>().is_err());
        assert!("".parse::<Generation>().is_err());
    }

    #[test]
    fn errors_name_the_part_and_stay_short() {
        let error = TEXT.replacen("10f8", "10g8", 1).parse::<Position>();
        let message = error.unwrap_err().to_string();
        assert!(message.contains("offset"), "{message}");
        assert!(message.contains("00000000000010g8"), "{message}");
        let message = "x".repeat(100_000).parse::<Position>().unwrap_err();
        let message = message.to_string();
        assert!(message.len() < 400, "{}", message.len());
        assert!(message.contains(TEXT), "{message}");
    }

    #[test]
    fn generations_have_no_order() {
        let a = Position::start_of(Generation(1));
        let b = Position::start_of(Generation(2));
        assert_eq!(a.partial_cmp(&b), None);
    }

    proptest! {
        #[test]
        fn round_trips(generation: u64, index: u64, offset: u64) {
            let position = Position { generation: Generation(generation), index, offset };
            prop_assert_eq!(position.to_string().parse(), Ok(position));
            prop_assert_eq!(position.to_string().len(), Position::TEXT_LEN);
            prop_assert_eq!(position.generation.to_string().parse(), Ok(position.generation));
        }

        #[test]
        fn orders_by_index_then_offset_and_as_text(a: (u64, u64), b: (u64, u64)) {
            let at = |(index, offset)| Position { generation: Generation(7), index, offset };
            prop_assert_eq!(at(a).partial_cmp(&at(b)), Some(a.cmp(&b)));
            prop_assert_eq!(at(a).to_string().cmp(&at(b).to_string()), a.cmp(&b));
        }

        #[test]
        fn what_parses_prints_as_it_was(text in "[0-9a-gA-F]{15,17}/[0-9a-f]{16}:[0-9a-f]{16}") {
            if let Ok(position) = text.parse::<Position>() {
                prop_assert_eq!(position.to_string(), text);
            }
        }

        #[test]
        fn never_panics(text in "\\PC*") {
            let _ = text.parse::<Position>();
            let _ = text.parse::<Generation>();
        }
    }
}
