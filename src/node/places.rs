//! All places where databases come and go: who looks at them, and what is known of each.

use super::databases::Databases;
use super::finder::{Finder, News};
use super::finding::{Found, Place};
use std::collections::{HashMap, HashSet};
use tokio::sync::mpsc;

/// The places of a configuration.
pub struct Places {
    news: mpsc::Sender<News>,
    finders: HashMap<Place, Finder>,
    found: HashMap<Place, Found>,
    /// Those of which `found` is what a look has found, and no guess.
    looked: HashSet<Place>,
}

impl Places {
    /// None yet. `news`: where finders tell.
    pub fn new(news: mpsc::Sender<News>) -> Places {
        Places {
            news,
            finders: HashMap::new(),
            found: HashMap::new(),
            looked: HashSet::new(),
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
        for (place, guess) in guesses {
            let admin = place.upstream.as_ref().and_then(|u| databases.admin(u));
            let finder = Finder::start(place.clone(), admin, self.news.clone());
            self.finders.insert(place.clone(), finder);
            self.found.insert(place, guess);
        }
    }

    /// Takes what a finder tells; false if nobody wants to know any more.
    pub fn take(&mut self, (place, found): News) -> bool {
        // It may have been told before a reload took the place away.
        let wanted = self.finders.contains_key(&place);
        if wanted {
            self.looked.insert(place.clone());
            self.found.insert(place, found);
        }
        wanted
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
