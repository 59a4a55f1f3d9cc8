//! The names in a peer's certificate.

use rustls_pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// A client whose certificate an authority of ours has signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    names: Vec<String>,
}

impl Peer {
    /// The DNS names of subjectAltName, or the subject's common name where it has none, in lower case. Empty: the
    /// certificate names nobody.
    pub fn of(certificate: &CertificateDer<'_>) -> Peer {
        let Ok((_, certificate)) = X509Certificate::from_der(certificate) else {
            return Peer { names: Vec::new() };
        };
        let mut names = Vec::new();
        if let Ok(Some(alternative)) = certificate.subject_alternative_name() {
            for name in &alternative.value.general_names {
                if let GeneralName::DNSName(name) = name {
                    names.push(name.to_ascii_lowercase());
                }
            }
        }
        if names.is_empty() {
            let common = certificate.subject().iter_common_name().next();
            names.extend(
                common
                    .and_then(|name| name.as_str().ok())
                    .map(str::to_ascii_lowercase),
            );
        }
        names.retain(|name| !name.is_empty() && !name.chars().any(char::is_control));
        Peer { names }
    }

    /// Its names.
    pub fn names(&self) -> &[String] {
        &self.names
    }
}

/// Until when a certificate is good, as seconds since 1970, and what is wrong with it now.
pub(super) fn validity(certificate: &CertificateDer<'_>) -> Option<(i64, Option<&'static str>)> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let (validity, now) = (
        certificate.validity(),
        x509_parser::time::ASN1Time::now().timestamp(),
    );
    let problem = if now > validity.not_after.timestamp() {
        Some("has expired")
    } else if now < validity.not_before.timestamp() {
        Some("is not valid yet")
    } else {
        None
    };
    Some((validity.not_after.timestamp(), problem))
}
