//! What the primary's application committed: each state by its checksum, with the one before, and what a power cut took.

use std::collections::HashMap;

/// A state of the database, by the order in which it was made.
pub type StateId = usize;

struct State {
    pages: u32,
    parent: Option<StateId>,
    /// Commits before it.
    depth: usize,
}

/// All states that there ever were.
#[derive(Default)]
pub struct History {
    states: Vec<State>,
    by_sum: HashMap<u64, StateId>,
    current: StateId,
}

impl History {
    /// A commit on the current state.
    pub fn commit(&mut self, dbsum: u64, pages: u32) -> StateId {
        let id = self.states.len();
        let parent = (id > 0).then_some(self.current);
        self.states.push(State {
            pages,
            parent,
            depth: parent.map_or(0, |p| self.states[p].depth + 1),
        });
        assert!(
            self.by_sum.insert(dbsum, id).is_none(),
            "two states with one checksum"
        );
        self.current = id;
        id
    }

    /// The newest state.
    pub fn current(&self) -> StateId {
        self.current
    }

    /// A power cut took commits back.
    pub fn back_to(&mut self, state: StateId) {
        assert!(
            self.leads_to(state, self.current),
            "a power cut goes back only"
        );
        self.current = state;
    }

    /// The state of this checksum and size.
    pub fn find(&self, dbsum: u64, pages: u32) -> Option<StateId> {
        let id = *self.by_sum.get(&dbsum)?;
        (self.states[id].pages == pages).then_some(id)
    }

    /// True if `later` came out of `earlier`, or is the same.
    pub fn leads_to(&self, earlier: StateId, later: StateId) -> bool {
        let depth = self.states[earlier].depth;
        let mut at = later;
        while self.states[at].depth > depth {
            let Some(parent) = self.states[at].parent else {
                return false;
            };
            at = parent;
        }
        at == earlier
    }

    /// True if a power cut took it.
    pub fn is_lost(&self, state: StateId) -> bool {
        !self.leads_to(state, self.current)
    }

    /// The state that this one came out of.
    pub fn parent(&self, state: StateId) -> Option<StateId> {
        self.states[state].parent
    }

    /// All states.
    pub fn len(&self) -> usize {
        self.states.len()
    }
}
