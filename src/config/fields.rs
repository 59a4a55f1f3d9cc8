//! The pairs of one section, taken by key and type.

use super::near::nearest;
use super::problem::{Place, Problems};
use super::schema::{self, Section};
use super::yaml::{Kind, Node, Scalar};
use std::collections::HashMap;
use std::fmt::Write as _;
use std::rc::Rc;

/// A section's pairs, each key known and there once.
pub(super) struct Fields<'a> {
    section: &'static Section,
    /// Where the section begins.
    pub(super) place: Place,
    pairs: HashMap<&'static str, Field<'a>>,
    problems: &'a Problems,
}

/// One pair.
#[derive(Clone, Copy)]
pub(super) struct Field<'a> {
    /// Where its key is.
    pub(super) key: Place,
    pub(super) value: &'a Rc<Node>,
}

impl<'a> Fields<'a> {
    /// The pairs of a map. What is no map, unknown or doubled is told.
    pub(super) fn of(
        node: &'a Rc<Node>,
        section: &'static Section,
        problems: &'a Problems,
    ) -> Option<Fields<'a>> {
        let mut fields = Fields {
            section,
            place: node.place,
            pairs: HashMap::new(),
            problems,
        };
        let pairs = match &node.kind {
            Kind::Map(pairs) => pairs,
            Kind::Broken => return None,
            other => {
                let what = match section.name {
                    "" => "the file".to_owned(),
                    "dbs" | "access" | "archives" => format!("an element of `{}`", section.name),
                    name => format!("`{name}`"),
                };
                let text = format!(
                    "{what}: {} where keys belong; the keys are {}",
                    found(other),
                    keys(section)
                );
                problems.add(node.place, text);
                return None;
            }
        };
        for (key, value) in pairs {
            if problems.is_full() {
                break;
            }
            let Some(known) = section.keys.iter().find(|known| known.name == key.text) else {
                problems.add(key.place, unknown(&key.text, section));
                continue;
            };
            let field = Field {
                key: key.place,
                value,
            };
            if let Some(first) = fields.pairs.get(known.name) {
                let text = format!(
                    "`{}` is there twice; the first is in line {}",
                    known.name, first.key.line
                );
                problems.add(key.place, text);
                continue;
            }
            fields.pairs.insert(known.name, field);
        }
        Some(fields)
    }

    pub(super) fn problem(&self, place: Place, text: impl Into<String>) {
        self.problems.add(place, text);
    }

    pub(super) fn note_literal_token(&self, place: Place) {
        self.problems.add_literal_token(place);
    }

    /// The pair, if it is there.
    pub(super) fn get(&self, key: &'static str) -> Option<Field<'a>> {
        debug_assert!(
            self.section.keys.iter().any(|known| known.name == key),
            "{key} is in no table"
        );
        self.pairs.get(key).copied()
    }

    /// Tells if the key is missing.
    pub(super) fn require(&self, key: &'static str, why: &str) {
        if self.get(key).is_none() {
            self.problem(self.place, format!("`{key}` is missing: {why}"));
        }
    }

    /// The value's text, whatever type it would be in YAML: for those whose parser knows better what was meant.
    pub(super) fn raw(&self, key: &'static str) -> Option<&'a Scalar> {
        let node = self.get(key)?.value;
        scalar(key, node, self.problems)
    }

    /// Text of its own form, such as a duration.
    pub(super) fn parse<T>(
        &self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let field = self.get(key)?;
        let scalar = self.raw(key)?;
        self.told(key, field.value.place, parse(&scalar.text))
    }

    /// Text without a form of its own: a number would be a mistake, since `0123` and `123` differ as text.
    pub(super) fn text<T>(
        &self,
        key: &'static str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let field = self.get(key)?;
        let text = text(key, field.value, self.problems)?;
        self.told(key, field.value.place, parse(text))
    }

    fn told<T>(&self, key: &str, place: Place, result: Result<T, String>) -> Option<T> {
        result
            .map_err(|error| self.problem(place, format!("`{key}`: {error}")))
            .ok()
    }

    pub(super) fn boolean(&self, key: &'static str) -> Option<bool> {
        let field = self.get(key)?;
        let scalar = self.raw(key)?;
        let value = match scalar.text.as_str() {
            "true" => Ok(true),
            "false" => Ok(false),
            other => Err(format!("'{other}' is neither true nor false")),
        };
        let value = match value {
            Ok(_) if !scalar.plain && !scalar.expanded => Err(format!(
                "\"{}\" in quotes is text; write it without them",
                scalar.text
            )),
            value => value,
        };
        self.told(key, field.value.place, value)
    }

    /// A whole number within bounds.
    pub(super) fn count(&self, key: &'static str, least: usize, most: usize) -> Option<usize> {
        let field = self.get(key)?;
        let scalar = self.raw(key)?;
        let text = &scalar.text;
        let digits = !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
        let value = match text.parse::<usize>() {
            Ok(_) if !scalar.plain && !scalar.expanded => Err(format!(
                "\"{text}\" in quotes is text; write it without them"
            )),
            Ok(number) if digits && (least..=most).contains(&number) => Ok(number),
            _ if digits => Err(format!("{text} is not between {least} and {most}")),
            _ => Err(format!(
                "'{text}' is no number; write one from {least} to {most}"
            )),
        };
        self.told(key, field.value.place, value)
    }

    /// One of a few words.
    pub(super) fn word<T: Copy>(&self, key: &'static str, words: &[(&str, T)]) -> Option<T> {
        let field = self.get(key)?;
        let scalar = self.raw(key)?;
        self.told(key, field.value.place, word(&scalar.text, words))
    }

    /// A section below this one.
    pub(super) fn section(
        &self,
        key: &'static str,
        section: &'static Section,
    ) -> Option<Fields<'a>> {
        Fields::of(self.get(key)?.value, section, self.problems)
    }

    /// The elements of a list that must not be empty.
    pub(super) fn list(&self, key: &'static str, without: &str) -> Option<&'a [Rc<Node>]> {
        let field = self.get(key)?;
        let place = field.value.place;
        match &field.value.kind {
            Kind::List(items) if items.is_empty() => {
                self.problem(place, format!("`{key}` is an empty list; {without}"));
                None
            }
            Kind::List(items) => Some(items),
            Kind::Broken => None,
            other => {
                let text = format!(
                    "`{key}`: {} where a list belongs; write [A, B], or each in a line of its own behind a -",
                    found(other)
                );
                self.problem(place, text);
                None
            }
        }
    }

    /// The elements of a list of texts.
    pub(super) fn texts<T>(
        &self,
        key: &'static str,
        without: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Vec<(Place, T)>> {
        let items = self.list(key, without)?;
        let parse = |node: &'a Rc<Node>| {
            let text = text(key, node, self.problems)?;
            let value = self.told(key, node.place, parse(text))?;
            Some((node.place, value))
        };
        items.iter().map(parse).collect()
    }
}

/// A value's text; what is none is told.
pub(super) fn scalar<'a>(key: &str, node: &'a Rc<Node>, problems: &Problems) -> Option<&'a Scalar> {
    let text = match &node.kind {
        Kind::Broken => return None,
        Kind::Scalar(scalar) if scalar.text.is_empty() && scalar.expanded => {
            format!("`{key}`: the variable is empty; set it, or leave the key out")
        }
        Kind::Scalar(scalar) if is_null(scalar) || scalar.text.is_empty() => {
            format!("`{key}` has no value; write one, or leave the key out")
        }
        Kind::Scalar(scalar) => return Some(scalar),
        other => format!("`{key}`: {} where one value belongs", found(other)),
    };
    problems.add(node.place, text);
    None
}

