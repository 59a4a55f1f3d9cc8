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

/// Says loudly that a test could not run; a failure where nothing may be skipped.
fn skip(why: &str) {
    let must = std::env::var("WALCAST_REQUIRE_ALL").is_ok_and(|value| value == "1");
    assert!(!must, "cannot run: {why}");
    eprintln!("SKIPPED: {why}");
}
