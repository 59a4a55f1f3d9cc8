//! What a caller may do: its token and its certificate lead to grants, and grants to databases and kinds of calls.

use super::token::{Digest, Known, bearer};
use super::{Peer, SecurityError};
use crate::config::{Grant, Permission};
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use std::net::IpAddr;
use std::sync::Arc;

/// Who may do what.
pub struct Access {
    entries: Vec<Entry>,
    /// Whether a certificate is asked for.
    certificates: bool,
}

struct Entry {
    rule: Arc<Rule>,
    token: Option<Known>,
    client_name: Option<String>,
}

/// What one grant allows.
#[derive(Debug)]
struct Rule {
    name: String,
    /// `None`: all databases.
    databases: Option<GlobSet>,
    allow: Vec<Permission>,
}

impl Rule {
    fn covers(&self, database: &str) -> bool {
        self.databases
            .as_ref()
            .is_none_or(|patterns| patterns.is_match(database))
    }

    fn allows(&self, any_of: &[Permission]) -> bool {
        any_of
            .iter()
            .any(|permission| self.allow.contains(permission))
    }
}

/// Someone whose call was let in.
#[derive(Clone, Debug)]
pub struct Caller {
    client: Arc<str>,
    /// `None`: everything.
    rules: Option<Arc<[Arc<Rule>]>>,
}

impl Caller {
    /// Who may do everything.
    pub fn unlimited(client: impl Into<Arc<str>>) -> Caller {
        Caller {
            client: client.into(),
            rules: None,
        }
    }

    /// Whose calls are counted together: the grant's name, or the address where nobody is named.
    pub fn client(&self) -> &Arc<str> {
        &self.client
    }

    fn any(&self, test: impl Fn(&Rule) -> bool) -> bool {
        self.rules
            .as_ref()
            .is_none_or(|rules| rules.iter().any(|rule| test(rule)))
    }

    /// Whether it may make such a call at all, on some database.
    pub fn may(&self, any_of: &[Permission]) -> bool {
        self.any(|rule| rule.allows(any_of))
    }

    /// Whether it may make such a call on this database.
    pub fn may_use(&self, any_of: &[Permission], database: &str) -> bool {
        self.any(|rule| rule.allows(any_of) && rule.covers(database))
    }

    /// Whether it may make such a call on every database, whatever its name.
    pub fn may_use_all(&self, any_of: &[Permission]) -> bool {
        self.any(|rule| rule.allows(any_of) && rule.databases.is_none())
    }

    /// Whether it may know that this database exists.
    pub fn may_see(&self, database: &str) -> bool {
        self.any(|rule| rule.covers(database))
    }
}

/// Why a call is not let in, in words that say what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// Nobody knows who calls.
    #[error("{0}")]
    Unauthenticated(String),
    /// It is known who calls, and that is not enough.
    #[error("{0}")]
    NotPermitted(String),
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = self.entries.iter().map(|e| e.rule.name.as_str()).collect();
        f.debug_struct("Access").field("grants", &names).finish()
    }
}

impl Access {
    /// Everyone may do everything.
    pub fn open() -> Access {
        Access {
            entries: Vec::new(),
            certificates: false,
        }
    }

    /// From the configuration, with every token read. `certificates`: clients may show one, since there is a client CA.
    /// Without grants everyone who shows one may do everything; without a client CA either, everyone.
    pub fn new(grants: &[Grant], certificates: bool) -> Result<Access, SecurityError> {
        let entries: Result<Vec<Entry>, SecurityError> = grants
            .iter()
            .map(|grant| entry(grant, certificates))
            .collect();
        Ok(Access {
            entries: entries?,
            certificates,
        })
    }

    /// True if a call needs nothing.
    pub fn is_open(&self) -> bool {
        self.entries.is_empty() && !self.certificates
    }

    /// Looks whether token files have changed. It blocks for a moment.
    pub fn reload(&self) {
        for entry in &self.entries {
            if let Some(token) = &entry.token {
                token.reload();
            }
        }
    }

    /// Who calls. `authorization`: the values of that header; `peer`: the certificate that the connection showed.
    pub fn identify(
        &self,
        authorization: &[&[u8]],
        peer: Option<&Peer>,
        address: Option<IpAddr>,
    ) -> Result<Caller, Denied> {
        if self.is_open() {
            return Ok(Caller::unlimited(text_of(address)));
        }
        if self.entries.is_empty() {
            // Whoever the authority has signed.
            return match peer {
                Some(peer) => Ok(Caller::unlimited(name_of(peer))),
                None => Err(self.nobody()),
            };
        }
        let presented = match authorization {
            [] => None,
            [one] => Some(bearer(one).ok_or_else(|| {
                Denied::Unauthenticated("the authorization header is not 'Bearer TOKEN'".to_owned())
            })?),
            _ => {
                let message = "there is more than one authorization header".to_owned();
                return Err(Denied::Unauthenticated(message));
            }
        };
        let mut found = self.of_peer(peer);
        if let Some(token) = presented {
            let of_token = self.of_token(token);
            if of_token.is_empty() {
                let message =
                    "the token is not known here; is it the right one, and the right server?";
                return Err(Denied::Unauthenticated(message.to_owned()));
            }
            // The token names the client: many processes may share a certificate's name.
            found.splice(0..0, of_token);
        }
        match (found.first(), peer) {
            (Some(first), _) => Ok(Caller {
                client: first.name.as_str().into(),
                rules: Some(found.into()),
            }),
            (None, Some(peer)) => Err(Denied::NotPermitted(format!(
                "no grant for the client certificate's name '{}'",
                name_of(peer)
            ))),
            (None, None) => Err(self.nobody()),
        }
    }

