//! May this database be captured, and if not, why? Nothing here changes anything.

use super::shared::Shared;
use crate::disk::{self, File};
use crate::format::dbheader::{DbHeader, DbHeaderError};
use crate::format::wal::{Cksum, checksum};
use crate::ownership;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, PoisonError};

/// `statfs` types of filesystems whose locks or shared memory do not hold, with their names (linux/magic.h and the
/// filesystems' own sources). Not here are those of which it depends on the mount or the program behind it: FUSE (sshfs,
/// s3fs, but the layers of a container, too), Lustre, GPFS, GFS2, OCFS2. What they lack SQLite finds out, and says.
const UNSHARED: [(i64, &str); 10] = [
    (0x6969, "NFS"),
    (0x517b, "SMB"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB2"),
    (0x0102_1997, "9p"),
    (0x5346_414f, "AFS"),
    (0x6b41_4653, "AFS"),
    (0x00c3_6400, "Ceph"),
    (0x7375_7245, "Coda"),
    (0x564c, "NCP"),
];

/// A database that can be captured.
pub struct Candidate {
    /// The file, opened before SQLite opens it. It stays open for as long as the process has the file open in SQLite:
    /// closing any descriptor of it would drop SQLite's locks (POSIX).
    pub raw: Arc<File>,
    /// Its header.
    pub header: DbHeader,
}

/// Looks at the database. The error is for people: what is the matter, and what to do.
pub fn examine(shared: &Shared) -> Result<Candidate, String> {
    let path = &shared.config.path;
    if std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink()) {
        return Err(format!(
            "{} is a symbolic link: SQLite keeps the -wal file next to the file itself; give that file's path",
            path.display()
        ));
    }
    let raw = raw_file(shared).map_err(|error| match error.is_missing() {
        true => format!("{} does not exist yet", path.display()),
        false => error.to_string(),
    })?;
    check_file(&raw, path)?;
    let mut page = vec![0; 65536];
    let len = raw
        .read_at("db.header", &mut page, 0)
        .map_err(|e| e.to_string())?;
    let header = DbHeader::parse(&page[..len]).map_err(|error| match error {
        DbHeaderError::Empty => format!("{}: {error}", path.display()),
        error => format!("{} cannot be captured: {error}", path.display()),
    })?;
    if header.is_replica() && !ownership::directory_of(path).join("replica").exists() {
        return Err(format!(
            "{0} carries the mark of a replica but is none here; one that was detached loses it by: \
             sqlite3 {0} 'PRAGMA wal_checkpoint'; a file copied from a replica keeps it: make the copy with walcast backup",
            path.display()
        ));
    }
    if header.is_replica() {
        return Err(format!(
            "{} is a replica of walcast; make it an ordinary database first: walcast detach --db {}",
            path.display(),
            path.display()
        ));
    }
    if !header.is_wal() {
        return Err(format!(
            "{0} is not in WAL mode; switch it with: sqlite3 {0} 'PRAGMA journal_mode=WAL'",
            path.display()
        ));
    }
    check_reserved(&raw, &header, page, path)?;
    Ok(Candidate { raw, header })
}

/// The kept descriptor if it is still of this path's file, else a new one (then the old one's file has no path, and no
/// connection of ours is open on it).
fn raw_file(shared: &Shared) -> disk::Result<Arc<File>> {
    let mut kept = shared.raw.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(raw) = kept.as_ref().filter(|raw| raw.is_current()) {
        return Ok(Arc::clone(raw));
    }
    let raw = Arc::new(File::open_read("db.open", &shared.config.path)?);
    *kept = Some(Arc::clone(&raw));
    Ok(raw)
}

fn check_file(raw: &File, path: &Path) -> Result<(), String> {
    let metadata = raw.metadata("db.stat").map_err(|e| e.to_string())?;
    if !metadata.is_file() {
        return Err(format!("{} is not a file", path.display()));
    }
    if metadata.nlink() > 1 {
        return Err(format!(
            "{} has {} hard links: SQLite would make a -wal file for each name; keep one name",
            path.display(),
            metadata.nlink()
        ));
    }
    check_filesystem(path, raw)
}

