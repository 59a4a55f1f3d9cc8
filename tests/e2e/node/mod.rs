//! One process with many databases: directories, mirrors, reload, the application as a child, and what is wrong with a
//! database told as its state.

mod directory;
mod exec;
mod failures;
mod mirror;
mod reload;
mod thousand;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rusqlite::Connection;
use serde_json::Value;

use crate::support::cli::status;
use crate::support::proc::Walcast;
use crate::support::{Scratch, wait_for};

/// A `walcast run` with its file.
pub struct Node {
    pub file: PathBuf,
    pub process: Walcast,
    pub address: SocketAddr,
}

/// Writes a configuration; `dbs` are the lines below that key.
pub fn write_config(file: &Path, top: &str, dbs: &str) {
    let text = format!("listen: 127.0.0.1:0\n{top}\ndbs:\n{dbs}\n");
    // A reload reads it as a whole.
    let new = file.with_extension("new");
    std::fs::write(&new, text).expect("write the configuration");
    std::fs::rename(&new, file).expect("put the configuration in place");
}

impl Node {
    pub fn start(scratch: &Scratch, name: &str, dbs: &str) -> Node {
        let file = scratch.join(&format!("{name}.yml"));
        write_config(&file, "", dbs);
        let path = file.display().to_string();
        let mut process = Walcast::new(scratch.path(), name, &["run", "--config", &path]);
        let address = process.start();
        Node {
            file,
            process,
            address,
        }
    }

    /// All databases by name.
    pub fn databases(&self) -> BTreeMap<String, Value> {
        databases(self.address).expect("a status")
    }

    /// Writes another configuration and has it read.
    pub fn reload(&self, top: &str, dbs: &str) {
        write_config(&self.file, top, dbs);
        hang_up(&self.process);
    }

    /// Waits until a database is in this state; gives all that is said of it.
    pub fn wait(&self, name: &str, state: &str) -> Value {
        wait_for(&format!("{name} to be {state}"), || {
            let databases = databases(self.address)?;
            let found = databases
                .get(name)
                .ok_or_else(|| format!("it is not there: {databases:?}"))?;
            match found["state"] == state {
                true => Ok(found.clone()),
                false => Err(found.to_string()),
            }
        })
    }

    /// Waits until these are all that are there.
    pub fn wait_names(&self, names: &[&str]) {
        wait_for(&format!("only {names:?}"), || {
            let databases = databases(self.address)?;
            match databases.keys().eq(names) {
                true => Ok(()),
                false => Err(format!("{:?}", databases.keys())),
            }
        });
    }
}

pub fn databases(server: SocketAddr) -> Result<BTreeMap<String, Value>, String> {
    let json: Value = serde_json::from_str(&status(server)?).map_err(|e| e.to_string())?;
    let list = json["databases"].as_array().ok_or("no list")?;
    let named = |d: &Value| (d["name"].as_str().unwrap_or_default().to_owned(), d.clone());
    Ok(list.iter().map(named).collect())
}

pub fn hang_up(process: &Walcast) {
    let pid = process.pid().expect("a running process");
    let pid = Pid::from_raw(i32::try_from(pid).expect("a pid"));
    kill(pid, Signal::SIGHUP).expect("send SIGHUP");
}

/// An application's database, with one row. It stays open: closing the last connection would take the log away.
pub fn application(path: &Path, row: i64) -> Connection {
    let dir = path.parent().expect("a directory");
    std::fs::create_dir_all(dir).expect("a directory");
    let db = Connection::open(path).expect("open a database");
    db.pragma_update(None, "journal_mode", "wal")
        .expect("WAL mode");
    db.execute_batch("CREATE TABLE IF NOT EXISTS t(x)")
        .expect("a table");
    add(&db, row);
    db
}

pub fn add(db: &Connection, row: i64) {
    db.execute("INSERT INTO t VALUES(?)", [row]).expect("a row");
}

/// Takes a database and its files away, as its owner would.
pub fn take_away(path: &Path) {
    for end in ["", "-wal", "-shm"] {
        let file = PathBuf::from(format!("{}{end}", path.display()));
        match std::fs::remove_file(&file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => panic!("{error}"),
            _ => {}
        }
    }
}

/// Waits until a reader of this file sees a row.
pub fn wait_row(path: &Path, row: i64) {
    wait_for(&format!("row {row} in {}", path.display()), || {
        let db = Connection::open_with_flags(path, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY)
            .map_err(|e| e.to_string())?;
        let found: bool = db
            .query_row("SELECT EXISTS(SELECT 1 FROM t WHERE x = ?)", [row], |r| {
                r.get(0)
            })
            .map_err(|e| e.to_string())?;
        found.then_some(()).ok_or_else(|| "not there".to_owned())
    });
}
