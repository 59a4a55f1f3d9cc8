//! The exit codes of docs/exit-codes.md, by running the program.

use crate::fake::*;
use crate::running::{Running, within};
use std::process::{Output, Stdio};
use std::sync::atomic::Ordering;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};
use walcast::cli::Exit;
use walcast::wire::pb;

const FAR: &str = "89abcdef01234567/0000000000000003:00000000000010f8";

async fn walcast(args: &[&str]) -> (i32, Output) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_walcast"));
    command.args(args).stdin(Stdio::null()).kill_on_drop(true);
    let output = within(command.output()).await.expect("walcast runs");
    (output.status.code().expect("an exit code"), output)
}

/// Runs walcast, expects a code, and gives what it wrote on stdout or, if it failed, on stderr.
async fn run(args: &[&str], exit: Exit) -> String {
    let (code, output) = walcast(args).await;
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(code, exit as i32, "{args:?}: {stderr}");
    if exit == Exit::Done {
        String::from_utf8_lossy(&output.stdout).into_owned()
    } else {
        stderr
    }
}

#[test]
fn the_documentation_and_the_help_have_every_code() {
    let documented: Vec<i32> = include_str!("../../docs/exit-codes.md")
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split(' ').next()?.parse().ok())
        .collect();
    assert_eq!(documented, [0, 1, 2, 3, 4, 5, 6, 7, 101]);
    let help = std::process::Command::new(env!("CARGO_BIN_EXE_walcast"))
        .arg("--help")
        .output();
    let help = String::from_utf8(help.expect("walcast runs").stdout).expect("UTF-8");
    let shown: Vec<i32> = help
        .split("Exit codes:")
        .nth(1)
        .expect("the table")
        .lines()
        .filter_map(|line| line.trim().split(' ').next()?.parse().ok())
        .collect();
    assert_eq!(shown, [0, 1, 2, 3, 4, 5, 6, 7]);
}

#[tokio::test]
async fn commands_that_ask_a_server() {
    let (primary, replica) = (FakePrimary::new("app.db"), FakeReplica::new("copy.db"));
    let server = Running::start(vec![primary.served(), replica.served()]).await;
    let url = server.url();
    let at_server = |command: &'static str, rest: &[&str]| -> Vec<String> {
        let mut args = vec![command.to_owned(), "--server".to_owned(), url.clone()];
        args.extend(rest.iter().map(|&arg| arg.to_owned()));
        args
    };
    let ask = async |command, rest: &[&str], exit| {
        let args = at_server(command, rest);
        run(&args.iter().map(String::as_str).collect::<Vec<_>>(), exit).await
    };
    let here = at(0x20).to_string();
    assert_eq!(
        ask("position", &["--db", "app.db"], Exit::Done).await,
        format!("{here}\n")
    );
    let wait = ["--db", "copy.db", "--position", &here, "--max-wait", "0s"];
    assert_eq!(ask("wait", &wait, Exit::Done).await, format!("{here}\n"));
    ask(
        "wait",
        &["--db", "copy.db", "--position", FAR, "--max-wait", "10ms"],
        Exit::NotReached,
    )
    .await;
    let other = "0000000000000001/0000000000000000:0000000000000020";
    ask(
        "wait",
        &["--db", "copy.db", "--position", other],
        Exit::Refused,
    )
    .await;
    let unknown = ask("position", &["--db", "other.db"], Exit::Refused).await;
    assert!(unknown.contains("app.db, copy.db"), "{unknown}");
    ask("pause", &["--db", "copy.db"], Exit::Refused).await;
    assert!(
        ask("pause", &["--db", "app.db"], Exit::Done)
            .await
            .contains(&here)
    );
    assert!(
        ask("resume", &["--db", "app.db"], Exit::Done)
            .await
            .contains("same generation")
    );
    assert!(
        ask("detach", &["--db", "copy.db"], Exit::Done)
            .await
            .contains("/data/copy.db")
    );
    assert!(ask("status", &[], Exit::Done).await.contains("copy.db"));
    assert!(
        ask("status", &["--json"], Exit::Done)
            .await
            .starts_with("{\"databases\":[")
    );
    assert_eq!(ask("health", &[], Exit::Done).await, "SERVING\n");
    ask("health", &["--db", "other.db"], Exit::Refused).await;
    replica.fake.go_to(None);
    ask("position", &["--db", "copy.db"], Exit::Refused).await;
    drop(server);
}

#[tokio::test]
async fn an_unhealthy_server_is_1() {
    let replica = FakeReplica::new("copy.db");
    replica.caught_up.store(false, Ordering::SeqCst);
    let server = Running::start(vec![replica.served()]).await;
    run(&["health", "--server", &server.url()], Exit::Failed).await;
}

