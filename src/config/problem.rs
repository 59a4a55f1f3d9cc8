//! What is wrong with a file, each mistake with its place.

use std::cell::RefCell;
use std::fmt;

/// Mistakes that are told at once, at most: a file of another kind has one in each line.
const MAX_TOLD: usize = 50;

/// A place in the file: line and column, both from 1; columns count characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// One mistake: where, what is wrong, and what was meant.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Where; `None`: the file as a whole.
    pub place: Option<Place>,
    /// What, in one line.
    pub text: String,
}

/// Why there is no configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    file: String,
    problems: Vec<Problem>,
    /// Those beyond [`MAX_TOLD`].
    untold: usize,
}

impl ConfigError {
    /// The file as a whole.
    pub(super) fn whole(file: &str, text: impl Into<String>) -> ConfigError {
        let problem = Problem {
            place: None,
            text: text.into(),
        };
        ConfigError::new(file, vec![problem])
    }

    /// Puts the problems in the file's order. What an alias repeats is told once.
    pub(super) fn new(file: &str, mut problems: Vec<Problem>) -> ConfigError {
        problems.sort();
        problems.dedup();
        let untold = problems.len().saturating_sub(MAX_TOLD);
        problems.truncate(MAX_TOLD);
        ConfigError {
            file: file.to_owned(),
            problems,
            untold,
        }
    }

    /// The mistakes, in the file's order.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// One line for each mistake, `FILE:LINE:COLUMN: WHAT`.
    pub fn lines(&self) -> impl Iterator<Item = String> + '_ {
        let told = self.problems.iter().map(|problem| match problem.place {
            Some(place) => format!("{}:{place}: {}", self.file, problem.text),
            None => format!("{}: {}", self.file, problem.text),
        });
        let untold = (self.untold > 0).then(|| format!("{}: and {} more", self.file, self.untold));
        told.chain(untold)
    }

    /// One line that counts them, such as `walcast.yml: 2 mistakes`.
    pub fn summary(&self) -> String {
        match self.problems.len() + self.untold {
            1 => format!("{}: 1 mistake", self.file),
            n => format!("{}: {n} mistakes", self.file),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, line) in self.lines().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            f.write_str(&line)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// Collects mistakes while a file is read: a reader notes one, goes on with a default, and finds the next.
#[derive(Default)]
pub(super) struct Problems {
    list: RefCell<Vec<Problem>>,
    /// Tokens that are written in the file itself: no mistake, but not for everyone's eyes.
    literal_tokens: RefCell<Vec<Place>>,
}

impl Problems {
    pub(super) fn add(&self, place: Place, text: impl Into<String>) {
        self.list.borrow_mut().push(Problem {
            place: Some(place),
            text: one_line(text.into()),
        });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.borrow().is_empty()
    }

    pub(super) fn add_literal_token(&self, place: Place) {
        self.literal_tokens.borrow_mut().push(place);
    }

    pub(super) fn into_literal_tokens(self) -> Vec<Place> {
        self.literal_tokens.into_inner()
    }

    pub(super) fn into_list(self) -> Vec<Problem> {
        self.list.into_inner()
    }
}

/// Values are quoted in messages, and what is in a file may be long and hold anything.
fn one_line(text: String) -> String {
    const MAX: usize = 400;
    if text.len() <= MAX && !text.chars().any(char::is_control) {
        return text;
    }
    let mut line = String::new();
    for c in text.chars() {
        if line.len() > MAX {
            line.push('…');
            break;
        }
        match c.is_control() {
            true => line.extend(c.escape_default()),
            false => line.push(c),
        }
    }
    line
}