fn text<'a>(key: &str, node: &'a Rc<Node>, problems: &Problems) -> Option<&'a str> {
    let scalar = scalar(key, node, problems)?;
    let written = &scalar.text;
    if scalar.plain && !scalar.expanded && (is_number(written) || is_boolean(written)) {
        let what = if is_number(written) {
            "a number"
        } else {
            "true or false"
        };
        let text = format!("`{key}`: {written} is {what} where text belongs; write \"{written}\"");
        problems.add(node.place, text);
        return None;
    }
    Some(written)
}

/// The value of a word, or what was meant.
pub(super) fn word<T: Copy>(text: &str, words: &[(&str, T)]) -> Result<T, String> {
    if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
        return Ok(*value);
    }
    let known = words.iter().map(|(word, _)| *word);
    Err(match nearest(text, known.clone()) {
        Some(near) => format!("'{text}' is not known; did you mean {near}?"),
        None => format!(
            "'{text}' is not known; write one of {}",
            known.collect::<Vec<_>>().join(", ")
        ),
    })
}

fn is_null(scalar: &Scalar) -> bool {
    scalar.plain
        && !scalar.expanded
        && matches!(scalar.text.as_str(), "~" | "null" | "Null" | "NULL")
}

/// What YAML reads as a number, or nearly.
fn is_number(text: &str) -> bool {
    let digits = text.trim_start_matches(['-', '+', '.']);
    let begins = digits.starts_with(|c: char| c.is_ascii_digit());
    let radix = digits.strip_prefix("0x").or(digits.strip_prefix("0o"));
    begins
        && (text.parse::<f64>().is_ok()
            || radix.is_some_and(|digits| u64::from_str_radix(digits, 16).is_ok()))
}

