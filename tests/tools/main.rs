//! The commands of those who operate: verification, backups, status, completions, manual pages, logs; by running them.

mod backup;
mod kit;
mod logs;
mod metrics;
mod pages;
mod progress;
mod status;
mod verify;

#[allow(dead_code)]
#[path = "../common/server.rs"]
mod server;
