//! Who may look: the token of a request, as a program or a browser sends it.

use crate::format::base64;
use http::HeaderMap;
use http::header::AUTHORIZATION;

/// The values of the authorization header as `Bearer TOKEN`. A browser cannot send that when a person types an address:
/// it asks for a name and a password, and the password is the token (the name does not matter).
pub fn authorization(headers: &HeaderMap) -> Vec<Vec<u8>> {
    let values = headers.get_all(AUTHORIZATION).into_iter();
    let each = values.map(|value| match token_of_basic(value.as_bytes()) {
        Some(token) => [b"Bearer ".as_slice(), &token].concat(),
        None => value.as_bytes().to_vec(),
    });
    each.collect()
}

/// The password of HTTP Basic (RFC 7617).
fn token_of_basic(value: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(value).ok()?;
    let (scheme, rest) = text.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let pair = base64::decode(rest.trim())?;
    let colon = pair.iter().position(|byte| *byte == b':')?;
    Some(pair[colon + 1..].to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: &str) -> Vec<Vec<u8>> {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, value.parse().expect("a header"));
        authorization(&headers)
    }

    #[test]
    fn a_browser_sends_the_token_as_its_password() {
        assert_eq!(of("Bearer abc"), [b"Bearer abc"]);
        let basic = format!("Basic {}", base64::encode(b"anyone:a:b"));
        assert_eq!(of(&basic), [b"Bearer a:b"]);
        assert_eq!(of("Basic !"), [b"Basic !"]);
        assert!(authorization(&HeaderMap::new()).is_empty());
    }
}
