//! Who applies: a thread of the queue that opens the database, does what is asked one by one, and ends in order; and, while
//! nothing is asked, the task that receives the stream. A commit that comes alone is then visible without another thread's
//! wake-up.

use super::applier::Applier;
use super::error::ApplyError;
use super::follow::{Refusal, Request};
use super::record::Mark;
use super::shared::Shared;
use super::{Command, CopyView, detach};
use crate::disk;
use crate::format::position::Position;
use crate::model::{DatabaseState, Message};
use crate::ownership::{self, Ownership, OwnershipError};
use crate::sqlite::WalIndex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, TryLockError};
use tokio_util::sync::CancellationToken;

/// A database that does what is asked of it, one after the other. A trait, so that a simulation can put a model in its place.
pub trait Work: Send {
    /// Does what is asked.
    fn command(&mut self, command: Command) -> Next;
    /// Nothing more is asked now: what was put off for more is done.
    fn settle(&mut self) {}
    /// Applies a message in the calling task, if it is small.
    fn at_once(&mut self, message: Message) -> AtOnce;
}

/// The local database, for whoever applies.
pub struct Worker {
    shared: Arc<Shared>,
    ownership: Option<Ownership>,
    applier: Option<Applier>,
    /// Something was applied at once since the last tick.
    active: bool,
}

/// How applying at once went.
pub enum AtOnce {
    /// It is visible.
    Done,
    /// The stream must end; the reason is in the state.
    Refused,
    /// It may take long, or a thread is at work: it goes there.
    Later(Message),
}

/// One task of the process at a time: a disk that hangs must leave the other I/O threads to the other databases.
static BUSY: AtomicBool = AtomicBool::new(false);

/// Whether more may be asked.
pub enum Next {
    /// Yes.
    More,
    /// No: the database has ended.
    End,
}

/// Applies a small message of the stream `session` in the calling task. The caller has seen that no message is queued before
/// it.
pub(super) fn at_once(
    worker: &Mutex<Box<dyn Work>>,
    session: &CancellationToken,
    message: Message,
) -> AtOnce {
    let mut worker = match worker.try_lock() {
        Ok(worker) => worker,
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        Err(TryLockError::WouldBlock) => return AtOnce::Later(message),
    };
    // Whoever gives a stream up does so while the worker is locked. What came of it meanwhile would be the first of the next.
    match session.is_cancelled() {
        true => AtOnce::Refused,
        false => worker.at_once(message),
    }
}

impl Work for Worker {
    fn at_once(&mut self, message: Message) -> AtOnce {
        if let (Message::Heartbeat { .. }, Some(applier)) = (&message, &mut self.applier)
            && !applier.has_gathered()
        {
            // Nothing is written.
            let heard = applier.message_at_once(message).map(drop);
            return self.judge(heard);
        }
        let ready = |applier: &Applier| applier.takes_at_once(&message);
        if !self.applier.as_ref().is_some_and(ready) || BUSY.swap(true, Ordering::Acquire) {
            return AtOnce::Later(message);
        }
        let done = self.message_at_once(message);
        BUSY.store(false, Ordering::Release);
        done
    }

    fn settle(&mut self) {
        let settled = self.applier.as_mut().map(Applier::settle);
        if let Some(Err(error)) = settled {
            self.failed(&error);
            self.shared.end_session();
        }
    }

    fn command(&mut self, command: Command) -> Next {
        if !matches!(command, Command::Message { .. }) {
            self.settle();
        }
        match command {
            Command::Begin(reply) => {
                let _ = reply.send(self.begin());
            }
            Command::Message {
                message,
                session,
                permit,
            } => {
                // What is still queued of a stream that was given up is not applied.
                if !session.is_cancelled() && !self.message(message) {
                    session.cancel();
                }
                drop(permit);
            }
            Command::End(reply) => {
                if let Some(applier) = &mut self.applier {
                    applier.disconnected();
                }
                // Nobody waits for it where the stream was given up here.
                let _ = reply.send(());
            }
            Command::Tick { idle } => {
                let idle = idle && !std::mem::take(&mut self.active);
                self.tick(idle);
            }
            Command::View(index, reply) => {
                let _ = reply.send(self.view(*index));
            }
            Command::Detach(reply) => {
                let detached = self.detach();
                let is_over = !matches!(detached, Err(Undetached::AsItWas(_)));
                let _ = reply.send(detached.map_err(Undetached::into_reason));
                if is_over {
                    return Next::End;
                }
            }
            Command::Stop => {
                if let Some(applier) = self.applier.take() {
                    applier.close();
                }
                self.let_go();
                self.shared.set_state(DatabaseState::Stopped, String::new());
                return Next::End;
            }
        }
        Next::More
    }
}

impl Worker {
    /// Opens nothing yet.
    pub fn new(shared: Arc<Shared>) -> Worker {
        Worker {
            shared,
            ownership: None,
            applier: None,
            active: false,
        }
    }

    /// Now and not with the last handle to this: another process may want the files.
    fn let_go(&mut self) {
        self.close_files();
        self.ownership = None;
    }

    fn close_files(&mut self) {
        self.applier = None;
        self.shared.let_go();
    }

    fn message_at_once(&mut self, message: Message) -> AtOnce {
        let Some(applier) = &mut self.applier else {
            return AtOnce::Later(message);
        };
        self.active = true;
        self.shared.set_calm(false);
        let done = applier.message_at_once(message).map(|due| {
            if due {
                self.shared.wake();
            }
        });
        self.judge(done)
    }

