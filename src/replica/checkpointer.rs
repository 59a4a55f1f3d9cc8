//! The thread that waits for the disk, so that the one that applies does not: checkpoints, syncs, the durable position.

use super::record::{Durable, Mark};
use crate::disk::{self, File};
use crate::sqlite::{SqliteError, checkpoint_connection};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

/// What the thread shall do.
enum Order {
    Checkpoint,
    Sync(Mark),
    Reopen,
}

/// What it did.
#[derive(Debug)]
pub enum Done {
    /// A checkpoint ended.
    Checkpoint(Result<(), SqliteError>),
    /// A state is durable, and published as such.
    Sync(disk::Result<Mark>),
}

/// A handle to the thread. Dropping it ends the thread after what it is doing.
pub struct Checkpointer {
    orders: Option<Sender<Order>>,
    thread: Option<JoinHandle<()>>,
    /// A checkpoint was ordered and is not done.
    pub checkpointing: bool,
    /// A sync was ordered and is not done.
    pub syncing: bool,
}

impl Checkpointer {
    /// Starts the thread. `wal` is the open `-wal` file; `done` is called in the thread.
    pub fn start(
        name: &str,
        database: &Path,
        wal: File,
        durable: Durable,
        done: impl Fn(Done) + Send + 'static,
    ) -> std::io::Result<Checkpointer> {
        let (orders, receiver) = channel();
        let database = database.to_owned();
        let thread = std::thread::Builder::new()
            .name(format!("ckpt-{name}"))
            .spawn(move || run(&database, &wal, durable, &receiver, &done))?;
        Ok(Checkpointer {
            orders: Some(orders),
            thread: Some(thread),
            checkpointing: false,
            syncing: false,
        })
    }

    fn order(&self, order: Order) {
        if let Some(orders) = &self.orders {
            // The thread ends only when this handle goes.
            let _ = orders.send(order);
        }
    }

    /// Orders a PASSIVE checkpoint.
    pub fn checkpoint(&mut self) {
        self.checkpointing = true;
        self.order(Order::Checkpoint);
    }

    /// Orders that the state `mark`, whose frames are all written, be made durable.
    pub fn sync(&mut self, mark: Mark) {
        self.syncing = true;
        self.order(Order::Sync(mark));
    }

    /// The next checkpoint uses a new connection (the page size changed).
    pub fn reopen(&mut self) {
        self.order(Order::Reopen);
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed; there is nothing to do about it here.
            let _ = thread.join();
        }
    }
}

fn run(
    database: &Path,
    wal: &File,
    mut durable: Durable,
    orders: &Receiver<Order>,
    done: &impl Fn(Done),
) {
    let mut connection = None;
    while let Ok(order) = orders.recv() {
        match order {
            Order::Reopen => connection = None,
            Order::Checkpoint => {
                let result = checkpoint(database, &mut connection);
                if result.is_err() {
                    connection = None;
                }
                done(Done::Checkpoint(result));
            }
            Order::Sync(mark) => {
                let synced = wal
                    .sync_data("durable.sync-wal")
                    .and_then(|()| durable.note(mark));
                done(Done::Sync(synced.map(|()| mark)));
            }
        }
    }
}

fn checkpoint(
    database: &Path,
    connection: &mut Option<rusqlite::Connection>,
) -> Result<(), SqliteError> {
    let open = match connection.take() {
        Some(open) => open,
        None => checkpoint_connection(database)?,
    };
    // The three result columns are not needed: the wal-index tells how far it came.
    let result = open.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
    *connection = Some(open);
    result.map_err(|source| SqliteError::Call {
        what: "checkpoint",
        path: database.to_owned(),
        source,
    })
}