/// The name of a filesystem on which a database cannot be captured. The type is signed and of another width on some
/// machines.
#[cfg_attr(not(target_os = "linux"), expect(dead_code))]
fn unshared(kind: i64) -> Option<&'static str> {
    let known = UNSHARED
        .iter()
        .find(|(magic, _)| *magic == kind & 0xffff_ffff);
    known.map(|(_, name)| *name)
}

#[cfg(target_os = "linux")]
fn check_filesystem(path: &Path, raw: &File) -> Result<(), String> {
    let filesystem =
        nix::sys::statfs::fstatfs(raw).map_err(|e| format!("{}: {e}", path.display()))?;
    match unshared(filesystem.filesystem_type().0 as i64) {
        Some(name) => Err(format!(
            "{} is on {name}, where SQLite's locks and shared memory do not work; move it to a local disk",
            path.display()
        )),
        None => Ok(()),
    }
}

/// Filesystem types have other names and numbers elsewhere; the documents say where walcast cannot work.
#[cfg(not(target_os = "linux"))]
fn check_filesystem(_path: &Path, _raw: &File) -> Result<(), String> {
    Ok(())
}

/// The checksum VFS keeps a checksum in the last 8 bytes of each page (SQLite, `ext/misc/cksumvfs.c`); the read-only
/// mark in a replica's page 1 would make every reader there report corruption. Other uses of 8 reserved bytes are fine.
fn check_reserved(
    raw: &File,
    header: &DbHeader,
    mut page: Vec<u8>,
    path: &Path,
) -> Result<(), String> {
    if header.reserved != 8 {
        return Ok(());
    }
    for _ in 0..3 {
        page.resize(header.page_size as usize, 0);
        let body = page.len() - 8;
        // Its sum is that of the WAL, over little-endian words.
        let Cksum(first, second) = checksum(false, &page[..body], Cksum::default());
        let sum = [first.to_le_bytes(), second.to_le_bytes()].concat();
        if page[body..] == sum {
            return Err(format!(
                "{} uses SQLite's checksum VFS, which a replica's read-only mark would break; rebuild it without \
                 (reserved bytes 0, then VACUUM)",
                path.display()
            ));
        }
        // It may have been read while a checkpoint wrote it.
        raw.read_at("db.header", &mut page, 0)
            .map_err(|e| e.to_string())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::unshared;

    #[test]
    fn filesystems_are_known_by_their_type() {
        for (kind, name) in [
            (0x6969, "NFS"),
            (0xff53_4d42, "CIFS"),
            // As a signed number of 32 bits.
            (i64::from(0xff53_4d42_u32 as i32), "CIFS"),
            (i64::from(0xfe53_4d42_u32 as i32), "SMB2"),
            (0x517b, "SMB"),
            (0x0102_1997, "9p"),
            (0x6b41_4653, "AFS"),
            (0x5346_414f, "AFS"),
            (0x00c3_6400, "Ceph"),
        ] {
            assert_eq!(unshared(kind), Some(name), "{kind:x}");
        }
        let local = [
            (0xef53, "ext4"),
            (0x5846_5342, "XFS"),
            (0x9123_683e, "btrfs"),
            (i64::from(0x9123_683e_u32 as i32), "btrfs, signed"),
            (0x2fc1_2fc1, "ZFS"),
            (0x0102_1994, "tmpfs"),
            (0x794c_7630, "overlay"),
            (0x6573_5546, "FUSE, which may be local"),
            (0x0bd0_0bd0, "Lustre, which may be mounted with locks"),
            (0x4750_4653, "GPFS, whose locks and memory hold"),
        ];
        for (kind, name) in local {
            assert_eq!(unshared(kind), None, "{name}");
        }
    }
}
