//! Who may read what walcast keeps beside a database: nobody who may not read the database.
//!
//! The directory decides: it gets the database's group and its rights to read ([`guard`]), and what is made in it gets
//! those of the directory that it is made in. Until then both are their user's alone.

use super::{DiskError, Result, run};
use nix::fcntl::OFlag;
use std::fs::{self, DirBuilder, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown,
};
use std::path::{Path, PathBuf};

/// The rights to read of a group and of all others.
const READERS: u32 = 0o044;

/// Who may read a file beside its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    readers: u32,
    group: u32,
}

impl Access {
    /// As this file is readable.
    pub fn of(metadata: &Metadata) -> Access {
        Access {
            readers: metadata.mode() & READERS,
            group: metadata.gid(),
        }
    }

    fn mode(self, is_dir: bool) -> u32 {
        match is_dir {
            false => 0o600 | self.readers,
            true => 0o700 | self.readers | self.readers >> 2,
        }
    }

    /// What is left of it in a group that it does not speak of: that group's members are others.
    fn in_group(self, group: u32) -> Access {
        let readers = if self.readers == READERS { READERS } else { 0 };
        Access { readers, group }
    }

    /// Gives a file or a directory to these readers. A group that its user may not give it to cannot read it.
    fn give(self, file: &fs::File) -> io::Result<Access> {
        let metadata = file.metadata()?;
        let mut access = self;
        if metadata.gid() != self.group
            && let Err(error) = fchown(file, None, Some(self.group))
        {
            if error.kind() != io::ErrorKind::PermissionDenied {
                return Err(error);
            }
            access = self.in_group(metadata.gid());
        }
        // The mode last: changing the group may take bits of it away.
        let mode = access.mode(metadata.is_dir());
        if metadata.mode() & 0o7777 != mode {
            file.set_permissions(Permissions::from_mode(mode))?;
        }
        Ok(access)
    }
}

/// Gives what was just made in a directory the readers of that directory.
pub(super) fn inherit(file: &fs::File, path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty());
    let parent = fs::metadata(parent.unwrap_or(Path::new(".")))?;
    match Access::of(&parent).give(file) {
        // Some filesystems have no modes; there it is as readable as the database. Elsewhere it stays its user's alone.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        other => other.map(drop),
    }
}

/// Makes a directory that is its user's alone, and those above it as the system makes directories.
pub fn create_private_dir(op: &'static str, path: &Path) -> Result<()> {
    run(op, path, || {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        make(path)
    })
}

/// Makes the directories from `root`, which exists, to `path`, each with the readers of the one above it.
pub fn create_dirs_within(op: &'static str, root: &Path, path: &Path) -> Result<()> {
    let above = path.ancestors().take_while(|&above| above != root);
    let mut missing: Vec<&Path> = above.take_while(|above| !above.is_dir()).collect();
    while let Some(next) = missing.pop() {
        run(op, next, || {
            make(next)?;
            inherit(&open(next)?, next)
        })?;
    }
    Ok(())
}

fn make(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        other => other,
    }
}

/// Never through a link, and never waiting for the other end of a pipe: who can put one there must not lead us away.
fn open(path: &Path) -> io::Result<fs::File> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits())
        .open(path)
}

/// Makes a directory with all in it readable by these and by nobody else. Returns a file whose rights could not
/// be changed: another user owns it. Where the directory has them already, so has what is in it.
pub fn guard(op: &'static str, directory: &Path, access: Access) -> Result<Option<PathBuf>> {
    // The directory itself may be a link, to another disk.
    let root = run(op, directory, || fs::File::open(directory))?;
    let before = run(op, directory, || root.metadata())?;
    let mode = |file: &fs::File| run(op, directory, || Ok(file.metadata()?.mode() & 0o777));
    let was = (before.gid(), before.mode() & 0o777);
    let given = match run(op, directory, || access.give(&root)) {
        Err(error) if is_anothers(&error) => return Ok(Some(directory.to_owned())),
        given => given?,
    };
    if was == (given.group, mode(&root)?) {
        return Ok(None);
    }
    // Closed until all in it is right: a kill in between leaves it closed, and unequal to what is wanted.
    run(op, directory, || {
        root.set_permissions(Permissions::from_mode(0o700))
    })?;
    let mut anothers = None;
    let mut open_dirs = vec![directory.to_owned()];
    while let Some(dir) = open_dirs.pop() {
        let entries = run(op, &dir, || {
            fs::read_dir(&dir)?.collect::<io::Result<Vec<_>>>()
        });
        for entry in unless_gone(entries)?.unwrap_or_default() {
            let path = entry.path();
            let kind = run(op, &path, || entry.file_type());
            let Some(kind) = unless_gone(kind)? else {
                continue;
            };
            if !kind.is_file() && !kind.is_dir() {
                continue;
            }
            let done = run(op, &path, || given.give(&open(&path)?));
            match unless_gone(done) {
                Err(error) if is_anothers(&error) => anothers = Some(path.clone()),
                other => drop(other?),
            }
            if kind.is_dir() {
                open_dirs.push(path);
            }
        }
    }
    run(op, directory, || given.give(&root))?;
    Ok(anothers)
}

