//! An open file whose every use is named.

use super::fault::{self, Go};
use super::{DiskError, Result};
use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

/// An open file. All reads and writes name their offset: there is no cursor to lose.
#[derive(Debug)]
pub struct File {
    inner: std::fs::File,
    path: PathBuf,
}

impl File {
    fn open(op: &'static str, path: &Path, options: &OpenOptions) -> Result<File> {
        let inner = super::run(op, path, || options.open(path))?;
        Ok(File {
            inner,
            path: path.to_owned(),
        })
    }

    /// Opens for reading.
    pub fn open_read(op: &'static str, path: &Path) -> Result<File> {
        File::open(op, path, OpenOptions::new().read(true))
    }

    /// Opens an existing file for reading and writing.
    pub fn open_rw(op: &'static str, path: &Path) -> Result<File> {
        File::open(op, path, OpenOptions::new().read(true).write(true))
    }

    /// Opens for reading and writing; makes it with `mode` if it is not there; keeps what is in it.
    pub fn open_or_create(op: &'static str, path: &Path, mode: u32) -> Result<File> {
        let mut options = OpenOptions::new();
        options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(mode);
        File::open(op, path, &options)
    }

    /// Makes a file, or empties the one that is there.
    pub fn create(op: &'static str, path: &Path, mode: u32) -> Result<File> {
        let mut options = OpenOptions::new();
        options
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(mode);
        File::open(op, path, &options)
    }

    /// Makes a file, or empties the one that is there, with the readers of its directory.
    pub fn create_within(op: &'static str, path: &Path) -> Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        File::open_within(op, path, &mut options)
    }

    /// Opens for reading and writing, keeps what is in it; gives it the readers of its directory.
    pub fn open_or_create_within(op: &'static str, path: &Path) -> Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        File::open_within(op, path, &mut options)
    }

    fn open_within(op: &'static str, path: &Path, options: &mut OpenOptions) -> Result<File> {
        options.mode(0o600);
        let inner = super::run(op, path, || {
            let file = options.open(path)?;
            super::access::inherit(&file, path)?;
            Ok(file)
        })?;
        Ok(File {
            inner,
            path: path.to_owned(),
        })
    }

    /// The path it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads up to `buf.len()` bytes; fewer only at the end of the file.
    pub fn read_at(&self, op: &'static str, buf: &mut [u8], offset: u64) -> Result<usize> {
        let mut done = 0;
        while done < buf.len() {
            let read = fault::check(op)
                .and_then(|_| self.inner.read_at(&mut buf[done..], offset + done as u64));
            match read {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(self.error(op, e)),
            }
        }
        Ok(done)
    }

    /// Reads exactly `buf.len()` bytes; a shorter file is an error (`UnexpectedEof`).
    pub fn read_exact_at(&self, op: &'static str, buf: &mut [u8], offset: u64) -> Result<()> {
        if self.read_at(op, buf, offset)? == buf.len() {
            return Ok(());
        }
        Err(self.error(op, io::ErrorKind::UnexpectedEof.into()))
    }

