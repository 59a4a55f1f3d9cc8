//! Who waits for the disk, so that the one that applies does not: checkpoints, syncs, the durable position.

use super::record::{Durable, Mark};
use crate::disk::{self, Errands, File};
use crate::sqlite::{SqliteError, checkpoint_connection};
use std::path::Path;

/// Orders that may wait: one of each kind, and those that nobody waits for.
const QUEUE: usize = 16;

/// What shall be done.
enum Order {
    Checkpoint,
    Sync(Mark),
    Reopen,
}

/// What was done.
#[derive(Debug)]
pub enum Done {
    /// A checkpoint ended.
    Checkpoint(Result<(), SqliteError>),
    /// A state is durable, and published as such.
    Sync(disk::Result<Mark>),
}

/// Takes orders. Dropping it waits for them, and closes its connection.
pub struct Checkpointer {
    orders: Errands<Order>,
    /// A checkpoint was ordered and is not done.
    pub checkpointing: bool,
    /// A sync was ordered and is not done.
    pub syncing: bool,
}

impl Checkpointer {
    /// `wal` is the open `-wal` file; `done` is called by the thread that did it.
    pub fn new(
        name: &str,
        database: &Path,
        wal: File,
        mut durable: Durable,
        done: impl Fn(Done) + Send + 'static,
    ) -> Checkpointer {
        let database = database.to_owned();
        let mut connection = None;
        let orders = Errands::new(format!("ckpt-{name}"), QUEUE, move |order| match order {
            Order::Reopen => connection = None,
            Order::Checkpoint => {
                let result = checkpoint(&database, &mut connection);
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
        });
        Checkpointer {
            orders,
            checkpointing: false,
            syncing: false,
        }
    }

    /// Orders a PASSIVE checkpoint.
    pub fn checkpoint(&mut self) {
        self.checkpointing = true;
        self.orders.give(Order::Checkpoint);
    }

    /// Orders that the state `mark`, whose frames are all written, be made durable.
    pub fn sync(&mut self, mark: Mark) {
        self.syncing = true;
        self.orders.give(Order::Sync(mark));
    }

    /// The next checkpoint uses a new connection (the page size changed).
    pub fn reopen(&mut self) {
        self.orders.give(Order::Reopen);
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
