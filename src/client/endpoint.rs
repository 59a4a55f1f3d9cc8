//! From a URL to a channel.

use super::ClientError;
use std::time::Duration;
use tonic::codegen::http::Uri;
use tonic::transport::{Channel, Endpoint};

/// A stream's flow-control window: several of the largest messages, so that a round trip does not stop the sender.
const STREAM_WINDOW: u32 = 4 << 20;
/// The same for a connection, which several databases' streams may share.
const CONNECTION_WINDOW: u32 = 16 << 20;
/// HTTP/2's default of 16 KiB halves the speed of a snapshot; beyond this size nothing more is gained.
const FRAME: u32 = 256 << 10;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);

fn check(url: &str) -> Result<Uri, &'static str> {
    let uri: Uri = url.parse().map_err(|_| "it does not parse")?;
    match uri.scheme_str() {
        Some("http") => {}
        Some("https") => return Err("this walcast does not speak TLS yet"),
        Some(_) => return Err("its scheme must be http"),
        None => return Err("it has no scheme"),
    }
    if uri.port_u16().is_none_or(|port| port == 0) {
        return Err("it has no port");
    }
    if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
        return Err("it has more than a host and a port");
    }
    Ok(uri)
}

/// One HTTP/2 connection, made when it is first used and made again after it is lost. Call it inside a tokio runtime.
pub(super) fn connect_lazy(url: &str) -> Result<Channel, ClientError> {
    let uri = check(url).map_err(|problem| ClientError::Url {
        url: url.to_owned(),
        problem,
    })?;
    Ok(Endpoint::from(uri)
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        // A cable that was pulled is noticed in 15 s, on an idle stream too.
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME)
        .connect_lazy())
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn a_url_is_scheme_host_and_port() {
        for good in [
            "http://127.0.0.1:4040",
            "http://[::1]:4040/",
            "http://primary.example:80",
        ] {
            assert!(check(good).is_ok(), "{good}");
        }
        for (bad, why) in [
            ("127.0.0.1:4040", "scheme"),
            ("primary", "scheme"),
            ("https://h:1", "TLS"),
            ("ftp://h:1", "http"),
            ("http://h", "port"),
            ("http://h:0", "port"),
            ("http://h:1/app.db", "more"),
            ("http://h:1/?a", "more"),
            ("http://h:x", "port"),
            ("", "parse"),
        ] {
            let problem = check(bad).expect_err(bad);
            assert!(problem.contains(why), "{bad}: {problem}");
        }
    }
}
