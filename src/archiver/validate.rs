//! Reads an archive back: its newest state is restored to a scratch place, which proves every object on the way and the
//! checksum of the whole database, and goes again.

use super::context::{Context, Stop};
use super::snapshot::Scratch;
use crate::archive::{ArchiveError, Store};
use crate::format::position::{Generation, Position};
use crate::restore::{Options, RestoreError, Source, Target, restore};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::runtime::Handle;

/// Objects read at a time: there is no hurry.
const PARALLELISM: usize = 2;

/// What was found.
#[derive(Debug, PartialEq, Eq)]
pub enum Found {
    /// All is well up to here.
    Sound(Position),
    /// Something is missing or damaged.
    Damaged(String),
}

/// What the archive must have.
#[derive(Clone, Copy, Debug)]
pub struct Due {
    /// The history.
    pub generation: Generation,
    /// Up to here, if it is known.
    pub archived: Option<Position>,
}

impl Due {
    /// Where an end is missing with its document, all that is left is sound, and nothing in it shows that it is not all.
    fn judge(self, got: Position) -> Found {
        let is_reached = |at: Position| (got.index, got.offset) >= (at.index, at.offset);
        if got.generation != self.generation {
            let what = format!("its newest state is {got}, of another history");
            return Found::Damaged(what);
        }
        match self.archived.filter(|at| at.generation == got.generation) {
            Some(at) if !is_reached(at) => {
                Found::Damaged(format!("it ends at {got}, and had {at}"))
            }
            _ => Found::Sound(got),
        }
    }
}

/// Sets it when it goes, so that a thread ends with the task that waits for it.
struct Cancel(Arc<AtomicBool>);

impl Drop for Cancel {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Restores the newest state. What the store itself says is an error, to be tried again.
pub async fn validate(ctx: &Arc<Context>, store: &Store, due: Due) -> Result<Found, Stop> {
    let scratch = Scratch::new(
        ctx.primary.directory(),
        &ctx.config.options.location.to_string(),
    )?;
    let path = scratch.path().join("validated.db");
    let cancel = Arc::new(AtomicBool::new(false));
    let _ends = Cancel(Arc::clone(&cancel));
    let source = Source::new(store.clone(), Handle::current());
    let work = tokio::task::spawn_blocking(move || {
        let options = Options {
            path: &path,
            parallelism: PARALLELISM,
            integrity_check: false,
            sound: false,
            cancel: &cancel,
        };
        let outcome = restore(&source, Target::Newest, &options, &mut |_, _| {});
        // The directory goes only after the last look at the file.
        drop(scratch);
        outcome
    });
    let outcome = tokio::select! {
        () = ctx.cancel.cancelled() => return Err(Stop::Ended),
        outcome = work => outcome.map_err(|error| Stop::Log(error.to_string()))?,
    };
    match outcome {
        Ok(outcome) => Ok(due.judge(outcome.restored.position)),
        Err(RestoreError::Cancelled) => Err(Stop::Ended),
        Err(RestoreError::Disk(error)) => Err(error.into()),
        Err(RestoreError::Archive(error @ ArchiveError::Store { .. })) => {
            Err(Stop::Log(error.to_string()))
        }
        Err(error) => Ok(Found::Damaged(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_archived_must_be_there() {
        let at = |generation, index, offset| Position {
            generation: Generation(generation),
            index,
            offset,
        };
        let judge = |archived, got| {
            let generation = Generation(7);
            Due {
                generation,
                archived,
            }
            .judge(got)
        };
        for (archived, got) in [
            (None, at(7, 0, 0)),
            (Some(at(7, 2, 500)), at(7, 2, 500)),
            // Written while it was read.
            (Some(at(7, 2, 500)), at(7, 3, 100)),
            // Of this history nothing but a snapshot was written yet.
            (Some(at(6, 9, 500)), at(7, 0, 0)),
        ] {
            assert_eq!(judge(archived, got), Found::Sound(got));
        }
        for (archived, got, what) in [
            (Some(at(7, 2, 500)), at(7, 2, 400), "it ends at"),
            (Some(at(7, 2, 500)), at(7, 1, 900), "it ends at"),
            (Some(at(7, 2, 500)), at(6, 2, 500), "another history"),
            (None, at(6, 2, 500), "another history"),
        ] {
            let Found::Damaged(why) = judge(archived, got) else {
                panic!("{got} is not enough");
            };
            assert!(why.contains(what), "{why}");
        }
    }
}
