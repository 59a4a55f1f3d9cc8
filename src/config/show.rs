//! A configuration as a file: every value that counts, defaults included.

use super::model::{
    Config, DatabaseEntry, DirectoryEntry, Entry, Grant, LogFormat, PrimaryOptions, Readiness,
    ReplicaOptions, ServerOptions, TokenSource, UpstreamEntry, UpstreamTls,
};
use super::units::{write_duration, write_size};
use crate::archive::ArchiveOptions;
use std::fmt::{Display, Write as _};
use std::path::Path;
use std::time::Duration;

/// What stands for a token.
const MASKED: &str = "***";

/// The configuration as YAML. Reading it, with expansion, gives the same configuration, but for tokens: those that are
/// not in files of their own are shown as `***`.
pub fn show(config: &Config) -> String {
    let mut out = Writer::default();
    server(&mut out, &config.server);
    if let Some(exec) = &config.exec {
        out.text("exec", exec);
    }
    out.open("dbs");
    for entry in &config.entries {
        out.element(|out| match entry {
            Entry::Database(entry) => database(out, entry),
            Entry::Directory(entry) => directory(out, entry),
        });
    }
    out.text
}

/// Lines at a depth.
#[derive(Default)]
struct Writer {
    text: String,
    depth: usize,
    /// The next line begins an element of a list.
    dash: bool,
}

impl Writer {
    fn line(&mut self, line: &str) {
        let indent = "  ".repeat(self.depth);
        match std::mem::take(&mut self.dash) {
            // The dash takes the place of the last two spaces.
            true => self.text.push_str(&format!("{}- {line}\n", &indent[2..])),
            false => self.text.push_str(&format!("{indent}{line}\n")),
        }
    }

    fn value(&mut self, key: &str, value: impl Display) {
        self.line(&format!("{key}: {value}"));
    }

    fn text(&mut self, key: &str, text: &str) {
        self.value(key, quoted(text));
    }

    fn path(&mut self, key: &str, path: &Path) {
        self.text(key, &path.to_string_lossy());
    }

    fn duration(&mut self, key: &str, duration: Duration) {
        self.value(key, write_duration(duration));
    }

    fn size(&mut self, key: &str, bytes: u64) {
        self.value(key, write_size(bytes));
    }

    fn texts(&mut self, key: &str, texts: &[String]) {
        let texts: Vec<_> = texts.iter().map(|text| quoted(text)).collect();
        self.value(key, format!("[{}]", texts.join(", ")));
    }

    fn open(&mut self, key: &str) {
        self.line(&format!("{key}:"));
    }

    fn section(&mut self, key: &str, write: impl FnOnce(&mut Writer)) {
        self.open(key);
        self.depth += 1;
        write(self);
        self.depth -= 1;
    }

    /// Below [`Writer::open`]: one element of a list.
    fn element(&mut self, write: impl FnOnce(&mut Writer)) {
        self.depth += 2;
        self.dash = true;
        write(self);
        self.depth -= 2;
    }
}

