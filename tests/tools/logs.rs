//! What a server logs.

use crate::kit::*;

#[test]
fn json_has_one_object_for_each_line_and_none_for_each_commit() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("app.db");
    let connection = fill(&path, 1);
    let args = ["primary", "--db", text(&path), "--log-format", "json"];
    let args = [&args[..], &["--http-listen", "127.0.0.1:0"]].concat();
    let server = Server::start(&args);
    assert!(
        server
            .told("status page on ")
            .starts_with("http://127.0.0.1:")
    );
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
    assert!(log.contains("listening on "), "{log}");
    for line in log.lines() {
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

#[test]
fn the_end_is_json_as_well() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("app.db");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let primary = ["primary", "--db", text(&path), "--listen", &address];
    let said = walcast(&[&primary[..], &["--log-format", "json"]].concat());
    assert_eq!(said.code, 1, "{said:?}");
    let line = said.stderr.lines().last().expect("a line");
    let object: serde_json::Value = serde_json::from_str(line).expect(line);
    assert_eq!(object["level"], "ERROR");
    let message = object["message"].as_str().expect("words");
    assert!(
        message.starts_with("walcast: ") && message.contains(&address),
        "{line}"
    );
    let said = walcast(&primary);
    let line = said.stderr.lines().last().expect("a line");
    assert_eq!(line, message);
}

/// The status page's "last errors" are not those that the log happens to show.
#[test]
fn the_page_shows_errors_whatever_the_level_is() {
    use std::io::{Read as _, Write as _};
    let dir = tempfile::tempdir().expect("a directory");
    let copy = dir.path().join("copy.db");
    let upstream = "http://127.0.0.1:1";
    let server = Server::start(&[
        "replica",
        "--upstream",
        upstream,
        "--db",
        text(&copy),
        "--log-level",
        "off",
        "--http-listen",
        "127.0.0.1:0",
    ]);
    let page = server.told("status page on ");
    let address = page.trim_start_matches("http://").trim_end_matches('/');
    until("the fault on the page", || {
        let mut stream = std::net::TcpStream::connect(address).expect("the port");
        stream
            .write_all(b"GET /events HTTP/1.1\r\nhost: localhost\r\n\r\n")
            .expect("a request");
        let mut text = Vec::new();
        let mut some = [0; 4096];
        // The first event has everything.
        while !text.windows(2).any(|w| w == b"}\n") {
            match stream.read(&mut some).expect("an answer") {
                0 => break,
                length => text.extend_from_slice(&some[..length]),
            }
        }
        let text = String::from_utf8_lossy(&text).into_owned();
        assert!(text.contains("event: full"), "{text}");
        text.contains("\"level\":\"warn\"").then_some(())
    });
    assert!(!server.log().contains("WARN"), "{}", server.log());
}