fn is_anothers(error: &DiskError) -> bool {
    error.source.kind() == io::ErrorKind::PermissionDenied
}

fn unless_gone<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_missing() => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::super::File;
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("there").mode() & 0o7777
    }

    fn set(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).expect("a mode");
    }

    fn access(readers: u32, like: &Path) -> Access {
        let group = fs::metadata(like).expect("there").gid();
        Access { readers, group }
    }

    #[test]
    fn what_is_made_has_the_readers_of_its_directory() {
        let place = tempfile::tempdir().expect("a directory");
        let root = place.path().join("up/app.db-walcast");
        create_private_dir("test", &root).expect("made");
        create_private_dir("test", &root).expect("there already");
        assert_eq!(mode(&root), 0o700);
        for (readers, dir, file) in [
            (0, 0o700, 0o600),
            (0o040, 0o750, 0o640),
            (0o044, 0o755, 0o644),
        ] {
            let left = guard("test", &root, access(readers, &root)).expect("guarded");
            assert_eq!(left, None);
            let deep = root.join(format!("{readers}/a"));
            create_dirs_within("test", &root, &deep).expect("made");
            let path = deep.join("f");
            File::create_within("test", &path).expect("made");
            assert_eq!((mode(&root), mode(&deep), mode(&path)), (dir, dir, file));
            super::super::replace(
                super::super::ReplaceOps {
                    write: "test",
                    sync: "test",
                    rename: "test",
                },
                &path,
                b"new",
                false,
            )
            .expect("replaced");
            assert_eq!(mode(&path), file);
        }
    }

    #[test]
    fn what_was_open_is_closed_and_links_lead_nowhere() {
        let place = tempfile::tempdir().expect("a directory");
        let (root, outside) = (place.path().join("w"), place.path().join("outside"));
        fs::write(&outside, "").expect("a file");
        set(&outside, 0o646);
        fs::create_dir_all(root.join("a/b")).expect("directories");
        fs::write(root.join("a/b/f"), "").expect("a file");
        std::os::unix::fs::symlink(&outside, root.join("a/link")).expect("a link");
        for path in ["", "a", "a/b"] {
            set(&root.join(path), 0o777);
        }
        set(&root.join("a/b/f"), 0o666);
        guard("test", &root, access(0, &root)).expect("guarded");
        let modes = ["", "a", "a/b", "a/b/f"].map(|path| mode(&root.join(path)));
        assert_eq!(modes, [0o700, 0o700, 0o700, 0o600]);
        assert_eq!(mode(&outside), 0o646);
        // A database that was opened to its group opens them again.
        guard("test", &root, access(0o040, &root)).expect("guarded");
        let modes = ["", "a", "a/b", "a/b/f"].map(|path| mode(&root.join(path)));
        assert_eq!(modes, [0o750, 0o750, 0o750, 0o640]);
    }

    #[test]
    fn a_group_that_cannot_be_given_reads_nothing() {
        let access = |readers| Access { readers, group: 7 };
        let in_group = |readers| access(readers).in_group(8).readers;
        // 0o004 shuts out group 7, whose members may well be others to group 8.
        assert_eq!([0o040, 0o004, 0o044, 0].map(in_group), [0, 0, 0o044, 0]);
    }
}
