//! The archive that a replica starts from, or follows alone.

use crate::archive::{ArchiveSource, Key, Store};
use crate::format::position::{Generation, Position};
use crate::model::Message;
use crate::restore::{Feed, FeedOptions, RestoreError, Source};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;

/// Archives that are read at one time in the process: each takes a thread and some MiB, and appliers need threads too.
static TURNS: Semaphore = Semaphore::const_new(4);
/// Messages on their way, each of about 1 MiB at most.
const AHEAD: usize = 4;
/// Objects that are read and unpacked at one time.
const PARALLELISM: usize = 2;

/// What a replica asks of its archive.
pub(super) struct Ask {
    /// Where it is.
    pub from: Option<Position>,
    /// What readers saw.
    pub seen: Option<Position>,
    /// The only history that will do.
    pub generation: Option<Generation>,
    /// The log of this index could not be read.
    pub damaged: Option<u64>,
    /// The snapshots of these indexes could not be read.
    pub unsound: BTreeSet<u64>,
    /// `None`: what is there now.
    pub poll: Option<Duration>,
}

/// Messages out of an archive. Dropping it ends them; the task is then soon gone by itself.
pub(super) struct Feeding {
    messages: mpsc::Receiver<Message>,
    task: Option<JoinHandle<Result<(), RestoreError>>>,
    cancel: Arc<AtomicBool>,
}

impl Feeding {
    pub(super) fn begin(archive: &ArchiveSource, ask: Ask) -> Feeding {
        let (sender, messages) = mpsc::channel(AHEAD);
        let cancel = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn(feed(archive.clone(), ask, sender, cancel.clone()));
        Feeding {
            messages,
            task: Some(task),
            cancel,
        }
    }

    /// The next message; `None`: it has sent all, or another history has begun.
    pub(super) async fn next(&mut self) -> Option<Result<Message, RestoreError>> {
        if let Some(message) = self.messages.recv().await {
            return Some(Ok(message));
        }
        match self.task.take()?.await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(Err(error)),
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => Some(Err(RestoreError::Cancelled)),
        }
    }
}

impl Drop for Feeding {
    fn drop(&mut self) {
        self.cancel.store(true, Ordering::Relaxed);
    }
}

async fn feed(
    archive: ArchiveSource,
    ask: Ask,
    sender: mpsc::Sender<Message>,
    cancel: Arc<AtomicBool>,
) -> Result<(), RestoreError> {
    let poll = ask.poll;
    let ask = Arc::new(ask);
    let mut begun: Option<Feed> = None;
    loop {
        // Between two looks nothing is held: a thousand quiet replicas cost no thread.
        let Ok(turn) = TURNS.acquire().await else {
            return Err(RestoreError::Cancelled);
        };
        let (archive, ask, sender_here) = (archive.clone(), ask.clone(), sender.clone());
        let (cancel, runtime) = (cancel.clone(), Handle::current());
        let step = tokio::task::spawn_blocking(move || {
            let mut deliver = |message| sender_here.blocking_send(message).is_ok();
            if let Some(mut feed) = begun {
                let goes_on = feed.more(&cancel, &mut deliver)?;
                return Ok((feed, goes_on));
            }
            let source = Source::new(Store::open(&archive.location)?, runtime);
            let options = FeedOptions {
                from: ask.from,
                seen: ask.seen,
                generation: ask.generation,
                damaged: ask.damaged,
                unsound: &ask.unsound,
                poll: ask.poll,
                parallelism: PARALLELISM,
                cancel: &cancel,
            };
            Ok::<_, RestoreError>((Feed::begin(&source, &options, &mut deliver)?, true))
        });
        let step = step.await;
        drop(turn);
        let (feed, goes_on) = match step {
            Ok(step) => step?,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => return Err(RestoreError::Cancelled),
        };
        let Some(poll) = poll.filter(|_| goes_on) else {
            return Ok(());
        };
        begun = Some(feed);
        tokio::select! {
            () = sender.closed() => return Ok(()),
            () = tokio::time::sleep(poll) => {}
        }
    }
}

