//! Archives, made here from real databases as the writer makes them, and what comes back from them.

mod commands;
mod damage;
mod feed;
mod kit;
mod maker;
mod page;
mod positions;

#[allow(dead_code)]
#[path = "../common/server.rs"]
mod server;