/// Text in quotes: nothing in it is YAML, and no `$` a variable.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '$' => out.push_str("$$"),
            // Line breaks of Unicode, marks of byte order and of direction: as escapes they mean the same and are seen.
            c if c.is_control() || is_invisible(c) => {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\U{:08x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn is_invisible(c: char) -> bool {
    matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' | '\u{fffe}'..='\u{ffff}')
        || matches!(c, '\u{200b}'..='\u{200f}')
}

fn server(out: &mut Writer, options: &ServerOptions) {
    out.text("listen", &options.listen);
    if let Some(listen) = &options.http_listen {
        out.text("http-listen", listen);
    }
    out.value("insecure", options.insecure);
    if let Some(id) = &options.server_id {
        out.text("server-id", id);
    }
    out.duration("drain-timeout", options.drain_timeout);
    out.value("reflection", options.reflection);
    match &options.readiness {
        Readiness::Any => out.value("readiness", "any"),
        Readiness::All => out.value("readiness", "all"),
        Readiness::Named(names) => out.texts("readiness", names),
    }
    if let Some(staleness) = options.max_staleness {
        out.duration("max-staleness", staleness);
    }
    out.section("log", |out| {
        out.text("level", &options.log.level);
        let format = match options.log.format {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        };
        out.value("format", format);
    });
    if let Some(tls) = &options.tls {
        out.section("tls", |out| {
            out.path("cert", &tls.cert);
            out.path("key", &tls.key);
            if let Some(ca) = &tls.client_ca {
                out.path("client-ca", ca);
            }
        });
    }
    limits(out, options);
    if !options.access.is_empty() {
        out.open("access");
    }
    for grant in &options.access {
        out.element(|out| access(out, grant));
    }
}

fn limits(out: &mut Writer, options: &ServerOptions) {
    let limits = &options.limits;
    out.section("limits", |out| {
        out.size("request-bytes", limits.request_bytes as u64);
        out.value("streams", limits.streams);
        out.value("streams-per-client", limits.streams_per_client);
        out.value("waits", limits.waits);
        out.value("connections", limits.connections);
        out.value(
            "unauthenticated-connections",
            limits.unauthenticated_connections,
        );
        out.duration("handshake-timeout", limits.handshake_timeout);
        out.duration("idle-timeout", limits.idle_timeout);
        out.duration("stall-timeout", limits.stall_timeout);
    });
}

fn access(out: &mut Writer, grant: &Grant) {
    out.text("name", &grant.name);
    token(out, grant.token.as_ref());
    if let Some(name) = &grant.client_name {
        out.text("client-name", name);
    }
    if !grant.databases.is_empty() {
        out.texts("databases", &grant.databases);
    }
    let word = |permission| {
        let words = super::access::PERMISSIONS.iter();
        let mut same = words.filter(|(_, known)| *known == permission);
        same.next().map_or("", |(word, _)| *word)
    };
    let words: Vec<_> = grant.allow.iter().copied().map(word).collect();
    out.value("allow", format!("[{}]", words.join(", ")));
}

fn token(out: &mut Writer, token: Option<&TokenSource>) {
    match token {
        None => {}
        Some(TokenSource::Value(_)) => out.text("token", MASKED),
        Some(TokenSource::File(path)) => out.path("token-file", path),
    }
}

fn database(out: &mut Writer, entry: &DatabaseEntry) {
    out.path("path", &entry.path);
    out.text("name", &entry.name);
    match &entry.upstream {
        Some((from, name)) => {
            upstream(out, from, Some(name));
            replica(out, &entry.replica, true);
        }
        None if entry.is_replica() => replica(out, &entry.replica, false),
        None => primary(out, &entry.primary),
    }
}

fn directory(out: &mut Writer, entry: &DirectoryEntry) {
    out.path("dir", &entry.dir);
    out.text("pattern", &entry.pattern);
    match &entry.upstream {
        Some(from) => {
            upstream(out, from, None);
            replica(out, &entry.replica, true);
        }
        None => primary(out, &entry.primary),
    }
}

fn upstream(out: &mut Writer, entry: &UpstreamEntry, database: Option<&str>) {
    out.section("upstream", |out| {
        out.text("url", &entry.url);
        if let Some(database) = database {
            out.text("database", database);
        }
        token(out, entry.token.as_ref());
        if entry.tls != UpstreamTls::default() {
            out.section("tls", |out| upstream_tls(out, &entry.tls));
        }
    });
}

fn upstream_tls(out: &mut Writer, tls: &UpstreamTls) {
    for (key, path) in [("ca", &tls.ca), ("cert", &tls.cert), ("key", &tls.key)] {
        if let Some(path) = path {
            out.path(key, path);
        }
    }
    if let Some(name) = &tls.server_name {
        out.text("server-name", name);
    }
}

fn primary(out: &mut Writer, options: &PrimaryOptions) {
    out.size("retain-size", options.retain_size);
    out.duration("retain-age", options.retain_age);
    out.duration("heartbeat", options.heartbeat);
    if !options.archives.is_empty() {
        out.open("archives");
    }
    for entry in &options.archives {
        out.element(|out| archive(out, entry));
    }
}

fn archive(out: &mut Writer, entry: &ArchiveOptions) {
    out.text("url", &entry.location.to_string());
    out.duration("sync-interval", entry.sync_interval);
    out.duration("snapshot-interval", entry.snapshot_interval);
    out.duration("retain-age", entry.retain_age);
    out.value("retain-count", entry.retain_count);
    if let Some(interval) = entry.validation_interval {
        out.duration("validation-interval", interval);
    }
}

fn replica(out: &mut Writer, options: &ReplicaOptions, has_upstream: bool) {
    if let Some(archive) = &options.archive {
        out.text("archive", &archive.location.to_string());
        if !has_upstream {
            out.duration("archive-poll", archive.poll);
        }
    }
    if let Some(name) = &options.name {
        out.text("replica-name", name);
    }
    if let Some(interval) = options.scrub_interval {
        out.duration("scrub-interval", interval);
    }
    out.size("wal-soft-limit", options.wal_soft_limit);
    out.size("wal-hard-limit", options.wal_hard_limit);
    out.value("mode", format!("\"{:04o}\"", options.mode));
}
