//! A thousand databases of one upstream: a hundred that are held up hold up no other; what they have open; and a limit
//! that is too low, told by its number.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use rusqlite::{Connection, OpenFlags};
use serde_json::Value;

use super::{Node, add, application, databases, wait_row};
use crate::support::{Scratch, wait_for};

const ALL: usize = 1000;
const STALLED: usize = 100;
/// Those of the stalled that have so much to send that their streams alone would fill a connection's usual window.
const HEAVY: usize = 5;
/// Of a copy's log, in the configuration below.
const HARD_LIMIT: usize = 256 << 10;

fn name(number: usize) -> String {
    format!("t-{number:04}.db")
}

/// Databases in WAL mode with one row, which no application has open.
fn make(dir: &Path, count: usize) {
    let template = dir.join("template");
    let db = application(&template, 1);
    db.close().expect("closed, and its log with it");
    for number in 0..count {
        std::fs::copy(&template, dir.join(name(number))).expect("a copy");
    }
    std::fs::remove_file(&template).expect("removed");
}

/// Waits until this many are in a state.
fn wait_count(node: &Node, state: &str, count: usize) -> BTreeMap<String, Value> {
    wait_for(&format!("{count} databases to be {state}"), || {
        let all = databases(node.address)?;
        let found = all.values().filter(|d| d["state"] == state).count();
        match found == count {
            true => Ok(all),
            false => Err(format!("{found} of {} are", all.len())),
        }
    })
}

/// A reader in the middle of a transaction.
fn begin_to_read(path: &Path) -> Connection {
    let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).expect("open");
    db.execute_batch("BEGIN").expect("begin");
    let row: i64 = db
        .query_row("SELECT count(*) FROM t", [], |r| r.get(0))
        .expect("read");
    assert!(row >= 1);
    db
}

/// Commits random bytes, in transactions of 128 KiB, which no compression makes smaller.
fn fill(db: &Connection, bytes: usize) {
    for _ in 0..bytes.div_ceil(128 << 10) {
        db.execute("INSERT INTO t VALUES(randomblob(131072))", [])
            .expect("a row");
    }
}

fn open_files(node: &Node) -> usize {
    let pid = node.process.pid().expect("a running process");
    std::fs::read_dir(format!("/proc/{pid}/fd"))
        .expect("its descriptors")
        .count()
}

/// TCP connections of a process to this address.
fn connections(node: &Node, to: SocketAddr) -> usize {
    let pid = node.process.pid().expect("a running process");
    let links = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("its descriptors");
    let own: Vec<String> = links
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
        .map(|target| target.to_string_lossy().into_owned())
        .collect();
    let table = std::fs::read_to_string(format!("/proc/{pid}/net/tcp")).expect("its sockets");
    // proc(5): local and remote address in hexadecimal, the state (1: established), and the inode in the tenth column.
    let remote = format!(":{:04X}", to.port());
    let rows = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.filter(|row| row.len() > 9 && row[2].ends_with(&remote) && row[3] == "01")
        .filter(|row| own.contains(&format!("socket:[{}]", row[9])))
        .count()
}

