//! A client's side: whom it believes, and how it says who it is.

use super::{SecurityError, TlsProblem, pem, roots, token};
use crate::config::{TokenSource, UpstreamEntry, UpstreamTls};
use rustls_pki_types::ServerName;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// How one client speaks to one server. Files are read again for each connection, and a token's for each call.
#[derive(Clone)]
pub struct ClientSecurity {
    /// `None`: plaintext.
    tls: Option<UpstreamTls>,
    /// The name that the server's certificate must have.
    name: String,
    token: Option<TokenSource>,
}

impl std::fmt::Debug for ClientSecurity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientSecurity")
            .field("tls", &self.tls)
            .field("name", &self.name)
            .field("token", &self.token)
            .finish()
    }
}

impl ClientSecurity {
    /// Checks an upstream's settings against its URL's scheme and host, and reads every file once, so that what is wrong
    /// with one is told at the start. `insecure`: a token may cross a network in plaintext.
    pub fn new(
        entry: &UpstreamEntry,
        scheme: &str,
        host: &str,
        insecure: bool,
    ) -> Result<ClientSecurity, SecurityError> {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let wrong = |message: String| Err(SecurityError::Setting(message));
        let encrypted = scheme == "https";
        if !encrypted && entry.tls != UpstreamTls::default() {
            return wrong(format!(
                "{}: certificates are given, but the URL says plaintext; write https://",
                entry.url
            ));
        }
        if entry.tls.cert.is_some() != entry.tls.key.is_some() {
            return wrong(
                "a client certificate and its key belong together: --tls-cert FILE --tls-key FILE"
                    .to_owned(),
            );
        }
        if !encrypted && !insecure && entry.token.is_some() && !is_loopback(host) {
            return wrong(format!(
                "{}: a token is not sent in plaintext, where whoever is on the way reads it; write https://, or say \
                 --insecure if the network itself is private",
                entry.url
            ));
        }
        let security = ClientSecurity {
            tls: encrypted.then(|| entry.tls.clone()),
            name: entry
                .tls
                .server_name
                .clone()
                .unwrap_or_else(|| host.to_owned()),
            token: entry.token.clone(),
        };
        if let Some(tls) = &security.tls {
            connector(tls)?;
            security.server_name()?;
        }
        security.read_token()?;
        Ok(security)
    }

    /// Whether connections are encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.tls.is_some()
    }

    fn server_name(&self) -> Result<ServerName<'static>, SecurityError> {
        ServerName::try_from(self.name.clone()).map_err(|_| {
            SecurityError::Setting(format!(
                "'{}' is no name that a certificate could have; see --tls-server-name",
                self.name
            ))
        })
    }

    fn read_token(&self) -> Result<Option<String>, SecurityError> {
        self.token.as_ref().map(token::read).transpose()
    }

    /// The value of the `authorization` header for the next call.
    pub async fn authorization(&self) -> Result<Option<String>, SecurityError> {
        let token = match &self.token {
            None => return Ok(None),
            Some(TokenSource::Value(_)) => self.read_token(),
            Some(TokenSource::File(_)) => blocking(self, ClientSecurity::read_token).await,
        };
        Ok(token?.map(|token| format!("Bearer {token}")))
    }

    /// The handshake, with files as they are now. Must not be called for plaintext.
    pub async fn handshake(&self, stream: TcpStream) -> Result<TlsStream<TcpStream>, TlsFailure> {
        let (connector, name) = blocking(self, |security| {
            let tls = security.tls.clone().unwrap_or_default();
            Ok((connector(&tls)?, security.server_name()?))
        })
        .await?;
        connector
            .connect(name, stream)
            .await
            .map_err(|error| TlsProblem::of(&error, &self.name).into())
    }
}

/// Why there is no encrypted connection.
#[derive(Debug, thiserror::Error)]
pub enum TlsFailure {
    /// A file of ours is wrong.
    #[error(transparent)]
    Files(#[from] SecurityError),
    /// The handshake failed.
    #[error(transparent)]
    Handshake(#[from] TlsProblem),
}

/// Small files, but they may be on a network: not on a thread that serves others.
async fn blocking<T: Send + 'static>(
    security: &ClientSecurity,
    work: impl FnOnce(&ClientSecurity) -> Result<T, SecurityError> + Send + 'static,
) -> Result<T, SecurityError> {
    let security = security.clone();
    tokio::task::spawn_blocking(move || work(&security))
        .await
        .unwrap_or_else(|error| Err(SecurityError::Setting(format!("read files: {error}"))))
}

fn is_loopback(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host
            .parse::<IpAddr>()
            .is_ok_and(|ip| ip.to_canonical().is_loopback())
}

fn connector(tls: &UpstreamTls) -> Result<TlsConnector, SecurityError> {
    let roots = match &tls.ca {
        Some(path) => pem::authorities(path)?,
        None => roots::system()?,
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| SecurityError::Setting(error.to_string()))?
        .with_root_certificates(roots);
    let mut config = match (&tls.cert, &tls.key) {
        (Some(cert), Some(key)) => {
            let certificates = pem::certificates(cert)?;
            builder
                .with_client_auth_cert(certificates, pem::key(key)?)
                .map_err(|error| {
                    let problem = format!(
                        "it does not go with the certificate in {}: {error}",
                        cert.display()
                    );
                    SecurityError::content(key, problem)
                })?
        }
        _ => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(TlsConnector::from(Arc::new(config)))
}
