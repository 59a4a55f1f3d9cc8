//! A program that minds neither locks nor marks.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use walcast::format::walindex::{HEADER_SIZE, IndexHeader};

/// Publishes the wal-index header of `db` as it is, as another program's. Where the log ends stays as it was, so what readers
/// see does, if nobody commits meanwhile. No SQLite may be open on `db` in this process: its locks would go.
///
/// # Panics
/// When there is no valid header, or it cannot be written.
pub fn publish_header(db: &Path) {
    let mut path = db.as_os_str().to_owned();
    path.push("-shm");
    let shm = File::options()
        .read(true)
        .write(true)
        .open(path)
        .expect("the shared memory");
    let mut bytes = [0; HEADER_SIZE];
    shm.read_exact_at(&mut bytes, 0).expect("read");
    let word = |at: usize| u32::from_ne_bytes([0, 1, 2, 3].map(|i| bytes[4 * at + i]));
    let header = IndexHeader::from_words(&std::array::from_fn(word)).expect("a valid header");
    let theirs = IndexHeader {
        change: header.change.wrapping_add(1),
        ..header
    };
    let theirs = theirs.to_words().map(u32::to_ne_bytes).concat();
    // The second copy first: a reader looks at the first one first, and again.
    shm.write_all_at(&theirs, HEADER_SIZE as u64)
        .and_then(|()| shm.write_all_at(&theirs, 0))
        .expect("written");
}