#[tokio::test]
async fn wrong_arguments_are_2_and_change_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let db = dir.path().join("app.db").display().to_string();
    run(&["position"], Exit::Usage).await;
    run(
        &["position", "--server", "nonsense", "--db", "app.db"],
        Exit::Usage,
    )
    .await;
    run(
        &[
            "wait",
            "--server",
            "http://h:1",
            "--db",
            "a",
            "--position",
            "3:10f8",
        ],
        Exit::Usage,
    )
    .await;
    let twice = run(
        &["primary", "--db", &db, "--db", &format!("b={db}")],
        Exit::Usage,
    )
    .await;
    assert!(twice.contains("same file"), "{twice}");
    run(&["primary", "--db", &db, "--retain-size", "1"], Exit::Usage).await;
    run(
        &["replica", "--upstream", "nonsense", "--db", &db],
        Exit::Usage,
    )
    .await;
    let left: Vec<_> = std::fs::read_dir(dir.path())
        .expect("a directory")
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn nobody_there_is_3_and_an_address_in_use_is_1() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("an address").to_string();
    let dir = tempfile::tempdir().expect("a directory");
    let db = dir.path().join("app.db").display().to_string();
    let failed = run(
        &["primary", "--db", &db, "--listen", &address],
        Exit::Failed,
    )
    .await;
    assert!(failed.contains("--listen"), "{failed}");
    drop(taken);
    let url = format!("http://{address}");
    let refused = run(
        &["position", "--server", &url, "--db", "a"],
        Exit::Unreachable,
    )
    .await;
    assert!(refused.contains("connection refused"), "{refused}");
}

#[tokio::test]
async fn nothing_to_detach_is_5() {
    let dir = tempfile::tempdir().expect("a directory");
    let db = dir.path().join("app.db").display().to_string();
    run(&["detach", "--db", &db], Exit::Refused).await;
}

/// What a walcast says in its log.
type Log = tokio::io::Lines<BufReader<tokio::process::ChildStderr>>;

fn start_primary(db: &std::path::Path, drain_timeout: &str, more: &[&str]) -> (Child, Log) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_walcast"))
        .args(["primary", "--listen", "127.0.0.1:0"])
        .args(["--drain-timeout", drain_timeout])
        .arg("--db")
        .arg(db)
        .args(more)
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("walcast runs");
    let log = BufReader::new(child.stderr.take().expect("a pipe")).lines();
    (child, log)
}

/// The next line with these words.
async fn line_with(log: &mut Log, words: &str) -> String {
    within(async {
        loop {
            let line = log.next_line().await.expect("text");
            let line = line.unwrap_or_else(|| panic!("it ended without '{words}'"));
            if line.contains(words) {
                return line;
            }
        }
    })
    .await
}

/// A `walcast primary` of a real database, and its URL.
async fn primary(dir: &std::path::Path, drain_timeout: &str) -> (Child, String) {
    let path = dir.join("app.db");
    let connection = rusqlite::Connection::open(&path).expect("a database");
    // Far more than the flow-control window of a client that does not read.
    let sql =
        "PRAGMA journal_mode=WAL; CREATE TABLE t(x); INSERT INTO t VALUES(zeroblob(32 << 20))";
    connection.execute_batch(sql).expect("a table");
    let (child, mut lines) = start_primary(&path, drain_timeout, &[]);
    let url = within(async {
        loop {
            let line = lines
                .next_line()
                .await
                .expect("text")
                .expect("an address comes first");
            if let Some(address) = line.strip_prefix("listening on ") {
                return format!("http://{address}");
            }
        }
    })
    .await;
    // The rest of the log is for nobody, but the pipe must not fill.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    within(async {
        let health = ["health", "--server", &url, "--db", "app.db"];
        while walcast(&health).await.0 != 0 {}
    })
    .await;
    (child, url)
}

fn terminate(child: &Child) {
    let pid = i32::try_from(child.id().expect("it runs")).expect("a pid");
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(pid),
        nix::sys::signal::Signal::SIGTERM,
    )
    .expect("a signal");
}

#[tokio::test]
async fn a_drained_server_is_0() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut child, _) = primary(dir.path(), "10s").await;
    terminate(&child);
    let status = within(child.wait()).await.expect("an end");
    assert_eq!(status.code(), Some(Exit::Done as i32));
}

