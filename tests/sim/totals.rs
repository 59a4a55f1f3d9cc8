//! How often what happened, in one world or in all: worlds in which nothing goes wrong prove nothing.

use crate::faults;
use std::collections::BTreeMap;
use std::fmt;

/// Worlds from which on everything must have happened.
const ENOUGH: u64 = 300;

/// What must happen besides all kinds of fault.
const EXPECTED: [&str; 13] = [
    "commits",
    "commits that a power cut took",
    "excused: a position that is used again",
    "excused: readers that leave a lost state",
    "excused: under way at a power cut",
    "generations",
    "large worlds",
    "parts of a transaction",
    "parts of a snapshot, but the first",
    "rests",
    "snapshot: ahead",
    "snapshot: checksum",
    "states read",
];

/// Counts by what was counted.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    sums: BTreeMap<&'static str, u64>,
    most: BTreeMap<&'static str, u64>,
}

impl Totals {
    /// So many more.
    pub fn add(&mut self, what: &'static str, count: u64) {
        *self.sums.entry(what).or_default() += count;
    }

    /// The largest remains.
    pub fn most(&mut self, what: &'static str, value: u64) {
        let most = self.most.entry(what).or_default();
        *most = value.max(*most);
    }

    /// With those of another world.
    pub fn merge(&mut self, other: &Totals) {
        for (what, count) in &other.sums {
            self.add(what, *count);
        }
        for (what, value) in &other.most {
            self.most(what, *value);
        }
    }

    /// In many worlds everything happens, or the simulation has become blind for it.
    pub fn check(&self, worlds: u64) {
        if worlds < ENOUGH {
            return;
        }
        let expected = EXPECTED.into_iter().chain(faults::names());
        let missing: Vec<&str> = expected
            .filter(|what| !self.sums.contains_key(what))
            .collect();
        assert!(missing.is_empty(), "never in {worlds} worlds: {missing:?}");
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (what, count) in &self.sums {
            writeln!(f, "{count:>10}  {what}")?;
        }
        for (what, value) in &self.most {
            writeln!(f, "{value:>10}  {what}, at most")?;
        }
        Ok(())
    }
}
