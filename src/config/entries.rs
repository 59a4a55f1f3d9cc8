//! `dbs`: the databases and directories.

use super::access::read_token;
use super::fields::Fields;
use super::model::{
    DatabaseEntry, DirectoryEntry, Entry, PrimaryOptions, ReplicaOptions, UpstreamEntry,
    UpstreamTls,
};
use super::problem::{Place, Problems};
use super::schema;
use super::units::{parse_duration, parse_size};
use super::values::{
    file, is_this_machine, label, parse_heartbeat, parse_mode, parse_name, path, pattern,
    some_duration, url,
};
use crate::archive::{ArchiveOptions, ArchiveSource, Location};

/// Keys that only a primary has.
const OF_PRIMARIES: [&str; 4] = ["retain-size", "retain-age", "heartbeat", "archives"];
/// Keys that only a replica has.
const OF_REPLICAS: [&str; 6] = [
    "archive-poll",
    "replica-name",
    "scrub-interval",
    "wal-soft-limit",
    "wal-hard-limit",
    "mode",
];
/// Keys that only one file has.
const OF_FILES: [&str; 1] = ["name"];
/// Keys that only a directory has.
const OF_DIRECTORIES: [&str; 1] = ["pattern"];
/// What a pattern is where an upstream's databases are mirrored and none is given.
const ALL: &str = "**";

/// An entry with the places that later checks name.
pub(super) struct Placed {
    pub(super) entry: Entry,
    /// Of the name, or of what it comes from.
    pub(super) name: Place,
    /// Of the path or the directory.
    pub(super) path: Place,
    /// Of each archive.
    pub(super) archives: Vec<Place>,
}

/// Reads `dbs`.
pub(super) fn read(top: &Fields<'_>, insecure: bool, problems: &Problems) -> Vec<Placed> {
    top.require(
        "dbs",
        "the list of databases, each with a `path` or a `dir`",
    );
    let without = "a process without databases has nothing to do";
    let items = top.list("dbs", without).into_iter().flatten();
    items
        .filter_map(|node| {
            entry(
                &Fields::of(node, &schema::DB, problems)?,
                insecure,
                problems,
            )
        })
        .collect()
}

fn entry(fields: &Fields<'_>, insecure: bool, problems: &Problems) -> Option<Placed> {
    let upstream = upstream(fields, insecure);
    let follows = ["upstream", "archive"]
        .into_iter()
        .find(|key| fields.get(key).is_some());
    match follows {
        Some("upstream") => refuse(
            fields,
            &OF_PRIMARIES,
            "is for primaries, and this is a replica: it has an `upstream`",
        ),
        Some(_) => refuse(
            fields,
            &OF_PRIMARIES,
            "is for primaries, and this is a replica: it has an `archive` to read (a primary writes to `archives`)",
        ),
        None => refuse(
            fields,
            &OF_REPLICAS,
            "is for replicas, and this is a primary: it has no `upstream` and no `archive`",
        ),
    }
    let has_upstream = fields.get("upstream").is_some();
    let (primary, archives) = primary(fields, problems);
    let replica = replica(fields);
    match (fields.get("path"), fields.get("dir")) {
        (Some(field), None) => {
            refuse(
                fields,
                &OF_DIRECTORIES,
                "is for a directory, and this is one file: write `dir` in place of `path`",
            );
            let path = fields.text("path", file);
            let from_path = path.as_ref().and_then(|path| path.file_name()?.to_str());
            let name = match fields.get("name") {
                Some(_) => fields.text("name", parse_name)?,
                None => from_path?.to_owned(),
            };
            let database = match upstream {
                Some((upstream, database)) => {
                    Some((upstream, database.or(from_path.map(str::to_owned))?))
                }
                None => None,
            };
            let entry = DatabaseEntry {
                name,
                path: path?,
                upstream: database,
                primary,
                replica,
            };
            Some(Placed {
                entry: Entry::Database(entry),
                name: fields.get("name").unwrap_or(field).value.place,
                path: field.value.place,
                archives,
            })
        }
        (None, Some(field)) => {
            refuse(
                fields,
                &OF_FILES,
                "is for one file, and this is a directory: its databases have their paths in it as names",
            );
            if let (Some(field), false) = (fields.get("archive"), has_upstream) {
                let text = "`archive` without an `upstream` is for one file: nothing says which databases are there; write a \
                            `path` for each";
                fields.problem(field.key, text);
            } else if !has_upstream {
                fields.require(
                    "pattern",
                    "which files of the directory are databases, such as *.db or **/*.db",
                );
            }
            let pattern = match fields.get("pattern") {
                Some(_) => fields.text("pattern", pattern)?,
                None => ALL.to_owned(),
            };
            let entry = DirectoryEntry {
                dir: fields.text("dir", path)?,
                pattern,
                upstream: upstream.map(|(upstream, _)| upstream),
                primary,
                replica,
            };
            Some(Placed {
                entry: Entry::Directory(entry),
                name: field.value.place,
                path: field.value.place,
                archives,
            })
        }
        (Some(_), Some(field)) => {
            fields.problem(
                field.key,
                "`dir` and `path` are both there; an element of `dbs` is a directory or one file",
            );
            None
        }
        (None, None) => {
            fields.problem(
                fields.place,
                "an element of `dbs` needs a `path` (one file) or a `dir` (a directory of them)",
            );
            None
        }
    }
}

fn refuse(fields: &Fields<'_>, keys: &[&'static str], why: &str) {
    for key in keys {
        if let Some(field) = fields.get(key) {
            fields.problem(field.key, format!("`{key}` {why}"));
        }
    }
}

