//! What must be so at every moment, whatever happens. What a power cut explains is in `excuse`.

use crate::excuse::{Attached, is_reused, may_leave};
use crate::history::{History, StateId};
use std::cell::RefCell;
use std::collections::HashMap;
use walcast::format::position::Position;

/// Pairs of position and state, and what each replica's readers saw last.
#[derive(Default)]
pub struct Check {
    pairs: RefCell<HashMap<Position, StateId>>,
    seen: RefCell<HashMap<usize, StateId>>,
    attached: RefCell<Vec<Attached>>,
}

impl Check {
    /// The primary goes on from where it found its shadow WAL to end.
    pub fn attached(&self, cuts: usize, end: Position) {
        self.attached.borrow_mut().push(Attached { cuts, end });
    }

    /// Whether a process has gone on since the last of these many power cuts.
    pub fn has_attached(&self, cuts: usize) -> bool {
        let attached = self.attached.borrow();
        attached.last().is_some_and(|last| last.cuts >= cuts)
    }

    /// Somebody says that the database at a position is this state: so say all. True if that was another one once.
    pub fn pair(&self, history: &History, position: Position, state: StateId) -> bool {
        let mut pairs = self.pairs.borrow_mut();
        let known = pairs.entry(position).or_insert(state);
        if *known == state {
            return false;
        }
        let two = [state.min(*known), state.max(*known)];
        assert!(
            is_reused(history, &self.attached.borrow(), position, two),
            "{position} is state {known} and state {state}"
        );
        *known = two[1];
        true
    }

    /// The state at a position, as was said last.
    pub fn state_at(&self, position: Position) -> Option<StateId> {
        self.pairs.borrow().get(&position).copied()
    }

    /// Readers of a replica see a state. `reborn`: its machine lost power, and its disk kept at least this one. True if the
    /// state before is lost.
    pub fn visible(
        &self,
        history: &History,
        replica: usize,
        state: StateId,
        reborn: Option<StateId>,
    ) -> bool {
        let before = self.seen.borrow_mut().insert(replica, state);
        let Some(floor) = reborn.or(before) else {
            return false;
        };
        assert!(
            may_leave(history, floor, state),
            "replica {replica} went back from state {floor} to {state}"
        );
        !history.leads_to(floor, state)
    }

    /// A replica's copy is gone: it was never durable.
    pub fn forget(&self, replica: usize) {
        self.seen.borrow_mut().remove(&replica);
    }

    /// What readers of a replica see.
    pub fn seen(&self, replica: usize) -> Option<StateId> {
        self.seen.borrow().get(&replica).copied()
    }
}
