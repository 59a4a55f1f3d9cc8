//! A process of the demonstration: start it, read its address, look after it, end it.
//!
//! Nothing may be left running, whatever happens to us: a [`Process`] is killed when it is dropped, and the kernel kills
//! it when we are killed ourselves ([`run_child`]).

use anyhow::{Context as _, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getppid};
use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};

/// The hidden command that [`Process::start`] goes through.
pub const CHILD_COMMAND: &str = "demo-child";

/// Lines of a log that explain an end.
const TAIL: usize = 15;

/// A walcast process; its output is in a log file.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `program` (a walcast) with `args`. Call it from a thread that lives as long as the process should: the
    /// kernel ends the child with the thread that made it.
    pub fn start(
        program: &Path,
        name: &str,
        log: &Path,
        args: &[OsString],
    ) -> anyhow::Result<Process> {
        let output = File::create(log).with_context(|| format!("create {}", log.display()))?;
        let errors = output.try_clone().context("share a log file")?;
        let child = Command::new(program)
            .arg(CHILD_COMMAND)
            .arg(std::process::id().to_string())
            .arg("--")
            .args(args)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            // Ctrl-C in the terminal is for us alone: we decide in which order all end.
            .process_group(0)
            .spawn()
            .with_context(|| format!("start {}", program.display()))?;
        Ok(Process {
            name: name.to_owned(),
            child,
            log: log.to_owned(),
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// All it has said so far.
    pub fn log(&self) -> String {
        fs::read(&self.log)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// The URL of its server, once it has said on which address it listens.
    ///
    /// # Errors
    /// If it ended; with the end of its log.
    pub fn url(&mut self) -> anyhow::Result<Option<String>> {
        if let Some(address) = listening_on(&self.log()) {
            return Ok(Some(format!("http://{address}")));
        }
        self.check()?;
        Ok(None)
    }

    /// # Errors
    /// If it ended; with the end of its log.
    pub fn check(&mut self) -> anyhow::Result<()> {
        match self.ended() {
            Some(status) => bail!("{}", self.obituary(status)),
            None => Ok(()),
        }
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    fn obituary(&self, status: ExitStatus) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let last = lines[lines.len().saturating_sub(TAIL)..].join("\n    ");
        let said = if last.is_empty() {
            "It said nothing.".to_owned()
        } else {
            format!("The last lines of its log:\n    {last}")
        };
        format!("{} ended by itself ({status}). {said}", self.name)
    }

    /// Asks it to end; [`Process::ended`] tells when it has.
    pub fn terminate(&self) {
        // It may have ended already; then it is not reaped yet, and the signal goes nowhere.
        let _ = kill(self.pid(), Signal::SIGTERM);
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn listening_on(log: &str) -> Option<&str> {
    let (_, rest) = log.split_once("listening on ")?;
    // Half a line is half an address.
    let (address, _) = rest.split_once('\n')?;
    Some(address.trim())
}

/// What [`Process::start`] runs first.
#[derive(clap::Args, Debug)]
pub struct ChildArgs {
    /// The process to end with
    parent: i32,
    /// The arguments of walcast
    #[arg(last = true, required = true)]
    args: Vec<OsString>,
}

/// Becomes another walcast, which the kernel kills when the parent dies.
pub fn run_child(args: ChildArgs) -> anyhow::Result<ExitCode> {
    #[cfg(target_os = "linux")]
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).context("ask to end with the parent")?;
    if getppid().as_raw() != args.parent {
        bail!("the parent process ended");
    }
    let program = std::env::current_exe().context("find this program")?;
    let error = Command::new(&program).args(&args.args).exec();
    Err(error).with_context(|| format!("start {}", program.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_whole_line() {
        assert_eq!(listening_on("INFO x\nlistening on 127.0.0.1:40"), None);
        let log = "INFO x\nlistening on 127.0.0.1:4040\nINFO y\n";
        assert_eq!(listening_on(log), Some("127.0.0.1:4040"));
        assert_eq!(listening_on(""), None);
    }

    #[test]
    fn an_end_is_reported_with_its_log() {
        let here = tempfile::tempdir().expect("a directory");
        let log = here.path().join("log");
        // `sh` takes the place of walcast: it gets the same arguments, and calls them wrong.
        let mut process = Process::start(Path::new("/bin/sh"), "replica-1", &log, &[]).expect("sh");
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while process.ended().is_none() {
            assert!(std::time::Instant::now() < deadline, "sh did not end");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let error = process.url().expect_err("it ended").to_string();
        assert!(
            error.starts_with("replica-1 ended by itself (exit status: "),
            "{error}"
        );
        assert!(error.contains(CHILD_COMMAND), "{error}");
    }
}
