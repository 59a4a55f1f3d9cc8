//! What is excused, and nothing else.
//!
//! The application does not sync its commits (`synchronous=NORMAL`), so a power cut of its machine may take the newest of
//! them, and walcast's own files may lose the same. Replicas have them by then. That is no fault of walcast's, and four things
//! follow from it that would be faults otherwise. Each is excused for the commits that a certain cut is known to have taken
//! ([`History::taken_by`]), and only as far as that cut explains it:
//!
//! 1. **A position has two states** ([`is_reused`]): the cut took the older one before the younger was made, *and* the first
//!    process after it found a shadow WAL of that generation that ended before the position. Lost on both sides: nothing was
//!    left that could have told. Where the shadow WAL had it, a new generation must begin.
//! 2. **Readers leave a state for one that did not come out of it** ([`may_leave`]): for a younger branch of the history, or
//!    for the very state that the cut left. Never for an older one, nor for a part of what was taken.
//! 3. **A state becomes visible that is lost already** ([`was_under_way`]): the process that sent it ended with the cut, or
//!    before. What a process sends that began after it must not have been taken by it.
//! 4. **A copy turns out to be wrong** ([`is_stranded`]): the replica's machine lost power as well, so it asks from an older
//!    position than its copy is at; and the copy is at a commit that was taken and that the state it should become does not
//!    come out of. A copy whose commits the primary still has must become right by the log alone.

use crate::history::{Cut, History, StateId};
use walcast::format::position::Position;

/// Where a process found the shadow WAL to end, by the power cuts before it.
pub struct Attached {
    pub cuts: usize,
    pub end: Position,
}

/// Whether two states may have one position. `attached`: in order.
pub fn is_reused(
    history: &History,
    attached: &[Attached],
    position: Position,
    [older, younger]: [StateId; 2],
) -> bool {
    let Some(cut) = history.taken_by(older) else {
        return false;
    };
    let first_after = attached.iter().find(|attached| attached.cuts > cut);
    history.cuts_before(younger) > cut && first_after.is_some_and(|first| first.end < position)
}

/// Whether readers of one state may see the other next, which did not come out of it.
pub fn may_leave(history: &History, from: StateId, to: StateId) -> bool {
    match history.parting(from, to) {
        (None, _) => true,
        // A history forks only by a cut: the branch that is older was taken before the other began.
        (Some(lost), Some(branch)) => lost < branch,
        (Some(lost), None) => history
            .taken_by(lost)
            .is_some_and(|cut| history.left_by(cut) == to),
    }
}

/// Whether a process that began after so many cuts may have sent this state.
pub fn was_under_way(history: &History, state: StateId, began_after: Cut) -> bool {
    history.taken_by(state).is_none_or(|cut| cut >= began_after)
}

/// Whether a copy at one state cannot become the other by the log between.
pub fn is_stranded(history: &History, copy: StateId, meant: StateId) -> bool {
    history.taken_by(copy).is_some() && !history.leads_to(copy, meant)
}

#[cfg(test)]
mod tests {
    use super::*;
    use walcast::format::position::Generation;

    /// States 0, 1, 2; a cut takes 2; then 3 comes out of 1.
    fn history() -> History {
        let mut history = History::default();
        for sum in 0..3 {
            history.commit(sum, 1);
        }
        assert_eq!(history.back_to(1), 1);
        history.commit(3, 1);
        history
    }

    fn at(offset: u64) -> Position {
        Position {
            offset,
            ..Position::start_of(Generation(1))
        }
    }

    #[test]
    fn a_position_is_used_again_only_where_both_sides_lost_it() {
        let history = history();
        let found = |end| [Attached { cuts: 1, end }];
        assert!(is_reused(&history, &found(at(50)), at(80), [2, 3]));
        assert!(!is_reused(&history, &found(at(80)), at(80), [2, 3]));
        assert!(!is_reused(&history, &found(at(50)), at(80), [1, 3]));
        let other = Position::start_of(Generation(2));
        assert!(!is_reused(&history, &found(other), at(80), [2, 3]));
        assert!(!is_reused(&history, &[], at(80), [2, 3]));
    }

    #[test]
    fn only_a_lost_state_is_left_and_only_for_what_came_after() {
        let history = history();
        assert!(may_leave(&history, 2, 3));
        assert!(may_leave(&history, 2, 1));
        assert!(!may_leave(&history, 2, 0));
        assert!(!may_leave(&history, 3, 2));
        assert!(!may_leave(&history, 3, 1));
    }

    #[test]
    fn what_was_lost_comes_only_from_before_the_cut() {
        let history = history();
        assert!(was_under_way(&history, 2, 0));
        assert!(!was_under_way(&history, 2, 1));
        assert!(was_under_way(&history, 3, 1));
    }

    #[test]
    fn a_copy_is_wrong_only_beside_the_history() {
        let history = history();
        assert!(is_stranded(&history, 2, 3));
        assert!(!is_stranded(&history, 1, 3));
        assert!(!is_stranded(&history, 1, 0));
    }
}
