//! Every disk operation of walcast goes through here, and each has a name, so that a test can make that one fail.
//!
//! Names are `PART.VERB`, such as `shadow.append` or `position.rename`. Errors carry the name and the path, so the line
//! that a person reads says what was tried on which file. SQLite's own operations (its checkpoints) do not pass here.
//!
//! **Never open and close a database file or its `-shm` through this module while this process has SQLite open on it**:
//! POSIX drops all locks of the process at the close. Open such a descriptor before SQLite does and keep it.

mod access;
mod errands;
pub mod fault;
mod file;

pub use access::{Access, create_dirs_within, create_private_dir, guard};
#[doc(hidden)]
pub use errands::simulate;
pub use errands::{Errands, aside};
pub use file::File;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A disk operation that failed.
#[derive(Debug, thiserror::Error)]
#[error("{op} {path}: {source}{hint}", path = path.display(), hint = self.hint())]
pub struct DiskError {
    /// The operation's name.
    pub op: &'static str,
    /// The file it was for.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

impl DiskError {
    /// Wraps an I/O error.
    pub fn new(op: &'static str, path: &Path, source: io::Error) -> DiskError {
        DiskError {
            op,
            path: path.to_owned(),
            source,
        }
    }

    /// True if the disk, or the quota on it, is full: worth trying again when there is space.
    pub fn is_full(&self) -> bool {
        matches!(
            self.source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        )
    }

    /// True if a name is taken that was to be new.
    pub fn is_there_already(&self) -> bool {
        matches!(
            self.source.kind(),
            io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty
        )
    }

    /// True if the file does not exist.
    pub fn is_missing(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }

    fn hint(&self) -> &'static str {
        match self.source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                "; free some space, walcast goes on by itself"
            }
            io::ErrorKind::PermissionDenied => "; run walcast as the user who owns the database",
            _ => "",
        }
    }
}

/// The result of a disk operation.
pub type Result<T> = std::result::Result<T, DiskError>;

fn run<T>(op: &'static str, path: &Path, body: impl Fn() -> io::Result<T>) -> Result<T> {
    loop {
        match fault::check(op).and_then(|_| body()) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other.map_err(|e| DiskError::new(op, path, e)),
        }
    }
}

/// Gives a test its chance to make an operation fail that SQLite does for us.
pub fn meet(op: &'static str, path: &Path) -> Result<()> {
    run(op, path, || Ok(()))
}

/// Reads a whole small file.
pub fn read(op: &'static str, path: &Path) -> Result<Vec<u8>> {
    run(op, path, || fs::read(path))
}

/// Reads a whole small file, `None` if it does not exist.
pub fn read_if_exists(op: &'static str, path: &Path) -> Result<Option<Vec<u8>>> {
    match read(op, path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.is_missing() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Makes a directory and those above it.
pub fn create_dir_all(op: &'static str, path: &Path) -> Result<()> {
    run(op, path, || fs::create_dir_all(path))
}

/// Removes a file; it is no error if there is none.
pub fn remove_file(op: &'static str, path: &Path) -> Result<()> {
    ignore_missing(run(op, path, || fs::remove_file(path)))
}

/// Removes a directory with all in it; it is no error if there is none.
pub fn remove_dir_all(op: &'static str, path: &Path) -> Result<()> {
    ignore_missing(run(op, path, || fs::remove_dir_all(path)))
}

fn ignore_missing(result: Result<()>) -> Result<()> {
    match result {
        Err(error) if error.is_missing() => Ok(()),
        other => other,
    }
}

/// Renames a file over another, in one step.
pub fn rename(op: &'static str, from: &Path, to: &Path) -> Result<()> {
    run(op, to, || fs::rename(from, to))
}

/// Size, times and kind of what a path leads to, without opening it.
pub fn metadata(op: &'static str, path: &Path) -> Result<fs::Metadata> {
    run(op, path, || fs::metadata(path))
}

/// Gives a file a name that nobody has: fails with `AlreadyExists` where somebody has it.
pub fn rename_new(op: &'static str, from: &Path, to: &Path) -> Result<()> {
    run(op, to, || rename_no_replace(from, to))
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn rename_no_replace(from: &Path, to: &Path) -> io::Result<()> {
    use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
    let flags = RenameFlags::RENAME_NOREPLACE;
    match renameat2(AT_FDCWD, from, AT_FDCWD, to, flags) {
        // A filesystem that cannot do both in one step.
        Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOSYS) => look_and_rename(from, to),
        other => other.map_err(io::Error::from),
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn rename_no_replace(from: &Path, to: &Path) -> io::Result<()> {
    look_and_rename(from, to)
}

fn look_and_rename(from: &Path, to: &Path) -> io::Result<()> {
    if to.try_exists()? {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    fs::rename(from, to)
}

/// Names in a directory, sorted; empty if there is no such directory.
pub fn list(op: &'static str, path: &Path) -> Result<Vec<String>> {
    let names = run(op, path, || {
        fs::read_dir(path)?
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect::<io::Result<Vec<_>>>()
    });
    match names {
        Ok(mut names) => {
            names.sort();
            Ok(names)
        }
        Err(error) if error.is_missing() => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Makes the names in a directory survive a power cut. An empty path, which is the parent of a bare name, is the current one.
pub fn sync_dir(op: &'static str, path: &Path) -> Result<()> {
    let path = match path.as_os_str().is_empty() {
        true => Path::new("."),
        false => path,
    };
    run(op, path, || fs::File::open(path)?.sync_all())
}

/// The names of the steps of one [`replace`].
#[derive(Clone, Copy, Debug)]
pub struct ReplaceOps {
    /// Writing the temporary file.
    pub write: &'static str,
    /// Making it durable.
    pub sync: &'static str,
    /// Putting it in place, and making that durable.
    pub rename: &'static str,
}

/// Replaces a small file so that after a kill or a power cut it holds either the old bytes or the new, whole. Its readers
/// are those of its directory.
pub fn replace(ops: ReplaceOps, path: &Path, bytes: &[u8], durable: bool) -> Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let temporary = PathBuf::from(temporary);
    let file = File::create_within(ops.write, &temporary)?;
    file.write_all_at(ops.write, bytes, 0)?;
    if durable {
        file.sync_data(ops.sync)?;
    }
    rename(ops.rename, &temporary, path)?;
    if durable && let Some(parent) = path.parent() {
        sync_dir(ops.rename, parent)?;
    }
    Ok(())
}

/// Gives a file or a directory exactly this mode.
pub fn set_mode(op: &'static str, path: &Path, mode: u32) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    run(op, path, || {
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
    })
}
