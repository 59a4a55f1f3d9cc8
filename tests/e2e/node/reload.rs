//! SIGHUP.

use super::{Node, add, application, hang_up, wait_row, write_config};
use crate::support::proc::Walcast;
use crate::support::{Scratch, wait_for};
use serde_json::Value;
use std::os::unix::fs::OpenOptionsExt as _;

fn entry(path: &std::path::Path, more: &str) -> String {
    format!("  - path: {}\n{more}", path.display())
}

/// When the replica's stream began, and over which connection.
fn stream(primary: &Node, name: &str) -> (Value, Value) {
    wait_for(&format!("a replica of {name}"), || {
        let databases = primary.databases();
        let replica = &databases[name]["replicas"][0];
        match replica["state"] == "streaming" {
            true => Ok((
                replica["connected_since_us"].clone(),
                replica["address"].clone(),
            )),
            false => Err(databases[name].to_string()),
        }
    })
}

fn wait_log(process: &Walcast, text: &str) {
    wait_for(text, || {
        let log = process.log();
        log.contains(text).then_some(()).ok_or(log)
    });
}

#[test]
fn a_reload_touches_only_what_changed_on_both_sides() {
    let scratch = Scratch::new("node-reload");
    let [a, b, c] = ["a.db", "b.db", "c.db"].map(|name| scratch.join("data").join(name));
    let [db_a, _db_b, _db_c] = [&a, &b, &c].map(|path| application(path, 1));
    let primary = Node::start(&scratch, "primary", &(entry(&a, "") + &entry(&b, "")));
    let copy = |name: &str, more: &str| {
        let upstream = format!(
            "    upstream: {{url: 'http://{}'}}\n{more}",
            primary.address
        );
        entry(&scratch.join("copies").join(name), &upstream)
    };
    let replica = Node::start(&scratch, "replica", &(copy("a.db", "") + &copy("b.db", "")));
    replica.wait("a.db", "streaming");
    replica.wait("b.db", "streaming");
    let before = stream(&primary, "a.db");

    // The primary lets b go and takes c.
    primary.reload("", &(entry(&a, "") + &entry(&c, "")));
    primary.wait_names(&["a.db", "c.db"]);
    primary.wait("c.db", "streaming");
    let gone = replica.wait("b.db", "disconnected");
    assert!(
        gone["upstream"].as_str().expect("text").contains("http://"),
        "{gone}"
    );
    // The replica follows: b out, c in, another option for nobody else.
    replica.reload(
        "",
        &(copy("a.db", "") + &copy("c.db", "    scrub-interval: 1h\n")),
    );
    replica.wait_names(&["a.db", "c.db"]);
    replica.wait("c.db", "streaming");
    // The same options of c once more, but others of c: only c begins anew.
    let first = stream(&primary, "c.db");
    replica.reload(
        "",
        &(copy("a.db", "") + &copy("c.db", "    scrub-interval: 2h\n")),
    );
    wait_for("another stream of c", || {
        let now = stream(&primary, "c.db");
        (now.0 != first.0)
            .then_some(())
            .ok_or_else(|| format!("{now:?}"))
    });
    add(&db_a, 2);
    wait_row(&scratch.join("copies/a.db"), 2);
    assert_eq!(
        stream(&primary, "a.db"),
        before,
        "a's stream was never interrupted"
    );
}

#[test]
fn a_wrong_file_changes_nothing_and_what_needs_a_restart_is_named() {
    let scratch = Scratch::new("node-wrong-reload");
    let a = scratch.join("a.db");
    let _a = application(&a, 1);
    let mut node = Node::start(&scratch, "node", &entry(&a, ""));
    node.wait("a.db", "streaming");
    node.reload("", &entry(&a, "    retain-sizes: 1GiB\n"));
    wait_log(&node.process, "not reloaded, nothing changes");
    let line = node.process.log();
    let line = line
        .lines()
        .find(|line| line.contains("not reloaded"))
        .expect("a line");
    assert!(
        line.contains("node.yml:") && line.contains("retain-sizes"),
        "{line}"
    );
    // A URL that cannot be one, and a file twice, are as wrong.
    node.reload("", &(entry(&a, "") + &entry(&a, "    name: again\n")));
    wait_for("a second refusal", || {
        let count = node.process.count_in_logs("not reloaded, nothing changes");
        (count == 2).then_some(()).ok_or(format!("{count}"))
    });
    node.wait_names(&["a.db"]);

    node.reload(
        "drain-timeout: 3s\nmax-staleness: 5s\nlog: {level: debug}",
        &entry(&a, ""),
    );
    wait_log(&node.process, "not before a restart: drain-timeout, log");
    wait_log(&node.process, "reloaded started=0 stopped=0");
    assert!(node.process.is_running());
    assert!(node.process.terminate().success());
}

