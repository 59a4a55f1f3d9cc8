//! Who may use whom. Dependencies point down only; the compiler does not check that, so this does.
//!
//! The table is the architecture (`docs/architecture.md` draws it). A line of `src/` that reaches for a module which its
//! own module may not use fails the test by name: file, line, and what would be allowed.

use std::fs;
use std::path::{Path, PathBuf};

/// Each module with the modules that it may use, the lowest first. A row may name only rows above it, so the order is
/// the proof that there is no cycle.
const TABLE: &[(&str, &[&str])] = &[
    ("format", &[]),
    ("model", &["format"]),
    ("disk", &["format"]),
    ("sys", &["disk", "format"]),
    ("sqlite", &["sys", "disk", "format"]),
    ("ownership", &["disk", "sys", "format"]),
    ("sums", &["disk", "sys", "format"]),
    ("archive", &["disk", "model", "format"]),
    ("restore", &["archive", "sums", "disk", "model", "format"]),
    ("wire", &["model", "format"]),
    ("config", &["archive", "model", "format"]),
    ("security", &["config"]),
    ("client", &["wire", "security", "config", "model", "format"]),
    (
        "primary",
        &["ownership", "sqlite", "sys", "disk", "model", "format"],
    ),
    (
        "replica",
        &[
            "client",
            "restore",
            "archive",
            "ownership",
            "sums",
            "sqlite",
            "sys",
            "disk",
            "model",
            "format",
        ],
    ),
    (
        "archiver",
        &[
            "restore", "primary", "replica", "archive", "disk", "model", "format",
        ],
    ),
    (
        "server",
        &[
            "archiver", "primary", "replica", "wire", "security", "config", "model", "format",
        ],
    ),
    ("http", &["server", "security", "config", "model", "format"]),
    (
        "node",
        &[
            "http", "server", "archiver", "client", "primary", "replica", "archive", "wire",
            "security", "config", "sys", "disk", "model", "format",
        ],
    ),
    ("demo", &["client", "model", "format"]),
    (
        "cli",
        &[
            "archive",
            "demo",
            "node",
            "http",
            "server",
            "client",
            "primary",
            "replica",
            "restore",
            "archive",
            "wire",
            "security",
            "config",
            "ownership",
            "sqlite",
            "disk",
            "model",
            "format",
        ],
    ),
    ("main", &["cli", "sys", "disk"]),
];

/// The modules that may name generated protobuf types: `wire` translates, its two callers hand them over.
const MAY_NAME_GENERATED: &[&str] = &["wire", "client", "server"];

/// One reach from a module for another.
#[derive(Debug, PartialEq, Eq)]
struct Use {
    line: usize,
    target: String,
}

#[test]
fn the_table_has_no_cycle() {
    let mut above = Vec::new();
    for (module, allowed) in TABLE {
        for target in *allowed {
            assert!(above.contains(target), "{module} -> {target} points up");
        }
        above.push(*module);
    }
}

