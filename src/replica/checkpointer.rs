//! Who waits for the disk, so that the one that applies does not: checkpoints, syncs, the durable position.

use super::doubt::Doubt;
use super::record::{Durable, Mark};
use crate::disk::{self, Errands, File};
use crate::sqlite::{SqliteError, checkpoint_connection};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Orders that may wait: one of each kind, and those that nobody waits for.
const QUEUE: usize = 16;

/// The pause after a checkpoint that failed, twice as long after each that follows.
const FIRST_REST: Duration = Duration::from_millis(50);
const LONGEST_REST: Duration = Duration::from_secs(5);

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
    /// The log could not be synced. What of it is on the disk is not known, and no later sync will tell.
    Unsynced(disk::DiskError),
}

/// Takes orders. Dropping it waits for them, and closes its connection.
pub struct Checkpointer {
    orders: Errands<Order>,
    /// A checkpoint was ordered and is not done.
    pub checkpointing: bool,
    /// A sync was ordered and is not done.
    pub syncing: bool,
    /// The log could not be synced, and nobody has drawn the conclusion yet.
    pub unsynced: bool,
    /// When the checkpoint after one that failed may be ordered, and the pause that was.
    rest: Option<(Instant, Duration)>,
}

impl Checkpointer {
    /// `wal` is the open `-wal` file, and what is known of its syncs; `done` is called by the thread that did it.
    pub fn new(
        name: &str,
        database: &Path,
        (wal, doubt): (Arc<File>, Arc<Doubt>),
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
                done(match doubt.sync("durable.sync-wal", &wal) {
                    Ok(()) => Done::Sync(durable.note(mark).map(|()| mark)),
                    Err(error) => Done::Unsynced(error),
                });
            }
        });
        Checkpointer {
            orders,
            checkpointing: false,
            syncing: false,
            unsynced: false,
            rest: None,
        }
    }

    /// True if a checkpoint may be ordered: none is under way, and none has failed just now.
    pub fn may_checkpoint(&self) -> bool {
        let rests = self.rest.is_some_and(|(until, _)| Instant::now() < until);
        !self.checkpointing && !rests
    }

    /// A checkpoint ended; one that failed will fail again for a while.
    pub fn checkpointed(&mut self, failed: bool) {
        self.checkpointing = false;
        self.rest = failed.then(|| {
            let rest = self.rest.map_or(FIRST_REST, |(_, rest)| rest * 2);
            let rest = rest.min(LONGEST_REST);
            (Instant::now() + rest, rest)
        });
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    #[test]
    fn a_log_that_cannot_be_synced_is_told_from_a_note_that_cannot_be_written() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("db-wal");
        // A file that nothing can be synced in.
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
        let wal = Arc::new(File::open_rw("wal.open", &path).expect("open"));
        let durable = Durable::open(directory.path()).expect("a record");
        let (sender, done) = channel();
        let point = crate::model::Point {
            position: crate::format::position::Position {
                generation: crate::format::position::Generation(1),
                index: 0,
                offset: 0,
            },
            dbsum: Default::default(),
            page_count: 1,
            page_size: 4096,
            time_us: 0,
            frame_cksum: None,
        };
        let mark = Mark { point, log: None };
        let doubt = Arc::new(Doubt::open(directory.path()).expect("nothing is noted"));
        let log = (wal, doubt);
        let mut checkpointer = Checkpointer::new("db", &path, log, durable, move |what| {
            let _ = sender.send(what);
        });
        checkpointer.sync(mark);
        let what = done.recv_timeout(Duration::from_secs(60));
        assert!(matches!(what, Ok(Done::Unsynced(_))), "{what:?}");
        drop(checkpointer);
        let durable = Durable::open(directory.path()).expect("a record");
        assert_eq!(durable.mark(), None);
    }
}