#[tokio::test]
async fn a_drain_that_cannot_end_in_time_is_6() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut child, url) = primary(dir.path(), "100ms").await;
    let mut client = pb::replication_service_client::ReplicationServiceClient::connect(url)
        .await
        .expect("a connection");
    let request = pb::StreamRequest {
        database: "app.db".into(),
        replica_id: "id".into(),
        replica_name: "name".into(),
        protocol_min: 1,
        protocol_max: 1,
        ..Default::default()
    };
    // Nobody reads on after the first message: the stream cannot reach the last position.
    let mut stream = client.stream(request).await.expect("a stream").into_inner();
    within(stream.message())
        .await
        .expect("a hello")
        .expect("a hello");
    terminate(&child);
    let status = within(child.wait()).await.expect("an end");
    assert_eq!(status.code(), Some(Exit::DrainTimedOut as i32));
}

#[tokio::test]
async fn an_archive_that_is_away_is_named_when_the_time_is_up() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("app.db");
    let connection = rusqlite::Connection::open(&path).expect("a database");
    let sql = "PRAGMA journal_mode=WAL; CREATE TABLE t(x)";
    connection.execute_batch(sql).expect("a table");
    // Nothing can be made in a file, not even by root.
    let archive = path.join("archive");
    let archive = archive.display().to_string();
    let (mut child, mut log) = start_primary(&path, "100ms", &["--archive", &archive]);
    line_with(&mut log, "tries again").await;
    terminate(&child);
    let line = line_with(&mut log, "may lack").await;
    assert!(line.contains("app.db") && line.contains(&archive), "{line}");
    let status = within(child.wait()).await.expect("an end");
    assert_eq!(status.code(), Some(Exit::DrainTimedOut as i32));
}

#[tokio::test]
async fn whoever_stops_reading_has_seen_enough() {
    // More than a pipe holds.
    let primaries: Vec<_> = (0..600)
        .map(|number| FakePrimary::new(&format!("tenants/{number}.db")))
        .collect();
    let served = primaries.iter().map(|primary| primary.served()).collect();
    let server = Running::start(served).await;
    let mut child = Command::new(env!("CARGO_BIN_EXE_walcast"))
        .args(["status", "--server", &server.url()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("walcast runs");
    drop(child.stdout.take());
    let output = within(child.wait_with_output()).await.expect("an end");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert_eq!(said, "");
}

/// More than a clock can count is an argument like any other that is wrong.
#[tokio::test]
async fn a_time_without_end_is_a_wrong_argument() {
    let long = "18446744073709551615s";
    for args in [
        [
            "primary",
            "--db",
            "/tmp/never.db",
            "--listen",
            "127.0.0.1:0",
            "--drain-timeout",
            long,
        ]
        .to_vec(),
        [
            "wait",
            "--server",
            "http://127.0.0.1:1",
            "--db",
            "a",
            "--position",
            FAR,
            "--max-wait",
            long,
        ]
        .to_vec(),
        [
            "verify",
            "--primary",
            "http://127.0.0.1:1",
            "--replica",
            "http://127.0.0.1:1",
            "--db",
            "a",
            "--max-wait",
            long,
        ]
        .to_vec(),
    ] {
        let said = run(&args, Exit::Usage).await;
        assert!(said.contains("365000d is the most"), "{said}");
    }
}

/// The library takes any: it waits as long as the server lets it.
#[tokio::test]
async fn the_longest_duration_is_no_panic() {
    let primary = FakePrimary::new("app.db");
    let limits = walcast::config::Limits {
        handshake_timeout: std::time::Duration::MAX,
        idle_timeout: std::time::Duration::MAX,
        stall_timeout: std::time::Duration::MAX,
        ..Default::default()
    };
    let config = walcast::server::ServerConfig {
        drain_timeout: std::time::Duration::MAX,
        limits,
        ..Default::default()
    };
    let server = Running::with(vec![primary.served()], None, config).await;
    let admin = walcast::client::Admin::connect_lazy(&server.url()).expect("a URL");
    let waited = within(admin.wait("app.db", at(0x20), std::time::Duration::MAX)).await;
    assert!(waited.expect("an answer").reached);
    drop(admin);
    server.shut_down();
    let ended = within(server.ended()).await;
    assert_eq!(ended, walcast::server::Drained::Complete);
}

const PANIC: &str = "WALCAST_TEST_PANIC";

/// Not a test of its own: the next one runs it in a process that is to end.
#[test]
fn panic_in_a_thread() {
    if std::env::var_os(PANIC).is_none() {
        return;
    }
    walcast::cli::end_on_panic();
    let _ = std::thread::spawn(|| panic!("as the test says")).join();
    println!("still alive");
}

#[test]
fn a_panic_in_any_thread_is_101() {
    let output = std::process::Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "exit_codes::panic_in_a_thread", "--nocapture"])
        .env(PANIC, "1")
        .output()
        .expect("it runs");
    assert_eq!(output.status.code(), Some(101));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        stderr.contains("as the test says") && stderr.contains("this is a bug"),
        "{stderr}"
    );
    assert!(!String::from_utf8_lossy(&output.stdout).contains("still alive"));
}
