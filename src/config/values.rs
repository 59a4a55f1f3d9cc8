//! Values of their own form, each from its text; an error is one sentence that says what was meant.

use super::units::parse_duration;
use crate::model::MAX_NAME;
use globset::{GlobBuilder, GlobMatcher};
use http::Uri;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;
use tracing_subscriber::EnvFilter;

/// Bytes of a token, at most: it travels in a header.
const MAX_TOKEN: usize = 4096;
/// Bytes of a path, at most; the kernel's own bound.
const MAX_PATH: usize = 4095;

/// `ADDRESS:PORT` to listen on. A name is looked up when it is needed.
pub fn parse_listen(text: &str) -> Result<String, String> {
    let wrong = |why: &str| {
        Err(format!(
            "'{text}' is no address to listen on: {why}; write ADDRESS:PORT such as 127.0.0.1:4040"
        ))
    };
    if text.contains("://") {
        return wrong("http:// and what else ends in :// is left out");
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        return wrong(match text.parse::<u16>() {
            Ok(_) => "the address before the port is missing",
            Err(_) => "the port is missing",
        });
    };
    if port.is_empty() || !port.bytes().all(|b| b.is_ascii_digit()) || port.parse::<u16>().is_err()
    {
        return wrong("a port is a number from 0 to 65535");
    }
    if host.is_empty() {
        return Err(format!(
            "'{text}' is no address to listen on: write 127.0.0.1{text} for this machine only, or 0.0.0.0{text} for all \
             that can reach it"
        ));
    }
    if text.parse::<SocketAddr>().is_ok() {
        return Ok(text.to_owned());
    }
    if host.contains([':', '[', ']']) {
        return wrong("an IPv6 address stands in brackets, as in [::1]:4040");
    }
    match is_host_name(host) {
        true => Ok(text.to_owned()),
        false => wrong("what stands before the port is neither an address nor the name of a host"),
    }
}

/// Whether whoever is on another machine can reach it. `None`: that depends on what the name stands for.
pub fn is_beyond_loopback(listen: &str) -> Option<bool> {
    match listen.parse::<SocketAddr>() {
        Ok(address) => Some(!address.ip().to_canonical().is_loopback()),
        Err(_) if listen.starts_with("localhost:") => Some(false),
        Err(_) => None,
    }
}

/// Whether a URL's host is this machine, as far as its text shows.
pub(super) fn is_this_machine(url: &str) -> bool {
    let host = url.parse::<Uri>().ok().and_then(|uri| {
        let host = uri.host()?.trim_start_matches('[').trim_end_matches(']');
        let address = host.parse::<IpAddr>();
        Some(host == "localhost" || address.is_ok_and(|ip| ip.to_canonical().is_loopback()))
    });
    host == Some(true)
}

fn is_host_name(host: &str) -> bool {
    let letter = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
    // What looks like an address and did not parse as one would be looked up as a name, and not be found.
    let address = host.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    !address && host.len() <= 253 && host.bytes().all(letter)
}

/// `http://HOST:PORT` or `https://HOST:PORT` of an upstream. What may hold a password is not repeated.
pub(super) fn url(text: &str) -> Result<String, String> {
    const MEANT: &str = "write http://HOST:PORT, or https://HOST:PORT for TLS";
    if text.contains('@') {
        return Err(format!(
            "a URL has no user and no password here: use `token-file`, and {MEANT}"
        ));
    }
    let wrong = |why: &str| {
        Err(format!(
            "'{text}' is no address of an upstream: {why}; {MEANT}"
        ))
    };
    let Ok(uri) = text.parse::<Uri>() else {
        return wrong("it does not parse");
    };
    match uri.scheme_str() {
        Some("http" | "https") => {}
        Some(_) => return wrong("its scheme is neither http nor https"),
        None => return wrong("it has no scheme"),
    }
    if uri.port_u16().is_none_or(|port| port == 0) {
        return wrong("it has no port");
    }
    if uri.host().is_none_or(str::is_empty) {
        return wrong("it has no host");
    }
    if !matches!(uri.path(), "" | "/") || uri.query().is_some() || text.contains('#') {
        return wrong("it has more than a host and a port");
    }
    Ok(text.trim_end_matches('/').to_owned())
}

/// The name of a server or a client where it has to have one.
pub fn parse_label(text: &str) -> Result<String, String> {
    match text {
        "" => Err(format!("a name has 1 to {MAX_NAME} bytes, and this none")),
        text => label(text),
    }
}

/// The name of a server or a client: one line.
pub(super) fn label(text: &str) -> Result<String, String> {
    if text.len() > MAX_NAME {
        return Err(format!(
            "a name has 1 to {MAX_NAME} bytes, and this {}",
            text.len()
        ));
    }
    match text.chars().any(char::is_control) {
        true => Err(format!("'{text}' is no name: it has a control character")),
        false => Ok(text.to_owned()),
    }
}

/// The name of a database. It may have parts, as a path has, but can lead nowhere.
pub fn parse_name(text: &str) -> Result<String, String> {
    let name = label(text)?;
    match name
        .split('/')
        .find(|part| matches!(*part, "" | "." | ".."))
    {
        Some("") => Err(format!(
            "'{name}' is no name of a database: no / at the ends, and no two in a row"
        )),
        Some(part) => Err(format!(
            "'{name}' is no name of a database: {part} cannot be a part of it"
        )),
        None => Ok(name),
    }
}

