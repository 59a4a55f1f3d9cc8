//! What is done beside the log, one thing at a time: snapshots and the retention.

use super::context::{Backoff, Context, Stop};
use super::found::Newest;
use super::hold::{Hold, SLACK_US};
use super::retention::{self, Limits};
use super::session::Writer;
use super::snapshot;
use super::validate::{self, Due};
use crate::archive::{Claim, Store};
use crate::format::position::Position;
use crate::model::clock_us;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// How often the retention looks; after each snapshot as well.
const RETENTION: Duration = Duration::from_secs(3600);
/// How often a snapshot is thought of that is due, and cannot be taken yet.
const LOOK: Duration = Duration::from_secs(1);

/// How old a snapshot is; very old if there is none, or if nobody knows.
fn age(newest: Option<Newest>, now_us: i64) -> Duration {
    let age = newest.map(|newest| now_us.saturating_sub(newest.modified_us));
    match age {
        Some(age) if age >= -SLACK_US => Duration::from_micros(age.max(0).unsigned_abs()),
        // Written while a clock was ahead: one that starts often would wait for the next until that time has come.
        _ => Duration::MAX,
    }
}

/// What was done.
pub enum Done {
    /// A snapshot is in the archive.
    Snapshot,
    /// What is in the archive is not whole any more: a new snapshot heals its newest state.
    Damaged(String),
    /// Nothing that anybody has to know.
    Nothing,
    /// It failed, and is tried again unless the archive is lost.
    Failed(Stop),
}

enum Work {
    Snapshot(Result<Option<Position>, Stop>),
    Retention(Result<usize, Stop>),
    Validation(Result<validate::Found, Stop>),
}

/// The work beside one session.
pub struct Beside {
    ctx: Arc<Context>,
    store: Store,
    claim: Claim,
    archived: watch::Receiver<Position>,
    hold: Arc<Mutex<Hold>>,
    job: Option<JoinHandle<Work>>,
    /// True until there is a snapshot from which the log is whole.
    is_needed: bool,
    newest: Option<Newest>,
    /// Where the newest was taken, once that was in this session.
    taken_at: Option<Position>,
    next_snapshot: Instant,
    next_retention: Instant,
    /// `None`: never.
    next_validation: Option<Instant>,
    backoff: Backoff,
}

impl Beside {
    /// Nothing is done yet.
    pub fn new(
        writer: &Writer,
        archived: watch::Receiver<Position>,
        newest: Option<Newest>,
        is_whole: bool,
    ) -> Beside {
        let now = Instant::now();
        let interval = writer.ctx.config.options.snapshot_interval;
        let age = age(newest, clock_us());
        Beside {
            ctx: Arc::new(writer.ctx.beside()),
            store: writer.store.clone(),
            claim: writer.claim.clone(),
            archived,
            hold: Arc::clone(&writer.hold),
            job: None,
            is_needed: !is_whole,
            newest,
            taken_at: None,
            next_snapshot: match is_whole {
                true => now + interval.saturating_sub(age),
                false => now,
            },
            next_retention: now,
            next_validation: writer
                .ctx
                .config
                .options
                .validation_interval
                .map(|every| now + every),
            backoff: Backoff::default(),
        }
    }

    /// When to think about it next; `None`: while something is done.
    pub fn due(&self) -> Option<Instant> {
        let due = self.next_snapshot.min(self.next_retention);
        let due = self.next_validation.map_or(due, |at| due.min(at));
        // What is due already waits for something: once a second is often enough.
        self.job.is_none().then(|| due.max(Instant::now() + LOOK))
    }