    /// Writes all of `buf`. After an error any part of it may be in the file.
    pub fn write_all_at(&self, op: &'static str, buf: &[u8], offset: u64) -> Result<()> {
        loop {
            match fault::check(op) {
                Ok(Go::On) => break,
                Ok(Go::Half) => {
                    let half = self.inner.write_all_at(&buf[..buf.len() / 2], offset);
                    let full = io::Error::from_raw_os_error(nix::errno::Errno::ENOSPC as i32);
                    return Err(self.error(op, half.err().unwrap_or(full)));
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(self.error(op, e)),
            }
        }
        self.inner
            .write_all_at(buf, offset)
            .map_err(|e| self.error(op, e))
    }

    /// Makes the bytes survive a power cut.
    pub fn sync_data(&self, op: &'static str) -> Result<()> {
        super::run(op, &self.path, || self.inner.sync_data())
    }

    /// Makes the bytes and the size survive a power cut.
    pub fn sync_all(&self, op: &'static str) -> Result<()> {
        super::run(op, &self.path, || self.inner.sync_all())
    }

    /// Cuts or grows it.
    pub fn set_len(&self, op: &'static str, len: u64) -> Result<()> {
        super::run(op, &self.path, || self.inner.set_len(len))
    }

    /// Its size in bytes.
    pub fn len(&self, op: &'static str) -> Result<u64> {
        Ok(super::run(op, &self.path, || self.inner.metadata())?.len())
    }

    /// Its number in its filesystem.
    pub fn inode(&self, op: &'static str) -> Result<u64> {
        Ok(super::run(op, &self.path, || self.inner.metadata())?.ino())
    }

    /// Reserves space, so that writing through a mapping cannot meet a full disk (which would be SIGBUS).
    ///
    /// # Errors
    /// [`DiskError::is_full`], and nothing is reserved, where the file system has fewer bytes.
    pub fn allocate(&self, op: &'static str, len: u64) -> Result<()> {
        super::run(op, &self.path, || reserve(&self.inner, len))
    }

    /// Gives `len` bytes from `from` on their blocks, without a change of its size: what is written there later cannot meet
    /// a full disk. Where the file system has no such thing, nothing happens.
    ///
    /// # Errors
    /// [`DiskError::is_full`], and nothing is reserved, where the file system has fewer bytes.
    pub fn reserve(&self, op: &'static str, from: u64, len: u64) -> Result<()> {
        super::run(op, &self.path, || reserve_beyond(&self.inner, from, len))
    }

    /// Takes an exclusive lock on the whole file (`flock`); `false` if another process has it.
    pub fn try_lock(&self, op: &'static str) -> Result<bool> {
        super::run(op, &self.path, || match self.inner.try_lock() {
            Ok(()) => Ok(true),
            Err(std::fs::TryLockError::WouldBlock) => Ok(false),
            Err(std::fs::TryLockError::Error(e)) => Err(e),
        })
    }

    /// True if the path still leads to this very file.
    pub fn is_current(&self) -> bool {
        match (self.inner.metadata(), std::fs::metadata(&self.path)) {
            (Ok(a), Ok(b)) => a.ino() == b.ino() && a.dev() == b.dev(),
            _ => false,
        }
    }

    /// A second handle to the same open file, for another thread.
    pub fn try_clone(&self, op: &'static str) -> Result<File> {
        let inner = super::run(op, &self.path, || self.inner.try_clone())?;
        Ok(File {
            inner,
            path: self.path.clone(),
        })
    }

    /// Hard links and mode of the file.
    pub fn metadata(&self, op: &'static str) -> Result<std::fs::Metadata> {
        super::run(op, &self.path, || self.inner.metadata())
    }

    /// Gives it exactly this mode, whatever the umask, and this group as far as the user may.
    pub fn set_access(&self, op: &'static str, mode: u32, group: u32) -> Result<()> {
        super::run(op, &self.path, || {
            let now = self.inner.metadata()?.gid();
            // Who is neither root nor in the group may not; then it stays the user's own.
            if now != group
                && let Err(error) = fchown(&self.inner, None, Some(group))
                && error.kind() != io::ErrorKind::PermissionDenied
            {
                return Err(error);
            }
            // The mode last: changing the group may take bits of it away.
            self.inner
                .set_permissions(std::fs::Permissions::from_mode(mode))
        })
    }

    fn error(&self, op: &'static str, source: io::Error) -> DiskError {
        DiskError::new(op, &self.path, source)
    }
}

impl AsFd for File {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }
}

#[cfg(target_os = "linux")]
fn reserve(file: &std::fs::File, len: u64) -> io::Result<()> {
    let size = file.metadata()?.len();
    if !has_room(file, len.saturating_sub(size))? {
        return Err(nix::errno::Errno::ENOSPC.into());
    }
    let wanted = i64::try_from(len).map_err(|_| io::ErrorKind::FileTooLarge)?;
    nix::fcntl::posix_fallocate(file, 0, wanted).map_err(|error| {
        // Somebody was quicker. What was taken of the rest is theirs; if it cannot be given back, the error says the same.
        let _ = file.set_len(size);
        io::Error::from(error)
    })
}

