//! Wrong files, with every line that is said of each: `mistakes.golden`.
//!
//! A case is `=== WHAT IT IS`, the file, `>>>`, and the lines. With `WALCAST_UPDATE_GOLDEN=1` the lines are written anew;
//! read them before you commit them.

use super::support::said;
use std::fmt::Write as _;
use std::path::Path;

struct Case<'a> {
    what: &'a str,
    file: &'a str,
    lines: Vec<&'a str>,
}

fn cases(golden: &str) -> Vec<Case<'_>> {
    let cases = golden.split("=== ").skip(1);
    cases
        .map(|case| {
            let (what, rest) = case.split_once('\n').expect("a title");
            let (file, lines) = match rest.strip_prefix(">>>\n") {
                Some(lines) => ("", lines),
                None => rest.split_once("\n>>>\n").expect("a >>>"),
            };
            let lines = lines.lines().filter(|line| !line.is_empty()).collect();
            Case { what, file, lines }
        })
        .collect()
}

#[test]
fn every_mistake_is_named_where_it_is() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/operate_config/mistakes.golden");
    let golden = std::fs::read_to_string(&path).expect("mistakes.golden");
    let cases = cases(&golden);
    assert!(cases.len() > 50, "only {} cases", cases.len());
    if std::env::var_os("WALCAST_UPDATE_GOLDEN").is_some() {
        let mut anew = String::new();
        for case in &cases {
            let newline = if case.file.is_empty() { "" } else { "\n" };
            write!(anew, "=== {}\n{}{newline}>>>\n", case.what, case.file).expect("a String");
            for line in said(case.file) {
                writeln!(anew, "{line}").expect("a String");
            }
            anew.push('\n');
        }
        return std::fs::write(&path, anew).expect("mistakes.golden is written");
    }
    for case in cases {
        assert!(!case.lines.is_empty(), "{}: nothing is said", case.what);
        assert_eq!(said(case.file), case.lines, "{}", case.what);
    }
}

/// A secret that was mistyped is a secret still.
#[test]
fn no_message_repeats_a_token() {
    for file in [
        "access: [{name: a, token: 'sesame open', allow: [stream]}]",
        "access: [{name: a, token: \"sesame\\topen\", allow: [stream]}]",
        "dbs: [{path: a, upstream: {url: 'https://h:1', token: 'sesame '}}]",
        "dbs: [{path: a, upstream: {url: 'https://me:sesame@h:1'}}]",
        "dbs: [{path: a, upstream: {url: 'sesame@h:1'}}]",
    ] {
        let said = said(file);
        assert!(!said.is_empty(), "{file}");
        assert!(!said.concat().contains("sesame"), "{said:?}");
    }
}
