//! The loop of the applier's thread: opens the database, takes commands one by one, ends in order.

use super::applier::{Applier, ApplyError};
use super::follow::Request;
use super::shared::Shared;
use super::{Command, CopyView, detach};
use crate::disk;
use crate::format::position::Position;
use crate::model::{DatabaseState, Message};
use crate::ownership::{self, Ownership};
use crate::sqlite::WalIndex;
use std::sync::Arc;
use tokio::sync::mpsc::Receiver;

struct Worker {
    shared: Arc<Shared>,
    ownership: Option<Ownership>,
    applier: Option<Applier>,
}

pub(super) fn run(shared: &Arc<Shared>, mut commands: Receiver<Command>) {
    let mut worker = Worker {
        shared: shared.clone(),
        ownership: None,
        applier: None,
    };
    while let Some(command) = commands.blocking_recv() {
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
            Command::Tick { idle } => worker.tick(idle),
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
    if let Some(applier) = worker.applier.take() {
        applier.close();
    }
    shared.set_state(DatabaseState::Stopped, String::new());
}

impl Worker {
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
            tracing::error!(database = %name, "{error}; a snapshot heals it, in place");
            self.shared.not_caught_up();
        } else {
            tracing::warn!(database = %name, "{error}");
        }
        self.shared
            .set_state(DatabaseState::Disconnected, error.to_string());
    }

    /// Between two transactions: this thread alone publishes, so the state that is held is the one that is named.
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
