//! A reader that may be away for longer than the log is kept.

use super::shared::Shared;
use crate::format::position::{Generation, Position};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Keeps the log from a reader's position on, for as long as it lives: beyond the age at which it would go, within the
/// configured size. Until the first [`Kept::at`] all of it.
pub struct Kept {
    shared: Arc<Shared>,
    reader: u64,
}

impl Kept {
    pub(super) fn new(shared: &Arc<Shared>) -> Kept {
        let kept = Kept {
            shared: Arc::clone(shared),
            reader: shared.sessions.fetch_add(1, Relaxed),
        };
        // Of no generation that is: nothing of the current one was read.
        kept.at(Position::start_of(Generation(0)));
        kept
    }

    /// All before `position` was read.
    pub fn at(&self, position: Position) {
        self.shared.hub.reads_at(self.reader, Some(position));
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.shared.hub.reads_at(self.reader, None);
    }
}
