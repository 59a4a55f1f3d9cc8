//! The resolved configuration of one process.

use super::units::LONGEST_DURATION;
use crate::archive::{ArchiveOptions, ArchiveSource};
use std::path::PathBuf;
use std::time::Duration;

/// Everything that `walcast run`, `walcast primary` and `walcast replica` are told.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// How the process serves.
    pub server: ServerOptions,
    /// What it captures and follows.
    pub entries: Vec<Entry>,
    /// An application to run as a child.
    pub exec: Option<String>,
    /// Archives that are another's are taken from it, once each. Never in a file: it would do so at each start.
    pub take_over: bool,
}

/// How the process serves.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerOptions {
    /// `ADDRESS:PORT` for gRPC; port 0 takes a free one.
    pub listen: String,
    /// `ADDRESS:PORT` for metrics, probes and the status page; `None`: not served.
    pub http_listen: Option<String>,
    /// Listening beyond loopback without TLS is meant.
    pub insecure: bool,
    /// The lasting identity of this server; `None`: the host's name.
    pub server_id: Option<String>,
    /// How long replicas may take to reach the last position at the end.
    pub drain_timeout: Duration,
    /// TLS on both ports; `None`: plaintext.
    pub tls: Option<ServerTls>,
    /// Who may do what. Empty: everyone may do everything.
    pub access: Vec<Grant>,
    /// Whether gRPC reflection is served.
    pub reflection: bool,
    /// What one client and all clients together may use.
    pub limits: Limits,
    /// When the process is ready.
    pub readiness: Readiness,
    /// A replica that was not level for longer is not healthy; `None`: age does not matter.
    pub max_staleness: Option<Duration>,
    /// Logging.
    pub log: LogConfig,
}

impl Default for ServerOptions {
    fn default() -> ServerOptions {
        ServerOptions {
            listen: "127.0.0.1:4040".to_owned(),
            http_listen: None,
            insecure: false,
            server_id: None,
            drain_timeout: Duration::from_secs(10),
            tls: None,
            access: Vec::new(),
            reflection: true,
            limits: Limits::default(),
            readiness: Readiness::default(),
            max_staleness: None,
            log: LogConfig::default(),
        }
    }
}

/// A server's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTls {
    /// PEM: the certificate, then those that signed it.
    pub cert: PathBuf,
    /// PEM: its key.
    pub key: PathBuf,
    /// PEM: who signs clients' certificates. `None`: clients need none.
    pub client_ca: Option<PathBuf>,
}

/// Where a token comes from. The environment is read when the configuration is; a file again when it changes.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum TokenSource {
    /// The token itself.
    Value(String),
    /// A file with the token in its first line.
    File(PathBuf),
}

impl std::fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            TokenSource::Value(_) => f.write_str("Value(***)"),
            TokenSource::File(path) => write!(f, "File({})", path.display()),
        }
    }
}

/// What one client, known by a token or by its certificate's name, may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Its name in the log.
    pub name: String,
    /// It sends this token.
    pub token: Option<TokenSource>,
    /// Its certificate has this name: a DNS name of its subjectAltName, or the subject's common name where it has none.
    pub client_name: Option<String>,
    /// Patterns of the databases that it may use. Empty: all.
    pub databases: Vec<String>,
    /// What it may call.
    pub allow: Vec<Permission>,
}

/// A kind of call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Permission {
    /// `ReplicationService`.
    Stream,
    /// `PositionService`.
    Position,
    /// `AdminService`'s reading calls, and the list of databases.
    Status,
    /// `AdminService`'s changing calls.
    Admin,
    /// Reflection.
    Reflection,
    /// `/metrics` and the status page.
    Metrics,
}

impl Permission {
    /// All of them.
    pub const ALL: [Permission; 6] = [
        Permission::Stream,
        Permission::Position,
        Permission::Status,
        Permission::Admin,
        Permission::Reflection,
        Permission::Metrics,
    ];
}

/// Bounds on what clients use. Counts are at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one message that a client sends.
    pub request_bytes: usize,
    /// Streams in all.
    pub streams: usize,
    /// Streams of one client.
    pub streams_per_client: usize,
    /// Calls that wait for a position, in all.
    pub waits: usize,
    /// Connections in all.
    pub connections: usize,
    /// Connections that have not shown yet who they are.
    pub unauthenticated_connections: usize,
    /// For a TLS handshake and the first request.
    pub handshake_timeout: Duration,
    /// A connection without a call for longer is closed.
    pub idle_timeout: Duration,
    /// A stream that takes nothing for longer is cut off.
    pub stall_timeout: Duration,
}

