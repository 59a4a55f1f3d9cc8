//! The application as our child (`--exec`).
//!
//! It is started when it can do no harm: on a primary once every database that is there is captured, on a replica once
//! every copy has caught up. A database that waits for something (it does not exist, is not in WAL mode, is held by
//! another) is not waited for: it may be the application that makes it or switches it.
//!
//! It runs in our process group and with our standard streams, as if it had been started in our place. SIGTERM and SIGINT
//! are passed on to it (but for Ctrl-C on our terminal, which it gets from there) and its end is ours: what it wrote last is
//! captured and sent before this process ends with its exit code. SIGHUP is not passed on, it is the reload. If this process is killed the application goes on: a sidecar that
//! dies must not take down what it stands beside; whoever supervises both (a container, a systemd unit) ends both.

use super::error::NodeError;
use super::signals::EndSignals;
use crate::model::DatabaseState;
use crate::server::{Registry, Served};
use crate::sys;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpgrp, tcgetpgrp};
use std::io::IsTerminal as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::sync::atomic::{AtomicI32, Ordering::Relaxed};
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

/// How often the databases are looked at while the application waits for them.
const LOOK: Duration = Duration::from_millis(20);
/// How often a line says what it waits for.
const SAY: Duration = Duration::from_secs(10);
/// How long it may take to end when this process failed.
const PATIENCE: Duration = Duration::from_secs(10);

/// The application's process, 0 if there is none. A panic ends the process from a hook, which knows no tasks.
static RUNNING: AtomicI32 = AtomicI32::new(0);

/// Asks the application to end, since this process does so at once, by a fault of its own.
pub fn abandon() {
    let pid = RUNNING.load(Relaxed);
    if pid > 0 {
        // Whether it could be told changes nothing here.
        let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
    }
}

/// Why the server is to end.
#[derive(Debug)]
pub struct Asked {
    /// The exit code of the application, if it was started.
    pub application: Option<u8>,
    /// A signal came. If not, the application ended by itself, or by one that was sent to it.
    pub signalled: bool,
}

impl Asked {
    /// There is no application, or none was started.
    pub fn by_signal() -> Asked {
        Asked {
            application: None,
            signalled: true,
        }
    }
}

/// What is run.
#[derive(Debug)]
pub struct Application {
    text: String,
    words: Vec<String>,
    child: Option<Child>,
    patience: Duration,
}

impl Application {
    /// Splits the command as a shell does, without being one: no variables, no pipes.
    pub fn parse(command: &str) -> Result<Application, NodeError> {
        let wrong = |problem: &str| NodeError::Command {
            command: command.to_owned(),
            problem: problem.to_owned(),
        };
        let words = shlex::split(command).ok_or_else(|| wrong("a quote has no end"))?;
        if words.first().is_none_or(String::is_empty) {
            return Err(wrong("it names no program"));
        }
        Ok(Application {
            text: command.to_owned(),
            words,
            child: None,
            patience: PATIENCE,
        })
    }

    /// Starts it when the databases are ready, and returns when it has ended, or when a signal came before it was started.
    pub async fn run(
        &mut self,
        registry: &Registry,
        settled: watch::Receiver<bool>,
        signals: &mut EndSignals,
    ) -> Result<Asked, NodeError> {
        tokio::select! {
            biased;
            signal = signals.next() => {
                tracing::info!("{signal} before the application was started");
                return Ok(Asked::by_signal());
            }
            () = ready(registry, settled) => {}
        }
        let child = self.child.insert(spawn(&self.words)?);
        let pid = child.id();
        RUNNING.store(signed(pid).unwrap_or(0), Relaxed);
        tracing::info!(pid, "started the application: {}", self.text);
        let mut signalled = false;
        loop {
            tokio::select! {
                // A signal first: one that came to both has ended the application, and is not the next one.
                biased;
                signal = signals.next() => {
                    signalled = true;
                    match came_from_terminal(signal) {
                        true => tracing::info!("the terminal sent {signal} to the application, too"),
                        false => pass_on(pid, signal),
                    }
                }
                status = child.wait() => {
                    RUNNING.store(0, Relaxed);
                    let status = status.map_err(NodeError::system("wait for the application"))?;
                    let code = code_of(status);
                    tracing::info!(code, "the application has ended: {status}");
                    return Ok(Asked { application: Some(code), signalled });
                }
            }
        }
    }

    /// Ends it, since this process failed.
    pub async fn terminate(&mut self) {
        let Some(child) = &mut self.child else {
            return;
        };
        pass_on(child.id(), Signal::SIGTERM);
        if timeout(self.patience, child.wait()).await.is_err() {
            tracing::warn!("the application did not end after SIGTERM; it is killed");
            // It may have ended in this moment; then there is nothing to kill.
            let _ = child.kill().await;
        }
    }
}

