//! What the primary's application committed: each state by its checksum, with the one before, and what a power cut took.

use std::collections::HashMap;

/// A state of the database, by the order in which it was made.
pub type StateId = usize;

struct State {
    pages: u32,
    parent: Option<StateId>,
    /// Commits before it.
    depth: usize,
    /// The power cut that took it.
    taken_by: Option<Cut>,
}

/// A power cut, by the order in which they came.
pub type Cut = usize;

/// What is known of a power cut of the primary's machine.
struct Taken {
    /// The state that the application found after it.
    left: StateId,
    /// States that there were before it.
    states: usize,
}

/// All states that there ever were.
#[derive(Default)]
pub struct History {
    states: Vec<State>,
    by_sum: HashMap<u64, StateId>,
    current: StateId,
    cuts: Vec<Taken>,
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
            taken_by: None,
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

    /// A power cut left this state. Returns the number of commits that it took.
    pub fn back_to(&mut self, state: StateId) -> usize {
        assert!(
            self.leads_to(state, self.current),
            "a power cut goes back only"
        );
        let cut = self.cuts.len();
        self.cuts.push(Taken {
            left: state,
            states: self.states.len(),
        });
        let mut lost = 0;
        while self.current != state {
            let taken = &mut self.states[self.current];
            taken.taken_by = Some(cut);
            self.current = taken.parent.expect("an earlier state");
            lost += 1;
        }
        lost
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

    /// The power cut that took it.
    pub fn taken_by(&self, state: StateId) -> Option<Cut> {
        self.states[state].taken_by
    }

    /// The state that a power cut left.
    pub fn left_by(&self, cut: Cut) -> StateId {
        self.cuts[cut].left
    }

    /// Power cuts so far.
    pub fn cuts(&self) -> usize {
        self.cuts.len()
    }

    /// Power cuts before it was made.
    pub fn cuts_before(&self, state: StateId) -> usize {
        self.cuts.partition_point(|cut| cut.states <= state)
    }

    /// Where the ways to two states part: the first state of each that the other does not come out of.
    pub fn parting(&self, one: StateId, other: StateId) -> (Option<StateId>, Option<StateId>) {
        let (mut at, mut firsts) = ([one, other], [None, None]);
        while at[0] != at[1] {
            let deeper = usize::from(self.states[at[1]].depth > self.states[at[0]].depth);
            firsts[deeper] = Some(at[deeper]);
            let parent = self.states[at[deeper]].parent;
            at[deeper] = parent.expect("all come out of the first");
        }
        (firsts[0], firsts[1])
    }

    /// All states.
    pub fn len(&self) -> usize {
        self.states.len()
    }
}