/// With the place of each archive.
fn primary(fields: &Fields<'_>, problems: &Problems) -> (PrimaryOptions, Vec<Place>) {
    let default = PrimaryOptions::default();
    let archives = fields.list("archives", "leave it out where nothing is archived");
    let archives = archives.into_iter().flatten().filter_map(|node| {
        let entry = archive(&Fields::of(node, &schema::ARCHIVE, problems)?)?;
        Some((entry, node.place))
    });
    let (archives, places) = archives.unzip();
    let options = PrimaryOptions {
        archives,
        retain_size: fields
            .parse("retain-size", parse_size)
            .unwrap_or(default.retain_size),
        retain_age: fields
            .parse("retain-age", parse_duration)
            .unwrap_or(default.retain_age),
        heartbeat: fields
            .parse("heartbeat", parse_heartbeat)
            .unwrap_or(default.heartbeat),
    };
    (options, places)
}

fn archive(fields: &Fields<'_>) -> Option<ArchiveOptions> {
    fields.require(
        "url",
        "where the archive is: a directory, s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX",
    );
    let location = |text: &str| text.parse::<Location>().map_err(|e| e.to_string());
    let default = ArchiveOptions::new(fields.text("url", location)?);
    Some(ArchiveOptions {
        sync_interval: fields
            .parse("sync-interval", some_duration)
            .unwrap_or(default.sync_interval),
        snapshot_interval: fields
            .parse("snapshot-interval", some_duration)
            .unwrap_or(default.snapshot_interval),
        retain_age: fields
            .parse("retain-age", parse_duration)
            .unwrap_or(default.retain_age),
        retain_count: fields
            .count("retain-count", 1, 1_000_000)
            .unwrap_or(default.retain_count),
        validation_interval: fields.parse("validation-interval", some_duration),
        location: default.location,
    })
}

fn replica(fields: &Fields<'_>) -> ReplicaOptions {
    let default = ReplicaOptions::default();
    let options = ReplicaOptions {
        name: fields.text("replica-name", label),
        scrub_interval: fields.parse("scrub-interval", some_duration),
        wal_soft_limit: fields
            .parse("wal-soft-limit", parse_size)
            .unwrap_or(default.wal_soft_limit),
        wal_hard_limit: fields
            .parse("wal-hard-limit", parse_size)
            .unwrap_or(default.wal_hard_limit),
        mode: fields.parse("mode", parse_mode).unwrap_or(default.mode),
        archive: source(fields),
    };
    let field = fields
        .get("wal-soft-limit")
        .or(fields.get("wal-hard-limit"));
    if let (Some(field), true) = (field, options.wal_soft_limit > options.wal_hard_limit) {
        let text = format!(
            "`wal-soft-limit` ({}) is above `wal-hard-limit` ({})",
            super::units::write_size(options.wal_soft_limit),
            super::units::write_size(options.wal_hard_limit)
        );
        fields.problem(field.value.place, text);
    }
    options
}

/// The archive that a replica reads.
fn source(fields: &Fields<'_>) -> Option<ArchiveSource> {
    let poll = fields.get("archive-poll");
    if let (Some(field), true) = (poll, fields.get("upstream").is_some()) {
        let text = "`archive-poll` is for a replica that has its `archive` alone; this one follows its `upstream`";
        fields.problem(field.key, text);
    }
    let poll = fields.parse("archive-poll", some_duration);
    let location = |text: &str| text.parse::<Location>().map_err(|e| e.to_string());
    let location = fields.text("archive", location)?;
    Some(ArchiveSource {
        location,
        poll: poll.unwrap_or(ArchiveSource::POLL),
    })
}

/// The upstream, with the name that a single database has there.
fn upstream(fields: &Fields<'_>, insecure: bool) -> Option<(UpstreamEntry, Option<String>)> {
    let upstream = fields.section("upstream", &schema::UPSTREAM)?;
    upstream.require(
        "url",
        "the primary's address, http://HOST:PORT or https://HOST:PORT",
    );
    if let (Some(field), Some(_)) = (upstream.get("database"), fields.get("dir")) {
        let text = "`database` is for one file, and this is a directory: `pattern` says which of the upstream's databases";
        upstream.problem(field.key, text);
    }
    let url = upstream.text("url", url);
    let tls = upstream_tls(&upstream, url.as_deref());
    let token = read_token(&upstream);
    let plaintext = url
        .as_ref()
        .is_some_and(|url| url.starts_with("http://") && !is_this_machine(url));
    let field = upstream.get("token").or(upstream.get("token-file"));
    if let (Some(field), true) = (field, plaintext && !insecure) {
        let text = "a token is not sent to another machine without TLS, where whoever is on the way reads it; write an \
                    https:// URL, or `insecure: true` at the top of the file if the network itself is private";
        upstream.problem(field.key, text);
    }
    let database = upstream.text("database", parse_name);
    let entry = UpstreamEntry {
        url: url?,
        tls,
        token,
    };
    Some((entry, database))
}

fn upstream_tls(upstream: &Fields<'_>, url: Option<&str>) -> UpstreamTls {
    let Some(tls) = upstream.section("tls", &schema::UPSTREAM_TLS) else {
        return UpstreamTls::default();
    };
    if let (Some(field), Some(true)) = (
        upstream.get("tls"),
        url.map(|url| url.starts_with("http://")),
    ) {
        let text = "`tls` has no meaning for an http:// URL; write https:// or leave it out";
        tls.problem(field.key, text);
    }
    for (one, other) in [("cert", "key"), ("key", "cert")] {
        if let (Some(field), None) = (tls.get(one), tls.get(other)) {
            let text = format!("`{one}` without `{other}`: a client's certificate needs both");
            tls.problem(field.key, text);
        }
    }
    UpstreamTls {
        ca: tls.text("ca", path),
        cert: tls.text("cert", path),
        key: tls.text("key", path),
        server_name: tls.text("server-name", label),
    }
}