/// Whose turn it is, where a replica has an archive and an upstream: the archive's once before the upstream would have to
/// send a snapshot.
#[derive(Default)]
pub(super) struct Turns {
    /// The upstream keeps the replica's position no more, and is at this history.
    owed: Option<Generation>,
    /// The archive had its turn; what the upstream then sends is taken.
    had: bool,
    /// The log of this index could not be read.
    damaged: Option<u64>,
    /// The snapshots of these indexes could not be read.
    unsound: BTreeSet<u64>,
    /// What was told of the archive last.
    told: String,
}

impl Turns {
    /// What to ask the archive, if it is its turn. `fresh`: there is no copy yet.
    pub(super) fn ask(
        &mut self,
        archive: Option<&ArchiveSource>,
        has_upstream: bool,
        fresh: bool,
        from: Option<Position>,
        seen: Option<Position>,
    ) -> Option<Ask> {
        let archive = archive?;
        let (generation, damaged) = (self.owed.take(), self.damaged.take());
        if has_upstream {
            if self.had || !(fresh || generation.is_some()) {
                return None;
            }
            self.had = true;
        }
        Some(Ask {
            from,
            seen,
            generation,
            damaged,
            unsound: self.unsound.clone(),
            poll: (!has_upstream).then_some(archive.poll),
        })
    }

    /// The upstream would send a snapshot, being at this history: does the archive come first?
    pub(super) fn owe(&mut self, generation: Generation) -> bool {
        if !self.had {
            self.owed = Some(generation);
        }
        !self.had
    }

    /// True if the archive comes before a snapshot of the upstream.
    pub(super) fn is_archive_next(&self) -> bool {
        !self.had
    }

    /// The upstream had its turn.
    pub(super) fn upstream_ended(&mut self) {
        self.had = self.had && self.owed.is_some();
    }

    /// What went wrong with the archive. True if that is news.
    pub(super) fn failed(&mut self, error: &RestoreError) -> bool {
        match error.object() {
            Some(Key::Wal { index, .. } | Key::SegmentDoc { index, .. }) => {
                self.damaged = Some(index);
            }
            Some(Key::Snapshot { index, .. } | Key::SnapshotDoc { index, .. }) => {
                self.unsound.insert(index);
            }
            // Another trouble, or no snapshot is left: all are worth another look.
            _ => self.unsound.clear(),
        }
        let text = error.to_string();
        std::mem::replace(&mut self.told, text.clone()) != text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive() -> ArchiveSource {
        ArchiveSource::new("/backup".parse().expect("a location"))
    }

    fn at(offset: u64) -> Option<Position> {
        Some(Position {
            generation: Generation(1),
            index: 0,
            offset,
        })
    }

    #[test]
    fn beside_an_upstream_the_archive_comes_once_and_before_a_snapshot() {
        let archive = archive();
        let mut turns = Turns::default();
        let ask = turns.ask(Some(&archive), true, true, None, None);
        assert!(ask.expect("its turn").poll.is_none());
        assert!(turns.ask(Some(&archive), true, true, None, None).is_none());
        // It did not help: the upstream's snapshot is taken.
        assert!(!turns.owe(Generation(1)));
        turns.upstream_ended();
        // A copy that can go on asks the upstream alone.
        assert!(
            turns
                .ask(Some(&archive), true, false, at(32), at(32))
                .is_none()
        );
        assert!(turns.owe(Generation(1)));
        turns.upstream_ended();
        let ask = turns.ask(Some(&archive), true, false, at(32), at(32));
        assert_eq!(ask.expect("its turn").generation, Some(Generation(1)));
        assert!(!turns.owe(Generation(1)));
        assert!(turns.ask(None, true, true, None, None).is_none());
    }

    #[test]
    fn alone_it_is_always_its_turn() {
        let archive = archive();
        let mut turns = Turns::default();
        for _ in 0..3 {
            let ask = turns.ask(Some(&archive), false, false, at(32), at(32));
            assert_eq!(ask.expect("its turn").poll, Some(archive.poll));
        }
    }
}
