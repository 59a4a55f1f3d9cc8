//! What is wrong with one database is its state, and the others go on.

use super::{Node, application, wait_row};
use crate::support::proc::position;
use crate::support::{Scratch, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rusqlite::Connection;
use std::fs::File;
use std::net::TcpListener;
use std::process::Command;

#[test]
fn each_fault_is_a_clear_state_and_the_others_go_on() {
    let scratch = Scratch::new("node-failures");
    let at = |name: &str| scratch.join(name);
    let _good = application(&at("good.db"), 1);
    let _held = application(&at("held.db"), 1);
    let rollback = Connection::open(at("rollback.db")).expect("a database");
    rollback
        .execute_batch("CREATE TABLE t(x)")
        .expect("a table");
    std::fs::write(
        at("letter.db"),
        "Dear Madam, this is not a database at all.",
    )
    .expect("a file");
    // As an encrypted database looks: nothing in it can be told from chance.
    let mut noise = vec![0; 8192];
    getrandom::fill(&mut noise).expect("noise");
    std::fs::write(at("encrypted.db"), &noise).expect("a file");
    std::fs::write(at("empty.db"), b"").expect("a file");
    let _linked = application(&at("linked.db"), 1);
    std::fs::hard_link(at("linked.db"), at("linked-too.db")).expect("a link");

    let holder = Node::start(
        &scratch,
        "holder",
        &format!("  - path: {}", at("held.db").display()),
    );
    holder.wait("held.db", "streaming");
    let owner = format!("process {}", holder.process.pid().expect("a pid"));

    // A replica's copy, which another walcast keeps.
    let copy = |upstream: &Node| {
        let (path, address) = (at("copy.db"), upstream.address);
        let path = path.display();
        format!("  - path: {path}\n    upstream: {{url: 'http://{address}', database: held.db}}\n")
    };
    let keeper = Node::start(&scratch, "keeper", &copy(&holder));
    keeper.wait("copy.db", "streaming");
    let copy_owner = format!("process {}", keeper.process.pid().expect("a pid"));

    let table: [(&str, &str); 7] = [
        ("missing.db", "does not exist yet"),
        ("rollback.db", "PRAGMA journal_mode=WAL"),
        ("letter.db", "no SQLite database"),
        ("encrypted.db", "encrypted"),
        ("empty.db", "empty"),
        ("linked.db", "2 hard links"),
        ("held.db", &owner),
    ];
    let entry = |name: &str| format!("  - path: {}\n", at(name).display());
    let mut dbs: String = table.iter().map(|(name, _)| entry(name)).collect();
    dbs += &entry("good.db");
    // And on a replica: a file that is somebody else's.
    let _own = application(&at("own.db"), 1);
    dbs += &format!(
        "  - path: {}\n    upstream: {{url: 'http://{}', database: held.db}}\n",
        at("own.db").display(),
        holder.address
    );
    dbs += &copy(&holder);
    let node = Node::start(&scratch, "node", &dbs);
    node.wait("good.db", "streaming");
    for (name, words) in table {
        let found = node.wait(name, "waiting");
        let reason = found["reason"].as_str().expect("text");
        assert!(reason.contains(words), "{name}: {reason}");
    }
    let own = node.wait("own.db", "failed");
    assert!(
        own["reason"]
            .as_str()
            .expect("text")
            .contains("no replica made by walcast"),
        "{own}"
    );

    let held = node.wait("copy.db", "failed");
    let reason = held["reason"].as_str().expect("text");
    assert!(
        reason.contains(&copy_owner) && reason.contains("stop it first"),
        "{reason}"
    );

    // What is mended is taken, without a restart.
    rollback
        .pragma_update(None, "journal_mode", "wal")
        .expect("WAL mode");
    node.wait("rollback.db", "streaming");
    let mut keeper = keeper.process;
    assert!(keeper.terminate().success());
    let copy = node.wait("copy.db", "streaming");
    assert!(!copy["reason"].as_str().expect("text").contains("process"));
    let mut holder = holder.process;
    assert!(holder.terminate().success());
    node.wait("held.db", "streaming");
    std::fs::remove_file(at("linked-too.db")).expect("one name less");
    node.wait("linked.db", "streaming");
    let _missing = application(&at("missing.db"), 3);
    node.wait("missing.db", "streaming");
    wait_row(&at("own.db"), 1);
}

/// The log's disk is full, or nobody reads the pipe.
#[test]
fn a_log_that_cannot_be_written_ends_nothing() {
    let scratch = Scratch::new("node-no-log");
    let path = scratch.join("app.db");
    let _application = application(&path, 1);
    // The port is said in the log alone.
    let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
    let address = port.expect("a free port");
    let full = File::options().write(true).open("/dev/full");
    let mut process = Command::new(env!("CARGO_BIN_EXE_walcast"))
        .args(["primary", "--listen", &address.to_string(), "--db"])
        .arg(&path)
        .stderr(full.expect("a full disk"))
        .spawn()
        .expect("walcast runs");
    let served = wait_for("a position", || {
        let ended = process.try_wait().expect("a state");
        match ended {
            Some(status) => Ok(Err(status)),
            None => position(address, "app.db").map(Ok),
        }
    });
    served.expect("it serves");
    let pid = Pid::from_raw(i32::try_from(process.id()).expect("a pid"));
    kill(pid, Signal::SIGTERM).expect("a signal");
    assert_eq!(process.wait().expect("an end").code(), Some(0));
}
