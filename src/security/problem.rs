//! What TLS says when it fails, as one line that says what to do.

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage};
use std::io;

/// A handshake that failed, for a person at the client.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct TlsProblem(String);

impl TlsProblem {
    /// From what the handshake with `name` ended with.
    pub fn of(error: &io::Error, name: &str) -> TlsProblem {
        let inner = error.get_ref().and_then(|e| e.downcast_ref::<Error>());
        TlsProblem(match inner {
            Some(error) => describe(error, name),
            // A plaintext server does not know what to do with a handshake and hangs up.
            None if matches!(
                error.kind(),
                io::ErrorKind::UnexpectedEof
                    | io::ErrorKind::ConnectionReset
                    | io::ErrorKind::BrokenPipe
            ) =>
            {
                "the server hung up during the TLS handshake; does this port speak TLS? write http:// if it does not"
                    .to_owned()
            }
            None => format!("the TLS handshake failed: {error}"),
        })
    }
}

fn describe(error: &Error, name: &str) -> String {
    match error {
        Error::InvalidCertificate(problem) => certificate(problem, name),
        Error::InvalidMessage(InvalidMessage::InvalidContentType)
        | Error::InvalidMessage(InvalidMessage::UnknownProtocolVersion)
        | Error::InvalidMessage(InvalidMessage::MessageTooLarge) => {
            "this port does not speak TLS; write http:// if plaintext is meant".to_owned()
        }
        Error::AlertReceived(alert) => describe_alert(&format!("{alert:?}"))
            .unwrap_or_else(|| format!("the server broke off the TLS handshake ({alert:?})")),
        Error::NoApplicationProtocol => {
            "a TLS server listens there that is no gRPC server (it does not offer HTTP/2)"
                .to_owned()
        }
        Error::PeerIncompatible(problem) => {
            format!(
                "the server's TLS and ours have nothing in common ({problem:?}): it needs TLS 1.2 or 1.3"
            )
        }
        other => format!("the TLS handshake failed: {other}"),
    }
}

fn certificate(problem: &CertificateError, name: &str) -> String {
    match problem {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "the server's certificate has expired (or this machine's clock is wrong)".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "the server's certificate is not valid yet (or this machine's clock is wrong)".to_owned()
        }
        CertificateError::NotValidForName => {
            format!("the server's certificate is not for '{name}'; see --tls-server-name")
        }
        CertificateError::NotValidForNameContext { presented, .. } => format!(
            "the server's certificate is not for '{name}' but for {}; is the URL right? otherwise see --tls-server-name",
            match presented.as_slice() {
                [] => "no name at all".to_owned(),
                names => names.join(", "),
            }
        ),
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "the server's certificate is signed by an authority that is not believed here; name the right one: --tls-ca FILE"
                .to_owned()
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "the server's certificate is not meant for servers (extendedKeyUsage lacks serverAuth)".to_owned()
        }
        CertificateError::Revoked => "the server's certificate is revoked".to_owned(),
        other => format!("the server's certificate cannot be used: {other:?}"),
    }
}

/// What an alert of the server means, by its name in rustls; `None`: nothing in particular. Of TLS 1.3 a refusal of our
/// certificate comes after the handshake, as text in some other error.
pub fn describe_alert(text: &str) -> Option<String> {
    let named = |alert: AlertDescription| text.contains(&format!("{alert:?}"));
    let any = |alerts: &[AlertDescription]| alerts.iter().any(|alert| named(*alert));
    use AlertDescription as A;
    if any(&[A::CertificateRequired, A::NoCertificate]) {
        return Some(
            "the server asks for a client certificate: --tls-cert FILE --tls-key FILE".to_owned(),
        );
    }
    if any(&[A::UnknownCA]) {
        return Some(
            "the server does not believe the authority that signed our client certificate"
                .to_owned(),
        );
    }
    if any(&[A::CertificateExpired]) {
        return Some(
            "the server says that our client certificate has expired or is not valid yet"
                .to_owned(),
        );
    }
    if any(&[
        A::BadCertificate,
        A::UnsupportedCertificate,
        A::CertificateRevoked,
        A::CertificateUnknown,
        A::AccessDenied,
        A::DecryptError,
    ]) {
        return Some("the server refuses our client certificate; see the server's log".to_owned());
    }
    if any(&[A::UnrecognisedName]) {
        return Some(
            "the server has no certificate for this name; see --tls-server-name".to_owned(),
        );
    }
    if any(&[A::NoApplicationProtocol]) {
        return Some(
            "a TLS server listens there that is no gRPC server (it does not offer HTTP/2)"
                .to_owned(),
        );
    }
    None
}
