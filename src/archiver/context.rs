//! What all parts of one archiver share, and how they meet a store that fails.

use super::ArchiverConfig;
use super::state::State;
use crate::archive::ArchiveError;
use crate::disk::DiskError;
use crate::model::{DatabaseState, Point};
use crate::primary::{Primary, PrimaryError};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The first wait after a failure; each one after it is twice as long.
const SHORTEST: Duration = Duration::from_millis(500);
/// The longest.
const LONGEST: Duration = Duration::from_secs(20);
/// The longest while the server waits for the last of it, which is not for long.
const LAST: Duration = SHORTEST;
/// How often a database is looked at that cannot be captured now.
const WAIT: Duration = Duration::from_secs(1);

/// Why an archiver does not go on where it is.
#[derive(Debug, thiserror::Error)]
pub enum Stop {
    /// It was told to end.
    #[error("the server is ending")]
    Ended,
    /// The archive is another's. For good.
    #[error(transparent)]
    Owned(ArchiveError),
    /// The capture of the database is interrupted; the archive goes on after it.
    #[error(transparent)]
    Source(#[from] PrimaryError),
    /// The log that came cannot be archived.
    #[error("{0}")]
    Log(String),
    /// A local file failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// Waits that grow, each somewhat random, so that many archivers do not all come back at once.
pub struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff(SHORTEST)
    }
}

impl Backoff {
    /// The next wait.
    pub fn next(&mut self) -> Duration {
        let full = self.0;
        self.0 = (full * 2).min(LONGEST);
        let random = getrandom::u32().unwrap_or(u32::MAX);
        // Half of it to all of it.
        full / 2 + (full / 2).mul_f64(f64::from(random) / f64::from(u32::MAX))
    }

    /// The next wait after something that went well for so long: what failed before that does not count any more.
    pub fn after(&mut self, well: Duration) -> Duration {
        if well > LONGEST {
            *self = Backoff::default();
        }
        self.next()
    }
}

/// Tries of one thing.
pub struct Tries<'a> {
    ctx: &'a Context,
    backoff: Backoff,
    failed: bool,
}

impl Tries<'_> {
    /// One try. `None`: it failed, and enough time has passed to try again.
    pub async fn run<T>(
        &mut self,
        work: impl Future<Output = Result<T, ArchiveError>>,
    ) -> Result<Option<T>, Stop> {
        let tried = tokio::select! {
            () = self.ctx.cancel.cancelled() => return Err(Stop::Ended),
            tried = work => tried,
        };
        match tried {
            Ok(done) => {
                if self.failed {
                    self.ctx.show(DatabaseState::CatchingUp, "");
                }
                Ok(Some(done))
            }
            Err(error @ ArchiveError::Owned { .. }) => Err(Stop::Owned(error)),
            Err(error) => {
                self.failed = true;
                self.ctx.wait(&error.to_string(), &mut self.backoff).await?;
                Ok(None)
            }
        }
    }
}

/// One archive of one database.
#[derive(Clone)]
pub struct Context {
    /// How.
    pub config: ArchiverConfig,
    /// The database.
    pub primary: Arc<Primary>,
    /// What is shown.
    pub state: Arc<State>,
    /// Cancelled when it shall end at once.
    pub cancel: CancellationToken,
    /// It works beside the log, and shows itself there.
    pub is_beside: bool,
}

impl Context {
    fn show(&self, state: DatabaseState, reason: &str) {
        match self.is_beside {
            true => self.state.beside(reason),
            false => self.state.set(state, reason),
        }
    }

    /// The same for work beside the log.
    pub fn beside(&self) -> Context {
        Context {
            is_beside: true,
            cancel: self.cancel.child_token(),
            ..self.clone()
        }
    }

