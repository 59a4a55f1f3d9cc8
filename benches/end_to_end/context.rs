//! What all scenarios share.

use crate::machine::conditions;
use crate::report::Report;
use anyhow::Context as _;
use std::path::Path;
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
