//! Helper processes: this executable again, with a hidden first argument.
//!
//! A helper says `ready` when it is set up, ends when its input ends or its work is done, and then prints what it
//! measured as lines `NAME VALUE`.

use anyhow::{Context as _, bail};
use clap::Parser;
use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::{load, prober, query};

const HELPER: &str = "as-helper";

#[derive(Parser)]
enum Role {
    /// Commits
    Load(load::LoadArgs),
    /// Looks for new rows
    Prober(prober::ProberArgs),
    /// Runs queries
    Query(query::QueryArgs),
}

/// The helper's whole life; `None` if this process is no helper.
pub fn main() -> Option<ExitCode> {
    if std::env::args().nth(1)? != HELPER {
        return None;
    }
    let result = match Role::parse_from(std::env::args().skip(1)) {
        Role::Load(args) => load::run(args),
        Role::Prober(args) => prober::run(args),
        Role::Query(args) => query::run(args),
    };
    Some(match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    })
}

/// Says that the helper is set up.
pub fn ready() {
    println!("ready");
}

/// True once the parent has closed our input, or died.
pub fn input_ended() -> Arc<AtomicBool> {
    let ended = Arc::new(AtomicBool::new(false));
    let flag = ended.clone();
    std::thread::spawn(move || {
        let mut byte = [0];
        while matches!(std::io::stdin().read(&mut byte), Ok(1)) {}
        flag.store(true, Ordering::Relaxed);
    });
    ended
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
        let mut child = Command::new(std::env::current_exe()?)
            .args([HELPER, role])
            .args(args)
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

    /// Tells it to end; what it measured.
    pub fn finish(mut self) -> anyhow::Result<Measured> {
        drop(self.child.stdin.take());
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