fn spawn(words: &[String]) -> Result<Child, NodeError> {
    // Every descriptor of ours is closed in the child: Rust and SQLite open all of them so.
    let mut command = Command::new(&words[0]);
    sys::with_limit_as_it_was(command.args(&words[1..]))
        .spawn()
        .map_err(|source| NodeError::Spawn {
            program: words[0].clone(),
            source,
        })
}

/// True if a terminal has sent this signal to the application, too: Ctrl-C goes to all of the group in its foreground,
/// and an application that gets it twice may break off its own end.
fn came_from_terminal(signal: Signal) -> bool {
    let stdin = std::io::stdin();
    signal == Signal::SIGINT
        && stdin.is_terminal()
        && tcgetpgrp(&stdin).is_ok_and(|foreground| foreground == getpgrp())
}

fn signed(pid: Option<u32>) -> Option<i32> {
    pid.and_then(|pid| i32::try_from(pid).ok())
}

fn pass_on(pid: Option<u32>, signal: Signal) {
    // None: it was waited for already.
    let Some(pid) = signed(pid) else {
        return;
    };
    tracing::info!("passing {signal} on to the application");
    if let Err(error) = kill(Pid::from_raw(pid), signal) {
        tracing::warn!("pass {signal} on to the application: {error}");
    }
}

/// Its exit code as a shell gives it: 128 and the signal that killed it.
fn code_of(status: ExitStatus) -> u8 {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

/// Waits until the application may begin.
async fn ready(registry: &Registry, settled: watch::Receiver<bool>) {
    let mut said = Instant::now();
    loop {
        let mut waited_for: Vec<String> = registry.list().iter().filter_map(pending).collect();
        if !*settled.borrow() {
            waited_for.push("the first look at all directories and upstreams".to_owned());
        }
        if waited_for.is_empty() {
            return;
        }
        if said.elapsed() >= SAY {
            tracing::warn!("the application waits for {}", waited_for.join("; "));
            said = Instant::now();
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Why a database is not ready.
fn pending(served: &Served) -> Option<String> {
    let status = served.database().status();
    let ready = match served {
        Served::Primary(_) => status.state != DatabaseState::Starting,
        Served::Replica(replica) => replica.has_caught_up_once() || !replica.is_followed(),
    };
    (!ready).then(|| format!("'{}' ({}: {})", status.name, status.state, status.reason))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_a_shells_and_nothing_is_expanded() {
        let words = |text: &str| Application::parse(text).map(|a| a.words);
        let split = words(r#"python3 'my app.py' --name "a b" $HOME"#).expect("words");
        assert_eq!(split, ["python3", "my app.py", "--name", "a b", "$HOME"]);
        for wrong in ["", "  ", "'", "app \"x", "''"] {
            let error = words(wrong).expect_err(wrong);
            assert!(matches!(error, NodeError::Command { .. }), "{error}");
        }
    }

    #[test]
    fn a_signal_is_128_and_its_number() {
        assert_eq!(code_of(ExitStatus::from_raw(7 << 8)), 7);
        assert_eq!(code_of(ExitStatus::from_raw(15)), 143);
        assert_eq!(code_of(ExitStatus::from_raw(0)), 0);
    }

    async fn running(script: &str) -> Application {
        let command = format!("sh -c '{script}'");
        let mut application = Application::parse(&command).expect("words");
        let child = spawn(&application.words).expect("a shell");
        application.child = Some(child);
        application
    }

    #[tokio::test]
    async fn when_this_process_fails_the_application_is_asked_to_end() {
        let dir = tempfile::tempdir().expect("a directory");
        let ready = dir.path().join("ready");
        let script = format!(
            r#"trap "exit 7" TERM; : > {}; while :; do sleep 0.01; done"#,
            ready.display()
        );
        let mut application = running(&script).await;
        while !ready.exists() {
            tokio::time::sleep(LOOK).await;
        }
        application.terminate().await;
        let mut child = application.child.take().expect("a child");
        let status = child.wait().await.expect("an end");
        assert_eq!(code_of(status), 7, "not killed");
    }

    #[tokio::test]
    async fn and_killed_where_it_does_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let ready = dir.path().join("ready");
        let script = format!(
            r#"trap "" TERM; : > {}; while :; do sleep 0.01; done"#,
            ready.display()
        );
        let mut application = running(&script).await;
        while !ready.exists() {
            tokio::time::sleep(LOOK).await;
        }
        application.patience = LOOK;
        application.terminate().await;
        let mut child = application.child.take().expect("a child");
        let status = child.wait().await.expect("an end");
        assert_eq!(code_of(status), 128 + 9);
    }
}
