//! `walcast status`.

use crate::kit::*;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

#[test]
fn watching_goes_on_until_it_is_told_to_end() {
    let pair = Pair::start();
    pair.level();
    let mut child = Command::new(env!("CARGO_BIN_EXE_walcast"))
        .args([
            "status",
            "--server",
            &pair.primary.url,
            "--json",
            "--watch",
            "100ms",
        ])
        .stdout(Stdio::piped())
        .spawn()
        .expect("walcast runs");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    for _ in 0..3 {
        let line = lines.next().expect("one more").expect("UTF-8");
        let json: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(json["databases"][0]["name"], "app.db");
    }
    let pid = i32::try_from(child.id()).expect("a pid");
    let pid = nix::unistd::Pid::from_raw(pid);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).expect("a signal");
    assert_eq!(child.wait().expect("an end").code(), Some(0));
}

#[test]
fn a_state_that_is_not_streaming_has_its_reason() {
    let pair = Pair::start();
    pair.level();
    let Pair {
        dir: _dir,
        primary,
        replica,
    } = pair;
    let upstream = primary.url.clone();
    primary.stop();
    let shown = until("disconnected", || {
        let shown = ok(&["status", "--server", &replica.url]);
        shown.contains("disconnected").then_some(shown)
    });
    let reason = shown.lines().nth(2).expect("a reason below");
    assert!(
        reason.starts_with("  ") && reason.trim().len() > 5,
        "{shown}"
    );
    assert!(shown.contains(&upstream), "{shown}");
}

/// On a terminal it is drawn in place, on the other screen, and the terminal comes back as it was. `script` gives one.
#[test]
fn a_terminal_is_given_back() {
    let pair = Pair::start();
    let watch = format!(
        "timeout --signal=INT 2 {} status --server {} --watch 200ms",
        env!("CARGO_BIN_EXE_walcast"),
        pair.primary.url
    );
    let out = Command::new("script")
        .args(["--quiet", "--return", "--command", &watch, "/dev/null"])
        .stdin(Stdio::null())
        .output()
        .expect("script, of Debian's bsdutils, runs");
    let shown = String::from_utf8_lossy(&out.stdout);
    assert!(shown.starts_with("\u{1b}[?1049h"), "{shown:?}");
    assert!(
        shown.contains("Ctrl-C ends") && shown.contains("app.db"),
        "{shown:?}"
    );
    assert!(shown.ends_with("\u{1b}[?1049l"), "{shown:?}");
}
