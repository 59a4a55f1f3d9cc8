//! The authorities that the system believes, where a client is given none.

use super::{SecurityError, pem};
use rustls::RootCertStore;
use std::path::PathBuf;

/// Where distributions keep them in one file: Debian and Alpine, Fedora, SUSE, and macOS and the BSDs.
const BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The system's authorities; `SSL_CERT_FILE` names another file, as for OpenSSL.
pub(super) fn system() -> Result<RootCertStore, SecurityError> {
    let told = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let bundle = told.or_else(|| {
        BUNDLES
            .iter()
            .map(PathBuf::from)
            .find(|path| path.is_file())
    });
    match bundle {
        Some(path) => pem::authorities(&path),
        None => Err(SecurityError::Setting(
            "this system has no list of certificate authorities; say which one signs the server's certificate: \
             --tls-ca FILE"
                .to_owned(),
        )),
    }
}
