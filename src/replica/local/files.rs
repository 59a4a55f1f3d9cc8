//! The database's three files by their names: whether they are still those that are open, and who may read them.

use super::{Local, LocalError, Result};
use std::os::unix::fs::{MetadataExt as _, lchown};
use std::path::Path;

impl Local {
    /// An error if the paths do not lead to the files that are open here any more.
    pub fn check_files(&self) -> Result<()> {
        let what = if !self.db.is_current() {
            "the database file"
        } else if !self.log.file().is_current() {
            "the -wal file"
        } else if shm_number(&self.path) != self.shm {
            "the -shm file"
        } else {
            return Ok(());
        };
        Err(LocalError::Gone {
            path: self.path.clone(),
            what,
        })
    }
}

/// Which file `-shm` is. It is never opened for that: closing it would drop this process's locks.
pub(super) fn shm_number(path: &Path) -> Option<(u64, u64)> {
    let mut shm = path.as_os_str().to_owned();
    shm.push("-shm");
    let metadata = std::fs::metadata(Path::new(&shm)).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// SQLite makes `-wal` and `-shm` with the database's mode, and only root's with its group: readers in that group need both.
/// As far as the user may; a reader that cannot open them says so itself.
pub fn share_group(path: &Path) {
    let group_of = |path: &Path| std::fs::symlink_metadata(path).ok().map(|m| m.gid());
    let Some(group) = std::fs::metadata(path).ok().map(|m| m.gid()) else {
        return;
    };
    for suffix in ["-wal", "-shm"] {
        let mut beside = path.as_os_str().to_owned();
        beside.push(suffix);
        let beside = Path::new(&beside);
        if group_of(beside).is_some_and(|now| now != group) {
            // Never through a link: it could lead anywhere.
            let _ = lchown(beside, None, Some(group));
        }
    }
}