/// Which databases, such as `*.db` or `tenants/**/*.db`: `*` and `?` stand for letters within one part of a name, `**`
/// for any number of parts, `[a-z]` for one letter of a range.
pub fn parse_pattern(text: &str) -> Result<GlobMatcher, String> {
    if text.len() > MAX_PATH || text.chars().any(char::is_control) {
        return Err("a pattern is one line of at most 4095 bytes".to_owned());
    }
    if text.starts_with('/') || text.split('/').any(|part| matches!(part, "." | "..")) {
        return Err(format!(
            "'{text}' can match nothing: names are relative, and . and .. are no parts of them; write such as **/*.db"
        ));
    }
    // Without this a `*` would match a `/`, and `tenants/*` tenants of tenants.
    let glob = GlobBuilder::new(text).literal_separator(true).build();
    glob.map(|glob| glob.compile_matcher()).map_err(|error| {
        format!(
            "'{text}' is no pattern: {}; write such as *.db or **/*.db",
            error.kind()
        )
    })
}

pub(super) fn pattern(text: &str) -> Result<String, String> {
    parse_pattern(text).map(|_| text.to_owned())
}

/// The path of a file or a directory.
pub(super) fn path(text: &str) -> Result<PathBuf, String> {
    if text == "~" || text.starts_with("~/") {
        return Err(format!(
            "'{text}': ~ is the shell's; write {} or the path in full",
            text.replacen('~', "$HOME", 1)
        ));
    }
    if text.len() > MAX_PATH || text.chars().any(char::is_control) {
        return Err("a path is one line of at most 4095 bytes".to_owned());
    }
    Ok(PathBuf::from(text))
}

/// The path of a file, which cannot be one of a directory.
pub(super) fn file(text: &str) -> Result<PathBuf, String> {
    let path = path(text)?;
    match text.ends_with('/') || path.file_name().is_none() {
        true => Err(format!("'{text}' is no path of a file")),
        false => Ok(path),
    }
}

/// A secret: not repeated in a message.
pub(super) fn token(text: &str) -> Result<String, String> {
    match text.len() <= MAX_TOKEN && text.bytes().all(|b| b.is_ascii_graphic()) {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "a token is 1 to {MAX_TOKEN} letters, digits and signs of ASCII, without spaces"
        )),
    }
}

/// A file's mode in octal digits, as chmod has it.
pub fn parse_mode(text: &str) -> Result<u32, String> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    let octal =
        (3..=4).contains(&digits.len()) && digits.bytes().all(|b| (b'0'..=b'7').contains(&b));
    let mode = match u32::from_str_radix(digits, 8) {
        Ok(mode) if octal => mode,
        _ => {
            return Err(format!(
                "'{text}' is no mode; write octal digits such as \"0640\""
            ));
        }
    };
    if mode & 0o600 != 0o600 {
        return Err(format!(
            "with mode {text} walcast could not read and write its own copy; write such as \"0640\""
        ));
    }
    match mode & !0o666 {
        0 => Ok(mode),
        _ => Err(format!(
            "mode {text} has more than reading and writing; write such as \"0640\""
        )),
    }
}

/// A log level or a filter; [`log_directives`] says what it stands for.
pub(super) fn level(text: &str) -> Result<String, String> {
    log_directives(text).map(|_| text.to_owned())
}

/// The filter that a level stands for. A plain level is walcast's: HTTP/2 has a line for each frame.
pub fn log_directives(level: &str) -> Result<String, String> {
    const MEANT: &str = "write off, error, warn, info, debug, trace, or MODULE=LEVEL,...";
    let directives = match level {
        "off" => "off".to_owned(),
        "error" | "warn" | "info" | "debug" | "trace" => format!("warn,walcast={level}"),
        // A lone word that is no level would be taken as the name of a module, and everything else be silent.
        filter if filter.contains('=') => filter.to_owned(),
        other => return Err(format!("'{other}' is no log level; {MEANT}")),
    };
    match EnvFilter::try_new(&directives) {
        Ok(_) => Ok(directives),
        Err(error) => Err(format!("'{level}' is no filter: {error}; {MEANT}")),
    }
}

/// How often replicas hear from an idle primary.
pub fn parse_heartbeat(text: &str) -> Result<Duration, String> {
    let heartbeat = parse_duration(text)?;
    match (Duration::from_millis(10)..=Duration::from_secs(3600)).contains(&heartbeat) {
        true => Ok(heartbeat),
        false => Err(format!(
            "'{text}' is out of bounds; a heartbeat is 10ms to 1h"
        )),
    }
}

/// A duration that cannot be zero.
pub(super) fn some_duration(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        Duration::ZERO => Err(format!("'{text}' leaves no time at all; write such as 10s")),
        duration => Ok(duration),
    }
}

/// A command that a shell's rules can split into words.
pub fn parse_command(text: &str) -> Result<String, String> {
    if text.contains('\0') {
        return Err("a command has no zero bytes".to_owned());
    }
    match shlex::split(text) {
        Some(words) if words.first().is_some_and(|word| !word.is_empty()) => Ok(text.to_owned()),
        Some(_) => Err("there is no command in it".to_owned()),
        None => Err(format!(
            "'{text}' does not split into words: a quote or a \\ is left open"
        )),
    }
}
