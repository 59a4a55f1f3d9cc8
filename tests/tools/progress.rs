//! What long work says of itself: a bar on a terminal, lines otherwise, and a share in the status meanwhile. The disk is made
//! slow by planned faults, so that a hundred mebibytes take more than five seconds.

use crate::kit::*;
use std::process::{Command, Output, Stdio};

const SLOW: &str = "WALCAST_FAULTS";

/// Lines such as `snapshot of app.db: 31 of 112 MiB (27%), 19 MiB/s`: how many.
fn lines(log: &str, what: &str) -> usize {
    let is = |line: &&str| {
        let rest = line.split_once(what).map(|(_, rest)| rest);
        rest.is_some_and(|rest| {
            rest.contains(" MiB (") && rest.contains("%), ") && rest.contains(" MiB/s")
        })
    };
    log.lines().filter(is).count()
}

fn status_of(server: &Server) -> serde_json::Value {
    let text = ok(&["status", "--server", &server.url, "--json"]);
    let all: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    all["databases"][0].clone()
}

fn reason(server: &Server, state: &str) -> Option<String> {
    let status = status_of(server);
    let reason = status["reason"].as_str().expect("a reason");
    (status["state"] == state && reason.contains("%)")).then(|| reason.to_owned())
}

/// A command with a slow disk, to its end, behind a pipe.
fn piped(args: &[&str], fault: &str) -> String {
    let done = Command::new(env!("CARGO_BIN_EXE_walcast"))
        .args(args)
        .env(SLOW, fault)
        .stdin(Stdio::null())
        .output();
    said(done.expect("walcast runs"))
}

/// The same on a terminal, which `script` gives it.
fn on_a_terminal(args: &[&str], fault: &str) -> String {
    let command = [&[env!("CARGO_BIN_EXE_walcast")], args].concat().join(" ");
    let done = Command::new("script")
        .args(["--quiet", "--return", "--command", &command, "/dev/null"])
        .env(SLOW, fault)
        .env("TERM", "xterm")
        .stdin(Stdio::null())
        .output();
    said(done.expect("script, of Debian's bsdutils, runs"))
}

fn said(output: Output) -> String {
    assert!(output.status.success(), "{output:?}");
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&text).into_owned()
}

#[test]
fn long_work_is_told_while_it_lasts() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("app.db");
    let connection = fill(&path, 1);
    let blobs = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1200)
        INSERT INTO t(b) SELECT randomblob(100000) FROM n; PRAGMA wal_checkpoint(TRUNCATE)";
    connection.execute_batch(blobs).expect("rows");

    // The primary reads its database at the start.
    let primary = ["primary", "--db", text(&path)];
    let slow = Server::start_with(&primary, |command| {
        command.env(SLOW, "scan.read=stall");
    });
    let told = until("the primary's share", || reason(&slow, "starting"));
    assert!(told.contains("checksum"), "{told}");
    slow.wait_healthy("app.db");
    until("capturing", || {
        (status_of(&slow)["reason"] == "").then_some(())
    });
    assert!(
        lines(&slow.log(), "reading of app.db: ") >= 1,
        "{}",
        slow.log()
    );
    slow.stop();

    // A replica's snapshot, and what it verifies at its next start.
    let primary = Server::start(&primary);
    primary.wait_healthy("app.db");
    let copy = dir.path().join("copy.db");
    let db = format!("app.db={}", text(&copy));
    let replica = ["replica", "--upstream", &primary.url, "--db", &db];
    for (fault, state, what) in [
        ("seed.write=stall", "snapshot", "snapshot of app.db: "),
        ("db.scan=stall", "starting", "verification of app.db: "),
    ] {
        let server = Server::start_with(&replica, |command| {
            command.env(SLOW, fault);
        });
        until(what, || reason(&server, state));
        server.wait_healthy("app.db");
        assert_eq!(status_of(&server)["reason"], "");
        assert!(lines(&server.log(), what) >= 1, "{}", server.log());
        server.stop();
    }

    // Where nothing is slow, nothing is said.
    let server = Server::start(&replica);
    server.wait_healthy("app.db");
    assert!(!server.log().contains("%)"), "{}", server.log());
    server.stop();

    let (a, b) = (dir.path().join("a.db"), dir.path().join("b.db"));
    let backup = |to| {
        [
            "backup",
            "--server",
            &primary.url,
            "--db",
            "app.db",
            "--to",
            to,
        ]
    };
    let bar = on_a_terminal(&backup(text(&a)), "seed.write=stall");
    assert!(
        bar.contains("backup ") && bar.contains("MiB/s") && bar.contains('█'),
        "{bar}"
    );
    assert!(!bar.contains(" %)"), "a line among the bar: {bar}");
    let told = piped(&backup(text(&b)), "seed.write=stall");
    assert!(told.contains("backup: ") && told.contains(" %)"), "{told}");
    assert!(!told.contains('█'), "{told}");
    // Two files that are read without a stop: silent behind a pipe, and on a terminal no bar is left.
    let verify = ["verify", "--primary", text(&a), "--replica", text(&b)];
    let told = piped(&verify, "");
    assert!(!told.contains(" %)"), "{told}");
}
