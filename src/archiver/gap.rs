//! A stretch of the log that never came into the archive, since the shadow WAL did not keep it for long enough.
//!
//! It is marked by a document where the missing segment would begin, and no segment. A reader sees the gap without it, in
//! the number of the next index or in the end that its first segment knows of the one before; the mark lets a writer that
//! starts again see with one list that the newest snapshot does not reach over it.

use crate::archive::{ArchiveError, Key, SegmentDoc, Store};
use crate::format::position::Position;
use crate::format::wal::frame_size;

/// Marks that what follows `last` is missing.
pub async fn mark(store: &Store, last: Position, page_size: u32) -> Result<(), ArchiveError> {
    let Some(key) = Key::wal(last.generation, last.index, last.offset).doc() else {
        return Ok(());
    };
    // That one frame followed is all that is known of it.
    let doc = SegmentDoc {
        page_size,
        start: last.offset,
        end: last.offset + frame_size(page_size),
        previous_end: 0,
        records: Vec::new(),
    };
    store.put(key, doc.encode()).await
}

/// How it is told.
pub fn text(last: Position, next: Position) -> String {
    format!(
        "the log from {last} to {next} was removed before it was archived: nothing in between can be restored; a larger \
         retain-size keeps more for an archive that is away"
    )
}
