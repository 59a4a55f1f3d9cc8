//! Programs of others: started, watched, ended with us.

use anyhow::{Context as _, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A program that does not end in this time after it is asked to is killed.
const PATIENCE: Duration = Duration::from_secs(30);

/// A command that runs as another user, where we are root and are told one, and that gets a signal when we die.
pub fn command(user: Option<&User>, at_our_death: Signal, program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", &at_our_death.as_str()[3..]]);
    if let Some(user) = user.filter(|_| nix::unistd::geteuid().is_root()) {
        command.arg(format!("--reuid={}", user.uid));
        command.arg(format!("--regid={}", user.gid));
        command.arg("--clear-groups");
    }
    command.arg("--").arg(program).stdin(Stdio::null());
    command
}

/// Where a program is, by PATH.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let candidates = std::env::split_paths(&path).map(|directory| directory.join(program));
    candidates.into_iter().find(|file| file.is_file())
}

/// Runs a command to its end; what it printed.
pub fn run(command: &mut Command) -> anyhow::Result<String> {
    let output = command
        .output()
        .with_context(|| format!("run {}", first_words(command)))?;
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if !output.status.success() {
        bail!(
            "{} failed ({}): {}",
            first_words(command),
            output.status,
            said(&output.stderr)
        );
    }
    Ok(said(&output.stdout))
}

fn first_words(command: &Command) -> String {
    let program = [command.get_program()].into_iter();
    let words: Vec<&OsStr> = program.chain(command.get_args()).collect();
    let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
    words.join(" ")
}

/// A running program; ended when dropped.
pub struct Foreign {
    child: Child,
    log: PathBuf,
    at_drop: Signal,
}

impl Foreign {
    /// Starts it, with a file for what it says, and the signal that ends it at once, with all that it has started.
    pub fn start(mut command: Command, log: &Path, at_drop: Signal) -> anyhow::Result<Foreign> {
        let output = File::create(log).with_context(|| format!("create {}", log.display()))?;
        let errors = output.try_clone()?;
        let child = command
            .stdout(output)
            .stderr(errors)
            .spawn()
            .with_context(|| format!("start {}", first_words(&command)))?;
        Ok(Foreign {
            child,
            log: log.to_owned(),
            at_drop,
        })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// # Errors
    /// If it ended; with the end of what it said.
    pub fn check(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            Some(status) => bail!("it ended ({status}): {}", self.last_words()),
            None => Ok(()),
        }
    }

    /// The end of what it said.
    pub fn last_words(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&log[log.len().saturating_sub(2000)..]).into_owned()
    }

    /// Asks it to end, and waits until it has.
    pub fn end(&mut self, by: Signal) -> anyhow::Result<()> {
        if self.child.try_wait()?.is_some() {
            return Ok(());
        }
        kill(Pid::from_raw(self.child.id().cast_signed()), by)?;
        let deadline = Instant::now() + PATIENCE;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                bail!("{} does not end", self.log.display());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        if self.end(self.at_drop).is_err() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
