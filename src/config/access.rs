//! `access`: who may do what. And tokens, which upstreams have too.

use super::fields::Fields;
use super::model::{Grant, Permission, TokenSource};
use super::problem::{Place, Problems};
use super::schema;
use super::values::{label, path, pattern, token};
use std::collections::HashMap;
use std::hash::Hash;

/// The words of `allow`.
pub(super) const PERMISSIONS: [(&str, Permission); 6] = [
    ("stream", Permission::Stream),
    ("position", Permission::Position),
    ("status", Permission::Status),
    ("admin", Permission::Admin),
    ("reflection", Permission::Reflection),
    ("metrics", Permission::Metrics),
];

/// Reads `access`; empty where it is not there.
pub(super) fn read(file: &Fields<'_>, problems: &Problems) -> Vec<Grant> {
    let without = "leave the key out if everyone may do everything";
    let mut grants = Vec::new();
    let mut once = Once::default();
    for node in file.list("access", without).into_iter().flatten() {
        if let Some(fields) = Fields::of(node, &schema::ACCESS, problems) {
            grants.extend(grant(&fields, file, &mut once));
        }
    }
    grants
}

/// What two grants must not share: the second would never be found.
#[derive(Default)]
struct Once {
    names: HashMap<String, Place>,
    tokens: HashMap<TokenSource, Place>,
    clients: HashMap<String, Place>,
}

fn grant(fields: &Fields<'_>, file: &Fields<'_>, once: &mut Once) -> Option<Grant> {
    fields.require("name", "what the log calls this client");
    fields.require(
        "allow",
        "a list of stream, position, status, admin, reflection, metrics",
    );
    let token = read_token(fields);
    let client_name = fields.text("client-name", label);
    let known_by = ["token", "token-file", "client-name"];
    if known_by.iter().all(|key| fields.get(key).is_none()) {
        let text = "nothing says who this is: add `token-file`, `token` or `client-name`";
        fields.problem(fields.place, text);
    }
    if let (Some(field), None) = (fields.get("client-name"), client_ca(file)) {
        let text = "`client-name` is the name of a client's certificate, and without `client-ca` in `tls` clients show none";
        fields.problem(field.key, text);
    }
    let name = fields.text("name", label);
    refuse_twice(fields, "name", name.as_ref(), &mut once.names);
    let key = match token {
        Some(TokenSource::File(_)) => "token-file",
        _ => "token",
    };
    refuse_twice(fields, key, token.as_ref(), &mut once.tokens);
    refuse_twice(
        fields,
        "client-name",
        client_name.as_ref(),
        &mut once.clients,
    );
    let databases = fields.texts("databases", "leave the key out for all databases", pattern);
    let allow = allow(fields);
    Some(Grant {
        name: name?,
        token,
        client_name,
        databases: values(databases),
        allow: allow?,
    })
}

fn allow(fields: &Fields<'_>) -> Option<Vec<Permission>> {
    let without = "leave out the whole element if this client may do nothing";
    let word = |text: &str| super::fields::word(text, &PERMISSIONS);
    let mut seen: Vec<Permission> = Vec::new();
    for (place, permission) in fields.texts("allow", without, word)? {
        if seen.contains(&permission) {
            fields.problem(place, "`allow`: this is in the list already");
        } else {
            seen.push(permission);
        }
    }
    Some(seen)
}

fn client_ca<'a>(file: &Fields<'a>) -> Option<&'a super::yaml::Node> {
    use super::yaml::Kind;
    let tls = file.get("tls")?.value;
    match &tls.kind {
        Kind::Map(pairs) => pairs
            .iter()
            .find(|(key, _)| key.text == "client-ca")
            .map(|(_, node)| &**node),
        // What is wrong with it is told elsewhere.
        _ => Some(tls),
    }
}

fn values<T>(list: Option<Vec<(Place, T)>>) -> Vec<T> {
    list.into_iter().flatten().map(|(_, value)| value).collect()
}

fn refuse_twice<T: Clone + Eq + Hash>(
    fields: &Fields<'_>,
    key: &'static str,
    value: Option<&T>,
    seen: &mut HashMap<T, Place>,
) {
    let (Some(value), Some(field)) = (value, fields.get(key)) else {
        return;
    };
    let place = field.value.place;
    match seen.get(value) {
        Some(first) => {
            let text = format!("`{key}`: the client in line {} has the same", first.line);
            fields.problem(place, text);
        }
        None => drop(seen.insert(value.clone(), place)),
    }
}

/// `token` or `token-file`, of which a section can have one.
pub(super) fn read_token(fields: &Fields<'_>) -> Option<TokenSource> {
    let value = fields.text("token", token);
    let file = fields.text("token-file", path);
    if let (Some(_), Some(field)) = (fields.get("token"), fields.get("token-file")) {
        let text = "`token-file` and `token` are both there; leave one of them out";
        fields.problem(field.key, text);
    }
    if let (Some(field), Some(scalar)) = (fields.get("token"), fields.raw("token"))
        && !scalar.expanded
    {
        fields.note_literal_token(field.value.place);
    }
    file.map(TokenSource::File)
        .or(value.map(TokenSource::Value))
}
