//! A directory of a command's own, gone when the command ends.

use super::exit::{Exit, Failure};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

/// Nobody else can look into it.
pub(super) struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Makes one in `parent`.
    pub(super) fn new(parent: &Path, name: &str) -> Result<Scratch, Failure> {
        let fail = |path: &Path, error: std::io::Error| {
            let message = format!("make the directory {}: {error}", path.display());
            Failure::new(Exit::Failed, message)
        };
        let random =
            getrandom::u64().map_err(|e| fail(parent, std::io::Error::other(e.to_string())))?;
        let path = parent.join(format!(".{name}-{random:016x}.tmp"));
        let mut builder = std::fs::DirBuilder::new();
        let made = builder.mode(0o700).create(&path);
        made.map_err(|error| fail(&path, error))?;
        Ok(Scratch { path })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed now is named so that a person sees what it is.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}
