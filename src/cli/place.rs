//! Where a restored or copied database goes, and what must not be there.

use super::exit::{Exit, Failure};
use super::units::parse_mode;
use crate::disk;
use crate::ownership;
use clap::Args;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// How a database's file is written.
#[derive(Args, Debug)]
pub(super) struct WriteArgs {
    /// Replace the file if it exists; nobody may have it open
    #[arg(long)]
    pub force: bool,
    /// Mode of the file, in octal; its group is its directory's
    #[arg(long, value_name = "MODE", default_value = "0640", value_parser = parse_mode)]
    pub mode: u32,
    /// Show no progress
    #[arg(long)]
    pub quiet: bool,
}

/// A path that may be written.
#[derive(Debug)]
pub(super) struct Place {
    path: PathBuf,
    parent: PathBuf,
    force: bool,
}

fn refuse<T>(message: String) -> Result<T, Failure> {
    Err(Failure::new(Exit::Refused, message))
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

impl Place {
    /// Looks before a byte is read: work of an hour should not fail at its end for what was known at its start.
    pub(super) fn check(path: &Path, force: bool) -> Result<Place, Failure> {
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        };
        if !parent.is_dir() {
            return refuse(format!("the directory {} does not exist", parent.display()));
        }
        let place = Place {
            path: path.to_owned(),
            parent,
            force,
        };
        place.refuse_what_is_there()?;
        Ok(place)
    }

    fn refuse_what_is_there(&self) -> Result<(), Failure> {
        let shown = self.path.display();
        if let Ok(found) = std::fs::symlink_metadata(&self.path) {
            if !found.is_file() {
                return refuse(format!("{shown} exists and is no file"));
            }
            if !self.force {
                return refuse(format!(
                    "{shown} exists; give another path, or --force to replace it"
                ));
            }
        }
        // SQLite would play them back into the new database.
        for suffix in ["-wal", "-journal"] {
            let left = beside(&self.path, suffix);
            if std::fs::metadata(&left).is_ok_and(|m| m.len() > 0) {
                return refuse(format!(
                    "{} belongs to another state of {shown}, which may be in use; close that, or move both away",
                    left.display()
                ));
            }
        }
        let directory = ownership::directory_of(&self.path);
        if directory.is_dir() {
            return refuse(format!(
                "{} shows that walcast serves {shown}, or has; docs/moving.md tells how to replace a database",
                directory.display()
            ));
        }
        Ok(())
    }

    pub(super) fn parent(&self) -> &Path {
        &self.parent
    }

    /// Gives the finished file its mode, the group of its directory, whose members are its readers, and its name.
    pub(super) fn install(&self, written: &Path, mode: u32) -> Result<(), Failure> {
        // It may have come meanwhile.
        self.refuse_what_is_there()?;
        let rename = || -> disk::Result<()> {
            if let Ok(parent) = std::fs::metadata(&self.parent) {
                let file = disk::File::open_rw("place.mode", written)?;
                file.set_access("place.mode", mode, parent.gid())?;
                file.sync_all("place.mode")?;
            }
            for suffix in ["-wal", "-shm", "-journal"] {
                disk::remove_file("place.remove-stale", &beside(&self.path, suffix))?;
            }
            match self.force {
                true => disk::rename("place.rename", written, &self.path)?,
                false => disk::rename_new("place.rename", written, &self.path)?,
            }
            disk::sync_dir("place.rename", &self.parent)
        };
        rename().map_err(|error| Failure::new(Exit::Failed, error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::Place;

    #[test]
    fn what_is_there_is_kept() {
        let here = tempfile::tempdir().expect("a directory");
        let path = here.path().join("b.db");
        let refused = |force| {
            let error = Place::check(&path, force).expect_err("a refusal");
            error.to_string()
        };
        assert!(Place::check(&path, false).is_ok());
        assert!(Place::check(&here.path().join("no/b.db"), false).is_err());
        std::fs::write(&path, "mine").expect("a file");
        assert!(refused(false).contains("--force"));
        assert!(Place::check(&path, true).is_ok());
        std::fs::write(here.path().join("b.db-wal"), "frames").expect("a log");
        assert!(refused(true).contains("b.db-wal"));
        std::fs::write(here.path().join("b.db-wal"), "").expect("a log");
        assert!(Place::check(&path, true).is_ok());
        std::fs::create_dir(here.path().join("b.db-walcast")).expect("a directory");
        assert!(refused(true).contains("docs/moving.md"));
        assert_eq!(std::fs::read(&path).expect("a file"), b"mine");
    }

    #[test]
    fn a_finished_file_takes_the_name() {
        let here = tempfile::tempdir().expect("a directory");
        let (path, written) = (here.path().join("b.db"), here.path().join("new"));
        std::fs::write(&written, "one").expect("a file");
        let place = Place::check(&path, false).expect("free");
        std::fs::write(&path, "came meanwhile").expect("a file");
        assert!(place.install(&written, 0o640).is_err());
        assert_eq!(std::fs::read(&path).expect("a file"), b"came meanwhile");
        let place = Place::check(&path, true).expect("forced");
        place.install(&written, 0o640).expect("installed");
        assert_eq!(std::fs::read(&path).expect("a file"), b"one");
    }
}
