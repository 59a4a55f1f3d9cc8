//! `--exec`.

use super::{Node, application, wait_row};
use crate::support::proc::Walcast;
use crate::support::{DEADLINE, Scratch, python, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// An application: makes its database, says what it sees, and writes a last row when it is told to end.
const APP: &str = r#"
import os, signal, sqlite3, sys
path, said, code = sys.argv[1], sys.argv[2], int(sys.argv[3])
links = []
for fd in os.listdir("/proc/self/fd"):
    try:
        links.append(os.readlink("/proc/self/fd/" + fd))
    except OSError:
        pass
db = sqlite3.connect(path, isolation_level=None)
db.execute("PRAGMA journal_mode=WAL")
db.execute("CREATE TABLE IF NOT EXISTS t(x)")
db.execute("INSERT INTO t VALUES(1)")
def end(number, frame):
    db.execute("INSERT INTO t VALUES(?)", (1000 + number,))
    os._exit(code)
signal.signal(signal.SIGTERM, end)
signal.signal(signal.SIGINT, end)
with open(said + ".new", "w") as out:
    out.write("%d\n%s\n" % (os.getpid(), "\n".join(links)))
os.rename(said + ".new", said)
while True:
    signal.pause()
"#;

struct Scene {
    scratch: Scratch,
    db: PathBuf,
    said: PathBuf,
    process: Walcast,
    address: SocketAddr,
}

impl Scene {
    fn start(name: &str, code: u8) -> Option<Scene> {
        Scene::with_env(name, code, |_| Vec::new())
    }

    fn with_env(
        name: &str,
        code: u8,
        env: impl FnOnce(&Scratch) -> Vec<(&'static str, String)>,
    ) -> Option<Scene> {
        python::available()?;
        let scratch = Scratch::new(name);
        let (db, said, app) = (
            scratch.join("app.db"),
            scratch.join("said"),
            scratch.join("an app.py"),
        );
        std::fs::write(&app, APP).expect("the application");
        let exec = format!(
            "python3 '{}' {} {} {code}",
            app.display(),
            db.display(),
            said.display()
        );
        let db_arg = format!("app={}", db.display());
        let args = [
            "primary",
            "--db",
            &db_arg,
            "--listen",
            "127.0.0.1:0",
            "--exec",
            &exec,
        ];
        let mut process = Walcast::new(scratch.path(), "primary", &args);
        for (key, value) in env(&scratch) {
            process.env(key, &value);
        }
        let address = process.start();
        Some(Scene {
            scratch,
            db,
            said,
            process,
            address,
        })
    }

    /// The application's process, and the files that it had open at its beginning.
    fn said(&self) -> (Pid, Vec<String>) {
        let text = wait_for("the application", || {
            std::fs::read_to_string(&self.said).map_err(|e| format!("{e}; {}", self.process.log()))
        });
        let mut lines = text.lines();
        let pid = lines.next().expect("a pid").parse().expect("a number");
        (Pid::from_raw(pid), lines.map(str::to_owned).collect())
    }

    fn replica(&self) -> (Walcast, PathBuf) {
        let copy = self.scratch.join("copy.db");
        let url = format!("http://{}", self.address);
        let db = format!("app={}", copy.display());
        let args = [
            "replica",
            "--upstream",
            &url,
            "--db",
            &db,
            "--listen",
            "127.0.0.1:0",
        ];
        let mut replica = Walcast::new(self.scratch.path(), "replica", &args);
        replica.start();
        wait_row(&copy, 1);
        (replica, copy)
    }

    fn signal(&self, signal: Signal) {
        let pid = self.process.pid().expect("a running process");
        kill(Pid::from_raw(i32::try_from(pid).expect("a pid")), signal).expect("send a signal");
    }
}

fn gone(pid: Pid) {
    wait_for("the end of the application", || match kill(pid, None) {
        Err(_) => Ok(()),
        Ok(()) => Err("it runs".to_owned()),
    });
}

#[test]
fn signals_are_passed_on_and_the_last_write_is_streamed() {
    for (signal, last) in [(Signal::SIGTERM, 1015), (Signal::SIGINT, 1002)] {
        let Some(mut scene) = Scene::start("node-exec", 7) else {
            return;
        };
        let (pid, open) = scene.said();
        let ours = scene.scratch.path().display().to_string();
        let inherited: Vec<_> = open
            .iter()
            .filter(|link| {
                link.contains("socket:") || link.contains("eventpoll") || link.contains(&ours)
            })
            .filter(|link| !link.ends_with(".log"))
            .collect();
        assert!(
            inherited.is_empty(),
            "descriptors of walcast's: {inherited:?}"
        );
        let (mut replica, copy) = scene.replica();
        scene.signal(signal);
        let status = scene.process.wait(DEADLINE);
        assert_eq!(status.code(), Some(7), "the application's exit code");
        gone(pid);
        wait_row(&copy, last);
        assert!(replica.terminate().success());
    }
}

/// A supervisor that ends a service tells all of its processes at once.
#[test]
fn a_signal_to_both_is_one_signal() {
    // Which of two things that are there already is seen first is a matter of chance.
    for _ in 0..6 {
        let Some(mut scene) = Scene::start("node-exec-both", 7) else {
            return;
        };
        let (pid, _) = scene.said();
        scene.signal(Signal::SIGSTOP);
        scene.signal(Signal::SIGTERM);
        kill(pid, Signal::SIGTERM).expect("end the application");
        wait_for("the end of the application", || {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
            let stat = stat.map_err(|e| e.to_string())?;
            stat.contains(") Z ").then_some(()).ok_or(stat)
        });
        scene.signal(Signal::SIGCONT);
        let status = scene.process.wait(DEADLINE);
        assert_eq!(status.code(), Some(7), "the application's exit code");
        let log = scene.process.log();
        assert!(log.contains("draining"), "{log}");
        assert!(!log.contains("ending now"), "{log}");
    }
}

#[test]
fn a_signal_behind_the_applications_end_does_not_cut_the_drain() {
    let Some(mut scene) = Scene::start("node-exec-behind", 7) else {
        return;
    };
    let (pid, _) = scene.said();
    let (mut replica, copy) = scene.replica();
    let stopped = replica.pid().and_then(|pid| i32::try_from(pid).ok());
    let stopped = Pid::from_raw(stopped.expect("a pid"));
    // It does not read the end of its stream, so the drain is not over in a moment.
    kill(stopped, Signal::SIGSTOP).expect("stop the replica");
    kill(pid, Signal::SIGTERM).expect("end the application");
    wait_for("the drain", || {
        let log = scene.process.log();
        log.contains("draining").then_some(()).ok_or(log)
    });
    scene.signal(Signal::SIGTERM);
    wait_for("its line", || {
        let log = scene.process.log();
        let said = log.contains("SIGTERM: ending already");
        said.then_some(()).ok_or(log)
    });
    kill(stopped, Signal::SIGCONT).expect("let the replica go on");
    let status = scene.process.wait(DEADLINE);
    assert_eq!(status.code(), Some(7), "{}", scene.process.log());
    wait_row(&copy, 1015);
    assert!(replica.terminate().success());
}

#[test]
fn an_application_that_ends_by_itself_ends_the_server_with_its_code() {
    let Some(mut scene) = Scene::start("node-exec-killed", 0) else {
        return;
    };
    let (pid, _) = scene.said();
    let (mut replica, copy) = scene.replica();
    kill(pid, Signal::SIGKILL).expect("kill the application");
    let status = scene.process.wait(DEADLINE);
    assert_eq!(status.code(), Some(137), "128 + SIGKILL");
    wait_row(&copy, 1);
    assert!(replica.terminate().success());
}

#[test]
fn an_application_outlives_a_killed_walcast() {
    let Some(mut scene) = Scene::start("node-exec-orphan", 0) else {
        return;
    };
    let (pid, _) = scene.said();
    assert!(scene.process.kill9());
    kill(pid, None).expect("the application runs on");
    kill(pid, Signal::SIGTERM).expect("end the application");
    wait_row(&scene.db, 1015);
}

#[test]
fn a_walcast_that_panics_ends_the_application() {
    let faults = |scratch: &Scratch| {
        let file = scratch.join("faults").display().to_string();
        vec![("WALCAST_FAULTS_FILE", file)]
    };
    let Some(mut scene) = Scene::with_env("node-exec-panic", 0, faults) else {
        return;
    };
    let (pid, _) = scene.said();
    std::fs::write(scene.scratch.join("faults"), "shadow.append=panic").expect("a plan");
    // What it captures next is its end.
    super::add(&rusqlite::Connection::open(&scene.db).expect("open"), 2);
    let status = scene.process.wait(DEADLINE);
    assert_eq!(status.code(), Some(101), "{}", scene.process.log());
    gone(pid);
    // It was asked to, and could end in order.
    wait_row(&scene.db, 1015);
}

#[test]
fn on_a_primary_it_begins_once_what_is_there_is_captured() {
    let scratch = Scratch::new("node-exec-captured");
    let db = scratch.join("app.db");
    let _db = application(&db, 1);
    // The application has to know it; nobody else takes one that was just given back.
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = free.local_addr().expect("an address").to_string();
    drop(free);
    let said = scratch.join("said");
    let exec = format!(
        "sh -c '{} position --server http://{address} --db app > {}'",
        env!("CARGO_BIN_EXE_walcast"),
        said.display()
    );
    let db_arg = format!("app={}", db.display());
    let args = [
        "primary", "--db", &db_arg, "--listen", &address, "--exec", &exec,
    ];
    let mut process = Walcast::new(scratch.path(), "primary", &args);
    // Slow enough that an application that is started at once asks before.
    process.env("WALCAST_FAULTS", "*=stall");
    process.spawn();
    let status = process.wait(DEADLINE);
    assert_eq!(status.code(), Some(0), "{}", process.log());
    let position = std::fs::read_to_string(&said).expect("what it was told");
    let captured = std::fs::read_to_string(scratch.join("app.db-walcast/generation"));
    let generation = captured.expect("a generation");
    assert!(position.starts_with(generation.trim()), "{position}");
}

#[test]
fn the_limit_on_open_files_is_what_walcast_was_started_with() {
    let scratch = Scratch::new("node-exec-limit");
    let said = scratch.join("said");
    let db = scratch.join("none.db").display().to_string();
    let exec = format!(
        "sh -c 'ulimit -Sn > {0}; ulimit -Hn >> {0}'",
        said.display()
    );
    // A shell lowers the soft limit, and becomes walcast.
    let script = "ulimit -Sn 250 && ulimit -Hn 2500 && exec \"$@\"";
    let walcast = env!("CARGO_BIN_EXE_walcast");
    let args = [
        "-c",
        script,
        "sh",
        walcast,
        "primary",
        "--db",
        &db,
        "--listen",
        "127.0.0.1:0",
        "--exec",
        &exec,
    ];
    let mut process = Walcast::with_program(scratch.path(), "primary", Path::new("sh"), &args);
    process.start();
    let status = process.wait(DEADLINE);
    assert_eq!(status.code(), Some(0), "{}", process.log());
    assert_eq!(
        std::fs::read_to_string(&said).expect("limits"),
        "250\n2500\n"
    );
}

#[test]
fn on_a_replica_it_begins_once_the_copies_have_caught_up() {
    if python::available().is_none() {
        return;
    }
    let scratch = Scratch::new("node-exec-replica");
    let db = scratch.join("data/a.db");
    let _db = application(&db, 41);
    let primary = Node::start(
        &scratch,
        "primary",
        &format!(
            "  - dir: {}\n    pattern: '*.db'",
            scratch.join("data").display()
        ),
    );
    let seen = scratch.join("seen");
    let app = scratch.join("app.py");
    let script = "import sqlite3, sys\nrows = sqlite3.connect(sys.argv[1]).execute('SELECT x FROM t').fetchall()\nopen(sys.argv[2], 'w').write(str(rows))\n";
    std::fs::write(&app, script).expect("the application");
    let copies = scratch.join("copies");
    let file = scratch.join("replica.yml");
    let exec = format!(
        "python3 {} {} {}",
        app.display(),
        copies.join("a.db").display(),
        seen.display()
    );
    let dbs = format!(
        "  - dir: {}\n    pattern: '*'\n    upstream: {{url: 'http://{}'}}",
        copies.display(),
        primary.address
    );
    super::write_config(&file, &format!("exec: {exec}"), &dbs);
    let path = file.display().to_string();
    let mut replica = Walcast::new(scratch.path(), "replica", &["run", "--config", &path]);
    replica.start();
    assert_eq!(replica.wait(DEADLINE).code(), Some(0));
    assert_eq!(
        std::fs::read_to_string(&seen).expect("what it saw"),
        "[(41,)]"
    );
}

/// Presses Ctrl-C on the terminal of a walcast, waits until the application counted it, and ends walcast with SIGTERM.
const TERMINAL: &str = r#"
import os, pty, signal, sys, time
said, args = sys.argv[1], sys.argv[2:]
pid, terminal = pty.fork()
if pid == 0:
    os.execv(args[0], args)
def count():
    try:
        return open(said).read()
    except OSError:
        return ""
def until(text):
    end = time.time() + 60
    while count() != text:
        if time.time() > end:
            sys.exit("%r instead of %r; %r" % (count(), text, os.read(terminal, 10000)))
        time.sleep(0.01)
until("0")
os.write(terminal, b"\x03")
until("1")
os.kill(pid, signal.SIGTERM)
_, status = os.waitpid(pid, 0)
print(os.waitstatus_to_exitcode(status), count())
"#;

/// Counts SIGINT and goes on; ends at SIGTERM with the count as its code.
const COUNTER: &str = r#"
import os, signal, sys
said, counted = sys.argv[1], 0
def say():
    with open(said + ".new", "w") as out:
        out.write(str(counted))
    os.rename(said + ".new", said)
def count(number, frame):
    global counted
    counted += 1
    say()
signal.signal(signal.SIGINT, count)
signal.signal(signal.SIGTERM, lambda number, frame: os._exit(10 + counted))
say()
while True:
    signal.pause()
"#;

#[test]
fn ctrl_c_on_the_terminal_reaches_the_application_once() {
    if python::available().is_none() {
        return;
    }
    let scratch = Scratch::new("node-exec-terminal");
    let (driver, app, said) = (
        scratch.join("driver.py"),
        scratch.join("app.py"),
        scratch.join("count"),
    );
    std::fs::write(&driver, TERMINAL).expect("the driver");
    std::fs::write(&app, COUNTER).expect("the application");
    let exec = format!("python3 {} {}", app.display(), said.display());
    let out = std::process::Command::new("python3")
        .args([&driver, &said])
        .args([env!("CARGO_BIN_EXE_walcast"), "primary", "--db"])
        .arg(scratch.join("none.db"))
        .args(["--listen", "127.0.0.1:0", "--exec", &exec])
        .output()
        .expect("run python3");
    let text = String::from_utf8_lossy(&out.stdout);
    assert_eq!(
        text.trim(),
        "11 1",
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
}

#[test]
fn commands_that_cannot_be_run() {
    let scratch = Scratch::new("node-exec-wrong");
    let run = |name: &str, exec: &str| {
        let db = scratch.join("none.db").display().to_string();
        let args = [
            "primary",
            "--db",
            &db,
            "--listen",
            "127.0.0.1:0",
            "--exec",
            exec,
        ];
        let mut process = Walcast::new(scratch.path(), name, &args);
        process.spawn();
        let status = process.wait(DEADLINE);
        (status.code(), process.log())
    };
    let (code, log) = run("quote", "app 'x");
    assert_eq!(code, Some(2), "{log}");
    assert!(
        log.contains("a quote has no end") && !log.contains("listening"),
        "{log}"
    );
    let (code, log) = run("missing", "/no/such/program --flag");
    assert_eq!(code, Some(1), "{log}");
    assert!(
        log.contains("/no/such/program") && log.contains("--exec"),
        "{log}"
    );
    assert!(!Path::new(&scratch.join("none.db")).exists());
}
