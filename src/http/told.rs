//! What a page is told of the log. Its lines are of the whole process: also of databases that are gone, or were never served,
//! so that a client may see every database there is says nothing about them.

use super::recent::Line;
use super::sampler::json;
use crate::config::Permission;
use crate::security::Caller;

/// What all on the second port needs, but for probes.
pub const METRICS: &[Permission] = &[Permission::Metrics];

/// Who looks at a page.
#[derive(Clone, Debug)]
pub struct Viewer(pub Caller);

impl Viewer {
    /// Whether it may see this database.
    pub fn may_see(&self, database: &str) -> bool {
        self.0.may_use(METRICS, database)
    }

    /// Whether it may read this line.
    pub fn may_read(&self, line: &Line) -> bool {
        match line.database.as_str() {
            // Of the process, and its words may name any database, or a file of one.
            "" => self.0.may_use_all(METRICS),
            database => self.may_see(database),
        }
    }
}

/// A tick: made once, and told to each page as far as that may know.
#[derive(Debug)]
pub struct Told {
    /// All but the lines, a JSON object that is not empty.
    pub json: String,
    /// The databases that it names.
    pub names: Vec<String>,
    /// New lines of the log.
    pub lines: Vec<Line>,
}

impl Told {
    /// The tick as this one is told it, JSON; `None` if it names a database that this one may not see.
    pub fn to(&self, viewer: &Viewer) -> Option<String> {
        if !self.names.iter().all(|name| viewer.may_see(name)) {
            return None;
        }
        let lines = self.lines.iter().filter(|line| viewer.may_read(line));
        let lines = json(&lines.collect::<Vec<_>>());
        let object = self.json.strip_suffix('}').unwrap_or(&self.json);
        Some(format!("{object},\"errors\":{lines}}}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Grant, TokenSource};
    use crate::security::Access;

    /// One whose grant is for these databases; without any for all.
    fn viewer(databases: &[&str]) -> Viewer {
        let token = "token-of-the-one-who-looks";
        let grant = Grant {
            name: "one".to_owned(),
            token: Some(TokenSource::Value(token.to_owned())),
            client_name: None,
            databases: databases.iter().map(ToString::to_string).collect(),
            allow: METRICS.to_vec(),
        };
        let access = Access::new(&[grant], false).expect("a good grant");
        let bearer = format!("Bearer {token}");
        let caller = access.identify(&[bearer.as_bytes()], None, None);
        Viewer(caller.expect("it is known"))
    }

    fn line(number: u64, database: &str) -> Line {
        Line {
            number,
            time_ms: 0,
            level: "warn",
            database: database.to_owned(),
            text: "something of tenants/b.db".to_owned(),
        }
    }

    #[test]
    fn each_is_told_what_it_may_know() {
        let told = |names: &[&str]| Told {
            json: "{\"now_ms\":5}".to_owned(),
            names: names.iter().map(ToString::to_string).collect(),
            lines: vec![
                line(0, "tenants/a.db"),
                line(1, "tenants/b.db"),
                line(2, ""),
            ],
        };
        let numbers = |viewer: &Viewer| -> Vec<u64> {
            let text = told(&["tenants/a.db"]).to(viewer).expect("it may see it");
            let tick: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            assert_eq!(tick["now_ms"], 5);
            let lines = tick["errors"].as_array().expect("lines");
            let number = |line: &serde_json::Value| line["number"].as_u64();
            lines.iter().filter_map(number).collect()
        };
        assert_eq!(numbers(&Viewer(Caller::unlimited("anyone"))), [0, 1, 2]);
        assert_eq!(numbers(&viewer(&[])), [0, 1, 2]);
        let tenant = viewer(&["tenants/a.db"]);
        assert_eq!(numbers(&tenant), [0]);
        assert_eq!(told(&["tenants/a.db", "tenants/b.db"]).to(&tenant), None);
    }
}
