//! Certificates and keys out of PEM files.

use super::SecurityError;
use rustls::RootCertStore;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

/// Far more than any bundle of authorities: a path that names a device or a database must not fill the memory.
const LARGEST: u64 = 4 << 20;

type Result<T> = std::result::Result<T, SecurityError>;

/// A small file whole.
pub(super) fn read(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(LARGEST + 1).read_to_end(&mut bytes))
        .map_err(|error| SecurityError::read(path, error))?;
    if bytes.len() as u64 > LARGEST {
        return Err(SecurityError::content(
            path,
            "it is larger than 4 MiB; is it the right file?",
        ));
    }
    Ok(bytes)
}

/// All certificates of a file, at least one.
pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let bytes = read(path)?;
    let certificates: std::result::Result<Vec<_>, _> =
        CertificateDer::pem_slice_iter(&bytes).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(SecurityError::content(
            path,
            "it holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)",
        )),
    }
}

/// The first private key of a file.
pub(super) fn key(path: &Path) -> Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|_| {
        SecurityError::content(
            path,
            "it holds no private key in PEM form (-----BEGIN PRIVATE KEY-----); an encrypted key cannot be used",
        )
    })
}

/// The authorities of a file, at least one.
pub(super) fn authorities(path: &Path) -> Result<RootCertStore> {
    let mut store = RootCertStore::empty();
    // Of a system's bundle one odd certificate must not spoil the rest.
    let (added, _) = store.add_parsable_certificates(certificates(path)?);
    if added == 0 {
        return Err(SecurityError::content(
            path,
            "none of its certificates can be used to check others",
        ));
    }
    Ok(store)
}
