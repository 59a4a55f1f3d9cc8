//! `<db>-walcast/lock`: one walcast at a time for each database.

use crate::disk::{self, File};
use std::path::{Path, PathBuf};

/// The lock, held for as long as this lives; the kernel gives it back when the process dies.
#[derive(Debug)]
pub struct Ownership {
    _file: File,
}

/// The database's directory could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum OwnershipError {
    /// Another process has it.
    #[error("{path}: another walcast (process {owner}) already serves this database; stop it first", path = path.display())]
    Held {
        /// The lock file.
        path: PathBuf,
        /// Its process, as it wrote itself down.
        owner: String,
    },
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] disk::DiskError),
}

/// The directory of walcast's files for a database.
pub fn directory_of(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push("-walcast");
    PathBuf::from(name)
}

/// Makes the directory if needed and takes the lock in it.
pub fn take(directory: &Path) -> Result<Ownership, OwnershipError> {
    disk::create_private_dir("lock.directory", directory)?;
    let path = directory.join("lock");
    let file = File::open_or_create("lock.open", &path, 0o600)?;
    if !file.try_lock("lock.take")? {
        let mut text = [0; 32];
        let read = file.read_at("lock.read", &mut text, 0)?;
        let owner = String::from_utf8_lossy(&text[..read]).trim().to_owned();
        let owner = if owner.is_empty() {
            "unknown".to_owned()
        } else {
            owner
        };
        return Err(OwnershipError::Held { path, owner });
    }
    file.set_len("lock.write", 0)?;
    file.write_all_at(
        "lock.write",
        format!("{}\n", std::process::id()).as_bytes(),
        0,
    )?;
    Ok(Ownership { _file: file })
}

/// Makes the database's directory, which the caller has taken, readable by who may read the database, and by nobody else:
/// what is in it was in the database. `name` is the database's, for the log.
pub fn guard(name: &str, path: &Path) -> disk::Result<()> {
    let access = disk::Access::of(&disk::metadata("lock.database", path)?);
    let directory = directory_of(path);
    if let Some(path) = disk::guard("lock.guard", &directory, access)? {
        tracing::warn!(
            database = %name,
            "{}: who may read it cannot be changed, since it belongs to another user or its filesystem has no modes; give \
             all of {} to the user of this walcast",
            path.display(),
            directory.display()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    /// Another test's child has all descriptors between its fork and its exec, and so the lock, which is the file's.
    fn take_patiently(directory: &Path) -> Ownership {
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            match take(directory) {
                Err(OwnershipError::Held { .. }) if Instant::now() < deadline => {
                    std::thread::yield_now();
                }
                taken => return taken.expect("free again"),
            }
        }
    }

    #[test]
    fn a_second_owner_is_told_who_the_first_is() {
        let directory = tempfile::tempdir().expect("a directory");
        let first = take(directory.path()).expect("free");
        let second = take(directory.path()).expect_err("held").to_string();
        assert!(
            second.contains(&format!("process {}", std::process::id())),
            "{second}"
        );
        drop(first);
        take_patiently(directory.path());
    }
}
