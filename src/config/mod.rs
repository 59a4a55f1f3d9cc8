//! What a server is told to do, whether by a file or by arguments: plain data, checked, nothing opened yet.

mod model;

pub use model::{
    Config, DatabaseEntry, DirectoryEntry, Entry, Grant, Limits, LogConfig, LogFormat, Permission,
    PrimaryOptions, Readiness, ReplicaOptions, ServerOptions, ServerTls, TokenSource,
    UpstreamEntry, UpstreamTls,
};
