//! End-to-end tests: real `walcast` processes, real applications, real readers.
//!
//! `support` is the kit and its self-tests; they need no walcast and prove on plain SQLite that
//! the checkers find what is wrong. `cargo test --test e2e support` runs them alone.

#[allow(
    dead_code,
    reason = "parts of the kit are used only by the scenarios, which are switched on below"
)]
mod support;

mod bad;
mod capture;
mod changes;
mod disk_full;
mod heal;
mod histories;
mod idle;
mod kills;
mod large;
mod local_writes;
mod network;
mod node;
mod phases;
mod power;
mod powercut;
mod readers;
mod rights;
mod shapes;
mod soak;
mod unsound;

/// What a child of these tests may be beside the roles of the kit.
#[cfg(test)]
const ROLES: [support::child::Role; 2] = [("bad", bad::acts::main), ("power", power::app::main)];
