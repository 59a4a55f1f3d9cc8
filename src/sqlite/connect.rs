//! Connections of ours to databases that belong to an application or its readers.

use crate::sys::frugal_connections;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use std::path::{Path, PathBuf};

/// SQLite could not be used on a database.
#[derive(Debug, thiserror::Error)]
pub enum SqliteError {
    /// A call of SQLite failed.
    #[error("{what} {path}: {source}", path = path.display())]
    Call {
        /// What was tried.
        what: &'static str,
        /// The database file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// The shared memory failed.
    #[error("{path}: {source}", path = path.display())]
    Shm {
        /// The database file.
        path: PathBuf,
        /// What failed.
        source: crate::sys::ShmError,
    },
    /// The database is not in WAL mode.
    #[error("{path} is not in WAL mode (it is '{mode}'); switch it with: PRAGMA journal_mode=WAL", path = path.display())]
    NotWal {
        /// The database file.
        path: PathBuf,
        /// Its journal mode.
        mode: String,
    },
}

impl SqliteError {
    /// True if another connection is in the way now and may not be later.
    pub fn is_busy(&self) -> bool {
        match self {
            SqliteError::Call { source, .. } => matches!(
                source.sqlite_error_code(),
                Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked)
            ),
            _ => false,
        }
    }

    /// True if the disk is full.
    pub fn is_full(&self) -> bool {
        match self {
            SqliteError::Call { source, .. } => {
                source.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull)
            }
            _ => false,
        }
    }
}

pub(super) fn call<T>(
    what: &'static str,
    path: &Path,
    result: rusqlite::Result<T>,
) -> Result<T, SqliteError> {
    result.map_err(|source| SqliteError::Call {
        what,
        path: path.to_owned(),
        source,
    })
}

fn open(path: &Path) -> Result<Connection, SqliteError> {
    frugal_connections();
    // No CREATE: a file that vanished must not come back empty. FULL_MUTEX: the connection moves between threads.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_FULL_MUTEX;
    let connection = call("open", path, Connection::open_with_flags(path, flags))?;
    // Our clean exit must not checkpoint and delete the log: it may hold what nobody captured yet.
    let set = connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
    call("configure", path, set)?;
    call(
        "configure",
        path,
        connection.busy_timeout(std::time::Duration::ZERO),
    )?;
    Ok(connection)
}

/// Opens a connection that has the database's WAL and shared memory open (recovered, where that was needed) and runs no
/// SQL after this. Fails with [`SqliteError::NotWal`] where the database is in another journal mode.
pub fn index_connection(path: &Path) -> Result<Connection, SqliteError> {
    let connection = open(path)?;
    let mode: rusqlite::Result<String> =
        connection.query_row("PRAGMA journal_mode", [], |row| row.get(0));
    let mode = call("read the journal mode of", path, mode)?;
    if mode != "wal" {
        return Err(SqliteError::NotWal {
            path: path.to_owned(),
            mode,
        });
    }
    let count = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()));
    call("read", path, count)?;
    Ok(connection)
}

/// Opens a connection that holds a read transaction.
pub fn read_connection(path: &Path) -> Result<Connection, SqliteError> {
    let connection = open(path)?;
    let began = connection.execute_batch("BEGIN; SELECT count(*) FROM sqlite_schema");
    call("read", path, began)?;
    Ok(connection)
}

/// Opens a connection for PASSIVE checkpoints, which sync as `synchronous=FULL` does.
pub fn checkpoint_connection(path: &Path) -> Result<Connection, SqliteError> {
    let connection = open(path)?;
    call(
        "configure",
        path,
        connection.execute_batch("PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=0"),
    )?;
    Ok(connection)
}
