//! Helper processes: this executable again, with a hidden first argument.
//!
//! A helper says `ready` when it is set up, ends when its input ends or its work is done, and then prints what it
//! measured as lines `NAME VALUE`.

use anyhow::{Context as _, bail};
use std::collections::HashMap;
use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};
use std::sync::{Arc, OnceLock};

const HELPER: &str = "as-helper";

/// A helper's arguments, as a program's; `None` if this process is none.
pub fn arguments() -> Option<impl Iterator<Item = OsString>> {
    let mut args = std::env::args_os().skip(1).peekable();
    args.next_if(|first| first == HELPER)?;
    Some(std::iter::once(HELPER.into()).chain(args))
}

/// Its exit code.
pub fn ended(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Says that the helper is set up.
pub fn ready() {
    println!("ready");
}

/// Until when a helper works.
pub struct End(Arc<OnceLock<u64>>);

impl End {
    /// Watches the input.
    pub fn watch() -> End {
        let end = Arc::new(OnceLock::new());
        let of_thread = end.clone();
        std::thread::spawn(move || {
            let mut said = String::new();
            // It ends when the parent has said its word, or died.
            let _ = std::io::stdin().read_to_string(&mut said);
            of_thread.get_or_init(|| said.trim().parse().unwrap_or(0));
        });
        End(end)
    }

    /// What it is to have seen before it ends, once it is told to end; 0: nothing.
    pub fn goal(&self) -> Option<u64> {
        self.0.get().copied()
    }

    /// Whether it is told to end.
    pub fn has_come(&self) -> bool {
        self.goal().is_some()
    }
}

/// Writes one u64 for each sequence number.
pub fn write_times(path: &std::path::Path, times: &[u64]) -> anyhow::Result<()> {
    let bytes: Vec<u8> = times.iter().flat_map(|ns| ns.to_le_bytes()).collect();
    std::fs::write(path, bytes).with_context(|| format!("write {}", path.display()))
}

/// Reads what [`write_times`] wrote.
pub fn read_times(path: &std::path::Path) -> anyhow::Result<Vec<u64>> {
    let bytes = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
    let (words, _) = bytes.as_chunks::<8>();
    Ok(words.iter().map(|word| u64::from_le_bytes(*word)).collect())
}

/// A running helper; killed when dropped.
pub struct Helper {
    role: String,
    child: Child,
    output: BufReader<ChildStdout>,
}

/// What a helper measured.
#[derive(Debug)]
pub struct Measured(HashMap<String, f64>);

impl Measured {
    /// A value.
    pub fn get(&self, name: &str) -> anyhow::Result<f64> {
        self.0
            .get(name)
            .copied()
            .with_context(|| format!("a helper did not report '{name}'"))
    }
}

impl Helper {
    /// Starts a helper and waits until it is ready.
    pub fn start<S: AsRef<std::ffi::OsStr>>(
        role: &str,
        args: impl IntoIterator<Item = S>,
    ) -> anyhow::Result<Helper> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args([HELPER, role]).args(args);
        Helper::start_as(role, command)
    }

    /// Starts another program that behaves as a helper, and waits until it is ready.
    pub fn start_as(role: &str, mut command: Command) -> anyhow::Result<Helper> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("start the helper '{role}'"))?;
        let output = BufReader::new(child.stdout.take().context("its output")?);
        let mut helper = Helper {
            role: role.to_owned(),
            child,
            output,
        };
        let mut line = String::new();
        helper.output.read_line(&mut line)?;
        if line.trim() != "ready" {
            bail!("the helper '{role}' did not get ready");
        }
        Ok(helper)
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Tells it to end; what it measured.
    pub fn finish(self) -> anyhow::Result<Measured> {
        self.finish_at(0)
    }

    /// Tells it to end when it has seen so much; what it measured.
    pub fn finish_at(mut self, goal: u64) -> anyhow::Result<Measured> {
        let mut input = self.child.stdin.take().context("its input")?;
        write!(input, "{goal}")?;
        drop(input);
        self.wait()
    }

    /// Waits until its work is done; what it measured.
    pub fn wait(mut self) -> anyhow::Result<Measured> {
        let mut said = String::new();
        self.output.read_to_string(&mut said)?;
        // `Child::wait` closes the input.
        let status = self.child.wait()?;
        if !status.success() {
            bail!("the helper '{}' failed ({status})", self.role);
        }
        let pair = |line: &str| {
            let (name, value) = line.split_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        };
        Ok(Measured(said.lines().filter_map(pair).collect()))
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
