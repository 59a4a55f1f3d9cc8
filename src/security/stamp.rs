//! Whether a file is another one than it was.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// What changes when a file is written, replaced, or a link to it is turned elsewhere, as Kubernetes does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp(Option<(u64, u64, u64, i64, i64, i64, i64)>);

impl Stamp {
    /// The stamp of what a path leads to now.
    pub(super) fn of(path: &Path) -> Stamp {
        let of = |m: Metadata| {
            (
                m.dev(),
                m.ino(),
                m.size(),
                m.mtime(),
                m.mtime_nsec(),
                m.ctime(),
                m.ctime_nsec(),
            )
        };
        Stamp(std::fs::metadata(path).ok().map(of))
    }
}
