//! Proves the kit on plain SQLite, where everything must pass, and on planted faults, where each
//! checker must fail: a checker that cannot fail proves nothing of walcast.

mod checker;
mod compare;
mod content;
mod kit;
mod load;
mod proxy;
mod shadow;

use rusqlite::Connection;

use super::Scratch;
use super::child::Spec;
use super::load::Load;

/// A database with some thousand rows of every kind, closed and checkpointed.
fn populated(scratch: &Scratch, options: Spec) -> Load {
    let options = options
        .with("commits", 60)
        .with("blob_kb", 64)
        .with("seed", 5);
    let mut load = Load::new(scratch.path(), &scratch.join("app.db"), options);
    load.start_writer();
    load.finish_writer(super::DEADLINE);
    load
}

/// Opens as an application does, for planting a fault by SQL.
fn open(scratch: &Scratch) -> Connection {
    Connection::open(scratch.join("app.db")).expect("open")
}
