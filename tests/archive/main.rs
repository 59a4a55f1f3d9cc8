//! Archives written by real `walcast` processes, and restored by hand as docs/formats.md says: with `lz4` and `sqlite3`,
//! without walcast.

mod away;
mod hand;
mod kills;
mod kit;
mod owners;
mod replica;
mod running;

#[allow(dead_code)]
#[path = "../common/mount.rs"]
mod mount;
#[allow(dead_code)]
#[path = "../common/server.rs"]
mod server;
#[path = "../common/skip.rs"]
mod skip;

use skip::skip;