#[test]
fn a_hundred_that_are_held_up_hold_up_no_other() {
    let scratch = Scratch::new("node-thousand");
    let (data, copies) = (scratch.join("data"), scratch.join("copies"));
    for dir in [&data, &copies] {
        std::fs::create_dir_all(dir).expect("a directory");
    }
    make(&data, ALL);
    let primary = Node::start(
        &scratch,
        "primary",
        &format!("  - dir: {}\n    pattern: '*.db'", data.display()),
    );
    let replica = Node::start(
        &scratch,
        "replica",
        &format!(
            "  - dir: {}\n    pattern: '*.db'\n    upstream: {{url: 'http://{}'}}\n    wal-soft-limit: 64KiB\n    wal-hard-limit: {}KiB",
            copies.display(),
            primary.address,
            HARD_LIMIT >> 10
        ),
    );
    wait_count(&replica, "streaming", ALL);
    assert_eq!(
        connections(&replica, primary.address),
        1,
        "all share one connection"
    );

    // Something to hold: a reader of an empty log holds nothing.
    let stalled = 0..STALLED;
    let writers: Vec<Connection> = stalled
        .clone()
        .map(|n| application(&data.join(name(n)), 2))
        .collect();
    for n in stalled.clone() {
        wait_row(&copies.join(name(n)), 2);
    }
    let readers: Vec<Connection> = stalled
        .clone()
        .map(|n| begin_to_read(&copies.join(name(n))))
        .collect();
    for (n, db) in writers.iter().enumerate() {
        // Hundreds of waits for a disk are not what is tested.
        db.pragma_update(None, "synchronous", "off").expect("set");
        let more = if n < HEAVY { 14 << 20 } else { 0 };
        fill(db, 2 * HARD_LIMIT + more);
        add(db, 3);
    }
    wait_count(&replica, "waiting", STALLED);
    // Who is in the way is looked up seldom: among thousands of locks that come and go one may be overlooked for a moment.
    let holder = format!("(process {})", std::process::id());
    wait_for("all to say why, and who is in the way", || {
        let all = databases(replica.address)?;
        let reason = |n| all[&name(n)]["reason"].as_str().unwrap_or_default();
        let says =
            |n: &usize| reason(*n).contains("wal-hard-limit") && reason(*n).contains(&holder);
        match stalled.clone().find(|n| !says(n)) {
            None => Ok(()),
            Some(n) => Err(format!("{}: {}", name(n), reason(n))),
        }
    });

    // The others go on.
    for n in (STALLED..ALL).step_by(30) {
        add(&application(&data.join(name(n)), 4), 5);
        wait_row(&copies.join(name(n)), 5);
    }
    let all = wait_count(&replica, "streaming", ALL - STALLED);
    let waiting = all.values().filter(|d| d["state"] == "waiting").count();
    assert_eq!(waiting, STALLED);
    // What a reader holds is still what it saw.
    for db in &readers {
        let rows: i64 = db
            .query_row("SELECT count(*) FROM t", [], |r| r.get(0))
            .expect("read");
        assert_eq!(rows, 2);
    }

    drop(readers);
    for n in stalled {
        wait_row(&copies.join(name(n)), 3);
    }
    wait_for("all to be equal", || {
        let (ours, theirs) = (databases(primary.address)?, databases(replica.address)?);
        let differs = ours.iter().find(|(name, ours)| {
            let theirs = &theirs[*name];
            let same = |key: &str| ours[key] == theirs[key] && !ours[key].is_null();
            !same("position") || !same("database_checksum") || theirs["state"] != "streaming"
        });
        match differs {
            None => Ok(()),
            Some((name, ours)) => Err(format!("{ours} is {}", theirs[name])),
        }
    });
    // No more than `descriptors.rs` counts with: what it says would otherwise be too few.
    let most = |each: usize| each * ALL + 64;
    assert!(open_files(&primary) <= most(10), "{}", open_files(&primary));
    assert!(open_files(&replica) <= most(12), "{}", open_files(&replica));
}

/// The end of a walcast under a limit of open files that it cannot raise.
fn under_limit(limit: u32, arguments: &[String]) -> (Option<i32>, String) {
    let out = Command::new("sh")
        .args(["-c", "ulimit -n \"$0\" && exec \"$@\"", &limit.to_string()])
        .arg(env!("CARGO_BIN_EXE_walcast"))
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("run a shell");
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    (out.status.code(), said)
}

#[test]
fn too_few_open_files_are_told_by_the_number_that_is_needed() {
    let scratch = Scratch::new("node-descriptors");
    let data = scratch.join("data");
    std::fs::create_dir_all(&data).expect("a directory");
    make(&data, 30);
    let mut arguments = vec![
        "primary".to_owned(),
        "--listen".into(),
        "127.0.0.1:0".into(),
    ];
    for n in 0..30 {
        arguments.extend(["--db".to_owned(), data.join(name(n)).display().to_string()]);
    }
    let (code, said) = under_limit(200, &arguments);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("30 databases need 364 open files"), "{said}");
    assert!(said.contains("allows this process 200"), "{said}");
    assert!(said.contains("ulimit -n 364"), "{said}");
    let left = std::fs::read_dir(&data).expect("a directory").count();
    assert_eq!(left, 30, "nothing was made beside the databases");

    // What a directory has is known later: as many as fit are served, and the others say why they are not.
    let file = scratch.join("few.yml");
    super::write_config(
        &file,
        "",
        &format!("  - dir: {}\n    pattern: '*.db'", data.display()),
    );
    let script = format!(
        "ulimit -n 200 && exec '{}' \"$@\"",
        env!("CARGO_BIN_EXE_walcast")
    );
    let path = file.display().to_string();
    let arguments = ["-c", &script, "sh", "run", "--config", &path];
    let mut process = crate::support::proc::Walcast::with_program(
        scratch.path(),
        "few",
        Path::new("/bin/sh"),
        &arguments,
    );
    let address = process.start();
    let node = Node {
        file,
        process,
        address,
    };
    let all = wait_count(&node, "streaming", 13);
    wait_count(&node, "failed", 17);
    let reason = all[&name(29)]["reason"].as_str().expect("text");
    assert!(reason.contains("need 364 open files"), "{reason}");
    assert!(open_files(&node) <= 200);
}
