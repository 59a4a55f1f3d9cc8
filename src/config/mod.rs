//! What a server is told to do, whether by a file or by arguments: plain data, checked, nothing opened yet.
//!
//! A file goes through `yaml` (events to a tree whose values know their places), `expand` (variables, in the text of one
//! value), `fields` (the pairs of a section by key and type, from the tables of [`schema`]), `server`, `access` and
//! `entries` (one reader for each section, to the plain data of `model`) and `whole` (what only all of it shows). A reader
//! that meets a mistake notes it and goes on, so that one run tells of all of them.

mod access;
mod entries;
mod expand;
mod fields;
mod load;
mod model;
mod near;
mod problem;
pub mod schema;
mod server;
mod show;
mod units;
mod values;
mod whole;
mod yaml;

pub use expand::Env;
pub use load::{DEFAULT_FILES, Loaded, find, load, load_with_warnings, parse};
pub use model::{
    Config, DatabaseEntry, DirectoryEntry, Entry, Grant, Limits, LogConfig, LogFormat, Permission,
    PrimaryOptions, Readiness, ReplicaOptions, ServerOptions, ServerTls, TokenSource,
    UpstreamEntry, UpstreamTls,
};
pub use problem::{ConfigError, Place, Problem};
pub use show::show;
pub use units::{LONGEST_DURATION, parse_duration, parse_size, write_duration, write_size};
pub use values::{
    is_beyond_loopback, log_directives, parse_command, parse_heartbeat, parse_label, parse_listen,
    parse_mode, parse_name, parse_pattern,
};
pub use whole::identity;
