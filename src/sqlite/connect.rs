//! Connections of ours to databases that belong to an application or its readers.

use crate::sys::ShmError;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, ffi};
use std::path::{Path, PathBuf};

/// SQLite could not be used on a database.
#[derive(Debug, thiserror::Error)]
pub enum SqliteError {
    /// A call of SQLite failed.
    #[error("{what} {path}: {source}{hint}", path = path.display(), hint = hint(source))]
    Call {
        /// What was tried.
        what: &'static str,
        /// The database file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// The shared memory failed.
    #[error("{path}: {source}{hint}", path = path.display(), hint = shm_hint(source))]
    Shm {
        /// The database file.
        path: PathBuf,
        /// What failed.
        source: ShmError,
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

fn hint(error: &rusqlite::Error) -> &'static str {
    let code = error.sqlite_error().map(|error| error.extended_code);
    code.map_or("", hint_of)
}

fn shm_hint(error: &ShmError) -> &'static str {
    match error {
        ShmError::Code(_, code) => hint_of(*code),
        ShmError::Unsupported => "; move the database to a local disk",
    }
}

/// What a filesystem lacks is known by what SQLite could not do there. Its other errors say enough by themselves.
fn hint_of(extended: i32) -> &'static str {
    match extended {
        ffi::SQLITE_IOERR_SHMMAP | ffi::SQLITE_IOERR_SHMOPEN | ffi::SQLITE_IOERR_SHMLOCK => {
            "; SQLite could not share memory there, as WAL mode needs it: where the filesystem cannot (some of FUSE, of \
             networks, of clusters), move the database to a local disk"
        }
        ffi::SQLITE_IOERR_SHMSIZE => {
            "; SQLite could not make room for its -shm file: free some space"
        }
        ffi::SQLITE_IOERR_LOCK
        | ffi::SQLITE_IOERR_RDLOCK
        | ffi::SQLITE_IOERR_UNLOCK
        | ffi::SQLITE_IOERR_CHECKRESERVEDLOCK => {
            "; the filesystem refused a file lock: where it has none (Lustre without -o flock, some of FUSE and of \
             networks), move the database to a local disk"
        }
        _ => "",
    }
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
            // What SQLite says when `-shm` cannot grow (`unixShmMap`).
            SqliteError::Shm {
                source: ShmError::Code(_, code),
                ..
            } => matches!(*code, ffi::SQLITE_FULL | ffi::SQLITE_IOERR_SHMSIZE),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn said(code: i32) -> String {
        let source = rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
        let path = PathBuf::from("/mnt/app.db");
        let what = "read";
        SqliteError::Call { what, path, source }.to_string()
    }

    #[test]
    fn what_a_filesystem_lacks_is_told_in_words() {
        for code in [
            ffi::SQLITE_IOERR_SHMMAP,
            ffi::SQLITE_IOERR_SHMOPEN,
            ffi::SQLITE_IOERR_SHMLOCK,
        ] {
            let text = said(code);
            assert!(text.starts_with("read /mnt/app.db: "), "{text}");
            assert!(
                text.contains("share memory") && text.contains("local disk"),
                "{text}"
            );
        }
        for code in [ffi::SQLITE_IOERR_LOCK, ffi::SQLITE_IOERR_RDLOCK] {
            let text = said(code);
            assert!(
                text.contains("file lock") && text.contains("local disk"),
                "{text}"
            );
        }
        // A full disk is no reason to move.
        assert!(said(ffi::SQLITE_IOERR_SHMSIZE).contains("free some space"));
        for code in [
            ffi::SQLITE_IOERR_READ,
            ffi::SQLITE_BUSY,
            ffi::SQLITE_CANTOPEN,
        ] {
            assert!(!said(code).contains(';'), "{}", said(code));
        }
        let shm = |source| {
            let path = PathBuf::from("/mnt/app.db");
            SqliteError::Shm { path, source }.to_string()
        };
        assert!(shm(ShmError::Unsupported).contains("local disk"));
        let mapped = shm(ShmError::Code("map", ffi::SQLITE_IOERR_SHMMAP));
        assert!(mapped.contains("share memory"), "{mapped}");
    }

    #[test]
    fn shared_memory_that_cannot_grow_is_a_full_disk() {
        let shm = |code| SqliteError::Shm {
            path: PathBuf::from("db"),
            source: ShmError::Code("map", code),
        };
        assert!(shm(ffi::SQLITE_IOERR_SHMSIZE).is_full());
        assert!(!shm(ffi::SQLITE_IOERR_SHMMAP).is_full());
    }
}
