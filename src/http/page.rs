//! The status page: one file, no network. Its script and its style are named by their hashes in the policy, so that a
//! browser runs nothing else, whatever a database is called.

use crate::format::base64;
use sha2::{Digest as _, Sha256};

const HTML: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");

/// The page and its content security policy.
#[derive(Clone, Debug)]
pub struct Page {
    /// The document.
    pub html: String,
    /// The header that goes with it.
    pub policy: String,
}

fn hash(text: &str) -> String {
    format!("'sha256-{}'", base64::encode(&Sha256::digest(text)))
}

impl Page {
    /// Puts style and script in their places.
    pub fn new() -> Page {
        Page {
            html: HTML
                .replace("/*STYLE*/", STYLE)
                .replace("/*SCRIPT*/", SCRIPT),
            policy: format!(
                "default-src 'none'; style-src {}; script-src {}; connect-src 'self'; img-src data:; \
                 base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
                hash(STYLE),
                hash(SCRIPT)
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_one_file_that_needs_no_network() {
        let page = Page::new();
        assert!(page.html.contains(STYLE) && page.html.contains(SCRIPT));
        assert_eq!(page.html.matches("<script").count(), 1);
        assert_eq!(page.html.matches("<style").count(), 1);
        for outside in [
            "http://",
            "https://",
            "//cdn",
            "@import",
            " onclick=",
            " style=\"",
        ] {
            let found = page
                .html
                .match_indices(outside)
                .map(|(at, _)| &page.html[at..]);
            for text in found {
                // The name of SVG's own language is no address, and the advice to a person is no request.
                let known = text.starts_with("http://www.w3.org/2000/svg")
                    || text.starts_with("http://HOST");
                assert!(known, "{}", &text[..60]);
            }
        }
        // A closing tag in the script would end it early, and its hash would be another's.
        assert!(!SCRIPT.contains("</script") && !STYLE.contains("</style"));
    }

    #[test]
    fn nothing_of_the_data_is_ever_taken_as_markup() {
        for sink in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "new Function",
        ] {
            assert!(!SCRIPT.contains(sink), "the script uses {sink}");
        }
    }
}