    /// For something that is tried until it works: the store may be away for days. Only another owner and the end stop
    /// it.
    pub fn tries(&self) -> Tries<'_> {
        Tries {
            ctx: self,
            backoff: Backoff::default(),
            failed: false,
        }
    }

    /// Shows what failed, and waits before it is tried again.
    pub async fn wait(&self, what: &str, backoff: &mut Backoff) -> Result<(), Stop> {
        self.state.meters.upload_failures.add(1);
        let reason = format!("tries again: {what}");
        self.show(DatabaseState::Disconnected, &reason);
        if self.is_beside {
            let (database, archive) = (
                self.primary.name(),
                self.config.options.location.to_string(),
            );
            tracing::warn!(database, archive, "archive {reason}");
        }
        self.pause(backoff.next()).await
    }

    /// Waits for so long, but not beyond the time at which the server begins to end: it ends once all is archived, and a
    /// store that is back by then must not miss that.
    pub async fn pause(&self, wait: Duration) -> Result<(), Stop> {
        let is_ending = self.primary.is_ending();
        let wait = if is_ending { wait.min(LAST) } else { wait };
        tokio::select! {
            () = self.cancel.cancelled() => Err(Stop::Ended),
            () = self.primary.ending(), if !is_ending => Ok(()),
            () = tokio::time::sleep(wait) => Ok(()),
        }
    }

    /// The newest position, once the database is captured.
    pub async fn point(&self) -> Result<Point, Stop> {
        loop {
            if self.primary.is_ending() || self.cancel.is_cancelled() {
                return Err(Stop::Ended);
            }
            match self.primary.fence().await {
                Ok(point) => return Ok(point),
                Err(error) => {
                    let reason = format!("waits for the database: {error}");
                    self.state.set(DatabaseState::Starting, &reason);
                }
            }
            tokio::select! {
                () = self.cancel.cancelled() => return Err(Stop::Ended),
                () = tokio::time::sleep(WAIT) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::{ArchiveOptions, Location};
    use crate::primary::PrimaryConfig;
    use std::path::Path;
    use tokio::time::Instant;

    #[test]
    fn waits_grow_to_a_limit() {
        let mut backoff = Backoff::default();
        let waits: Vec<Duration> = (0..12).map(|_| backoff.next()).collect();
        assert!(
            waits[0] >= SHORTEST / 2 && waits[0] <= SHORTEST,
            "{waits:?}"
        );
        assert!(waits.iter().all(|wait| *wait <= LONGEST));
        assert!(waits[11] >= LONGEST / 2);
        assert!(backoff.after(LONGEST) >= LONGEST / 2);
        let after_a_while = backoff.after(LONGEST + SHORTEST);
        assert!(after_a_while <= SHORTEST, "{after_a_while:?}");
        assert!(backoff.next() > SHORTEST / 2);
    }

    fn context(directory: &Path) -> Context {
        let config = PrimaryConfig::new("app.db", directory.join("app.db"));
        let location = Location::Directory(directory.join("archive"));
        Context {
            config: ArchiverConfig {
                options: ArchiveOptions::new(location),
                take_over: false,
            },
            primary: Primary::start(config),
            state: Arc::new(State::new("app.db", "archive".into())),
            cancel: CancellationToken::new(),
            is_beside: false,
        }
    }

    /// What waits for the archive at the server's end would else wait until the drain is over.
    #[tokio::test(start_paused = true)]
    async fn the_servers_end_is_not_slept_through() {
        let directory = tempfile::tempdir().expect("a directory");
        let context = context(directory.path());
        let begun = Instant::now();
        let end = async { context.primary.stop() };
        let (woken, ()) = tokio::join!(context.pause(LONGEST), end);
        woken.expect("it tries at once");
        assert!(begun.elapsed() < SHORTEST, "{:?}", begun.elapsed());
        // From then on it tries often, and not without a pause.
        let begun = Instant::now();
        context.pause(LONGEST).await.expect("it tries again");
        let waited = begun.elapsed();
        assert!(waited >= LAST && waited < 2 * LAST, "{waited:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_told_to_end_does_not_wait() {
        let directory = tempfile::tempdir().expect("a directory");
        let context = context(directory.path());
        let begun = Instant::now();
        let end = async { context.cancel.cancel() };
        let (woken, ()) = tokio::join!(context.pause(LONGEST), end);
        assert!(matches!(woken, Err(Stop::Ended)));
        assert!(begun.elapsed() < SHORTEST, "{:?}", begun.elapsed());
    }
}
