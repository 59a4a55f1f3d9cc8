//! The way to a pause. What a pause costs is what its checkpoint still has to copy and to sync: checkpoints beside applying go
//! before it, until only little is left. Decisions alone; [`super::restart`] acts.

/// Bytes of log that the checkpoint of a pause copies in about the time that its syncs take.
const LITTLE: u64 = 256 << 10;

/// How far it is to a pause.
pub struct Approach {
    soft: u64,
    /// The size of the log at which it pauses, whatever is left then; `None`: nothing is on the way.
    until: Option<u64>,
    /// A checkpoint was ordered on the way.
    ordered: bool,
}

/// What is due.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing: it is too early, or what goes before is under way.
    Wait,
    /// A checkpoint beside applying.
    Checkpoint,
    /// A pause.
    Pause,
}

/// What is so now.
#[derive(Clone, Copy)]
pub struct Now {
    /// Bytes of the log.
    pub bytes: u64,
    /// Bytes of it that are not in the database file.
    pub missing: u64,
    /// A checkpoint or a sync is under way: a pause would wait for it.
    pub busy: bool,
    /// The last checkpoint was ordered long enough ago for another.
    pub rested: bool,
}

impl Approach {
    /// `soft`: bytes of the log that it should not have more of, whatever comes.
    pub fn new(soft: u64) -> Approach {
        Approach {
            soft,
            until: None,
            ordered: false,
        }
    }

    /// The pause is over, or not needed any more.
    pub fn end(&mut self) {
        self.until = None;
        self.ordered = false;
    }

    /// Decides. Whoever is told of a checkpoint orders it.
    pub fn step(&mut self, now: Now) -> Step {
        if now.bytes < self.soft - self.soft / 4 {
            return Step::Wait;
        }
        // Beyond the limit a reader was in the way, or a transaction is large: then a quarter of it is what may come meanwhile.
        let beyond = now.bytes.saturating_add(self.soft / 4);
        let until = self.until.get_or_insert(match now.bytes < self.soft {
            true => self.soft,
            false => beyond,
        });
        if now.bytes >= *until {
            // More comes than checkpoints beside it take.
            return Step::Pause;
        }
        if now.busy {
            return Step::Wait;
        }
        // What is left after a checkpoint at the limit is what a reader holds back: a pause is what may end that.
        if now.missing <= LITTLE || (self.ordered && now.bytes >= self.soft) {
            return Step::Pause;
        }
        if self.ordered && !now.rested {
            return Step::Wait;
        }
        self.ordered = true;
        Step::Checkpoint
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn at(bytes: u64, missing: u64) -> Now {
        Now {
            bytes,
            missing,
            busy: false,
            rested: true,
        }
    }

    fn under_way(bytes: u64, missing: u64) -> Now {
        Now {
            busy: true,
            ..at(bytes, missing)
        }
    }

    #[test]
    fn checkpoints_go_before_a_pause_until_little_is_left() {
        let mut approach = Approach::new(16 * MIB);
        assert_eq!(approach.step(at(11 * MIB, 3 * MIB)), Step::Wait);
        // One for its size may be under way.
        assert_eq!(approach.step(under_way(12 * MIB, 4 * MIB)), Step::Wait);
        assert_eq!(approach.step(at(12 * MIB, 4 * MIB)), Step::Checkpoint);
        assert_eq!(approach.step(under_way(13 * MIB, 5 * MIB)), Step::Wait);
        let too_soon = Now {
            rested: false,
            ..at(13 * MIB, MIB)
        };
        assert_eq!(approach.step(too_soon), Step::Wait);
        assert_eq!(approach.step(at(13 * MIB, MIB)), Step::Checkpoint);
        assert_eq!(approach.step(at(13 * MIB + LITTLE, LITTLE)), Step::Pause);
        approach.end();
        assert_eq!(approach.step(at(12 * MIB, 4 * MIB)), Step::Checkpoint);
    }

    #[test]
    fn the_limit_waits_for_no_checkpoint() {
        let mut approach = Approach::new(16 * MIB);
        assert_eq!(approach.step(at(12 * MIB, 4 * MIB)), Step::Checkpoint);
        assert_eq!(approach.step(under_way(16 * MIB - 1, 8 * MIB)), Step::Wait);
        assert_eq!(approach.step(under_way(16 * MIB, 8 * MIB)), Step::Pause);
        // Beyond it, as long as a quarter of it takes to come.
        approach.end();
        assert_eq!(approach.step(at(40 * MIB, 30 * MIB)), Step::Checkpoint);
        assert_eq!(approach.step(under_way(43 * MIB, 33 * MIB)), Step::Wait);
        assert_eq!(approach.step(under_way(44 * MIB, 34 * MIB)), Step::Pause);
    }

    #[test]
    fn what_a_reader_holds_back_is_waited_for_in_a_pause_at_the_limit() {
        let mut approach = Approach::new(16 * MIB);
        for bytes in [12, 13, 14, 15] {
            assert_eq!(approach.step(at(bytes * MIB, 4 * MIB)), Step::Checkpoint);
        }
        assert_eq!(approach.step(at(16 * MIB, 8 * MIB)), Step::Pause);
        approach.end();
        // However little comes then.
        assert_eq!(approach.step(at(17 * MIB, 9 * MIB)), Step::Checkpoint);
        assert_eq!(approach.step(at(17 * MIB, 9 * MIB)), Step::Pause);
    }

    #[test]
    fn a_small_limit_needs_no_checkpoint_before_a_pause() {
        for soft in [1, 64 << 10, LITTLE] {
            let mut approach = Approach::new(soft);
            assert_eq!(approach.step(at(soft, soft)), Step::Pause, "{soft}");
        }
    }
}