fn is_boolean(text: &str) -> bool {
    matches!(text, "true" | "True" | "TRUE" | "false" | "False" | "FALSE")
}

/// What is there, for a sentence.
fn found(kind: &Kind) -> &'static str {
    match kind {
        Kind::Scalar(scalar) if scalar.text.is_empty() || is_null(scalar) => "nothing",
        Kind::Scalar(_) => "a single value",
        Kind::List(_) => "a list",
        Kind::Map(_) => "a map of keys",
        Kind::Broken => "a mistake",
    }
}

/// The names of a section's keys, for a sentence.
fn keys(section: &Section) -> String {
    let names: Vec<_> = section.keys.iter().map(|key| key.name).collect();
    names.join(", ")
}

/// What to say of an unknown key: what it was meant to be, where it belongs, or what there is.
fn unknown(key: &str, section: &Section) -> String {
    let place = match section.name {
        "" => String::new(),
        name => format!(" in `{name}`"),
    };
    let mut text = format!("there is no key `{}`{place}; ", key);
    let elsewhere: Vec<_> = schema::SECTIONS
        .iter()
        .filter(|other| other.keys.iter().any(|known| known.name == key))
        .map(|other| match other.name {
            "" => "at the top of the file".to_owned(),
            name => format!("in `{name}`"),
        })
        .collect();
    let names = || section.keys.iter().map(|known| known.name);
    // Writing to a String cannot fail.
    let _ = if key == "<<" {
        write!(
            text,
            "merging is not done: repeat the keys, or give a whole value a name with & and use it with *"
        )
    } else if let Some(meant) = synonym(key, names()) {
        write!(text, "did you mean `{meant}`?")
    } else if !elsewhere.is_empty() {
        write!(text, "it belongs {}", elsewhere.join(" or "))
    } else if let Some(near) = nearest(key, names()) {
        write!(text, "did you mean `{near}`?")
    } else {
        write!(text, "the keys are {}", keys(section))
    };
    text
}

/// What others call a key of this section.
fn synonym<'a>(key: &str, mut known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let meant = match key {
        "databases" => "dbs",
        "addr" | "address" | "bind" | "host" | "port" => "listen",
        "metrics" => "http-listen",
        "ssl" => "tls",
        "logging" => "log",
        "command" => "exec",
        "file" => "path",
        "directory" => "dir",
        "glob" | "match" | "filter" => "pattern",
        "primary" => "upstream",
        _ => return None,
    };
    known.find(|name| *name == meant)
}
