//! Completions, manual pages, and the table of defaults.

use crate::kit::*;
use clap::CommandFactory as _;
use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Command, Stdio};
use walcast::cli::Cli;

/// Commands that people see.
fn commands() -> Vec<clap::Command> {
    let mut cli = Cli::command();
    cli.build();
    let shown = cli
        .get_subcommands()
        .filter(|c| !c.is_hide_set() && c.get_name() != "help");
    shown.cloned().collect()
}

#[test]
fn completions_know_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let script = ok(&["completions", shell]);
        for command in commands() {
            assert!(
                script.contains(command.get_name()),
                "{shell}: {}",
                command.get_name()
            );
        }
    }
}

#[test]
fn bash_completes_an_option() {
    let script = format!(
        "{}\nCOMP_WORDS=(walcast backup --for); COMP_CWORD=2; _walcast walcast --for backup; echo \"${{COMPREPLY[@]}}\"",
        ok(&["completions", "bash"])
    );
    let mut bash = Command::new("bash")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("bash runs");
    let mut stdin = bash.stdin.take().expect("a pipe");
    stdin.write_all(script.as_bytes()).expect("a script");
    drop(stdin);
    let out = bash.wait_with_output().expect("an end");
    assert_eq!(String::from_utf8_lossy(&out.stdout).trim(), "--force");
}

#[test]
fn each_command_has_a_manual_page() {
    let dir = tempfile::tempdir().expect("a directory");
    ok(&["man", "--out", text(dir.path())]);
    let found: BTreeSet<String> = std::fs::read_dir(dir.path())
        .expect("a directory")
        .map(|entry| {
            entry
                .expect("a file")
                .file_name()
                .into_string()
                .expect("UTF-8")
        })
        .collect();
    let mut expected: BTreeSet<String> = commands()
        .iter()
        .map(|command| format!("walcast-{}.1", command.get_name()))
        .collect();
    expected.insert("walcast.1".to_owned());
    assert_eq!(found, expected);
    let page = std::fs::read_to_string(dir.path().join("walcast-backup.1")).expect("a page");
    assert!(
        page.contains("\\-\\-force") && page.contains("walcast\\-backup"),
        "{page}"
    );
    assert_eq!(
        ok(&["man"]),
        std::fs::read_to_string(dir.path().join("walcast.1"))
            .expect("a page")
            .trim_end()
    );
    assert_eq!(walcast(&["man", "--out", "/no/such/directory"]).code, 1);
}

/// `command --option` and its default, from clap.
fn defaults() -> BTreeSet<(String, String)> {
    let mut found = BTreeSet::new();
    let mut open: Vec<(String, clap::Command)> = commands()
        .into_iter()
        .map(|command| (command.get_name().to_owned(), command))
        .collect();
    while let Some((name, command)) = open.pop() {
        for sub in command.get_subcommands().filter(|c| c.get_name() != "help") {
            open.push((format!("{name} {}", sub.get_name()), sub.clone()));
        }
        for option in command.get_arguments() {
            let values: Vec<_> = option
                .get_default_values()
                .iter()
                .map(|v| v.to_string_lossy())
                .collect();
            let takes_value = option.get_action().takes_values();
            if let (Some(long), true) = (option.get_long(), takes_value && !values.is_empty()) {
                found.insert((format!("{name} --{long}"), values.join(" ")));
            }
        }
    }
    found
}

#[test]
fn the_table_of_defaults_is_claps() {
    let documented: BTreeSet<(String, String)> = include_str!("../../docs/defaults.md")
        .lines()
        .filter_map(|line| {
            let cells: Vec<&str> = line
                .strip_prefix("| `")?
                .split('|')
                .map(str::trim)
                .collect();
            let option = cells.first()?.trim_matches('`').to_owned();
            Some((option, cells.get(1)?.trim_matches('`').to_owned()))
        })
        .collect();
    let expected: BTreeSet<(String, String)> = defaults()
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .collect();
    let missing: Vec<_> = expected.difference(&documented).collect();
    let stale: Vec<_> = documented.difference(&expected).collect();
    assert!(
        missing.is_empty() && stale.is_empty(),
        "missing: {missing:#?}\nnot so: {stale:#?}"
    );
}