#[test]
fn every_module_uses_only_what_lies_below() {
    let mut wrong = Vec::new();
    let mut seen = 0;
    for file in sources() {
        let text = fs::read_to_string(root().join(&file)).expect("a source file");
        let (module, depth) = module_of(&file);
        if module == "lib" {
            continue;
        }
        let Some((_, allowed)) = TABLE.iter().find(|(name, _)| *name == module) else {
            wrong.push(format!(
                "{}: module `{module}` is not in the table",
                file.display()
            ));
            continue;
        };
        for found in uses(&text, depth) {
            seen += 1;
            if found.target != module && !allowed.contains(&found.target.as_str()) {
                wrong.push(format!(
                    "{}:{}: `{module}` may not use `{}` (it may use: {})",
                    file.display(),
                    found.line,
                    found.target,
                    allowed.join(", ")
                ));
            }
        }
        if !MAY_NAME_GENERATED.contains(&module.as_str()) {
            wrong.extend(
                code_lines(&text)
                    .filter(|(_, code)| code.contains("wire::pb"))
                    .map(|(line, _)| {
                        format!("{}:{line}: generated types stop at `wire`", file.display())
                    }),
            );
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
    // A scanner that finds nothing would pass anything.
    assert!(seen > 50, "only {seen} uses were found in src/");
}

#[test]
fn unsafe_code_lives_in_sys() {
    let mut wrong = Vec::new();
    for file in sources() {
        if module_of(&file).0 == "sys" {
            continue;
        }
        let text = fs::read_to_string(root().join(&file)).expect("a source file");
        wrong.extend(
            code_lines(&text)
                .filter(|(_, code)| words(code).any(|word| word == "unsafe"))
                .map(|(line, _)| format!("{}:{line}", file.display())),
        );
    }
    assert!(
        wrong.is_empty(),
        "unsafe outside src/sys:\n{}\n",
        wrong.join("\n")
    );
}

#[test]
fn the_scanner_sees_every_way_to_reach() {
    let text = "\
//! [`crate::server`] in a comment is no use.
use crate::disk::{self, File};
use crate::{
    model::Point,
    wire::{pb, field::{A, B}},
    sys,
};
use super::super::client::Upstream;
use super::near;
fn f() { crate::cli::run(); let x = \"crate::demo\"; } // crate::demo
mod tests {
    use super::super::near;
    use super::super::super::primary::Primary;
}
";
    let found: Vec<_> = uses(text, 2)
        .into_iter()
        .map(|found| (found.line, found.target))
        .collect();
    let want = [
        (2, "disk"),
        (4, "model"),
        (5, "wire"),
        (6, "sys"),
        (8, "client"),
        (10, "cli"),
        (13, "primary"),
    ];
    assert_eq!(found, want.map(|(line, target)| (line, target.to_owned())));
    // In `src/ownership.rs`, or `src/replica/mod.rs`, one `super` is the root already.
    assert_eq!(uses("use super::disk::File;\n", 1).len(), 1);
    assert_eq!(uses("use walcast::cli;\n", 0).len(), 1);
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every `.rs` file of `src/`, relative to the root, in order.
fn sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![PathBuf::from("src")];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(root().join(&directory)).expect("a source directory") {
            let entry = entry.expect("a directory entry");
            let path = directory.join(entry.file_name());
            if entry.file_type().expect("a file type").is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The top-level module of a file, and how many `super` lead from it to the crate's root.
fn module_of(file: &Path) -> (String, usize) {
    let mut parts: Vec<String> = file
        .with_extension("")
        .iter()
        .skip(1)
        .map(|part| part.to_string_lossy().into_owned())
        .collect();
    if parts.len() > 1 && parts.last().is_some_and(|last| last == "mod") {
        parts.pop();
    }
    let depth = match parts[0].as_str() {
        "main" | "lib" => 0,
        _ => parts.len(),
    };
    (parts[0].clone(), depth)
}

/// Lines, numbered from 1, without comments and without what stands in quotes.
fn code_lines(text: &str) -> impl Iterator<Item = (usize, String)> {
    text.lines().enumerate().map(|(i, line)| {
        let mut code = String::new();
        let mut quoted = false;
        let mut chars = line.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '\\' if quoted => {
                    chars.next();
                }
                // A quote as a character literal opens nothing.
                '\'' if !quoted && chars.peek() == Some(&'"') => {
                    chars.next();
                    chars.next();
                }
                '"' => quoted = !quoted,
                '/' if !quoted && chars.peek() == Some(&'/') => break,
                _ if !quoted => code.push(c),
                _ => {}
            }
        }
        (i + 1, code)
    })
}

fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|c: char| !c.is_alphanumeric() && c != '_')
        .filter(|word| !word.is_empty())
}

/// Every reach for a top-level module: by `crate::`, by `walcast::` (from `main`), and by enough `super::`.
fn uses(text: &str, depth: usize) -> Vec<Use> {
    let mut found = Vec::new();
    let mut group: Option<Group> = None;
    let mut inline = 0;
    for (line, code) in code_lines(text) {
        if let Some(open) = &mut group {
            open.take(&code, line, &mut found);
            if open.level == 0 {
                group = None;
            }
            continue;
        }
        // rustfmt puts the end of a top-level item at the left edge.
        let word = code.strip_prefix("pub ").unwrap_or(&code);
        if word.starts_with("mod ") && code.trim_end().ends_with('{') {
            inline = 1;
        } else if code.starts_with('}') {
            inline = 0;
        }
        for rest in reaches(&code, depth + inline) {
            if rest.starts_with('{') {
                let mut open = Group {
                    level: 0,
                    due: false,
                };
                open.take(rest, line, &mut found);
                group = (open.level > 0).then_some(open);
            } else if let Some(target) = words(rest).next().filter(|w| rest.starts_with(*w)) {
                note(target, line, &mut found);
            }
        }
    }
    found
}

/// What follows each path to the crate's root in a line.
fn reaches(code: &str, depth: usize) -> Vec<&str> {
    let mut found = Vec::new();
    for root in ["crate::", "walcast::"] {
        for (at, _) in code.match_indices(root) {
            let before = code[..at].chars().next_back();
            if !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
                found.push(&code[at + root.len()..]);
            }
        }
    }
    let mut rest = code;
    while let Some(at) = rest.find("super::") {
        let mut supers = 0;
        rest = &rest[at..];
        while let Some(after) = rest.strip_prefix("super::") {
            supers += 1;
            rest = after;
        }
        if depth > 0 && supers >= depth {
            found.push(rest);
        }
    }
    found
}

/// Only names that the table knows: a type at the crate's root is nobody's layer.
fn note(target: &str, line: usize, found: &mut Vec<Use>) {
    if TABLE.iter().any(|(module, _)| *module == target) {
        found.push(Use {
            line,
            target: target.to_owned(),
        });
    }
}

/// The inside of `use crate::{...}`, which may span lines: the first word of each element of the outer braces counts.
struct Group {
    level: usize,
    due: bool,
}

impl Group {
    fn take(&mut self, code: &str, line: usize, found: &mut Vec<Use>) {
        let mut rest = code;
        while let Some(c) = rest.chars().next() {
            let mut step = c.len_utf8();
            match c {
                '{' => {
                    self.level += 1;
                    self.due = self.level == 1;
                }
                '}' => {
                    self.level -= 1;
                    if self.level == 0 {
                        return;
                    }
                }
                ',' => self.due = self.level == 1,
                _ if c.is_alphanumeric() || c == '_' => {
                    let word = words(rest).next().unwrap_or_default();
                    if self.due {
                        note(word, line, found);
                    }
                    self.due = false;
                    step = word.len();
                }
                _ => {}
            }
            rest = &rest[step..];
        }
    }
}
