//! Whose name a request was sent to.

use std::net::IpAddr;

/// The host of `HOST:PORT`, `HOST`, or `[ADDRESS]:PORT`.
pub(super) fn name_of(authority: &str) -> &str {
    if let Some(rest) = authority.strip_prefix('[') {
        return rest.split(']').next().unwrap_or_default();
    }
    match authority.rsplit_once(':') {
        // More than one colon: a bare IPv6 address.
        Some((host, _)) if !host.contains(':') => host,
        _ => authority,
    }
}

/// Whether a Host header can only be meant for this host: an address, `localhost`, or the name that was configured. A name
/// of another kind may be anyone's.
pub(super) fn is_local(header: &str, configured: &str) -> bool {
    let name = name_of(header);
    let is = |known: &str| name.eq_ignore_ascii_case(known);
    // Empty: a request without a host, which no browser sends.
    name.is_empty()
        || name.parse::<IpAddr>().is_ok()
        || is("localhost")
        || (!configured.is_empty() && is(configured))
        || name.to_ascii_lowercase().ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_host_are_local() {
        for local in [
            "127.0.0.1:4041",
            "127.0.0.1",
            "[::1]:4041",
            "::1",
            "192.168.1.1:80",
            "localhost",
            "LocalHost:4041",
            "walcast.localhost:1",
            "",
            "box:4041",
            "BOX",
        ] {
            assert!(is_local(local, "box"), "{local}");
        }
        for foreign in [
            "evil.example",
            "evil.example:4041",
            "127.0.0.1.evil.example",
            "localhost.evil.example:80",
            "notlocalhost",
            "[evil]:1",
            "a:b:c",
        ] {
            assert!(!is_local(foreign, "box"), "{foreign}");
            assert!(!is_local(foreign, ""), "{foreign}");
        }
        assert!(!is_local("box", ""));
    }
}
