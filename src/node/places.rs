//! All places where databases come and go: who looks at them, and what is known of each.

use super::databases::Databases;
use super::finder::{Finder, News, Told};
use super::finding::{Found, Place};
use std::collections::{BTreeMap, HashMap, HashSet};
use tokio::sync::mpsc;

/// The places of a configuration.
pub struct Places {
    news: mpsc::Sender<News>,
    finders: HashMap<Place, Finder>,
    found: HashMap<Place, Found>,
    /// Those of which `found` is what a look has found, and no guess.
    looked: HashSet<Place>,
    /// Those whose databases are known, if only since a place that they have taken over from was looked at.
    asked: HashSet<Place>,
    /// Why the others could not be looked at.
    problems: HashMap<Place, String>,
}

impl Places {
    /// None yet. `news`: where finders tell.
    pub fn new(news: mpsc::Sender<News>) -> Places {
        Places {
            news,
            finders: HashMap::new(),
            found: HashMap::new(),
            looked: HashSet::new(),
            asked: HashSet::new(),
            problems: HashMap::new(),
        }
    }

    /// Looks at these and at no others. Call it inside a tokio runtime.
    ///
    /// An entry with another pattern or upstream is another place, of which nothing is known before the first look. Until
    /// then what its directory had and still matches goes on: it would be interrupted for nothing.
    pub fn look_at(&mut self, places: HashSet<Place>, databases: &Databases) {
        let new = places
            .iter()
            .filter(|place| !self.finders.contains_key(place));
        let guesses: Vec<(Place, Found)> = new
            .map(|place| {
                let mut guess = Found::default();
                for (other, found) in &self.found {
                    guess.add_missing(found.at(other, place));
                }
                (place.clone(), guess)
            })
            .collect();
        self.finders.retain(|place, _| places.contains(place));
        self.found.retain(|place, _| places.contains(place));
        self.looked.retain(|place| places.contains(place));
        self.problems.retain(|place, _| places.contains(place));
        let before = std::mem::take(&mut self.asked);
        self.asked = places
            .into_iter()
            .filter(|place| before.iter().any(|other| place.is_like(other)))
            .collect();
        for (place, guess) in guesses {
            let admin = place.upstream.as_ref().and_then(|u| databases.admin(u));
            let finder = Finder::start(place.clone(), admin, self.news.clone());
            self.finders.insert(place.clone(), finder);
            self.found.insert(place, guess);
        }
    }

    /// Takes what a finder tells; false if nobody wants to know any more.
    pub fn take(&mut self, (place, told): News) -> bool {
        // It may have been told before a reload took the place away.
        if !self.finders.contains_key(&place) {
            return false;
        }
        match told {
            Told::Looked(found) => {
                self.looked.insert(place.clone());
                self.asked.insert(place.clone());
                self.problems.remove(&place);
                self.found.insert(place, found);
            }
            Told::Left(left) => self.found.entry(place).or_default().add_missing(left),
            Told::Failed(problem) => drop(self.problems.insert(place, problem)),
        }
        true
    }

    /// Mirrored upstreams that were not asked yet, or why they could not be.
    pub fn unknown(&self) -> BTreeMap<String, String> {
        let unknown = self.finders.keys().filter(|p| !self.asked.contains(p));
        let with_reason = unknown.filter_map(|place| {
            let url = &place.upstream.as_ref()?.url;
            let problem = self.problems.get(place).cloned();
            let reason = problem.unwrap_or_else(|| "was not asked for its databases yet".into());
            Some((url.clone(), reason))
        });
        with_reason.collect()
    }

    /// True once every directory of the server's own was looked at: no primary is missing for want of that.
    pub fn knows_its_primaries(&self) -> bool {
        let mut own = self.finders.keys().filter(|p| p.upstream.is_none());
        own.all(|place| self.looked.contains(place))
    }

    /// What is known of each.
    pub fn found(&self) -> &HashMap<Place, Found> {
        &self.found
    }

    /// True once every place was looked at.
    pub fn settled(&self) -> bool {
        self.finders.keys().all(|place| self.looked.contains(place))
    }

    /// Looks at none any more.
    pub fn clear(&mut self) {
        self.finders.clear();
    }
}
