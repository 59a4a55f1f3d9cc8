//! The newest segment, whose document never came: a kill came between the two.
//!
//! Where the primary still has that log, the segment is written again. Where it does not, the archive alone has what is in it,
//! and it gets its document now.

use super::batch::{Batch, UNKNOWN_END};
use super::found::Found;
use crate::archive::{ArchiveError, Claim, Key, SegmentDoc, Store};
use crate::format::lz4;
use crate::format::position::Position;
use crate::model::{Chunk, Codec};
use bytes::Bytes;

/// Content of a segment, at most: it is one chunk, or many that have room in one object.
const MAX_CONTENT: usize = 64 << 20;

impl Found {
    /// Writes the document, if the segment directly follows the last commit and ends with one.
    pub async fn keep_bare(&mut self, store: &Store, claim: &Claim) -> Result<(), ArchiveError> {
        let (Some(key), Some((last, _)), true) = (self.bare, self.last, self.tail.is_empty())
        else {
            return Ok(());
        };
        let Some(start) = start_behind(key, last) else {
            return Ok(());
        };
        let previous_end = (start.index != last.index).then_some(last.offset);
        let Some(packed) = store.get(key).await? else {
            return Ok(());
        };
        let doc = document(&packed, self.page_size, start, previous_end);
        let (Some(name), Some(doc)) = (key.doc(), doc) else {
            return Ok(());
        };
        let Some(record) = doc.records.last().copied() else {
            return Ok(());
        };
        claim.check(store).await?;
        store.put(name, doc.encode()).await?;
        let offset = doc.end;
        self.last = Some((Position { offset, ..start }, record));
        self.bare = None;
        Ok(())
    }
}

/// Where a segment begins, if that is right behind a position.
fn start_behind(key: Key, last: Position) -> Option<Position> {
    let Key::Wal { index, offset, .. } = key else {
        return None;
    };
    let start = Position {
        index,
        offset,
        ..last
    };
    let is_next_log = offset == 0 && last.index.checked_add(1) == Some(index);
    (start == last || is_next_log).then_some(start)
}

/// What a segment is; `None` if it does not end with a commit, or is damaged.
fn document(
    packed: &[u8],
    page_size: u32,
    start: Position,
    previous_end: Option<u64>,
) -> Option<SegmentDoc> {
    let mut content = Vec::new();
    lz4::decompress(packed, MAX_CONTENT, &mut content).ok()?;
    let end_offset = start.offset + content.len() as u64;
    let chunk = Chunk {
        start,
        end_offset,
        codec: Codec::None,
        data: Bytes::from(content),
        commit: None,
    };
    let mut batch = Batch::new(page_size, start, previous_end);
    batch.push(&chunk).ok()?;
    let doc = batch.take()?.doc;
    let is_whole = doc.end == end_offset && doc.previous_end != UNKNOWN_END;
    // What it says of itself must be read again.
    (is_whole && SegmentDoc::parse(&doc.encode()).is_ok()).then_some(doc)
}
