//! The keys: which there are, what they take and what they are when left out.
//!
//! The readers can take no key that is not in these tables, and `docs/configuration.md` and the example file are compared
//! with them.

/// A map with keys of its own.
#[derive(Debug)]
pub struct Section {
    /// Where it is, as a person would say it; empty for the file itself.
    pub name: &'static str,
    /// Its keys.
    pub keys: &'static [Key],
}

/// A key of a section.
#[derive(Debug)]
pub struct Key {
    /// As it is written.
    pub name: &'static str,
    /// What it takes, in a word or two.
    pub takes: &'static str,
    /// What leaving it out means.
    pub default: Absent,
}

/// What leaving a key out means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent {
    /// An error.
    Required,
    /// The same as this value.
    Value(&'static str),
    /// This, which no value says.
    Is(&'static str),
}

use Absent::{Is, Required, Value};

const fn key(name: &'static str, takes: &'static str, default: Absent) -> Key {
    Key {
        name,
        takes,
        default,
    }
}

/// The file.
pub const FILE: Section = Section {
    name: "",
    keys: &[
        key("listen", "ADDRESS:PORT", Value("127.0.0.1:4040")),
        key("http-listen", "ADDRESS:PORT", Is("not served")),
        key("insecure", "true or false", Value("false")),
        key("server-id", "text", Is("the host's name")),
        key("drain-timeout", "duration", Value("10s")),
        key("reflection", "true or false", Value("true")),
        key("readiness", "any, all or a list of names", Value("all")),
        key("max-staleness", "duration", Is("age does not matter")),
        key("log", "section", Is("the defaults of its keys")),
        key("tls", "section", Is("plaintext")),
        key("limits", "section", Is("the defaults of its keys")),
        key(
            "access",
            "list of sections",
            Is("everyone may do everything"),
        ),
        key("exec", "command", Is("no child")),
        key("dbs", "list of sections", Required),
    ],
};

/// `log`.
pub const LOG: Section = Section {
    name: "log",
    keys: &[
        key("level", "level or filter", Value("info")),
        key("format", "text or json", Value("text")),
    ],
};

/// `tls`.
pub const TLS: Section = Section {
    name: "tls",
    keys: &[
        key("cert", "path", Required),
        key("key", "path", Required),
        key("client-ca", "path", Is("clients need no certificate")),
    ],
};

/// `limits`.
pub const LIMITS: Section = Section {
    name: "limits",
    keys: &[
        key("request-bytes", "size", Value("64KiB")),
        key("streams", "number", Value("16384")),
        key("streams-per-client", "number", Value("8192")),
        key("waits", "number", Value("4096")),
        key("connections", "number", Value("4096")),
        key("unauthenticated-connections", "number", Value("256")),
        key("handshake-timeout", "duration", Value("10s")),
        key("idle-timeout", "duration", Value("5m")),
        key("stall-timeout", "duration", Value("60s")),
    ],
};

/// An element of `access`.
pub const ACCESS: Section = Section {
    name: "access",
    keys: &[
        key("name", "text", Required),
        key("token", "text", Is("no token")),
        key("token-file", "path", Is("no token")),
        key("client-name", "text", Is("any certificate, or none")),
        key("databases", "list of patterns", Is("all")),
        key("allow", "list of permissions", Required),
    ],
};

/// An element of `dbs`.
pub const DB: Section = Section {
    name: "dbs",
    keys: &[
        key("path", "path", Is("`dir` is given")),
        key("dir", "path", Is("`path` is given")),
        key("name", "text", Is("the file's name")),
        key(
            "pattern",
            "pattern",
            Is("`**` with an `upstream`, else required"),
        ),
        key(
            "upstream",
            "section",
            Is("a primary, if there is no `archive` either"),
        ),
        key("archive", "path or URL", Is("the upstream alone")),
        key("archive-poll", "duration", Is("1s")),
        key("retain-size", "size", Value("1GiB")),
        key("retain-age", "duration", Value("24h")),
        key("heartbeat", "duration", Value("1s")),
        key("archives", "list", Is("not archived")),
        key("replica-name", "text", Is("the host's name")),
        key("scrub-interval", "duration", Is("never")),
        key("wal-soft-limit", "size", Value("16MiB")),
        key("wal-hard-limit", "size", Value("1GiB")),
        key("mode", "octal digits", Value("\"0640\"")),
    ],
};

/// An element of `archives` of an element of `dbs`.
pub const ARCHIVE: Section = Section {
    name: "archives",
    keys: &[
        key("url", "path or URL", Required),
        key("sync-interval", "duration", Value("1s")),
        key("snapshot-interval", "duration", Value("24h")),
        key("retain-age", "duration", Value("7d")),
        key("retain-count", "number", Value("2")),
        key("validation-interval", "duration", Is("never")),
    ],
};

/// `upstream` of an element of `dbs`.
pub const UPSTREAM: Section = Section {
    name: "upstream",
    keys: &[
        key("url", "URL", Required),
        key("database", "text", Is("the file's name")),
        key("token", "text", Is("no token")),
        key("token-file", "path", Is("no token")),
        key("tls", "section", Is("the defaults of its keys")),
    ],
};

/// `tls` of an `upstream`.
pub const UPSTREAM_TLS: Section = Section {
    name: "upstream.tls",
    keys: &[
        key("ca", "path", Is("the system's")),
        key("cert", "path", Is("no certificate")),
        key("key", "path", Is("no certificate")),
        key("server-name", "text", Is("the URL's host")),
    ],
};

/// All of them, in the order in which the documentation has them.
pub const SECTIONS: [&Section; 9] = [
    &FILE,
    &LOG,
    &TLS,
    &LIMITS,
    &ACCESS,
    &DB,
    &ARCHIVE,
    &UPSTREAM,
    &UPSTREAM_TLS,
];
