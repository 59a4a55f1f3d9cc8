//! The life of one database: waited for, attached, paused, and at last let go.

use super::attach::examine;
use super::continuity::attach;
use super::error::PrimaryError;
use super::session::{End, Resuming, Session};
use super::shadow::Housekeeping;
use super::shared::{Request, Shared};
use super::unsound::Unsound;
use crate::model::DatabaseState;
use crate::ownership::{self, Ownership};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often a database that cannot be captured now is looked at again.
const AGAIN: Duration = Duration::from_millis(200);

struct Supervisor {
    shared: Arc<Shared>,
    housekeeping: Arc<Housekeeping>,
    lock: Option<Ownership>,
    paused: bool,
    /// Why the next attachment must begin a new generation.
    renew: Option<String>,
    /// What is known of a log that cannot be captured.
    unsound: Unsound,
    /// Who waits for the end of a pause, and the generation before it.
    resuming: Option<Resuming>,
}

/// Runs until the database is stopped.
pub fn run(shared: &Arc<Shared>) {
    let mut supervisor = Supervisor {
        shared: Arc::clone(shared),
        housekeeping: Arc::new(Housekeeping::new(&shared.config.name)),
        lock: None,
        paused: false,
        renew: None,
        unsound: Unsound::default(),
        resuming: None,
    };
    while !shared.is_stopping() {
        supervisor.round();
    }
    if let Some((reply, _)) = supervisor.resuming.take() {
        drop(reply.send(Err(shared.not_ready())));
    }
    // Waits for what has to reach the disk.
    drop(supervisor);
    shared.set_state(DatabaseState::Stopped, "");
    shared.hub.end();
    shared.refuse_all();
}

impl Supervisor {
    fn round(&mut self) {
        if self.paused {
            self.serve_waiting();
            if self.paused {
                self.shared.wake.wait(AGAIN * 5);
            }
            return;
        }
        match self.try_attach() {
            Ok(mut session) => {
                self.renew = None;
                if let Some((reply, before)) = self.resuming.take() {
                    session.resume(reply, before);
                }
                let begun = Instant::now();
                let end = session.run();
                self.shared.hub.end();
                self.ended(end, begun.elapsed());
            }
            Err(reason) => self.wait(&reason),
        }
    }

    fn try_attach(&mut self) -> Result<Session, String> {
        // Where there is a directory already, the lock comes before the database file is opened: had this process the
        // database under another name too, a second descriptor that is closed some day would drop the first one's locks.
        if self.shared.layout.root().exists() {
            self.take_lock()?;
        }
        let candidate = examine(&self.shared)?;
        self.take_lock()?;
        let config = &self.shared.config;
        ownership::guard(&config.name, &config.path).map_err(|e| e.to_string())?;
        // What is tried again and again stays "waiting" until it works: no line in the log for each attempt.
        if self.shared.state().0 != DatabaseState::Waiting {
            self.shared
                .set_state(DatabaseState::Starting, "reads what was captured before");
        }
        attach(
            &self.shared,
            candidate,
            &self.housekeeping,
            self.renew.as_deref(),
            &mut self.unsound,
        )
    }

    fn take_lock(&mut self) -> Result<(), String> {
        if self.lock.is_none() {
            let lock = ownership::take(self.shared.layout.root());
            self.lock = Some(lock.map_err(|e| e.to_string())?);
        }
        Ok(())
    }

    fn ended(&mut self, end: End, lived: Duration) {
        match end {
            End::Stopped => {}
            End::Paused(reply, point) => {
                self.paused = true;
                self.shared.set_state(
                    DatabaseState::Paused,
                    "let go of the files; go on with: walcast resume",
                );
                // The files are closed by now.
                drop(reply.send(Ok(point)));
            }
            End::Again(reason) => self.look_anew(&reason, lived),
            End::Unsound(salt, reason) => {
                self.look_anew(&reason, lived);
                self.unsound.note(salt, reason);
            }
            End::Renew(reason) => self.renew = Some(reason),
        }
    }

    fn look_anew(&self, reason: &str, lived: Duration) {
        tracing::warn!(database = %self.shared.config.name, "{reason}; looking at it anew");
        self.shared.set_state(DatabaseState::Starting, reason);
        if lived < AGAIN {
            // What fails again at once must not fill the log.
            self.shared.wake.wait(AGAIN);
        }
    }

    fn wait(&mut self, reason: &str) {
        self.shared.set_state(DatabaseState::Waiting, reason);
        self.shared.hub.forget_tip();
        if let Some((reply, _)) = self.resuming.take() {
            drop(reply.send(Err(self.shared.not_ready())));
        }
        self.serve_waiting();
        if !self.shared.is_stopping() {
            self.shared.wake.wait(AGAIN);
        }
    }

    /// Answers callers while nothing is attached.
    fn serve_waiting(&mut self) {
        for request in self.shared.take_requests() {
            match request {
                Request::Resume(reply) if self.paused => {
                    self.paused = false;
                    self.resuming = Some((reply, self.shared.hub.generation()));
                    self.shared
                        .set_state(DatabaseState::Starting, "goes on after a pause");
                }
                Request::Pause(reply) if self.paused => {
                    let point = self.shared.hub.tip_now().ok_or(PrimaryError::Paused);
                    drop(reply.send(point));
                }
                request => request.refuse(self.shared.not_ready()),
            }
        }
    }
}
