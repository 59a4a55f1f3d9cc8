//! `walcast` processes: start, read the address, kill, wait; logs in files of the test's directory.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{DEADLINE, poll_for, wait_for};

/// A walcast that can be started again after its end; each run has its own log file.
pub struct Walcast {
    name: String,
    dir: PathBuf,
    program: PathBuf,
    args: Vec<String>,
    envs: Vec<(String, String)>,
    runs: u32,
    running: Option<Child>,
}

impl Walcast {
    pub fn new(dir: &Path, name: &str, args: &[&str]) -> Self {
        Self::with_program(dir, name, Path::new(env!("CARGO_BIN_EXE_walcast")), args)
    }

    /// For self-tests, which have no walcast yet.
    pub fn with_program(dir: &Path, name: &str, program: &Path, args: &[&str]) -> Self {
        Self {
            name: name.to_owned(),
            dir: dir.to_owned(),
            program: program.to_owned(),
            args: args.iter().map(|&a| a.to_owned()).collect(),
            envs: Vec::new(),
            runs: 0,
            running: None,
        }
    }

    /// An environment variable for the next starts.
    pub fn env(&mut self, key: &str, value: &str) {
        self.envs.push((key.to_owned(), value.to_owned()));
    }

    /// One more argument for the next starts.
    pub fn arg(&mut self, arg: &str) {
        self.args.push(arg.to_owned());
    }

    /// Starts a run; does not wait for anything.
    ///
    /// # Panics
    /// When the process cannot be started, or one is running.
    pub fn spawn(&mut self) {
        assert!(self.running.is_none(), "{} is running already", self.name);
        self.runs += 1;
        let out = std::fs::File::create(self.log_path(self.runs)).expect("create the log");
        let err = out.try_clone().expect("share the log");
        let child = Command::new(&self.program)
            .args(&self.args)
            .envs(self.envs.iter().map(|(k, v)| (k, v)))
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .unwrap_or_else(|e| panic!("start {}: {e}", self.program.display()));
        self.running = Some(child);
    }

    /// Starts a run and waits for the address it listens on.
    ///
    /// # Errors
    /// When it ends or says nothing before the deadline; with its log.
    pub fn try_start(&mut self, limit: Duration) -> Result<SocketAddr, String> {
        self.spawn();
        let name = self.name.clone();
        poll_for(&format!("{name} to listen"), limit, || {
            let text = self.log();
            if let Some(addr) = listening_on(&text) {
                return Ok(Ok(addr));
            }
            match self.running.as_mut().map(Child::try_wait) {
                Some(Ok(None)) => Err(format!("no address yet; log:\n{}", tail(&text))),
                ended => Ok(Err(format!(
                    "{name} ended ({ended:?}):\n{}",
                    tail(&self.log())
                ))),
            }
        })?
    }

    /// `try_start`, for tests.
    ///
    /// # Panics
    /// Where `try_start` errs.
    pub fn start(&mut self) -> SocketAddr {
        self.try_start(DEADLINE)
            .unwrap_or_else(|why| panic!("{why}"))
    }

    /// Runs until it kills itself as `fault` says (see `src/disk/fault.rs`), which may be before it listens. The next
    /// starts have no fault.
    ///
    /// # Panics
    /// When it goes on running: the place was not met.
    pub fn run_to_death(&mut self, fault: &str) {
        self.env("WALCAST_FAULTS", fault);
        self.spawn();
        let name = self.name.clone();
        wait_for(&format!("the end of {name} by {fault}"), || {
            match self.is_running() {
                true => Err("it runs".to_owned()),
                false => Ok(()),
            }
        });
        self.kill9();
        self.env("WALCAST_FAULTS", "");
    }

    /// SIGKILL, and reaps. True when it was still running.
    pub fn kill9(&mut self) -> bool {
        let Some(mut child) = self.running.take() else {
            return false;
        };
        let alive = matches!(child.try_wait(), Ok(None));
        let _already_dead = child.kill();
        let _reaped = child.wait();
        alive
    }

    /// SIGTERM, and waits for the end.
    ///
    /// # Panics
    /// When it does not end before the deadline.
    pub fn terminate(&mut self) -> ExitStatus {
        let child = self.running.as_ref().expect("a running process");
        let pid = i32::try_from(child.id()).expect("a pid fits an i32");
        kill(Pid::from_raw(pid), Signal::SIGTERM).expect("send SIGTERM");
        self.wait(DEADLINE)
    }

