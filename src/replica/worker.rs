//! Who applies: a thread that opens the database, takes commands one by one, and ends in order; and, while it has nothing
//! to do, the task that receives the stream. A commit that comes alone is then visible without another thread's wake-up.

use super::applier::{Applier, ApplyError};
use super::follow::Request;
use super::shared::Shared;
use super::{Command, CopyView, detach};
use crate::disk;
use crate::format::position::Position;
use crate::model::{DatabaseState, Message};
use crate::ownership::{self, Ownership};
use crate::sqlite::WalIndex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use tokio::sync::mpsc::Receiver;

/// The local database, for whoever applies.
pub(super) struct Worker {
    shared: Arc<Shared>,
    ownership: Option<Ownership>,
    applier: Option<Applier>,
    /// Something was applied at once since the last tick.
    active: bool,
}

/// How applying at once went.
pub(super) enum AtOnce {
    /// It is visible.
    Done,
    /// The stream must end; the reason is in the state.
    Refused,
    /// It may take long, or the thread is at work: it goes there.
    Later(Message),
}

/// One task of the process at a time: a disk that hangs must leave the other I/O threads to the other databases.
static BUSY: AtomicBool = AtomicBool::new(false);

/// Applies a small message in the calling task. The caller has seen that the thread has no message before it.
pub(super) fn at_once(worker: &Mutex<Worker>, message: Message) -> AtOnce {
    let mut worker = match worker.try_lock() {
        Ok(worker) => worker,
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        Err(TryLockError::WouldBlock) => return AtOnce::Later(message),
    };
    let ready = |applier: &Applier| applier.takes_at_once(&message);
    if !worker.applier.as_ref().is_some_and(ready) || BUSY.swap(true, Ordering::Acquire) {
        return AtOnce::Later(message);
    }
    let done = worker.message_at_once(message);
    BUSY.store(false, Ordering::Release);
    done
}

fn lock(worker: &Mutex<Worker>) -> MutexGuard<'_, Worker> {
    // A panic ends the process (`cli::end_on_panic`); where it does not, the checksums judge what was left.
    worker.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn run(worker: &Mutex<Worker>, mut commands: Receiver<Command>) {
    while let Some(command) = commands.blocking_recv() {
        let mut worker = lock(worker);
        match command {
            Command::Begin(reply) => {
                let _ = reply.send(worker.begin());
            }
            Command::Message {
                message,
                session,
                permit,
            } => {
                // What is still queued of a stream that was given up is not applied.
                if !session.is_cancelled() && !worker.message(message) {
                    session.cancel();
                }
                drop(permit);
            }
            Command::End(reply) => {
                if let Some(applier) = &mut worker.applier {
                    applier.disconnected();
                }
                // Nobody waits for it where the stream was given up here.
                let _ = reply.send(());
            }
            Command::Tick { idle } => {
                let idle = idle && !std::mem::take(&mut worker.active);
                worker.tick(idle);
            }
            Command::View(index, reply) => {
                let _ = reply.send(worker.view(*index));
            }
            Command::Detach(reply) => {
                let _ = reply.send(worker.detach());
                return;
            }
            Command::Stop => break,
        }
    }
    let mut worker = lock(worker);
    if let Some(applier) = worker.applier.take() {
        applier.close();
    }
    worker
        .shared
        .set_state(DatabaseState::Stopped, String::new());
}

impl Worker {
    pub(super) fn new(shared: Arc<Shared>) -> Worker {
        Worker {
            shared,
            ownership: None,
            applier: None,
            active: false,
        }
    }

    fn message_at_once(&mut self, message: Message) -> AtOnce {
        let Some(applier) = &mut self.applier else {
            return AtOnce::Later(message);
        };
        self.active = true;
        match applier.message_at_once(message) {
            Ok(false) => AtOnce::Done,
            Ok(true) => {
                self.shared.wake();
                AtOnce::Done
            }
            Err(error) => {
                self.failed(&error);
                AtOnce::Refused
            }
        }
    }

    fn begin(&mut self) -> Result<Request, String> {
        if let Err(reason) = self.open() {
            self.shared.set_state(DatabaseState::Failed, reason.clone());
            return Err(reason);
        }
        let Some(applier) = &mut self.applier else {
            return Err("the database is not open".to_owned());
        };
        let (mark, replica_id) = applier.request();
        Ok(Request { mark, replica_id })
    }

    fn open(&mut self) -> Result<(), String> {
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
            disk::create_dir_all("db.directory", parent).map_err(|e| e.to_string())?;
        }
        let directory = ownership::directory_of(path);
        if self.ownership.is_none() {
            self.ownership = Some(ownership::take(&directory).map_err(|e| e.to_string())?);
        }
        let applier = Applier::open(self.shared.clone(), directory).map_err(|e| e.to_string())?;
        self.applier = Some(applier);
        Ok(())
    }

    /// False if the stream must end.
    fn message(&mut self, message: Message) -> bool {
        let Some(applier) = &mut self.applier else {
            return false;
        };
        match applier.message(message) {
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
            if error.is_gone() {
                // What is at the path now is found out when the next stream begins.
                self.applier = None;
            }
        }
    }

    fn failed(&self, error: &ApplyError) {
        let name = &self.shared.config.name;
        if error.is_diverged() {
            self.shared.meters.checksum_failures.add(1);
            tracing::error!(database = %name, "{error}; a snapshot heals it, in place");
            self.shared.not_caught_up();
        } else {
            tracing::warn!(database = %name, "{error}");
        }
        self.shared
            .set_state(DatabaseState::Disconnected, error.to_string());
    }

    /// Between two transactions: nobody publishes while the worker is locked, so the state that is held is the one that is
    /// named.
    fn view(&self, index: WalIndex) -> Result<CopyView, String> {
        let Some(applier) = &self.applier else {
            return Err("the database is not open".to_owned());
        };
        applier.view(index).map_err(|error| error.to_string())
    }

    fn detach(&mut self) -> Result<Option<Position>, String> {
        self.open()?;
        let Some(applier) = self.applier.take() else {
            return Err("the database is not open".to_owned());
        };
        let mark = applier.detach().map_err(|e| e.to_string())?;
        self.ownership = None;
        detach::finish(&self.shared.config.path).map_err(|e| e.to_string())?;
        self.shared.set_state(
            DatabaseState::Stopped,
            "detached: it is an ordinary database now".to_owned(),
        );
        tracing::info!(database = %self.shared.config.name, "detached");
        Ok(mark.map(|m| m.point.position))
    }
}
