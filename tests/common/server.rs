//! A `walcast` server that a test started, and waiting for what is to come. For several test programs; none needs all.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// How long anything may take on a busy machine.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// Tries until it works.
pub fn until<T>(what: &str, mut check: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(value) = check() {
            return value;
        }
        assert!(Instant::now() < end, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A server that ends with the test.
pub struct Server {
    child: Child,
    pub url: String,
    log: Arc<Mutex<String>>,
}

impl Server {
    /// Starts `walcast` with these arguments, on any port, and waits for its address.
    pub fn start(args: &[&str]) -> Server {
        Server::start_with(args, |_| {})
    }

    /// The same, changed before it starts.
    pub fn start_with(args: &[&str], change: impl FnOnce(&mut Command)) -> Server {
        Server::spawn(args, |command| {
            command.args(["--listen", "127.0.0.1:0"]);
            change(command);
        })
    }

    /// Where the arguments say.
    pub fn start_at(args: &[&str]) -> Server {
        Server::spawn(args, |_| {})
    }

    /// With a configuration whose paths are relative to this directory.
    pub fn start_here(args: &[&str], directory: &Path) -> Server {
        Server::spawn(args, |command| {
            command.current_dir(directory);
        })
    }

    fn spawn(args: &[&str], change: impl FnOnce(&mut Command)) -> Server {
        let mut command = Command::new(env!("CARGO_BIN_EXE_walcast"));
        command.args(args);
        change(&mut command);
        let mut child = command
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("walcast runs");
        let log = Arc::new(Mutex::new(String::new()));
        let stderr = BufReader::new(child.stderr.take().expect("a pipe"));
        let kept = log.clone();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                *kept.lock().expect("no panic") += &(line + "\n");
            }
        });
        let mut server = Server {
            child,
            url: String::new(),
            log,
        };
        let address = until("its address", || {
            let told = server.find("listening on ");
            let ended = server.child.try_wait().expect("a child");
            assert!(told.is_some() || ended.is_none(), "it ended: {ended:?}");
            told
        });
        server.url = format!("http://{address}");
        server
    }

    /// What follows these words on stderr, in a line or in a JSON object.
    pub fn told(&self, words: &str) -> String {
        until(words, || self.find(words))
    }

    fn find(&self, words: &str) -> Option<String> {
        let log = self.log();
        let ended = log.rfind('\n').map_or("", |end| &log[..end]);
        let (_, rest) = ended.split_once(words)?;
        let end = rest.find(['\n', '"']).unwrap_or(rest.len());
        Some(rest[..end].to_owned())
    }

    /// The pid.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("a pid"))
    }

    /// Its stderr so far.
    pub fn log(&self) -> String {
        self.log.lock().expect("no panic").clone()
    }

    /// Ends it in order; its exit code.
    pub fn stop(mut self) -> Option<i32> {
        kill(self.pid(), Signal::SIGTERM).expect("a signal");
        self.child.wait().expect("an end").code()
    }

    /// SIGKILL.
    pub fn kill9(mut self) {
        self.child.kill().expect("a signal");
        self.child.wait().expect("an end");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- walcast ---\n{}", self.log());
        }
    }
}