    fn judge(&mut self, done: Result<(), ApplyError>) -> AtOnce {
        match done {
            Ok(()) => AtOnce::Done,
            Err(error) => {
                self.failed(&error);
                AtOnce::Refused
            }
        }
    }

    fn begin(&mut self) -> Result<Request, Refusal> {
        if let Err(error) = self.open() {
            let reason = error.to_string();
            self.shared.set_state(DatabaseState::Failed, reason.clone());
            return Err(Refusal::Failed(reason));
        }
        let Some(applier) = &mut self.applier else {
            return Err(Refusal::Failed("the database is not open".to_owned()));
        };
        if let Err(error) = applier.make_room() {
            self.failed(&error);
            return Err(Refusal::Told);
        }
        Ok(applier.request())
    }

    fn open(&mut self) -> Result<(), Unopened> {
        if self
            .applier
            .as_ref()
            .is_some_and(Applier::is_behind_its_file)
        {
            self.applier = None;
        }
        if self.applier.is_some() {
            return Ok(());
        }
        let path = &self.shared.config.path;
        if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
            disk::create_dir_all("db.directory", parent)?;
        }
        let directory = ownership::directory_of(path);
        if self.ownership.is_none() {
            self.ownership = Some(ownership::take(&directory)?);
        }
        self.applier = Some(Applier::open(self.shared.clone(), directory)?);
        Ok(())
    }

    /// False if the stream must end.
    fn message(&mut self, message: Message) -> bool {
        let Some(applier) = &mut self.applier else {
            return false;
        };
        self.shared.set_calm(false);
        match applier.take(message) {
            Ok(()) => true,
            Err(error) => {
                self.failed(&error);
                false
            }
        }
    }

    fn tick(&mut self, idle: bool) {
        let Some(applier) = &mut self.applier else {
            return;
        };
        if let Err(error) = applier.tick(idle) {
            self.failed(&error);
            self.shared.end_session();
        }
        let calm = self.applier.as_ref().is_none_or(Applier::is_calm);
        self.shared.set_calm(calm);
        if let (true, Some(applier)) = (calm, &mut self.applier) {
            applier.rest();
        }
    }

    fn failed(&mut self, error: &ApplyError) {
        let name = &self.shared.config.name;
        let remedy = if error.is_diverged() {
            Some("a snapshot heals it, in place")
        } else if error.is_foreign() {
            Some("what is there now is read and proven")
        } else {
            None
        };
        match remedy {
            Some(remedy) => {
                self.shared.meters.checksum_failures.add(1);
                tracing::error!(database = %name, "{error}; {remedy}");
                self.shared.not_caught_up();
            }
            None => tracing::warn!(database = %name, "{error}"),
        }
        let state = match error {
            ApplyError::Full => DatabaseState::Waiting,
            _ => DatabaseState::Disconnected,
        };
        self.shared.set_state(state, error.to_string());
        if error.must_reopen() {
            // What is there now is found out when the next stream begins.
            self.applier = None;
            self.shared.set_held(false);
        }
    }

    /// Between two transactions: nobody publishes while the worker is locked, so the state that is held is the one that is
    /// named.
    fn view(&self, index: WalIndex) -> Result<CopyView, String> {
        let Some(applier) = &self.applier else {
            return Err("the database is not open".to_owned());
        };
        applier.view(index).map_err(|error| error.to_string())
    }

    fn detach(&mut self) -> Result<Option<Position>, Undetached> {
        let mark = match self.open() {
            Ok(()) => self.release()?,
            // One before this was killed.
            Err(Unopened::Apply(error)) if error.is_detached() => None,
            Err(error) => return Err(Undetached::AsItWas(error.to_string())),
        };
        self.close_files();
        let finished = detach::finish(&self.shared.config.path);
        // Not before: who waits for it would find what is being removed.
        self.let_go();
        if let Err(error) = finished {
            let reason = error.to_string();
            self.shared.set_state(DatabaseState::Failed, reason.clone());
            return Err(Undetached::LeftBehind(reason));
        }
        self.shared.set_state(
            DatabaseState::Stopped,
            "detached: it is an ordinary database now".to_owned(),
        );
        tracing::info!(database = %self.shared.config.name, "detached");
        Ok(mark.map(|m| m.point.position))
    }

    /// From here on applications may write to it.
    fn release(&mut self) -> Result<Option<Mark>, Undetached> {
        let applier = self.applier.take_if(|applier| applier.has_database());
        let Some(applier) = applier else {
            return Err(Undetached::AsItWas("it holds no database yet".to_owned()));
        };
        // The stream begins anew if this fails, with the files opened anew.
        self.shared.end_session();
        let released = applier.detach();
        released.map_err(|error| Undetached::AsItWas(error.to_string()))
    }
}

/// The database could not be opened.
#[derive(Debug, thiserror::Error)]
enum Unopened {
    #[error(transparent)]
    Disk(#[from] disk::DiskError),
    #[error(transparent)]
    Owned(#[from] OwnershipError),
    #[error(transparent)]
    Apply(#[from] ApplyError),
}

/// A detach failed.
enum Undetached {
    /// It is a replica, and goes on.
    AsItWas(String),
    /// It is no replica any more, and something of it is still there.
    LeftBehind(String),
}

impl Undetached {
    fn into_reason(self) -> String {
        match self {
            Undetached::AsItWas(reason) | Undetached::LeftBehind(reason) => reason,
        }
    }
}
