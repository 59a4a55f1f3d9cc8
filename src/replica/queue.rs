//! What is asked of a database, one after the other, by a thread that is there only while something is asked: a process
//! follows hundreds of databases, and most of them are quiet.

use super::Command;
use super::worker::{Next, Work};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, watch};

/// Commands that may wait.
const WAITING: usize = 64;

/// The database has ended: nobody answers any more.
#[derive(Debug)]
pub struct Ended;

/// Gets a thread for the work on what is queued.
pub type Run = Box<dyn Fn(Box<dyn FnOnce() + Send>) + Send + Sync>;

/// The queue, and who works on it.
pub struct Queue {
    commands: mpsc::Sender<Command>,
    /// `None` while a thread takes from it, and for ever once the database has ended.
    idle: Mutex<Option<mpsc::Receiver<Command>>>,
    worker: Mutex<Box<dyn Work>>,
    run: Run,
    fatal: watch::Sender<Option<String>>,
}

impl Queue {
    /// With who works, and where.
    pub fn new(worker: Box<dyn Work>, run: Run) -> Arc<Queue> {
        let (commands, receiver) = mpsc::channel(WAITING);
        Arc::new(Queue {
            commands,
            idle: Mutex::new(Some(receiver)),
            worker: Mutex::new(worker),
            run,
            fatal: watch::Sender::new(None),
        })
    }

    /// Whoever applies; a thread has it locked while it works.
    pub(super) fn worker(&self) -> &Mutex<Box<dyn Work>> {
        &self.worker
    }

    /// Why the replica cannot go on at all, once that is so.
    pub fn fatal(&self) -> Option<String> {
        self.fatal.borrow().clone()
    }

    /// Waits for a place in the queue.
    pub async fn send(self: &Arc<Self>, command: Command) -> Result<(), Ended> {
        self.commands.send(command).await.map_err(|_| Ended)?;
        self.begin();
        Ok(())
    }

    /// Asks to look around, where that is not asked for already or worked on.
    pub(super) fn tick(self: &Arc<Self>) -> Result<(), Ended> {
        // What waits will be followed by a look around anyway.
        let idle = !self.has_waiting();
        match self.commands.try_send(Command::Tick { idle }) {
            Ok(()) => self.begin(),
            Err(TrySendError::Full(_)) => {}
            Err(TrySendError::Closed(_)) => return Err(Ended),
        }
        Ok(())
    }

    fn has_waiting(&self) -> bool {
        self.commands.capacity() < self.commands.max_capacity()
    }

    fn idle(&self) -> MutexGuard<'_, Option<mpsc::Receiver<Command>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sees to it that a thread takes what was queued before this call.
    fn begin(self: &Arc<Self>) {
        let Some(receiver) = self.idle().take() else {
            return;
        };
        let queue = self.clone();
        // A panic is told by `Fatal`.
        (self.run)(Box::new(move || queue.work(receiver)));
    }

    fn work(&self, mut receiver: mpsc::Receiver<Command>) {
        let _fatal = Fatal(self);
        loop {
            while let Ok(command) = receiver.try_recv() {
                let mut worker = self.worker.lock().unwrap_or_else(PoisonError::into_inner);
                if let Next::End = worker.command(command) {
                    // With the receiver goes all that is queued: who waits for an answer is told.
                    return;
                }
            }
            let mut worker = self.worker.lock().unwrap_or_else(PoisonError::into_inner);
            worker.settle();
            drop(worker);
            // Who queues something from here on finds the receiver and gets it a thread. What was queued since the last look
            // did not; a place that is only promised to somebody is not queued yet, and is not waited for.
            let idle = &mut *self.idle();
            match idle.insert(receiver).is_empty() {
                true => return,
                false => match idle.take() {
                    Some(again) => receiver = again,
                    None => return,
                },
            }
        }
    }
}

/// A panic of the applier must not look like a quiet replica.
struct Fatal<'a>(&'a Queue);

impl Drop for Fatal<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0
                .fatal
                .send_replace(Some("the applier ended: it panicked".to_owned()));
        }
    }
}
