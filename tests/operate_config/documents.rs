//! The example file and the documentation say what the parser does.

use super::support::read;
use std::collections::BTreeMap;
use std::path::Path;
use walcast::config::schema::{self, Absent, Section};
use walcast::config::{Config, parse};

fn file(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The example with all keys: `#key: value` is a key, `# text` a comment.
fn uncommented(example: &str) -> String {
    let line = |line: &str| {
        let text = line.trim_start();
        let is_key = text.starts_with('#') && !text.starts_with("# ") && text.len() > 1;
        match is_key {
            true => line.replacen('#', "", 1),
            false => line.to_owned(),
        }
    };
    example.lines().map(line).map(|line| line + "\n").collect()
}

/// Every key of a file in block style with the values that it has, such as `dbs.upstream.url`.
fn pairs(text: &str) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut open: Vec<(usize, String)> = Vec::new();
    for line in text.lines() {
        let trimmed = line.trim_start();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        let mut indent = line.len() - trimmed.len();
        let pair = match trimmed.strip_prefix("- ") {
            Some(pair) => {
                indent += 2;
                pair
            }
            None => trimmed,
        };
        let (key, value) = pair.split_once(':').expect("a key");
        open.retain(|(depth, _)| *depth < indent);
        open.push((indent, key.to_owned()));
        let path: Vec<_> = open.iter().map(|(_, key)| key.as_str()).collect();
        let value = value.trim().to_owned();
        found.entry(path.join(".")).or_default().push(value);
    }
    found
}

fn path_of(section: &Section, key: &str) -> String {
    match section.name {
        "" => key.to_owned(),
        name if name.starts_with("upstream") || name == "archives" => format!("dbs.{name}.{key}"),
        name => format!("{name}.{key}"),
    }
}

#[test]
fn the_example_has_every_key_with_its_default() {
    let text = uncommented(&file("deploy/walcast.example.yml"));
    let mut pairs = pairs(&text);
    for section in schema::SECTIONS {
        for key in section.keys {
            let path = path_of(section, key.name);
            let values = pairs.remove(&path);
            let values = values.unwrap_or_else(|| panic!("{path} is not in the example"));
            if let Absent::Value(default) = key.default {
                assert_eq!(values, [default], "the default of {path}");
            }
        }
    }
    assert!(pairs.is_empty(), "keys that nobody knows: {pairs:?}");
}

#[test]
fn the_example_is_valid_as_it_stands_and_with_all_keys() {
    let example = file("deploy/walcast.example.yml");
    let config = parse(&example, "example", None).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(config, read("dbs: [{path: /data/app.db}]").expect("valid"));
    let all = uncommented(&example);
    let tokens = |name: &str| Ok(format!("{name}-of-the-environment"));
    let config = parse(&all, "example", Some(&tokens)).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(config.entries.len(), 5);
    assert_eq!(config.server.access.len(), 3);
}

/// A file that says every default must mean what a file without any does.
#[test]
fn the_defaults_in_the_tables_are_the_real_ones() {
    fn defaults(section: &Section, indent: &str) -> String {
        let line = |key: &schema::Key| match key.default {
            Absent::Value(value) => Some(format!("{indent}{}: {value}\n", key.name)),
            Absent::Required | Absent::Is(_) => None,
        };
        section.keys.iter().filter_map(line).collect()
    }
    let mut said = defaults(&schema::FILE, "");
    said += &format!("log:\n{}", defaults(&schema::LOG, "  "));
    said += &format!("limits:\n{}", defaults(&schema::LIMITS, "  "));
    let db = defaults(&schema::DB, "    ");
    let (mut primary, mut replica) = (String::new(), String::new());
    for line in db.lines() {
        match ["retain", "heart"].iter().any(|word| line.contains(word)) {
            true => primary += &format!("{line}\n"),
            false => replica += &format!("{line}\n"),
        }
    }
    assert!(primary.lines().count() == 3 && replica.lines().count() == 3);
    let upstream = "upstream: {url: 'http://h:1'}";
    let archive = "    archives:\n      - url: /backup\n";
    primary += &format!("{archive}{}", defaults(&schema::ARCHIVE, "        "));
    said += &format!("dbs:\n  - path: a\n{primary}  - path: b\n    {upstream}\n{replica}");
    let unsaid = format!("dbs:\n  - path: a\n{archive}  - path: b\n    {upstream}\n");
    let read =
        |text: &str| -> Config { read(text).unwrap_or_else(|error| panic!("{error}\n{text}")) };
    assert_eq!(read(&said), read(&unsaid));
}

#[test]
fn the_documentation_has_every_key_with_its_type_and_default() {
    let text = file("docs/configuration.md");
    let mut headings = text.split("\n### ").skip(1);
    for section in schema::SECTIONS {
        let part = headings.next().expect("a heading for each section");
        let title = match section.name {
            "" => "The file".to_owned(),
            name => format!("`{name}`"),
        };
        assert_eq!(part.lines().next(), Some(title.as_str()));
        let rows: Vec<_> = part
            .lines()
            .filter(|line| line.starts_with("| `"))
            .collect();
        assert_eq!(rows.len(), section.keys.len(), "rows of {title}");
        for (row, key) in rows.iter().zip(section.keys) {
            let cells: Vec<_> = row.split('|').map(str::trim).collect();
            let default = match key.default {
                Absent::Required => "**required**".to_owned(),
                Absent::Value(value) => format!("`{value}`"),
                Absent::Is(text) => text.to_owned(),
            };
            let name = format!("`{}`", key.name);
            assert_eq!(cells[1..4], [&name, key.takes, &default], "{title}");
            assert!(cells[4].len() > 3, "{title}: {row}");
        }
    }
}

/// Who uses the library and says nothing gets what the documentation says.
#[test]
fn the_library_has_the_same_defaults() {
    use walcast::config::{PrimaryOptions, ReplicaOptions};
    let (wanted, got) = (
        PrimaryOptions::default(),
        walcast::primary::PrimaryConfig::new("a", "a"),
    );
    assert_eq!(got.retain_bytes, wanted.retain_size);
    assert_eq!(got.retain_age, wanted.retain_age);
    assert_eq!(got.heartbeat, wanted.heartbeat);
    let (wanted, got) = (
        ReplicaOptions::default(),
        walcast::replica::ReplicaConfig::new("a", "a".into(), "http://h:1"),
    );
    assert_eq!(got.scrub_interval, wanted.scrub_interval);
    assert_eq!(got.wal_soft_limit, wanted.wal_soft_limit);
    assert_eq!(got.wal_hard_limit, wanted.wal_hard_limit);
    assert_eq!(got.mode, wanted.mode);
}