impl Limits {
    /// The same, with times that can be added to a clock's; those of a file can already.
    pub fn bounded(mut self) -> Limits {
        for time in [
            &mut self.handshake_timeout,
            &mut self.idle_timeout,
            &mut self.stall_timeout,
        ] {
            *time = (*time).min(LONGEST_DURATION);
        }
        self
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            request_bytes: 64 << 10,
            streams: 16_384,
            streams_per_client: 8_192,
            waits: 4_096,
            connections: 4_096,
            unauthenticated_connections: 256,
            handshake_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(300),
            stall_timeout: Duration::from_secs(60),
        }
    }
}

/// When `/readyz` answers yes. Only replicas are asked; each is ready once it was level.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Readiness {
    /// One of them suffices.
    Any,
    /// All of them.
    #[default]
    All,
    /// Those named.
    Named(Vec<String>),
}

/// Logging.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// A level or a filter, as it was written; [`super::log_directives`] says what it stands for.
    pub level: String,
    /// How lines look.
    pub format: LogFormat,
}

impl Default for LogConfig {
    fn default() -> LogConfig {
        LogConfig {
            level: "info".to_owned(),
            format: LogFormat::default(),
        }
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For a terminal.
    #[default]
    Text,
    /// One object for each line.
    Json,
}

/// One element of `dbs`.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    /// One file.
    Database(DatabaseEntry),
    /// All matching files of a directory, or all matching databases of an upstream into a directory.
    Directory(DirectoryEntry),
}

/// One database. With an upstream or an archive to read it is a replica, without both a primary.
#[derive(Clone, Debug, PartialEq)]
pub struct DatabaseEntry {
    /// Its name here.
    pub name: String,
    /// Its file.
    pub path: PathBuf,
    /// What it follows, with the database's name there.
    pub upstream: Option<(UpstreamEntry, String)>,
    /// As a primary.
    pub primary: PrimaryOptions,
    /// As a replica.
    pub replica: ReplicaOptions,
}

impl DatabaseEntry {
    /// It follows something.
    pub fn is_replica(&self) -> bool {
        self.upstream.is_some() || self.replica.archive.is_some()
    }
}

/// A directory of databases; names are paths relative to it.
#[derive(Clone, Debug, PartialEq)]
pub struct DirectoryEntry {
    /// The directory.
    pub dir: PathBuf,
    /// Which names, such as `*.db` or `**/*.db`; on a replica, which of the upstream's names.
    pub pattern: String,
    /// What it mirrors.
    pub upstream: Option<UpstreamEntry>,
    /// As primaries.
    pub primary: PrimaryOptions,
    /// As replicas.
    pub replica: ReplicaOptions,
}

/// A server to follow. Entries with equal upstreams share one connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UpstreamEntry {
    /// `http://HOST:PORT` or `https://HOST:PORT`.
    pub url: String,
    /// TLS beyond the defaults.
    pub tls: UpstreamTls,
    /// What it is told who we are.
    pub token: Option<TokenSource>,
}

/// A client's side of TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct UpstreamTls {
    /// PEM: who signs the server's certificate.
    pub ca: Option<PathBuf>,
    /// PEM: our certificate.
    pub cert: Option<PathBuf>,
    /// PEM: its key.
    pub key: Option<PathBuf>,
    /// The name that the server's certificate must have, where it is not the URL's host.
    pub server_name: Option<String>,
}

/// How a primary's log is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrimaryOptions {
    /// Compressed bytes of log for replicas that were away.
    pub retain_size: u64,
    /// How long it is kept.
    pub retain_age: Duration,
    /// How often replicas hear from an idle primary.
    pub heartbeat: Duration,
    /// Where it is archived.
    pub archives: Vec<ArchiveOptions>,
}

impl Default for PrimaryOptions {
    fn default() -> PrimaryOptions {
        PrimaryOptions {
            retain_size: 1 << 30,
            retain_age: Duration::from_secs(24 * 3600),
            heartbeat: Duration::from_secs(1),
            archives: Vec::new(),
        }
    }
}

/// How a replica's file is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaOptions {
    /// This replica's name in the primary's status; `None`: the host's name.
    pub name: Option<String>,
    /// Time between two searches of the whole file for damage; `None`: never.
    pub scrub_interval: Option<Duration>,
    /// Bytes of the copy's log that short pauses try to keep it below.
    pub wal_soft_limit: u64,
    /// Bytes of the copy's log from which nothing is applied before readers end.
    pub wal_hard_limit: u64,
    /// Mode of a new file, such as 0o640.
    pub mode: u32,
    /// What it starts from, and without an upstream follows.
    pub archive: Option<ArchiveSource>,
}

impl Default for ReplicaOptions {
    fn default() -> ReplicaOptions {
        ReplicaOptions {
            name: None,
            scrub_interval: None,
            wal_soft_limit: 16 << 20,
            wal_hard_limit: 1 << 30,
            mode: 0o640,
            archive: None,
        }
    }
}
