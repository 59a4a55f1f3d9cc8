//! `walcast config`, as a person runs it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};
use tempfile::TempDir;
use walcast::config::{load, parse};

fn run(here: &Path, args: &[&str]) -> (Option<i32>, String, String) {
    let output: Output = Command::new(env!("CARGO_BIN_EXE_walcast"))
        .arg("config")
        .args(args)
        .current_dir(here)
        .env("READER_TOKEN", "sesame")
        .env_remove("NO_SUCH")
        .output()
        .expect("walcast runs");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

fn with(text: &str) -> TempDir {
    let here = tempfile::tempdir().expect("a directory");
    fs::write(here.path().join("walcast.yml"), text).expect("a file");
    here
}

const VALID: &str = "\
access:
  - {name: reader, token: $READER_TOKEN, allow: [stream]}
dbs:
  - path: a.db
  - path: b.db
  - {path: c.db, upstream: {url: 'http://h:1'}}
  - {dir: tenants, pattern: '*.db'}
";

#[test]
fn a_valid_file_is_counted_and_nothing_is_opened() {
    let here = with(VALID);
    let ok = "walcast.yml: ok: 3 databases, 1 directory\n".to_owned();
    assert_eq!(
        run(here.path(), &["check"]),
        (Some(0), ok.clone(), String::new())
    );
    let named = run(here.path(), &["check", "--config", "walcast.yml"]);
    assert_eq!(named, (Some(0), ok, String::new()));
    let files: Vec<_> = fs::read_dir(here.path()).expect("a directory").collect();
    assert_eq!(files.len(), 1, "{files:?}");
}

#[test]
fn all_mistakes_are_told_and_the_code_is_2() {
    let here =
        with("lisetn: 127.0.0.1:1\ndbs:\n  - path: $NO_SUCH\n  - path: a\n    heartbeat: 1\n");
    for command in ["check", "show"] {
        let (code, out, err) = run(here.path(), &[command]);
        assert_eq!((code, out.as_str()), (Some(2), ""));
        assert_eq!(
            err,
            "walcast.yml:1:1: there is no key `lisetn`; did you mean `listen`?\n\
             walcast.yml:3:11: the environment variable NO_SUCH is not set; set it, or write $$ for a $ that means itself\n\
             walcast.yml:5:16: `heartbeat`: '1' is no duration; write it like 500ms, 10s, 1h30m or 7d\n\
             walcast: walcast.yml: 3 mistakes\n"
        );
    }
    let literal = with("dbs: [{path: $NO_SUCH}]");
    let (code, out, err) = run(literal.path(), &["check", "--no-expand-env"]);
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(out, "walcast.yml: ok: 1 database\n");
}

#[test]
fn files_that_cannot_be_read_say_why() {
    let here = tempfile::tempdir().expect("a directory");
    fs::write(
        here.path().join("latin.yml"),
        b"dbs:\n  - path: caf\xe9.db\n",
    )
    .expect("a file");
    fs::create_dir(here.path().join("dir.yml")).expect("a directory");
    for (file, want) in [
        ("no.yml", "no.yml: there is no such file\n"),
        ("dir.yml", "dir.yml: this is a directory, not a file\n"),
        ("latin.yml", "latin.yml:2:14: this is not UTF-8\n"),
    ] {
        let (code, _, err) = run(here.path(), &["check", "--config", file]);
        assert_eq!(code, Some(2));
        assert_eq!(err, format!("{want}walcast: {file}: 1 mistake\n"));
    }
    if !Path::new("/etc/walcast.yml").exists() {
        let (code, _, err) = run(here.path(), &["check"]);
        assert_eq!(code, Some(2));
        let none = "walcast.yml: there is no such file, and no /etc/walcast.yml; name one with --config FILE\n";
        assert!(err.starts_with(none), "{err}");
    }
}

#[test]
fn what_is_shown_is_whole_and_hides_tokens() {
    let here = with(VALID);
    let (code, shown, err) = run(here.path(), &["show"]);
    assert_eq!((code, err.as_str()), (Some(0), ""));
    assert!(!shown.contains("sesame"), "{shown}");
    assert!(shown.contains("token: \"***\""), "{shown}");
    assert!(shown.contains("retain-size: 1GiB"), "{shown}");
    // But for the token, it is the same configuration.
    let again = parse(&shown, "shown", None).expect("what is shown is valid");
    let masked = |_: &str| Ok("***".to_owned());
    assert_eq!(
        again,
        parse(VALID, "walcast.yml", Some(&masked)).expect("valid")
    );
}

#[test]
fn a_token_for_everyone_to_read_is_warned_of() {
    let here = with("access:\n  - {name: a, token: sesame, allow: [status]}\ndbs: [{path: a}]\n");
    let file = here.path().join("walcast.yml");
    let set = |mode| fs::set_permissions(&file, fs::Permissions::from_mode(mode)).expect("a mode");
    set(0o644);
    let (code, out, err) = run(here.path(), &["check"]);
    assert_eq!(code, Some(0));
    assert_eq!(out, "walcast.yml: ok: 1 database\n");
    assert_eq!(
        err,
        "walcast: warning: walcast.yml:2:22: everyone on this machine can read this token; chmod o-r the file, or use \
         `token-file` or a variable\n"
    );
    set(0o640);
    assert_eq!(run(here.path(), &["check"]).2, "");
    // A token in a variable is in nobody's sight.
    fs::write(&file, VALID).expect("a file");
    set(0o644);
    assert_eq!(run(here.path(), &["check"]).2, "");
}

#[test]
fn the_library_reads_the_same_file() {
    let here = with("dbs: [{path: a}]");
    let file = here.path().join("walcast.yml");
    assert_eq!(load(&file, true).expect("valid").entries.len(), 1);
    let error = load(&here.path().join("no.yml"), true).expect_err("no file");
    assert!(error.to_string().ends_with("no.yml: there is no such file"));
}
