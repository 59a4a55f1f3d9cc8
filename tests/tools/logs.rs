//! What a server logs.

use crate::kit::*;

#[test]
fn json_has_one_object_for_each_line_and_none_for_each_commit() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("app.db");
    let connection = fill(&path, 1);
    let server = Server::start(&["primary", "--db", text(&path), "--log-format", "json"]);
    server.wait_healthy("app.db");
    let log = until("a line", || {
        Some(server.log()).filter(|log| log.contains("streaming"))
    });
    let before = log.lines().count();
    for i in 0..200 {
        connection
            .execute("INSERT INTO t(a) VALUES (?1)", [i])
            .expect("a row");
    }
    ok(&["position", "--server", &server.url, "--db", "app.db"]);
    let log = server.log();
    assert_eq!(log.lines().count(), before, "{log}");
    for line in log
        .lines()
        .filter(|line| !line.starts_with("listening on "))
    {
        let object: serde_json::Value = serde_json::from_str(line).expect(line);
        assert_eq!(object["level"], "INFO", "{line}");
        assert!(
            object["message"].is_string() && object["target"].is_string(),
            "{line}"
        );
    }
}

#[test]
fn a_level_and_a_filter_are_heeded() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("app.db");
    drop(fill(&path, 1));
    for (level, told) in [("warn", false), ("walcast::primary=debug", true)] {
        let server = Server::start(&["primary", "--db", text(&path), "--log-level", level]);
        server.wait_healthy("app.db");
        assert_eq!(
            server.log().contains("streaming"),
            told,
            "{level}: {}",
            server.log()
        );
        server.stop();
    }
}

/// A replica whose upstream is away tries again for ever; its log does not grow with that.
#[test]
fn a_fault_that_repeats_is_told_once() {
    let pair = Pair::start();
    pair.level();
    let Pair {
        dir: _dir,
        primary,
        replica,
    } = pair;
    primary.stop();
    let reason = || ok(&["status", "--server", &replica.url]);
    until("disconnected", || {
        reason().contains("disconnected").then_some(())
    });
    let tries = |log: &str| log.matches("disconnected: ").count();
    until("a line", || (tries(&replica.log()) > 0).then_some(()));
    // Ten seconds are several tries: they come after 2 s at the latest at first.
    let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
    until("ten seconds", || {
        (std::time::Instant::now() > end).then_some(())
    });
    let log = replica.log();
    assert!(tries(&log) <= 3, "{log}");
}
