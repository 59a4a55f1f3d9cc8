//! What must be so at every moment, whatever happens.

use crate::history::{History, StateId};
use std::cell::RefCell;
use std::collections::HashMap;
use walcast::format::position::Position;

/// Pairs of position and state, and what each replica's readers saw last.
#[derive(Default)]
pub struct Check {
    pairs: RefCell<HashMap<(u64, u64, u64), StateId>>,
    seen: RefCell<HashMap<usize, StateId>>,
}

impl Check {
    /// Somebody says that the database at a position is this state: so say all. A power cut may take commits back together
    /// with all memory of them; then others get their positions.
    pub fn pair(&self, history: &History, position: Position, state: StateId) {
        let key = (position.generation.0, position.index, position.offset);
        let before = self.pairs.borrow().get(&key).copied();
        if let Some(before) = before.filter(|before| *before != state) {
            let lost = history.is_lost(before) || history.is_lost(state);
            assert!(lost, "{position} is state {before} and state {state}");
        }
        if before.is_none_or(|before| history.is_lost(before)) {
            self.pairs.borrow_mut().insert(key, state);
        }
    }

    /// Readers of a replica see a state. `reborn`: its machine lost power, and its disk kept at least this one.
    pub fn visible(
        &self,
        history: &History,
        replica: usize,
        state: StateId,
        reborn: Option<StateId>,
    ) {
        let before = self.seen.borrow_mut().insert(replica, state);
        let floor = match (before, reborn) {
            (_, Some(kept)) => Some(kept),
            (before, None) => before,
        };
        if let Some(floor) = floor {
            assert!(
                history.leads_to(floor, state) || history.is_lost(floor),
                "replica {replica} went back from state {floor} to {state}"
            );
        }
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
