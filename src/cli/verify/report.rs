//! What a comparison found.

use crate::format::position::Position;
use serde_json::json;

/// Pages that people are told by number.
const NAMED: usize = 20;
/// Pages that programs are told by number.
const LISTED: usize = 100_000;

/// The result of a comparison.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// Where both were, if that is known.
    pub(super) position: Option<Position>,
    /// Bytes in a page of each.
    pub(super) page_size: (u32, u32),
    /// Pages of each.
    pub(super) pages: (u32, u32),
    /// How many differ, of those that both have.
    pub(super) differing: u64,
    /// The first of them.
    pub(super) listed: Vec<u32>,
    /// What may be the cause, and what to do.
    pub(super) hint: Option<&'static str>,
}

impl Report {
    /// Notes one page.
    pub(super) fn page(&mut self, pgno: u32, same: bool) {
        if !same {
            self.differing += 1;
            if self.listed.len() < LISTED {
                self.listed.push(pgno);
            }
        }
    }

    pub(super) fn is_equal(&self) -> bool {
        self.differing == 0 && self.pages.0 == self.pages.1 && self.page_size.0 == self.page_size.1
    }

    pub(super) fn text(&self) -> String {
        let at = self
            .position
            .map(|p| format!(" at {p}"))
            .unwrap_or_default();
        let (size, pages) = (self.page_size.0, self.pages.0);
        if self.is_equal() {
            return format!("equal{at}: {pages} pages of {size} bytes");
        }
        let mut found = Vec::new();
        if self.page_size.0 != self.page_size.1 {
            found.push(format!("page size {} instead of {size}", self.page_size.1));
        } else if self.pages.0 != self.pages.1 {
            found.push(format!("{} pages instead of {pages}", self.pages.1));
        }
        if self.differing > 0 {
            let named: Vec<String> = self.listed.iter().take(NAMED).map(u32::to_string).collect();
            let more = if self.differing > NAMED as u64 {
                ", ..."
            } else {
                ""
            };
            found.push(format!(
                "{} of {pages} pages differ: {}{more}",
                self.differing,
                named.join(", ")
            ));
        }
        let hint = self
            .hint
            .map(|hint| format!("\n{hint}"))
            .unwrap_or_default();
        format!("different{at}: {}{hint}", found.join("; "))
    }

    pub(super) fn json(&self) -> String {
        json!({
            "equal": self.is_equal(),
            "position": self.position.map(|p| p.to_string()),
            "primary": { "page_size": self.page_size.0, "pages": self.pages.0 },
            "replica": { "page_size": self.page_size.1, "pages": self.pages.1 },
            "differing_pages": self.differing,
            "pages": self.listed,
            "hint": self.hint,
        })
        .to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::Report;

    fn report() -> Report {
        Report {
            page_size: (4096, 4096),
            pages: (30, 30),
            ..Report::default()
        }
    }

    #[test]
    fn what_differs_is_said_in_words_and_as_json() {
        let mut found = report();
        assert!(found.is_equal());
        assert_eq!(found.text(), "equal: 30 pages of 4096 bytes");
        (1..=30).for_each(|pgno| found.page(pgno, pgno > 25));
        let first: Vec<String> = (1..=20).map(|n: u32| n.to_string()).collect();
        let expected = format!(
            "different: 25 of 30 pages differ: {}, ...",
            first.join(", ")
        );
        assert_eq!(found.text(), expected);
        let json: serde_json::Value = serde_json::from_str(&found.json()).expect("JSON");
        assert_eq!(json["equal"], false);
        assert_eq!(json["pages"].as_array().expect("pages").len(), 25);
    }

    #[test]
    fn another_size_is_a_difference_too() {
        let mut found = report();
        found.pages.1 = 31;
        assert_eq!(found.text(), "different: 31 pages instead of 30");
        found.page_size.1 = 512;
        assert_eq!(found.text(), "different: page size 512 instead of 4096");
    }
}