/// As on a network mount that hangs.
#[test]
fn a_file_that_hangs_does_not_hold_up_the_end() {
    let scratch = Scratch::new("node-hung-reload");
    let a = scratch.join("a.db");
    let _a = application(&a, 1);
    let mut node = Node::start(&scratch, "node", &entry(&a, ""));
    node.wait("a.db", "streaming");
    let pipe = scratch.join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    std::fs::rename(&pipe, &node.file).expect("in the place of the file");
    hang_up(&node.process);
    // Nobody can write before somebody reads, and this writes nothing.
    let _held = wait_for("a reader", || {
        let mut options = std::fs::File::options();
        options.write(true).custom_flags(nix::libc::O_NONBLOCK);
        options.open(&node.file).map_err(|e| e.to_string())
    });
    assert!(node.process.terminate().success());
}

#[test]
fn an_application_of_the_command_line_is_no_change_of_the_file() {
    let scratch = Scratch::new("node-reload-exec");
    let a = scratch.join("a.db");
    let _a = application(&a, 1);
    let file = scratch.join("node.yml");
    write_config(&file, "exec: 'false'", &entry(&a, ""));
    let path = file.display().to_string();
    let args = ["run", "--config", &path, "--exec", "sleep 1000"];
    let mut process = Walcast::new(scratch.path(), "node", &args);
    process.start();
    wait_log(&process, "started the application");
    hang_up(&process);
    wait_log(&process, "reloaded started=0 stopped=0");
    assert_eq!(
        process.count_in_logs("not before a restart"),
        0,
        "{}",
        process.log()
    );
    // SIGTERM is passed on, and the application's end is walcast's.
    assert_eq!(process.terminate().code(), Some(143));
}

#[test]
fn without_a_file_a_hangup_is_told_and_ignored() {
    let scratch = Scratch::new("node-hangup");
    let db = scratch.join("a.db").display().to_string();
    let args = ["primary", "--db", &db, "--listen", "127.0.0.1:0"];
    let mut process = Walcast::new(scratch.path(), "primary", &args);
    process.start();
    hang_up(&process);
    wait_log(&process, "no configuration file");
    assert!(process.terminate().success());
}

#[test]
fn another_pattern_interrupts_nothing_that_still_matches() {
    let scratch = Scratch::new("node-reload-pattern");
    let data = scratch.join("data");
    let db_a = application(&data.join("a.db"), 1);
    let _deep = application(&data.join("deep/b.db"), 1);
    let dir = |pattern: &str| format!("  - dir: {}\n    pattern: '{pattern}'\n", data.display());
    let primary = Node::start(&scratch, "primary", &dir("*.db"));
    let mirror = |pattern: &str| {
        let (copies, address) = (scratch.join("copies"), primary.address);
        let copies = copies.display();
        format!(
            "  - dir: {copies}\n    pattern: '{pattern}'\n    upstream: {{url: 'http://{address}'}}\n"
        )
    };
    let replica = Node::start(&scratch, "replica", &mirror("*.db"));
    replica.wait("a.db", "streaming");
    let before = stream(&primary, "a.db");

    primary.reload("", &dir("**/*.db"));
    primary.wait("deep/b.db", "streaming");
    replica.reload("", &mirror("**/*.db"));
    replica.wait("deep/b.db", "streaming");
    add(&db_a, 2);
    wait_row(&scratch.join("copies/a.db"), 2);
    assert_eq!(
        stream(&primary, "a.db"),
        before,
        "a's stream was never interrupted"
    );

    // What does not match any more goes at once, and what does stays.
    replica.reload("", &mirror("deep/*.db"));
    replica.wait_names(&["deep/b.db"]);
    primary.reload("", &dir("[a-z].db"));
    primary.wait_names(&["a.db"]);
    let let_go = |node: &Node, name: &str| {
        let log = node.process.log();
        let gone = |line: &&str| line.contains("let go") && line.contains(name);
        log.lines().filter(gone).count()
    };
    assert_eq!([let_go(&primary, "a.db"), let_go(&primary, "b.db")], [0, 1]);
    assert_eq!([let_go(&replica, "a.db"), let_go(&replica, "b.db")], [1, 0]);
}