    /// Starts what is due, if nothing is done already. `archived`: the end of the log there.
    pub fn begin_what_is_due(&mut self, archived: Position) {
        if self.job.is_some() {
            return;
        }
        let now = Instant::now();
        if now >= self.next_snapshot && self.is_wanted(archived) {
            self.ctx.state.beside("takes a snapshot");
            let (ctx, store, claim) = (self.ctx.clone(), self.store.clone(), self.claim.clone());
            let archived = self.archived.clone();
            self.job = Some(tokio::spawn(async move {
                Work::Snapshot(snapshot::archive(&ctx, &store, &claim, archived).await)
            }));
        } else if now >= self.next_retention && !self.is_needed {
            self.next_retention = now + RETENTION;
            let (ctx, store, claim) = (self.ctx.clone(), self.store.clone(), self.claim.clone());
            let (current, hold) = (archived.generation, Arc::clone(&self.hold));
            self.job = Some(tokio::spawn(async move {
                let limits = Limits {
                    age: ctx.config.options.retain_age,
                    count: ctx.config.options.retain_count,
                };
                let mut tries = ctx.tries();
                loop {
                    let now_us = hold.lock().unwrap_or_else(PoisonError::into_inner).now_us(
                        clock_us(),
                        Instant::now(),
                        limits.age,
                    );
                    let work = retention::run(&store, &claim, current, limits, now_us, &store);
                    if let Some(done) = tries.run(work).await.transpose() {
                        return Work::Retention(done);
                    }
                }
            }));
        } else if self.next_validation.is_some_and(|at| now >= at) && !self.is_needed {
            let every = self.ctx.config.options.validation_interval;
            self.next_validation = every.map(|every| now + every);
            self.ctx.state.beside("reads the archive back");
            let (ctx, store) = (self.ctx.clone(), self.store.clone());
            let due = Due {
                generation: archived.generation,
                archived: ctx.state.status().durable,
            };
            self.job = Some(tokio::spawn(async move {
                Work::Validation(validate::validate(&ctx, &store, due).await)
            }));
        }
    }

    /// A snapshot of the same index would take the place of the one that is there: not before the index moved on. And
    /// there is none of a state that the newest one is of.
    fn is_wanted(&self, archived: Position) -> bool {
        let tip = self.ctx.primary.watch().borrow().map(|tip| tip.position);
        let tip = tip.filter(|tip| tip.generation == archived.generation);
        let Some(tip) = tip else { return false };
        let moved_on = self.newest.is_none_or(|newest| newest.index < tip.index);
        moved_on && self.taken_at != Some(tip)
    }

    /// Waits for the end of what is done; for ever if nothing is.
    pub async fn done(&mut self) -> Done {
        let Some(job) = self.job.as_mut() else {
            return std::future::pending().await;
        };
        let work = job.await;
        self.job = None;
        match work {
            Ok(Work::Snapshot(Ok(at))) => {
                let now = Instant::now();
                self.backoff = Backoff::default();
                self.next_snapshot = now + self.ctx.config.options.snapshot_interval;
                self.next_retention = now;
                let Some(at) = at else {
                    // There was one of that index: it moves on some day.
                    self.next_snapshot = now + LOOK;
                    return Done::Nothing;
                };
                self.is_needed = false;
                self.taken_at = Some(at);
                self.newest = Some(Newest {
                    index: at.index,
                    modified_us: clock_us(),
                });
                Done::Snapshot
            }
            Ok(Work::Retention(Ok(0))) => Done::Nothing,
            Ok(Work::Retention(Ok(gone))) => {
                let (database, archive) = (self.ctx.primary.name(), self.store.location());
                tracing::info!(database, %archive, "archive: {gone} needless objects removed");
                Done::Nothing
            }
            Ok(Work::Validation(Ok(validate::Found::Sound(position)))) => {
                let (database, archive) = (self.ctx.primary.name(), self.store.location());
                tracing::info!(database, %archive, "archive read back, sound up to {position}");
                Done::Nothing
            }
            Ok(Work::Validation(Ok(validate::Found::Damaged(what)))) => {
                self.is_needed = true;
                self.taken_at = None;
                self.next_snapshot = Instant::now();
                Done::Damaged(what)
            }
            Ok(
                Work::Snapshot(Err(error))
                | Work::Retention(Err(error))
                | Work::Validation(Err(error)),
            ) => {
                self.next_snapshot = self.next_snapshot.max(Instant::now() + self.backoff.next());
                Done::Failed(error)
            }
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }

    /// Ends what is done. A snapshot that is not complete leaves nothing.
    pub async fn end(&mut self) {
        self.ctx.cancel.cancel();
        if let Some(job) = self.job.take()
            && let Err(error) = job.await
        {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_from_a_time_to_come_does_not_put_off_the_next() {
        let (day, now_us) = (24 * 3_600_000_000_i64, 1_700_000_000_000_000);
        let made = |ago_us| {
            let modified_us = now_us - ago_us;
            age(
                Some(Newest {
                    index: 3,
                    modified_us,
                }),
                now_us,
            )
        };
        let interval = Duration::from_secs(24 * 3600);
        assert_eq!(interval.saturating_sub(made(day / 4)), interval * 3 / 4);
        assert_eq!(interval.saturating_sub(made(2 * day)), Duration::ZERO);
        // Two clocks are never the same.
        assert_eq!(interval.saturating_sub(made(-SLACK_US)), interval);
        assert_eq!(interval.saturating_sub(made(-day)), Duration::ZERO);
        assert_eq!(interval.saturating_sub(age(None, now_us)), Duration::ZERO);
    }
}