    /// Who calls, if it may make one of these calls at all.
    pub fn admit(
        &self,
        authorization: &[&[u8]],
        peer: Option<&Peer>,
        address: Option<IpAddr>,
        any_of: &[Permission],
    ) -> Result<Caller, Denied> {
        let caller = self.identify(authorization, peer, address)?;
        if caller.may(any_of) {
            return Ok(caller);
        }
        let wanted: Vec<&str> = any_of.iter().map(|p| word(*p)).collect();
        Err(Denied::NotPermitted(format!(
            "'{}' may not do that here: it needs '{}' under allow",
            caller.client,
            wanted.join("' or '")
        )))
    }

    /// Compares with every token, whatever is found, so that time tells nothing.
    fn of_token(&self, token: &[u8]) -> Vec<Arc<Rule>> {
        let presented = Digest::of(token);
        let equal: Vec<(bool, &Entry)> = self
            .entries
            .iter()
            .filter_map(|entry| {
                let known = entry.token.as_ref()?;
                Some((bool::from(known.is(&presented)), entry))
            })
            .collect();
        equal
            .into_iter()
            .filter(|(equal, _)| *equal)
            .map(|(_, entry)| entry.rule.clone())
            .collect()
    }

    fn of_peer(&self, peer: Option<&Peer>) -> Vec<Arc<Rule>> {
        let names = peer.map(Peer::names).unwrap_or_default();
        let of_it = |entry: &&Entry| {
            entry
                .client_name
                .as_ref()
                .is_some_and(|name| names.contains(name))
        };
        self.entries
            .iter()
            .filter(of_it)
            .map(|entry| entry.rule.clone())
            .collect()
    }

    fn nobody(&self) -> Denied {
        let tokens = self.entries.iter().any(|entry| entry.token.is_some());
        Denied::Unauthenticated(
            match (tokens, self.certificates) {
                (true, false) => "a token is needed: send the header 'authorization: Bearer TOKEN'",
                (false, _) => "a client certificate is needed, signed by the authority that this server knows",
                (true, true) => {
                    "a client certificate, or a token in the header 'authorization: Bearer TOKEN', is needed"
                }
            }
            .to_owned(),
        )
    }
}

fn text_of(address: Option<IpAddr>) -> Arc<str> {
    match address {
        Some(address) => address.to_canonical().to_string().into(),
        None => "unknown".into(),
    }
}

fn name_of(peer: &Peer) -> &str {
    peer.names()
        .first()
        .map_or("(a certificate without a name)", String::as_str)
}

/// The word of the configuration.
fn word(permission: Permission) -> &'static str {
    match permission {
        Permission::Stream => "stream",
        Permission::Position => "position",
        Permission::Status => "status",
        Permission::Admin => "admin",
        Permission::Reflection => "reflection",
        Permission::Metrics => "metrics",
    }
}

fn entry(grant: &Grant, certificates: bool) -> Result<Entry, SecurityError> {
    let name = &grant.name;
    let wrong = |problem: String| SecurityError::Setting(format!("access: '{name}' {problem}"));
    if grant.token.is_none() && grant.client_name.is_none() {
        return Err(wrong(
            "has neither a token nor a client-name: nobody could use it".to_owned(),
        ));
    }
    if grant.client_name.is_some() && !certificates {
        return Err(wrong(
            "has a client-name, but no client-ca says whose certificates are believed".to_owned(),
        ));
    }
    let token = match &grant.token {
        Some(source) => {
            Some(Known::load(name, source).map_err(|error| wrong(format!(": {error}")))?)
        }
        None => None,
    };
    Ok(Entry {
        rule: Arc::new(Rule {
            name: name.clone(),
            databases: patterns(&grant.databases).map_err(wrong)?,
            allow: grant.allow.clone(),
        }),
        token,
        client_name: grant.client_name.as_deref().map(str::to_ascii_lowercase),
    })
}

/// As in a shell: `*` stays within one part of a name, `**` crosses them.
fn patterns(texts: &[String]) -> Result<Option<GlobSet>, String> {
    if texts.is_empty() {
        return Ok(None);
    }
    let mut set = GlobSetBuilder::new();
    for text in texts {
        let glob = GlobBuilder::new(text)
            .literal_separator(true)
            .build()
            .map_err(|error| format!("has a pattern that cannot be used: {error}"))?;
        set.add(glob);
    }
    set.build()
        .map(Some)
        .map_err(|error| format!("has patterns that cannot be used: {error}"))
}
