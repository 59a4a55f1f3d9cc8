//! From a URL to a channel.

use super::ClientError;
use super::careful::{Careful, Carrier};
use crate::config::{UpstreamEntry, UpstreamTls};
use crate::security::{ClientSecurity, SecurityError};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use std::error::Error;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;
use tonic::Request;
use tonic::codegen::http::Uri;
use tonic::metadata::MetadataValue;
use tonic::transport::Endpoint;

/// A stream's flow-control window: several of the largest messages, so that a round trip does not stop the sender.
const STREAM_WINDOW: u32 = 4 << 20;
/// The same for a connection: HTTP/2's largest. Hundreds of databases share one, and what a few of them leave unread must
/// not hold up the others; each is bounded by its stream's window, and ends its stream if it cannot go on.
const CONNECTION_WINDOW: u32 = (1 << 31) - 1;
/// HTTP/2's default of 16 KiB halves the speed of a snapshot; beyond this size nothing more is gained.
const FRAME: u32 = 256 << 10;
/// Headers of an answer: a status with its details, and no more.
const HEADERS: u32 = 64 << 10;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A cable that was pulled is noticed after the two together, on an idle stream too: within 15 s with what timers take.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(8);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(4);

fn check(url: &str) -> Result<Uri, &'static str> {
    let uri: Uri = url.parse().map_err(|_| "it does not parse")?;
    match uri.scheme_str() {
        Some("http" | "https") => {}
        Some(_) => return Err("its scheme must be http or https"),
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

/// An upstream of which nothing but the URL is known.
pub(super) fn plain(url: &str) -> UpstreamEntry {
    UpstreamEntry {
        url: url.to_owned(),
        tls: UpstreamTls::default(),
        token: None,
    }
}

/// One HTTP/2 connection to a server, made when it is first used and made again after it is lost, and what every call on
/// it carries.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub(super) channel: Careful,
    security: ClientSecurity,
}

impl Link {
    /// Checks the URL and every file that the entry names. Call it inside a tokio runtime.
    pub(super) fn new(entry: &UpstreamEntry, insecure: bool) -> Result<Link, ClientError> {
        let uri = check(&entry.url).map_err(|problem| ClientError::Url {
            url: entry.url.clone(),
            problem,
        })?;
        let scheme = uri.scheme_str().unwrap_or_default();
        let host = uri.host().unwrap_or_default();
        let security = ClientSecurity::new(entry, scheme, host, insecure)?;
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        tcp.enforce_http(false);
        let dial = Dial {
            tcp,
            security: security.clone(),
        };
        let channel = Endpoint::from(uri)
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(FRAME)
            .http2_max_header_list_size(HEADERS)
            .connect_with_connector_lazy(dial);
        Ok(Link {
            channel: Careful::Channel(channel),
            security,
        })
    }

    /// What carries the calls is given; the URL is for people.
    pub(super) fn carried(url: &str, carrier: Arc<dyn Carrier>) -> Result<Link, ClientError> {
        let security = ClientSecurity::new(&plain(url), "http", "", false)?;
        Ok(Link {
            channel: Careful::Carried(carrier),
            security,
        })
    }

    /// A request that says who we are, with the token as its file has it now.
    pub(super) async fn request<T>(&self, message: T) -> Result<Request<T>, ClientError> {
        let mut request = Request::new(message);
        if let Some(value) = self.security.authorization().await? {
            // A token is checked to be fit for a header when it is read.
            let mut value = MetadataValue::try_from(value).map_err(|_| {
                SecurityError::Setting("the token cannot be sent in a header".to_owned())
            })?;
            value.set_sensitive(true);
            request.metadata_mut().insert("authorization", value);
        }
        Ok(request)
    }
}

type BoxError = Box<dyn Error + Send + Sync>;
type Io = Either<TcpStream, TlsStream<TcpStream>>;

/// Makes the connections of a channel.
#[derive(Clone)]
struct Dial {
    tcp: HttpConnector,
    security: ClientSecurity,
}

impl tower::Service<Uri> for Dial {
    type Response = TokioIo<Io>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<TokioIo<Io>, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.tcp.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.tcp.call(uri);
        let security = self.security.clone();
        Box::pin(async move {
            let stream = connecting.await?.into_inner();
            Ok(TokioIo::new(if security.is_encrypted() {
                Either::Right(security.handshake(stream).await?)
            } else {
                Either::Left(stream)
            }))
        })
    }
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
            "https://primary.example:4040",
        ] {
            assert!(check(good).is_ok(), "{good}");
        }
        for (bad, why) in [
            ("127.0.0.1:4040", "scheme"),
            ("primary", "scheme"),
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
