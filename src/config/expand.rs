//! `$NAME` and `${NAME}` in values.
//!
//! Expansion works on the text of one value after YAML was read, so what a variable holds can never become a key, a
//! second value or a comment. Stricter than a shell on purpose: a variable that is not set is an error instead of nothing,
//! and a `$` that means itself is written `$$`.

use std::env::VarError;

/// Looks a variable up; `std::env::var` is one.
pub type Env<'a> = dyn Fn(&str) -> Result<String, VarError> + 'a;

/// A `$` that cannot be expanded.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BadDollar {
    /// Which `$` of the text, from 0.
    pub(super) ordinal: usize,
    /// What is wrong with it.
    pub(super) text: String,
}

/// The text with its variables replaced, or every `$` that could not be. Variables in what a variable holds stay as they
/// are. Stops adding beyond `max` bytes: the caller refuses what is longer.
pub(super) fn expand(text: &str, env: &Env<'_>, max: usize) -> Result<String, Vec<BadDollar>> {
    let mut out = String::with_capacity(text.len());
    let mut bad = Vec::new();
    let mut ordinal = 0;
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let tail = &rest[at + 1..];
        if let Some(tail) = tail.strip_prefix('$') {
            out.push('$');
            ordinal += 2;
            rest = tail;
            continue;
        }
        let (value, tail) = match variable(tail) {
            Ok((name, tail)) => (look_up(name, env), tail),
            Err(text) => (Err(text), tail),
        };
        match value {
            Ok(value) if out.len() <= max => out.push_str(&value),
            Ok(_) => {}
            Err(text) => bad.push(BadDollar { ordinal, text }),
        }
        ordinal += 1;
        // A name in braces has no `$`, or it would have been refused: then only this `$` was taken.
        rest = tail;
    }
    out.push_str(rest);
    if bad.is_empty() { Ok(out) } else { Err(bad) }
}

/// The name behind a `$`, and what follows it.
fn variable(tail: &str) -> Result<(&str, &str), String> {
    if let Some(inner) = tail.strip_prefix('{') {
        let Some((name, tail)) = inner.split_once('}') else {
            return Err("${ without its }; write ${NAME}, or $$ for a $ that means itself".into());
        };
        if name_length(name) != name.len() || name.is_empty() {
            return Err(format!(
                "'${{{name}}}' is no variable: only $NAME and ${{NAME}} are known, no defaults and nothing else that a \
                 shell knows; write $$ for a $ that means itself"
            ));
        }
        return Ok((name, tail));
    }
    match name_length(tail) {
        0 => Err("a $ without a name; write $NAME, or $$ for a $ that means itself".to_owned()),
        length => Ok(tail.split_at(length)),
    }
}

/// Bytes of the variable's name with which the text begins.
fn name_length(text: &str) -> usize {
    let end = text.find(|c: char| c != '_' && !c.is_ascii_alphanumeric());
    match text.chars().next() {
        Some(first) if first == '_' || first.is_ascii_alphabetic() => end.unwrap_or(text.len()),
        _ => 0,
    }
}

fn look_up(name: &str, env: &Env<'_>) -> Result<String, String> {
    env(name).map_err(|error| match error {
        VarError::NotPresent => format!(
            "the environment variable {name} is not set; set it, or write $$ for a $ that means itself"
        ),
        VarError::NotUnicode(_) => format!("the environment variable {name} is not UTF-8"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Result<String, VarError> {
        match name {
            "A" => Ok("one".to_owned()),
            "LONG_2" => Ok("$A # {x: [".to_owned()),
            "EMPTY" => Ok(String::new()),
            _ => Err(VarError::NotPresent),
        }
    }

    #[test]
    fn variables_are_replaced_once() {
        for (text, want) in [
            ("", ""),
            ("plain", "plain"),
            ("$A", "one"),
            ("${A}", "one"),
            ("x$A-${A}y", "xone-oney"),
            ("$$A $$", "$A $"),
            ("$$$A", "$one"),
            ("[$EMPTY]", "[]"),
            // What a variable holds is not looked at again.
            ("$LONG_2", "$A # {x: ["),
        ] {
            assert_eq!(expand(text, &env, 1000), Ok(want.to_owned()), "{text}");
        }
    }

    #[test]
    fn every_dollar_that_means_nothing_is_found() {
        for (text, ordinals) in [
            ("$", &[0][..]),
            ("$NO", &[0]),
            ("$A $NO $$ ${NO}", &[1, 4]),
            ("${A:-x}", &[0]),
            ("${A", &[0]),
            ("${}", &[0]),
            ("$1 $-", &[0, 1]),
            ("$A${$A}", &[1]),
            ("$é", &[0]),
        ] {
            let bad = expand(text, &env, 1000).expect_err(text);
            let found: Vec<_> = bad.iter().map(|bad| bad.ordinal).collect();
            assert_eq!(found, ordinals, "{text}: {bad:?}");
        }
    }

    #[test]
    fn repetition_stays_small() {
        let text = "$A".repeat(10_000);
        assert!(expand(&text, &env, 100).expect("set").len() < 110);
    }
}