    /// Waits for the end.
    ///
    /// # Panics
    /// When it does not end within `limit`.
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let name = self.name.clone();
        let child = self.running.as_mut().expect("a running process");
        let status = poll_for(&format!("{name} to end"), limit, || {
            match child.try_wait() {
                Ok(Some(status)) => Ok(status),
                other => Err(format!("{other:?}")),
            }
        })
        .unwrap_or_else(|why| panic!("{why}"));
        self.running = None;
        status
    }

    pub fn is_running(&mut self) -> bool {
        matches!(self.running.as_mut().map(Child::try_wait), Some(Ok(None)))
    }

    /// The process id of the current run.
    pub fn pid(&self) -> Option<u32> {
        self.running.as_ref().map(Child::id)
    }

    fn log_path(&self, run: u32) -> PathBuf {
        self.dir.join(format!("{}.{run}.log", self.name))
    }

    /// Where the current (or last) run prints.
    pub fn current_log(&self) -> PathBuf {
        self.log_path(self.runs)
    }

    /// What the current (or last) run printed.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path(self.runs)).unwrap_or_default()
    }

    /// In how many lines `needle` stands, over all runs.
    ///
    /// # Panics
    /// When a log cannot be read: a count of nothing would look like a good answer.
    pub fn count_in_logs(&self, needle: &str) -> usize {
        (1..=self.runs)
            .map(|run| {
                let path = self.log_path(run);
                std::fs::read_to_string(&path)
                    .unwrap_or_else(|e| panic!("read the log {}: {e}", path.display()))
            })
            .map(|text| text.lines().filter(|l| l.contains(needle)).count())
            .sum()
    }
}

impl Drop for Walcast {
    fn drop(&mut self) {
        let alive = self.kill9();
        if std::thread::panicking() && self.runs > 0 {
            let state = if alive { "running" } else { "ended" };
            let text = self.log();
            eprintln!(
                "--- {} ({state}), run {} ---\n{}",
                self.name,
                self.runs,
                tail(&text)
            );
        }
    }
}

/// The end of a log, enough to see what happened.
pub fn tail(text: &str) -> &str {
    const KEEP: usize = 6000;
    let mut from = text.len().saturating_sub(KEEP);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    &text[from..]
}

/// The address in the first complete line that says `listening on ADDR`.
pub fn listening_on(log: &str) -> Option<SocketAddr> {
    let complete = &log[..=log.rfind('\n')?];
    complete.lines().find_map(|line| {
        let (_, rest) = line.split_once("listening on ")?;
        rest.split_whitespace().next()?.parse().ok()
    })
}

/// True for `generation/index:offset`, 16 lower-case hex digits each.
pub fn is_position(text: &str) -> bool {
    let hex = |s: &str| {
        s.len() == 16
            && s.bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    text.split_once('/')
        .and_then(|(generation, rest)| Some((generation, rest.split_once(':')?)))
        .is_some_and(|(g, (i, o))| hex(g) && hex(i) && hex(o))
}

/// `walcast position`: the position, and nothing but it, on stdout.
///
/// # Errors
/// When the command fails or prints anything else.
pub fn position(server: SocketAddr, db: &str) -> Result<String, String> {
    let url = format!("http://{server}");
    let out = Command::new(env!("CARGO_BIN_EXE_walcast"))
        .args(["position", "--server", &url, "--db", db])
        .stdin(Stdio::null())
        .output()
        .map_err(|e| format!("run walcast position: {e}"))?;
    let text = String::from_utf8_lossy(&out.stdout);
    match text.strip_suffix('\n') {
        Some(line) if out.status.success() && is_position(line) => Ok(line.to_owned()),
        _ => Err(format!(
            "position: {}, stdout {text:?}, stderr {}",
            out.status,
            String::from_utf8_lossy(&out.stderr)
        )),
    }
}

/// Waits until both servers name the same position of `db`, and gives it.
///
/// # Panics
/// When they do not before the deadline.
pub fn wait_same_position(one: SocketAddr, other: SocketAddr, db: &str) -> String {
    wait_for(&format!("{one} and {other} level on {db}"), || {
        let (a, b) = (position(one, db)?, position(other, db)?);
        if a == b {
            Ok(a)
        } else {
            Err(format!("{a} against {b}"))
        }
    })
}
