//! Bearer tokens: where they come from, and how they are compared.

use super::stamp::Stamp;
use super::{SecurityError, pem};
use crate::config::TokenSource;
use sha2::{Digest as _, Sha256};
use std::path::Path;
use std::sync::{Mutex, PoisonError, RwLock};
use subtle::{Choice, ConstantTimeEq as _};

/// Shorter ones can be guessed; a line says so.
const SHORT: usize = 16;

/// The token itself, read now.
pub(super) fn read(source: &TokenSource) -> Result<String, SecurityError> {
    match source {
        TokenSource::Value(token) => {
            check(token).map_err(|problem| SecurityError::Setting(format!("the token {problem}")))
        }
        TokenSource::File(path) => first_line(path),
    }
}

fn first_line(path: &Path) -> Result<String, SecurityError> {
    let bytes = pem::read(path)?;
    let text = String::from_utf8(bytes).map_err(|_| {
        SecurityError::content(path, "it is no text; write a token in its first line")
    })?;
    let line = text.lines().next().unwrap_or_default().trim();
    check(line).map_err(|problem| SecurityError::content(path, format!("the token {problem}")))
}

/// What can stand in a header: visible characters, no space. It is never part of the message.
fn check(token: &str) -> Result<String, &'static str> {
    if token.is_empty() {
        return Err("is empty");
    }
    if token.len() > 4096 {
        return Err("is longer than 4096 bytes");
    }
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(
            "has a space or a character that is not ASCII; make one with: openssl rand -hex 32",
        );
    }
    Ok(token.to_owned())
}

/// What a token is compared by: equal lengths, and of no use to whoever sees the memory.
pub(super) struct Digest([u8; 32]);

impl Digest {
    pub(super) fn of(token: &[u8]) -> Digest {
        Digest(Sha256::digest(token).into())
    }
}

/// A token that a server knows.
pub(super) struct Known {
    /// Whose, for the log.
    grant: String,
    source: TokenSource,
    digest: RwLock<Digest>,
    seen: Mutex<(Option<Stamp>, Option<String>)>,
}

impl Known {
    pub(super) fn load(grant: &str, source: &TokenSource) -> Result<Known, SecurityError> {
        let stamp = stamp(source);
        let token = read(source)?;
        if token.len() < SHORT {
            tracing::warn!(
                grant,
                "its token is short enough to be guessed; make one with: openssl rand -hex 32"
            );
        }
        Ok(Known {
            grant: grant.to_owned(),
            source: source.clone(),
            digest: RwLock::new(Digest::of(token.as_bytes())),
            seen: Mutex::new((stamp, None)),
        })
    }

    /// Takes the same time for every token that is not the one.
    pub(super) fn is(&self, presented: &Digest) -> Choice {
        let digest = self.digest.read().unwrap_or_else(PoisonError::into_inner);
        digest.0.ct_eq(&presented.0)
    }

    /// Looks whether the file has changed.
    pub(super) fn reload(&self) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let now = stamp(&self.source);
        if now == seen.0 && seen.1.is_none() {
            return;
        }
        seen.0 = now;
        match read(&self.source) {
            Ok(token) => {
                *self.digest.write().unwrap_or_else(PoisonError::into_inner) =
                    Digest::of(token.as_bytes());
                seen.1 = None;
                tracing::info!(grant = %self.grant, "its token has changed");
            }
            Err(error) => {
                let problem = error.to_string();
                if seen.1.as_ref() != Some(&problem) {
                    tracing::error!(grant = %self.grant, "its changed token cannot be used, the old one stays: {problem}");
                }
                seen.1 = Some(problem);
            }
        }
    }
}

fn stamp(source: &TokenSource) -> Option<Stamp> {
    match source {
        TokenSource::Value(_) => None,
        TokenSource::File(path) => Some(Stamp::of(path)),
    }
}

/// The token of an `authorization` header; `None`: it holds none.
pub(super) fn bearer(header: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = header.split_at_checked(7)?;
    if !scheme.eq_ignore_ascii_case(b"bearer ") {
        return None;
    }
    let token = token.trim_ascii();
    (!token.is_empty()).then_some(token)
}
