//! Reads an archive back: its newest state is restored to a scratch place, which proves every object on the way and the
//! checksum of the whole database, and goes again.

use super::context::{Context, Stop};
use super::snapshot::Scratch;
use crate::archive::{ArchiveError, Store};
use crate::format::position::Position;
use crate::restore::{Options, RestoreError, Source, Target, restore};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::runtime::Handle;

/// Objects read at a time: there is no hurry.
const PARALLELISM: usize = 2;

/// What was found.
#[derive(Debug)]
pub enum Found {
    /// All is well up to here.
    Sound(Position),
    /// Something is missing or damaged.
    Damaged(String),
}

/// Sets it when it goes, so that a thread ends with the task that waits for it.
struct Cancel(Arc<AtomicBool>);

impl Drop for Cancel {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Restores the newest state. What the store itself says is an error, to be tried again.
pub async fn validate(ctx: &Arc<Context>, store: &Store) -> Result<Found, Stop> {
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
        Ok(outcome) => Ok(Found::Sound(outcome.restored.position)),
        Err(RestoreError::Cancelled) => Err(Stop::Ended),
        Err(RestoreError::Disk(error)) => Err(error.into()),
        Err(RestoreError::Archive(error @ ArchiveError::Store { .. })) => {
            Err(Stop::Log(error.to_string()))
        }
        Err(error) => Ok(Found::Damaged(error.to_string())),
    }
}