#[cfg(target_os = "linux")]
fn reserve_beyond(file: &std::fs::File, from: u64, len: u64) -> io::Result<()> {
    use nix::errno::Errno;
    use nix::fcntl::{FallocateFlags, fallocate};
    // Asked for more than there is, ext4 and XFS take all that there is, fail, and keep it.
    if !has_room(file, len)? {
        return Err(Errno::ENOSPC.into());
    }
    let of = |bytes: u64| i64::try_from(bytes).map_err(|_| io::ErrorKind::FileTooLarge);
    match fallocate(
        file,
        FallocateFlags::FALLOC_FL_KEEP_SIZE,
        of(from)?,
        of(len)?,
    ) {
        Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => Ok(()),
        other => other.map_err(io::Error::from),
    }
}

#[cfg(target_os = "linux")]
#[allow(clippy::useless_conversion, reason = "not everywhere 64 bits")]
fn has_room(file: &std::fs::File, len: u64) -> io::Result<bool> {
    let system = nix::sys::statvfs::fstatvfs(file)?;
    // Root may have what is set aside for it.
    let blocks = match nix::unistd::geteuid().is_root() {
        true => system.blocks_free(),
        false => system.blocks_available(),
    };
    let free = u64::from(blocks).saturating_mul(u64::from(system.fragment_size()));
    // A file system that has no size does not know (some of FUSE).
    if len <= free || system.blocks() == 0 {
        return Ok(true);
    }
    let metadata = file.metadata()?;
    Ok(fits(len, free, metadata.blocks() * 512, metadata.len()))
}

/// What was reserved behind the end of the file before, by a process that is gone, is not asked for again.
#[cfg(target_os = "linux")]
fn fits(len: u64, free: u64, allocated: u64, size: u64) -> bool {
    len <= free.saturating_add(allocated.saturating_sub(size))
}

#[cfg(not(target_os = "linux"))]
fn reserve_beyond(_: &std::fs::File, _: u64, _: u64) -> io::Result<()> {
    Ok(())
}

/// Writes the zeros that are missing: then they have their space.
#[cfg(any(not(target_os = "linux"), test))]
fn reserve_by_writing(file: &std::fs::File, len: u64) -> io::Result<()> {
    const STEP: usize = 64 * 1024;
    let mut at = file.metadata()?.len();
    while at < len {
        let step = STEP.min(usize::try_from(len - at).unwrap_or(STEP));
        file.write_all_at(&[0; STEP][..step], at)?;
        at += step as u64;
    }
    Ok(())
}

#[cfg(not(target_os = "linux"))]
use reserve_by_writing as reserve;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserving_by_writing_keeps_what_is_there() {
        let file = tempfile::tempfile().expect("a file");
        file.write_all_at(b"kept", 0).expect("written");
        reserve_by_writing(&file, 200_001).expect("reserved");
        reserve_by_writing(&file, 10).expect("reserved already");
        let mut bytes = vec![1; 200_001];
        file.read_exact_at(&mut bytes, 0).expect("read");
        assert_eq!(&bytes[..4], b"kept");
        assert!(bytes[4..].iter().all(|b| *b == 0));
    }

    /// ext4 takes all that there is for an allocation that it has no room for, and keeps it. Beside an application that is its
    /// disk's rest.
    #[cfg(target_os = "linux")]
    #[test]
    fn what_the_disk_has_no_room_for_takes_nothing_of_it() {
        let file = tempfile::tempfile().expect("a file");
        reserve(&file, 100_000).expect("room");
        let system = nix::sys::statvfs::fstatvfs(&file).expect("a file system");
        let all = system.blocks() as u64 * system.fragment_size() as u64;
        let before = file.metadata().expect("a file");
        let error = reserve(&file, all + 200_000).expect_err("more than the disk");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        let after = file.metadata().expect("a file");
        let size = |m: &std::fs::Metadata| (m.len(), m.blocks());
        assert_eq!(size(&after), size(&before));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_is_reserved_already_needs_no_room() {
        assert!(!fits(101, 100, 4096, 4096));
        assert!(fits(100, 100, 4096, 4096));
        assert!(fits(4196, 100, 8192, 4096));
        assert!(!fits(4197, 100, 8192, 4096));
        // A file with holes has fewer blocks than bytes.
        assert!(fits(100, 100, 0, 1 << 40));
        assert!(!fits(u64::MAX, 100, 0, 1 << 40));
    }
}
