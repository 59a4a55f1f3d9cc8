//! Where the files of a demonstration are, and that they go at its end.

use anyhow::{Context as _, bail};
use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

/// The name of the database.
pub const DATABASE: &str = "shop.db";

/// The directory of one demonstration; removed when it is dropped, unless it is to be kept.
pub struct Place {
    root: PathBuf,
    keep: bool,
}

impl Place {
    /// Makes the directory: `wanted`, or a new one in the system's directory for temporary files.
    ///
    /// # Errors
    /// If `wanted` has something in it: at the end all of it would be removed.
    pub fn create(wanted: Option<&Path>, keep: bool) -> anyhow::Result<Place> {
        let root = match wanted {
            Some(root) => {
                fs::create_dir_all(root).with_context(|| format!("create {}", root.display()))?;
                let mut entries =
                    fs::read_dir(root).with_context(|| format!("list {}", root.display()))?;
                if entries.next().is_some() {
                    bail!(
                        "{} is not empty; give a new directory with --dir",
                        root.display()
                    );
                }
                root.canonicalize()
                    .with_context(|| format!("resolve {}", root.display()))?
            }
            None => temporary()?,
        };
        Ok(Place { root, keep })
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A database of the process of that name, in a directory of its own.
    pub fn database(&self, process: &str) -> anyhow::Result<PathBuf> {
        let directory = self.root.join(process);
        fs::create_dir_all(&directory)
            .with_context(|| format!("create {}", directory.display()))?;
        Ok(directory.join(DATABASE))
    }

    /// The log file of the process of that name.
    pub fn log(&self, process: &str) -> PathBuf {
        self.root.join(format!("{process}.log"))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.keep
            && let Err(error) = fs::remove_dir_all(&self.root)
        {
            eprintln!("walcast: remove {}: {error}", self.root.display());
        }
    }
}

fn temporary() -> anyhow::Result<PathBuf> {
    let parent = std::env::temp_dir()
        .canonicalize()
        .context("find the directory for temporary files")?;
    for attempt in 0.. {
        let root = parent.join(format!("walcast-demo-{}-{attempt}", std::process::id()));
        // Ours alone: others could put a link in the way.
        match DirBuilder::new().mode(0o700).create(&root) {
            Ok(()) => return Ok(root),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).with_context(|| format!("create {}", root.display())),
        }
    }
    bail!(
        "{} is full of directories of demonstrations",
        parent.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_empty_directory_is_taken_and_it_goes_at_the_end() {
        let here = tempfile::tempdir().expect("a directory");
        let wanted = here.path().join("new");
        let place = Place::create(Some(&wanted), false).expect("a place");
        let database = place.database("replica-1").expect("a directory for it");
        assert!(database.parent().expect("a parent").is_dir());
        assert!(Place::create(Some(&wanted), false).is_err());
        assert!(wanted.exists(), "a refusal removes nothing");
        drop(place);
        assert!(!wanted.exists());

        drop(Place::create(Some(&wanted), true).expect("a place"));
        assert!(wanted.exists());
    }

    #[test]
    fn a_temporary_one_is_new() {
        let (one, other) = (
            Place::create(None, false).expect("one"),
            Place::create(None, false).expect("another"),
        );
        assert_ne!(one.root(), other.root());
        let gone = one.root().to_owned();
        drop(one);
        assert!(!gone.exists());
    }
}
