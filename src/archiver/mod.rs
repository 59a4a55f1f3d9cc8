//! The writer of archives: one task for each archive of a primary's database.
//!
//! ```text
//! shadow WAL, hub ──> stream in this process ──> `batch`: 8 MiB or an interval ──> document, segment
//!                                                    `beside`: snapshots, retention
//! ```
//!
//! It reads as a replica does, so a slow or absent archive costs the capture and the application nothing: what it has not
//! read stays in the shadow WAL within its size. `found` tells from the archive alone where to go on; `session` is one
//! attachment to the database; `context` is how failures are met.

mod bare;
mod batch;
mod beside;
mod context;
mod found;
mod gap;
mod hold;
mod identity;
mod retention;
mod session;
mod snapshot;
mod state;
#[cfg(test)]
mod tests;
mod validate;

use crate::archive::{ArchiveOptions, Claim, DOC_VERSION, OwnerDoc, Store};
use crate::model::{ArchiveStatus, DatabaseState, clock_us};
use crate::primary::{Kept, Primary};
use context::{Backoff, Context, Stop};
use hold::Hold;
use session::{Ascending, Writer};
use snapshot::Scratch;
use state::State;
use std::sync::{Arc, Mutex};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// What one archiver is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchiverConfig {
    /// Where to, how often, how long.
    pub options: ArchiveOptions,
    /// Take the archive even if it is another's.
    pub take_over: bool,
}

/// A handle to one archive of one database.
pub struct Archiver {
    primary: Arc<Primary>,
    state: Arc<State>,
    cancel: CancellationToken,
    ended: watch::Receiver<bool>,
}

impl Archiver {
    /// Starts it. Must be called in a tokio runtime, before the primary had time to remove any log.
    pub fn start(config: ArchiverConfig, primary: Arc<Primary>) -> Arc<Archiver> {
        let state = Arc::new(State::new(
            primary.name(),
            config.options.location.to_string(),
        ));
        let cancel = CancellationToken::new();
        let (ending, ended) = watch::channel(false);
        let kept = primary.keep_log();
        let context = Arc::new(Context {
            config,
            primary: Arc::clone(&primary),
            state: Arc::clone(&state),
            cancel: cancel.clone(),
            is_beside: false,
        });
        tokio::spawn(async move {
            run(&context, kept).await;
            ending.send_replace(true);
        });
        Arc::new(Archiver {
            primary,
            state,
            cancel,
            ended,
        })
    }

    /// What it is doing, and how far it is behind.
    pub fn status(&self) -> ArchiveStatus {
        let mut status = self.state.status();
        let lag = self.primary.lag(status.durable);
        status.lag_bytes = lag.bytes;
        status.lag_seconds = lag
            .since_us
            .map_or(0.0, |since| (clock_us() - since).max(0) as f64 / 1e6);
        status
    }

    /// Asks for the end, whatever is not archived yet.
    pub fn stop(&self) {
        self.cancel.cancel();
    }

    /// Waits for the end: after the primary's drain that is when all is archived.
    pub async fn stopped(&self) {
        let mut ended = self.ended.clone();
        // An error means that the task is gone: a panic, which ends the process.
        let _ = ended.wait_for(|ended| *ended).await;
    }
}

impl Drop for Archiver {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

async fn run(context: &Arc<Context>, kept: Kept) {
    let stop = match archive(context, kept).await {
        Ok(()) | Err(Stop::Ended) => {
            context.state.set(DatabaseState::Stopped, "");
            return;
        }
        Err(stop) => stop,
    };
    context.state.beside("");
    context.state.set(DatabaseState::Failed, &stop.to_string());
}

/// Until the end of the server, or until the archive is another's.
async fn archive(context: &Arc<Context>, kept: Kept) -> Result<(), Stop> {
    let location = &context.config.options.location;
    // Its directory and its lock come first.
    context.point().await?;
    let mut backoff = Backoff::default();
    let id = loop {
        let directory = context.primary.directory();
        let archive = location.to_string();
        match Scratch::clear(directory, &archive).and_then(|()| identity::of(directory)) {
            Ok(id) => break id,
            Err(error) => context.wait(&error.to_string(), &mut backoff).await?,
        }
    };
    context
        .state
        .set(DatabaseState::Starting, "opens the archive");
    let mut tries = context.tries();
    let store = loop {
        if let Some(store) = tries.run(async { Store::create(location) }).await? {
            break store;
        }
    };
    let me = OwnerDoc {
        version: DOC_VERSION,
        id,
        server: context.primary.config().server_id.clone(),
        database: context.primary.name().to_owned(),
        since_us: clock_us(),
    };
    let take_over = context.config.take_over;
    let mut tries = context.tries();
    let claim = loop {
        if let Some(claim) = tries.run(Claim::take(&store, &me, take_over)).await? {
            break claim;
        }
    };
    match store.sweep().await {
        Ok(0) => {}
        Ok(gone) => {
            tracing::info!(%location, "archive: {gone} halves of objects removed, which a kill left")
        }
        // They are in nobody's way.
        Err(error) => tracing::warn!(%location, "archive: {error}"),
    }
    let mut tries = context.tries();
    let written_us = loop {
        if let Some(written_us) = tries.run(retention::written_us(&store)).await? {
            break written_us;
        }
    };
    let hold = Hold::new(written_us, clock_us(), Instant::now());
    let writer = Writer {
        ctx: Arc::clone(context),
        store,
        claim,
        kept,
        hold: Arc::new(Mutex::new(hold)),
        begun: Ascending::new(),
    };
    let mut backoff = Backoff::default();
    loop {
        let begun = Instant::now();
        match writer.session().await {
            // The log ended for the server's end, or something begins anew.
            Ok(()) if context.primary.is_ending() => return Ok(()),
            Ok(()) => backoff = Backoff::default(),
            Err(stop @ (Stop::Ended | Stop::Owned(_))) => return Err(stop),
            Err(stop) => {
                let reason = format!("begins again: {stop}");
                context.state.set(DatabaseState::Starting, &reason);
                context.pause(backoff.after(begun.elapsed())).await?;
            }
        }
    }
}
