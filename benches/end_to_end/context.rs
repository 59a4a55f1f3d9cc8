//! What all scenarios share.

use crate::report::Report;
use anyhow::Context as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// The settings of a call, its directory, and its report.
pub struct Context {
    pub quick: bool,
    pub runs: usize,
    pub report: Report,
    root: TempDir,
}

impl Context {
    pub fn new(parent: &Path, quick: bool, runs: usize) -> anyhow::Result<Context> {
        std::fs::create_dir_all(parent)?;
        let root = tempfile::Builder::new()
            .prefix("bench-")
            .tempdir_in(parent)
            .with_context(|| format!("make a directory in {}", parent.display()))?;
        Ok(Context {
            quick,
            runs,
            report: Report::new(conditions(quick, runs)),
            root,
        })
    }

    /// An empty directory for one run; removed with what it holds when dropped.
    pub fn directory(&self) -> anyhow::Result<TempDir> {
        Ok(tempfile::tempdir_in(self.root.path())?)
    }

    /// The one or the other, as `--quick` says.
    pub fn pick<T>(&self, quick: T, full: T) -> T {
        if self.quick { quick } else { full }
    }
}

/// The walcast that is measured, of the same build as this.
pub fn program() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_walcast"))
}

/// What figures depend on. A load of much more than 0 at the start means that others used the processors.
fn conditions(quick: bool, runs: usize) -> Vec<(&'static str, String)> {
    let said = |program: &str, args: &[&str]| {
        let output = Command::new(program).args(args).output().ok()?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    let version = said("git", &["describe", "--always", "--dirty"]).unwrap_or_default();
    let length = if quick { "quick" } else { "full" };
    vec![
        ("revision", version),
        ("system", said("uname", &["-srm"]).unwrap_or_default()),
        ("processors", processors.to_string()),
        (
            "load when it began",
            load.split(' ').next().unwrap_or_default().to_owned(),
        ),
        ("runs", format!("{runs}, {length}")),
    ]
}
