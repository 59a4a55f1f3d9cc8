//! `walcast demo` as a person runs it: it ends with `equal`, and whatever happens to it, nothing is left running.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Far more than anything here takes.
const DEADLINE: Duration = Duration::from_secs(120);

struct Demo {
    child: Child,
    output: BufReader<ChildStdout>,
    said: String,
    dir: PathBuf,
    _parent: tempfile::TempDir,
}

impl Demo {
    fn start(args: &[&str]) -> Demo {
        let parent = tempfile::tempdir().expect("a directory");
        let dir = parent.path().join("demo");
        let mut child = Command::new(env!("CARGO_BIN_EXE_walcast"))
            .arg("demo")
            .args(args)
            .arg("--dir")
            .arg(&dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("start the demo");
        let output = BufReader::new(child.stdout.take().expect("its output"));
        Demo {
            child,
            output,
            said: String::new(),
            dir,
            _parent: parent,
        }
    }

    /// Reads its output up to a line for which this is true.
    fn read_until(&mut self, what: &str, mut is_it: impl FnMut(&str) -> bool) {
        loop {
            let mut line = String::new();
            let read = self.output.read_line(&mut line).expect("read its output");
            self.said.push_str(&line);
            assert!(read > 0, "it ended before {what}:\n{}", self.said);
            if is_it(&line) {
                return;
            }
        }
    }

    /// Waits for figures in which every replica streams.
    fn read_figures(&mut self, replicas: usize) {
        self.read_until("all replicas stream", |line| {
            line.matches(" streaming ").count() == replicas
        });
    }

    /// Its processes whose command line names the directory: pid and command line.
    fn processes(&self) -> Vec<(i32, String)> {
        let dir = self.dir.display().to_string();
        let of = |entry: fs::DirEntry| {
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            let line = fs::read(entry.path().join("cmdline")).ok()?;
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            let ours = pid != self.child.id().cast_signed() && line.contains(&dir);
            ours.then_some((pid, line))
        };
        let entries = fs::read_dir("/proc").expect("list processes");
        entries.filter_map(|entry| of(entry.ok()?)).collect()
    }

    fn process(&self, command: &str) -> i32 {
        let processes = self.processes();
        let found = processes.iter().find(|(_, line)| line.contains(command));
        found
            .unwrap_or_else(|| panic!("no '{command}' in {processes:?}"))
            .0
    }

    fn send(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().cast_signed());
        kill(pid, signal).expect("send a signal");
    }

    /// Waits for its end; the status, and all it said on standard error.
    fn wait(&mut self) -> (ExitStatus, String) {
        self.output
            .read_to_string(&mut self.said)
            .expect("read its output");
        let mut errors = String::new();
        let stderr = self.child.stderr.as_mut().expect("its errors");
        stderr.read_to_string(&mut errors).expect("read its errors");
        let status = self.child.wait().expect("wait for it");
        (status, errors)
    }

    fn assert_nothing_is_left(&self) {
        assert_eq!(self.processes(), [], "{}", self.said);
        assert!(!self.dir.exists(), "{}", self.said);
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn last_line(text: &str) -> &str {
    text.lines().last().unwrap_or_default()
}

#[test]
fn it_ends_by_itself_and_all_are_equal() {
    let mut demo = Demo::start(&["--seconds", "3", "--rate", "500", "--replicas", "3"]);
    let (status, errors) = demo.wait();
    assert_eq!(status.code(), Some(0), "{}\n{errors}", demo.said);
    assert_eq!(last_line(&demo.said), "equal");
    assert_eq!(demo.said.matches("pages equal").count(), 3, "{}", demo.said);
    assert!(errors.is_empty(), "{errors}");
    demo.assert_nothing_is_left();
}

#[test]
fn the_line_to_copy_works_while_it_runs() {
    let mut demo = Demo::start(&["--rate", "0", "--replicas", "1"]);
    demo.read_figures(1);
    let line = demo.said.lines().find(|line| line.contains("python3 -c"));
    let line = line.expect("a line for Python").trim().to_owned();
    if Command::new("python3").arg("--version").output().is_err() {
        assert!(
            std::env::var_os("WALCAST_REQUIRE_ALL").is_none(),
            "python3 is missing"
        );
        eprintln!("SKIPPED: python3 is missing");
    } else {
        let output = Command::new("sh").args(["-c", &line]).output();
        let output = output.expect("run a shell");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let count = said.trim().trim_start_matches('(').split(',').next();
        let count: Option<u64> = count.and_then(|count| count.parse().ok());
        assert!(count.is_some_and(|count| count > 0), "{line}: {output:?}");
    }
    // As Ctrl-C does.
    demo.send(Signal::SIGINT);
    let (status, errors) = demo.wait();
    assert_eq!(status.code(), Some(0), "{}\n{errors}", demo.said);
    assert_eq!(last_line(&demo.said), "equal");
    demo.assert_nothing_is_left();
}

#[test]
fn a_process_that_dies_is_named_and_ends_it() {
    for (command, name) in [
        ("walcast replica ", "replica-1"),
        ("walcast primary ", "primary"),
        ("demo-writer", "the application"),
    ] {
        let mut demo = Demo::start(&["--replicas", "1"]);
        demo.read_figures(1);
        kill(Pid::from_raw(demo.process(command)), Signal::SIGKILL).expect("kill it");
        let (status, errors) = demo.wait();
        assert_eq!(status.code(), Some(1), "{}\n{errors}", demo.said);
        let expected = format!("walcast: {name} ended by itself (signal: 9 (SIGKILL))");
        assert!(errors.starts_with(&expected), "{errors}");
        demo.assert_nothing_is_left();
    }
}

#[test]
fn its_own_death_leaves_nothing_running() {
    let mut demo = Demo::start(&["--replicas", "2"]);
    demo.read_figures(2);
    assert_eq!(demo.processes().len(), 4);
    demo.send(Signal::SIGKILL);
    demo.wait();
    let deadline = Instant::now() + DEADLINE;
    while !demo.processes().is_empty() {
        assert!(Instant::now() < deadline, "{:?}", demo.processes());
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn what_it_is_asked_to_keep_stays() {
    let mut demo = Demo::start(&["--seconds", "1", "--replicas", "1", "--keep"]);
    let (status, errors) = demo.wait();
    assert_eq!(status.code(), Some(0), "{}\n{errors}", demo.said);
    for file in ["primary/shop.db", "replica-1/shop.db", "primary.log"] {
        assert!(demo.dir.join(file).exists(), "{file}");
    }
    // One snapshot for each replica, though the application was writing all the time.
    let log = fs::read_to_string(demo.dir.join("primary.log")).expect("read the log");
    assert_eq!(log.matches("sending snapshot").count(), 1, "{log}");
    // And the directory of another is never taken.
    let refused = refused_in(&demo.dir);
    assert!(refused.contains("is not empty"), "{refused}");
    assert!(demo.dir.join("primary/shop.db").exists());
}

fn refused_in(dir: &Path) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_walcast"))
        .args(["demo", "--seconds", "1", "--dir"])
        .arg(dir)
        .output()
        .expect("start the demo");
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8_lossy(&output.stderr).into_owned()
}
