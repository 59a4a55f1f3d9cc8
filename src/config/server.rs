//! The keys that say how the process serves.

use super::access;
use super::fields::{Fields, word};
use super::model::{Limits, LogConfig, LogFormat, Readiness, ServerOptions, ServerTls};
use super::problem::{Place, Problems};
use super::schema;
use super::units::{parse_duration, parse_size};
use super::values::{
    is_beyond_loopback, label, level, parse_listen, parse_name, path, some_duration,
};
use super::yaml::Kind;

/// Bounds of `request-bytes`: a request names a database and a position, and never carries data.
const REQUEST_BYTES: std::ops::RangeInclusive<u64> = 1 << 10..=16 << 20;
/// The most of anything that is counted.
const MANY: usize = 1_000_000;

/// Reads them, with the defaults for what is not there.
pub(super) fn read(file: &Fields<'_>, problems: &Problems) -> ServerOptions {
    let default = ServerOptions::default();
    let tls = tls(file);
    let options = ServerOptions {
        listen: file.parse("listen", parse_listen).unwrap_or(default.listen),
        http_listen: file.parse("http-listen", parse_listen),
        insecure: file.boolean("insecure").unwrap_or(default.insecure),
        server_id: file.text("server-id", label),
        drain_timeout: file
            .parse("drain-timeout", parse_duration)
            .unwrap_or(default.drain_timeout),
        tls,
        access: access::read(file, problems),
        reflection: file.boolean("reflection").unwrap_or(default.reflection),
        limits: limits(file),
        readiness: readiness(file),
        max_staleness: file.parse("max-staleness", some_duration),
        log: log(file),
    };
    check_ports(file, &options);
    options
}

fn tls(file: &Fields<'_>) -> Option<ServerTls> {
    let tls = file.section("tls", &schema::TLS)?;
    tls.require("cert", "the file with the server's certificate, PEM");
    tls.require("key", "the file with the certificate's key, PEM");
    let client_ca = tls.text("client-ca", path);
    Some(ServerTls {
        cert: tls.text("cert", path)?,
        key: tls.text("key", path)?,
        client_ca,
    })
}

fn limits(file: &Fields<'_>) -> Limits {
    let default = Limits::default();
    let Some(limits) = file.section("limits", &schema::LIMITS) else {
        return default;
    };
    let request_bytes = |text: &str| match parse_size(text)? {
        size if REQUEST_BYTES.contains(&size) => Ok(size as usize),
        _ => Err(format!(
            "'{text}' is out of bounds; a request has 1KiB to 16MiB"
        )),
    };
    let count = |key| limits.count(key, 1, MANY);
    let duration = |key| limits.parse(key, some_duration);
    let streams = count("streams").unwrap_or(default.streams);
    let connections = count("connections").unwrap_or(default.connections);
    // Who lowers the whole has not asked for more of the part.
    let part = |key, default: usize, whole, most: usize| {
        let number = count(key).unwrap_or(default.min(most));
        if let (Some(field), true) = (limits.get(key), number > most) {
            let text =
                format!("`{key}` ({number}) is above `{whole}` ({most}), of which it is a part");
            limits.problem(field.value.place, text);
        }
        number
    };
    Limits {
        request_bytes: limits
            .parse("request-bytes", request_bytes)
            .unwrap_or(default.request_bytes),
        streams,
        streams_per_client: part(
            "streams-per-client",
            default.streams_per_client,
            "streams",
            streams,
        ),
        waits: count("waits").unwrap_or(default.waits),
        connections,
        unauthenticated_connections: part(
            "unauthenticated-connections",
            default.unauthenticated_connections,
            "connections",
            connections,
        ),
        handshake_timeout: duration("handshake-timeout").unwrap_or(default.handshake_timeout),
        idle_timeout: duration("idle-timeout").unwrap_or(default.idle_timeout),
        stall_timeout: duration("stall-timeout").unwrap_or(default.stall_timeout),
    }
}

fn readiness(file: &Fields<'_>) -> Readiness {
    let Some(field) = file.get("readiness") else {
        return Readiness::default();
    };
    if matches!(field.value.kind, Kind::List(_)) {
        let without = "write all, any or names";
        let names = file
            .texts("readiness", without, parse_name)
            .unwrap_or_default();
        return Readiness::Named(names.into_iter().map(|(_, name)| name).collect());
    }
    let any: fn() -> Readiness = || Readiness::Any;
    let words = [("any", any), ("all", || Readiness::All)];
    let read = |text: &str| {
        word(text, &words)
            .map(|make| make())
            .map_err(|error| format!("{error}; names of databases stand in a list, [NAME, NAME]"))
    };
    file.parse("readiness", read).unwrap_or_default()
}

/// The places of the names in `readiness`.
pub(super) fn ready_names(file: &Fields<'_>) -> Vec<Place> {
    match file.get("readiness").map(|field| &field.value.kind) {
        Some(Kind::List(items)) => items.iter().map(|item| item.place).collect(),
        _ => Vec::new(),
    }
}

fn log(file: &Fields<'_>) -> LogConfig {
    let default = LogConfig::default();
    let Some(log) = file.section("log", &schema::LOG) else {
        return default;
    };
    let formats = [("text", LogFormat::Text), ("json", LogFormat::Json)];
    LogConfig {
        level: log.text("level", level).unwrap_or(default.level),
        format: log.word("format", &formats).unwrap_or(default.format),
    }
}

/// What a stranger could read, and what cannot be served.
fn check_ports(file: &Fields<'_>, options: &ServerOptions) {
    let has_tls = file.get("tls").is_some();
    for (key, listen) in [
        ("listen", Some(&options.listen)),
        ("http-listen", options.http_listen.as_ref()),
    ] {
        let Some((field, listen)) = file.get(key).zip(listen) else {
            continue;
        };
        if is_beyond_loopback(listen) == Some(true) && !has_tls && !options.insecure {
            let text = format!(
                "`{key}`: other machines reach {listen}, and there is no TLS; add `tls` with `cert` and `key`, or \
                 `insecure: true` if whoever reaches it may read everything that is sent"
            );
            file.problem(field.value.place, text);
        }
    }
    let ports = file.get("http-listen").zip(options.http_listen.as_ref());
    if let Some((field, http)) = ports
        && *http == options.listen
        && !http.ends_with(":0")
    {
        let text =
            format!("`http-listen` is {http}, and so is `listen`; each needs a port of its own");
        file.problem(field.value.place, text);
    }
}
