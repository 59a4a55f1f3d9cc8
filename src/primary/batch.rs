//! What one step of a stream that is behind reads from the shadow WAL. Commits that follow each other go out as one chunk: a
//! message costs both sides as much as some commits do, and the pages of one commit are mostly those of the one before.

use super::shadow::{ShadowError, ShadowReader};
use crate::format::lz4;
use crate::format::position::Position;
use crate::model::{Chunk, Codec};
use bytes::Bytes;

/// Packed bytes that one step reads, about.
pub(super) const BATCH_BYTES: usize = 512 * 1024;
/// Chunks that one step reads.
const BATCH_CHUNKS: usize = 256;
/// Unpacked bytes that become one chunk, at most.
const TOGETHER: usize = 512 * 1024;

/// Unpacked bytes of a chunk that joins others, at most: to pack a larger one again costs more than a message of its own.
const SMALL: u64 = 32 * 1024;

/// The reader, for the next step, and what it read.
pub(super) type Batch = (ShadowReader, Result<Vec<Chunk>, ShadowError>);

/// Reads up to `bound`. `together`: the reader of the stream does not want each commit's position, as an archive or a
/// command does. It reads the disk.
pub(super) fn read(mut reader: ShadowReader, bound: Position, together: bool) -> Batch {
    let mut chunks = Vec::new();
    let mut run = Run::default();
    let (mut bytes, mut count) = (0, 0);
    while bytes < BATCH_BYTES && count < BATCH_CHUNKS {
        match reader.next(bound) {
            Ok(Some(chunk)) => {
                bytes += chunk.data.len();
                count += 1;
                let (_, content) = reader.last();
                if !(together && run.is_continued_by(&chunk)) {
                    run.end(&mut chunks);
                }
                run.add(chunk, content);
            }
            Ok(None) => break,
            // What was read before the error is good and goes out first; the next step begins where it was, and meets
            // the error again unless it is over.
            Err(_) if count > 0 => break,
            Err(error) => return (reader, Err(error)),
        }
    }
    run.end(&mut chunks);
    (reader, Ok(chunks))
}

/// Chunks that follow each other within an index, each with the end of a transaction.
#[derive(Default)]
struct Run {
    parts: Vec<Chunk>,
    content: Vec<u8>,
}

impl Run {
    fn is_continued_by(&self, chunk: &Chunk) -> bool {
        let follows = |last: &Chunk| {
            // Nothing becomes visible before the end of its transaction, so what has none stays by itself.
            let joins = |chunk: &Chunk| chunk.commit.is_some() && chunk.size() <= SMALL;
            last.end() == chunk.start && joins(last) && joins(chunk)
        };
        self.parts.last().is_some_and(follows)
            && self.content.len() + chunk.size() as usize <= TOGETHER
    }

    fn add(&mut self, chunk: Chunk, content: &[u8]) {
        self.content.extend_from_slice(content);
        self.parts.push(chunk);
    }

    /// Appends it to `chunks` as one, and begins anew.
    fn end(&mut self, chunks: &mut Vec<Chunk>) {
        match self.together() {
            Some(chunk) => chunks.push(chunk),
            None => chunks.append(&mut self.parts),
        }
        self.parts.clear();
        self.content.clear();
    }

    /// `None` if one chunk is all that it has; that is sent as it is on disk.
    fn together(&self) -> Option<Chunk> {
        let [first, .., last] = self.parts.as_slice() else {
            return None;
        };
        let mut data = Vec::new();
        // It does not fail. If it did, the parts are as good.
        lz4::compress(&self.content, &mut data).ok()?;
        Some(Chunk {
            start: first.start,
            end_offset: last.end_offset,
            codec: Codec::Lz4,
            data: Bytes::from(data),
            commit: last.commit,
        })
    }
}
