//! A server's certificate, and which clients' certificates it takes; read again when the files change.

use super::peer::validity;
use super::stamp::Stamp;
use super::{Protocol, SecurityError, pem};
use crate::config;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls_pki_types::CertificateDer;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// A certificate that ends sooner than this is worth a line.
const SOON: i64 = 14 * 24 * 3600;

/// A server's side of TLS.
///
/// A client's certificate is asked for if there is a client CA, and never demanded in the handshake: health is open to
/// probes that have none, and whoever calls anything else without one is told so in words. One that is shown must be good.
#[derive(Debug)]
pub struct ServerTls {
    files: config::ServerTls,
    current: RwLock<Configs>,
    seen: Mutex<Seen>,
}

/// One for each port: they differ in what they speak above TLS.
#[derive(Clone, Debug)]
struct Configs {
    grpc: Arc<rustls::ServerConfig>,
    http: Arc<rustls::ServerConfig>,
}

/// The files as they were last read, and what was wrong with them then.
#[derive(Debug)]
struct Seen {
    stamps: [Option<Stamp>; 3],
    problem: Option<String>,
}

impl ServerTls {
    /// Reads the files; what is wrong with them is an error that names the file.
    pub fn load(files: &config::ServerTls) -> Result<ServerTls, SecurityError> {
        let stamps = stamps(files);
        let current = read(files)?;
        Ok(ServerTls {
            files: files.clone(),
            current: RwLock::new(current),
            seen: Mutex::new(Seen {
                stamps,
                problem: None,
            }),
        })
    }

    /// The files that it is made of.
    pub fn files(&self) -> &config::ServerTls {
        &self.files
    }

    /// Looks whether the files have changed. Connections that are open go on as they are. It blocks for a moment: call
    /// it where that does no harm.
    pub fn reload(&self) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let now = stamps(&self.files);
        // After a failure again each time: of a certificate and its key one may come after the other, and a file can
        // change without a new stamp while it is being written.
        if now == seen.stamps && seen.problem.is_none() {
            return;
        }
        seen.stamps = now;
        match read(&self.files) {
            Ok(configs) => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = configs;
                seen.problem = None;
                tracing::info!(cert = %self.files.cert.display(), "TLS: the changed files are in use for new connections");
            }
            Err(error) => {
                let problem = error.to_string();
                if seen.problem.as_ref() != Some(&problem) {
                    tracing::error!(
                        "TLS: the changed files cannot be used, the old ones stay: {problem}"
                    );
                }
                seen.problem = Some(problem);
            }
        }
    }

    /// The configuration for the next handshake.
    pub(super) fn config(&self, protocol: Protocol) -> Arc<rustls::ServerConfig> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        match protocol {
            Protocol::Grpc => current.grpc.clone(),
            Protocol::Http => current.http.clone(),
        }
    }
}

fn stamps(files: &config::ServerTls) -> [Option<Stamp>; 3] {
    [
        Some(files.cert.as_path()),
        Some(files.key.as_path()),
        files.client_ca.as_deref(),
    ]
    .map(|path| path.map(Stamp::of))
}

fn read(files: &config::ServerTls) -> Result<Configs, SecurityError> {
    let certificates = pem::certificates(&files.cert)?;
    let key = pem::key(&files.key)?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| SecurityError::content(&files.cert, error.to_string()))?;
    let builder = match &files.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let authorities = Arc::new(pem::authorities(path)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(authorities, provider)
                .allow_unauthenticated()
                .build()
                .map_err(|error| SecurityError::content(path, error.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    warn_of_its_end(&files.cert, &certificates[0]);
    let mut grpc = builder
        .with_single_cert(certificates, key)
        .map_err(|error| {
            let problem = format!(
                "it does not go with the certificate in {}: {error}",
                files.cert.display()
            );
            SecurityError::content(&files.key, problem)
        })?;
    if files.client_ca.is_some() {
        // A session that is taken up again brings the certificate of its beginning, and nobody looks whether that has ended since.
        grpc.session_storage = Arc::new(NoServerSessionStorage {});
        grpc.send_tls13_tickets = 0;
    }
    let mut http = grpc.clone();
    grpc.alpn_protocols = vec![b"h2".to_vec()];
    http.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Configs {
        grpc: Arc::new(grpc),
        http: Arc::new(http),
    })
}

/// Clients will refuse it; the server says so before they do.
fn warn_of_its_end(path: &Path, certificate: &CertificateDer<'_>) {
    let Some((end, problem)) = validity(certificate) else {
        return;
    };
    let left = end - x509_parser::time::ASN1Time::now().timestamp();
    match problem {
        Some(problem) => {
            tracing::warn!(cert = %path.display(), "TLS: the server's certificate {problem}; clients will refuse it");
        }
        None if left < SOON => {
            tracing::warn!(cert = %path.display(), "TLS: the server's certificate ends in {} hours", left / 3600);
        }
        None => {}
    }
}
