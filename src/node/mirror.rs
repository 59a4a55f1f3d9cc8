//! The databases of an upstream.

use super::finding::{Finding, Found, belongs_to_another};
use crate::client::Listing;
use crate::model::Role;
use globset::GlobMatcher;
use std::collections::BTreeMap;

/// Looks at which a database is missing before it is gone, where the upstream does not say that it has looked into all of
/// its directories: letting a copy go since a primary has just been started would take its readers away.
const MISSING: u32 = 5;

/// Databases of one upstream, with those that are gone and have left a copy: whoever lists other names at each look must not
/// fill the memory and the disk.
const MOST: usize = 65_536;

/// What was found before, and at how many looks since then it was missing.
pub type Followed = BTreeMap<String, u32>;

/// What the upstream has now, and what it had. `followed` grows by what is found, up to [`MOST`]; what is gone is
/// forgotten once it has no copy here. Replicas of the upstream are not
/// taken: they can be had from their primary only. The names come from the network: what could lead out of the directory
/// is refused, as is what would lie among the files of another database.
pub fn look(
    listing: &Listing,
    pattern: &GlobMatcher,
    followed: &mut Followed,
    has_copy: impl Fn(&str) -> bool,
) -> Found {
    followed.retain(|name, missing| *missing < MISSING || has_copy(name));
    let mut found = Found::default();
    for status in &listing.databases {
        let name = &status.name;
        if status.role != Role::Primary || !pattern.is_match(name) {
            continue;
        }
        if belongs_to_another(name) {
            let line = format!("left out: '{name}' is a name of SQLite's or walcast's own files");
            found.nameless.insert(line);
            continue;
        }
        if !followed.contains_key(name) && followed.len() >= MOST {
            let line = format!(
                "left out: the upstream has, or had, more than {MOST} databases; remove copies of those that are gone"
            );
            found.nameless.insert(line);
            continue;
        }
        found.note(name, Finding::Here);
        if found.databases.contains_key(name) {
            followed.entry(name.clone()).or_insert(0);
        }
    }
    for (name, missing) in followed.iter_mut() {
        *missing = match found.databases.contains_key(name) {
            true => 0,
            false if listing.settled => MISSING,
            false => missing.saturating_add(1),
        };
    }
    for (name, missing) in followed.iter() {
        let finding = match *missing {
            ..MISSING => Finding::Kept,
            _ => Finding::Gone,
        };
        found.databases.entry(name.clone()).or_insert(finding);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse_pattern;
    use crate::format::dbsum::DbSum;
    use crate::model::{DatabaseState, DatabaseStatus};

    fn status(name: &str, role: Role) -> DatabaseStatus {
        super::super::placeholder::status_of(name, role, DatabaseState::Streaming, DbSum(0))
    }

    fn listing(databases: Vec<DatabaseStatus>, settled: bool) -> Listing {
        Listing { databases, settled }
    }

    #[test]
    fn names_that_could_lead_elsewhere_are_refused() {
        let mut followed = Followed::new();
        let pattern = parse_pattern("**").expect("a pattern");
        let names = [
            "a.db",
            "t/b.db",
            "../up.db",
            "t/../../up.db",
            "/etc/passwd",
            "t//b.db",
            "./c.db",
            "d\n.db",
            "a.db-wal",
            "a.db-walcast/applied",
            "",
        ];
        let list = names.iter().map(|n| status(n, Role::Primary)).collect();
        let found = look(&listing(list, true), &pattern, &mut followed, |_| true);
        let kept: Vec<&str> = found.databases.keys().map(String::as_str).collect();
        assert_eq!(kept, ["a.db", "t/b.db"]);
        assert!(found.nameless.iter().all(|line| !line.contains('\n')));
        assert!(found.nameless.len() >= 6, "{:?}", found.nameless);
    }

    #[test]
    fn what_is_gone_without_a_copy_is_forgotten_and_names_are_bounded() {
        let pattern = parse_pattern("**").expect("a pattern");
        let mut followed = Followed::new();
        for round in 0..100 {
            let names = (0..1000).map(|number| format!("{round}/{number}"));
            let list = names.map(|name| status(&name, Role::Primary)).collect();
            // One in ten was there long enough to have a copy.
            let has_copy = |name: &str| name.ends_with('7');
            let found = look(&listing(list, true), &pattern, &mut followed, has_copy);
            assert!(found.nameless.is_empty());
            assert!(found.databases.len() <= 2000 + 100 * round);
        }
        assert!(followed.len() <= 2000 + 100 * 100, "{}", followed.len());

        let names = (0..MOST + 10).map(|number| format!("new/{number}"));
        let list: Vec<_> = names.map(|name| status(&name, Role::Primary)).collect();
        let found = look(&listing(list, true), &pattern, &mut followed, |_| true);
        assert_eq!((found.nameless.len(), followed.len()), (1, MOST));
        assert!(found.databases.len() <= MOST);
    }

    #[test]
    fn what_goes_is_gone_until_it_comes_back() {
        let mut followed = Followed::new();
        let pattern = parse_pattern("t/*").expect("a pattern");
        let both = || {
            vec![
                status("t/a", Role::Primary),
                status("other", Role::Primary),
                status("t/copy", Role::Replica),
            ]
        };
        let mut look = |list, settled| {
            let found = look(&listing(list, settled), &pattern, &mut followed, |_| true);
            assert_eq!(found.databases.len(), 1);
            found.databases["t/a"].clone()
        };
        assert_eq!(look(both(), false), Finding::Here);
        for _ in 1..MISSING {
            // It may be that a primary has just been started.
            assert_eq!(look(vec![], false), Finding::Kept);
        }
        for _ in 0..2 {
            assert_eq!(look(vec![], false), Finding::Gone);
        }
        assert_eq!(look(both(), false), Finding::Here);
        assert_eq!(
            look(vec![], true),
            Finding::Gone,
            "one that is settled knows"
        );
        assert_eq!(
            look(vec![], false),
            Finding::Gone,
            "and one that forgets it, does not change that"
        );
    }
}
