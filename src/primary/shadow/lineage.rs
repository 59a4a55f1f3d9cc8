//! `<db>-walcast/lineage`: where the current generation came from, and what it began with.
//!
//! ```text
//! walcast lineage 1
//! generation 89abcdef01234567
//! parent 0123456789abcdef                                                (only if there was one)
//! fork 0123456789abcdef/0000000000000003:00000000000010f8                (its last known position)
//! base 9e3779b97f4a7c15 17 4096                    (an empty log at the start: dbsum, pages, page size)
//! ```
//!
//! `base` lets a restart prove continuity before the first commit was captured. The file is a help, not a truth: where
//! it is missing or not readable, nothing is known of the past.

use super::Layout;
use crate::disk::{self, ReplaceOps};
use crate::format::dbsum::DbSum;
use crate::format::position::{Generation, Position};
use std::fmt::Write as _;

/// The names of the steps that replace the file.
pub const OPS: ReplaceOps = ReplaceOps {
    write: "lineage.write",
    sync: "lineage.sync",
    rename: "lineage.rename",
};

const FIRST_LINE: &str = "walcast lineage 1";

/// The state at (generation, 0, 0).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Base {
    /// The checksum of the whole database.
    pub dbsum: DbSum,
    /// Its pages.
    pub page_count: u32,
    /// Bytes in a page.
    pub page_size: u32,
}

/// Where a generation came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lineage {
    /// The generation that this tells of.
    pub generation: Generation,
    /// The last known position of the generation before.
    pub fork: Option<Position>,
    /// What it began with, where it began with an empty log.
    pub base: Option<Base>,
}

impl Lineage {
    /// The file's text.
    pub fn to_text(self) -> String {
        let mut text = format!("{FIRST_LINE}\ngeneration {}\n", self.generation);
        if let Some(fork) = self.fork {
            let _ = writeln!(text, "parent {}\nfork {fork}", fork.generation);
        }
        if let Some(base) = self.base {
            let _ = writeln!(
                text,
                "base {} {} {}",
                base.dbsum, base.page_count, base.page_size
            );
        }
        text
    }

    /// Reads the text; `None` if it is not one of version 1 or not whole.
    pub fn parse(text: &str) -> Option<Lineage> {
        let mut lines = text.lines();
        if lines.next()? != FIRST_LINE {
            return None;
        }
        let generation = lines.next()?.strip_prefix("generation ")?.parse().ok()?;
        let mut lineage = Lineage {
            generation,
            fork: None,
            base: None,
        };
        for line in lines {
            match line.split_once(' ')? {
                ("parent", _) => {}
                ("fork", position) => lineage.fork = Some(position.parse().ok()?),
                ("base", base) => lineage.base = Some(parse_base(base)?),
                _ => return None,
            }
        }
        Some(lineage)
    }

    /// Reads the file; `None` if it does not tell of `generation`.
    pub fn read(layout: &Layout, generation: Generation) -> disk::Result<Option<Lineage>> {
        let bytes = disk::read_if_exists("lineage.read", &layout.lineage())?;
        let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
        let lineage = text.and_then(|text| Lineage::parse(&text));
        Ok(lineage.filter(|lineage| lineage.generation == generation))
    }
}

fn parse_base(text: &str) -> Option<Base> {
    let mut words = text.split(' ');
    let dbsum = DbSum(u64::from_str_radix(words.next()?, 16).ok()?);
    let page_count = words.next()?.parse().ok()?;
    let page_size = words.next()?.parse().ok()?;
    words.next().is_none().then_some(Base {
        dbsum,
        page_count,
        page_size,
    })
}
