//! `tests/common/crowd.txt`: what the applications of the history tests may do and with which settings, drawn by a seed.

use std::collections::BTreeMap;

use super::rng::Rng;

const TEXT: &str = include_str!("../../common/crowd.txt");

/// Lines by section, without comments.
pub struct Plan(BTreeMap<&'static str, Vec<&'static str>>);

/// What the words in braces of a script stand for.
#[derive(Clone, Copy)]
pub struct Words<'a> {
    /// `main`, or the name of an attached database.
    pub db: &'a str,
    pub page_size: u64,
}

impl Plan {
    /// # Panics
    /// When the file is no plan.
    pub fn load() -> Self {
        let mut sections: BTreeMap<_, Vec<_>> = BTreeMap::new();
        let mut current = None;
        for line in TEXT.lines() {
            match line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
                Some(name) => current = Some(name),
                None if line.is_empty() || line.starts_with('#') => {}
                None => {
                    let section = current.expect("a section before the first line");
                    sections.entry(section).or_default().push(line);
                }
            }
        }
        Self(sections)
    }

    fn lines(&self, section: &str) -> &[&'static str] {
        let lines = self.0.get(section);
        lines.unwrap_or_else(|| panic!("no section {section}"))
    }

    /// The scripts that make a new database, in their order.
    pub fn schema(&self, words: Words, rng: &mut Rng) -> Vec<String> {
        let lines = self.lines("schema").iter();
        lines.map(|line| fill(line, words, rng)).collect()
    }

    /// All scripts of a section, once each.
    pub fn scripts(&self, section: &str, words: Words, rng: &mut Rng) -> Vec<String> {
        let scripts = self.weighted(section).into_iter();
        scripts
            .map(|(_, script)| fill(script, words, rng))
            .collect()
    }

    fn weighted(&self, section: &str) -> Vec<(u64, &'static str)> {
        let weighted = self.lines(section).iter().map(|line| {
            let (weight, script) = line.split_once(' ').expect("a weight and a script");
            (weight.parse::<u64>().expect("a weight"), script)
        });
        weighted.collect()
    }

    /// One script of a section, by its weights.
    pub fn script(&self, section: &str, words: Words, rng: &mut Rng) -> String {
        let weighted = self.weighted(section);
        let mut at = rng.below(weighted.iter().map(|(weight, _)| weight).sum());
        for (weight, script) in weighted {
            if at < weight {
                return fill(script, words, rng);
            }
            at -= weight;
        }
        unreachable!("the weights add up");
    }

    /// One value for each setting of a section.
    pub fn settings(&self, section: &str, rng: &mut Rng) -> Vec<(&'static str, &'static str)> {
        let lines = self.lines(section).iter();
        lines
            .map(|line| {
                let (name, values) = setting(line);
                let at = rng.below(values.len() as u64);
                (name, values[usize::try_from(at).expect("an index")])
            })
            .collect()
    }

    /// `settings` for each of `rounds`, so that every value of each setting occurs, if there are rounds enough.
    pub fn settings_by_turns(
        &self,
        section: &str,
        rounds: usize,
        rng: &mut Rng,
    ) -> Vec<Vec<(&'static str, &'static str)>> {
        let mut drawn = vec![Vec::new(); rounds];
        for line in self.lines(section) {
            let (name, values) = setting(line);
            let mut turn: Vec<&str> = values.iter().copied().cycle().take(rounds).collect();
            for at in (1..turn.len()).rev() {
                let other = rng.below(at as u64 + 1);
                turn.swap(at, usize::try_from(other).expect("an index"));
            }
            for (settings, value) in drawn.iter_mut().zip(turn) {
                settings.push((name, value));
            }
        }
        drawn
    }
}

/// `PRAGMA`s for drawn settings.
pub fn pragmas(db: &str, settings: &[(&str, &str)]) -> String {
    let one = |(name, value): &(&str, &str)| format!("PRAGMA {db}.{name} = {value};");
    settings.iter().map(one).collect()
}

fn setting(line: &'static str) -> (&'static str, Vec<&'static str>) {
    let (name, values) = line.split_once(" = ").expect("a setting and its values");
    (name, values.split(" | ").collect())
}

/// Puts in what the words in braces stand for.
fn fill(script: &str, words: Words, rng: &mut Rng) -> String {
    let mut filled = String::new();
    let mut kept: BTreeMap<&str, u64> = BTreeMap::new();
    let mut rest = script;
    while let Some((before, after)) = rest.split_once('{') {
        let (word, after) = after.split_once('}').expect("a closed brace");
        filled.push_str(before);
        rest = after;
        let below = |n: &str| n.parse().unwrap_or_else(|_| panic!("{word} in {script}"));
        let number = match (word, word.split_once(':')) {
            ("db", _) => {
                filled.push_str(words.db);
                continue;
            }
            ("page", _) => words.page_size,
            ("r", _) => rng.below(1 << 31),
            (_, Some((name, n))) => {
                let number = rng.below(below(n));
                kept.insert(name, number);
                number
            }
            (name, None) => match kept.get(name) {
                Some(&number) => number,
                None => rng.below(below(name)),
            },
        };
        filled.push_str(&number.to_string());
    }
    filled + rest
}
