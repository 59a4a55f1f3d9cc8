//! The form of a chunk that refers to the chunks before it: made once for all streams that take it.
//!
//! It is made against what was captured, so a stream sends it only if that is what it sent, see `stream`.

use super::shared::Shared;
use crate::format::recent::{LARGEST, Packed, Packer, RECENT};
use crate::format::wal::frame_size;
use bytes::Bytes;
use std::sync::Arc;

/// A chunk, packed as `format::recent` has it.
#[derive(Clone, Debug)]
pub struct Recent {
    /// The packed bytes, fewer than those of the chunk's LZ4 frame.
    pub data: Bytes,
    /// WAL bytes before the chunk that it refers to, counted back from its start.
    pub reach: u64,
}

/// What a chunk is made of that is captured.
pub(super) struct Content<'a> {
    /// Its WAL bytes.
    pub(super) bytes: &'a [u8],
    /// It begins with the header of its log.
    pub(super) begins_log: bool,
    pub(super) page_size: u32,
    /// Bytes of its LZ4 frame.
    pub(super) plain: usize,
}

/// Makes the form of one captured chunk after the other.
#[derive(Default)]
pub(super) struct Maker {
    /// Holds what was captured while somebody took the form.
    packer: Packer,
}

impl Maker {
    /// The next chunk goes to streams that take the form. `hasty`: there is no time to make it.
    pub(super) fn next(&mut self, content: &Content<'_>, hasty: bool) -> Option<Recent> {
        let frame_len = frame_size(content.page_size) as usize;
        let (bytes, begins_log) = (content.bytes, content.begins_log);
        let packed = match hasty {
            true => None,
            false => self.packer.pack(bytes, begins_log, frame_len),
        };
        self.packer.remember(bytes, begins_log, frame_len);
        let smaller = packed.filter(|packed| packed.data.len() < content.plain);
        smaller.map(|Packed { data, reach }| Recent { data, reach })
    }

    /// The next chunk is not made from what came before: that did not go to streams, or nobody takes the form. Gives the
    /// memory back.
    pub(super) fn forget(&mut self) {
        self.packer.forget();
    }
}

/// A stream that takes the form. While there is one the form is made.
pub(super) struct Taker(Arc<Shared>);

impl Taker {
    /// From here on the form is made.
    pub(super) fn new(shared: &Arc<Shared>) -> Taker {
        shared.hub.takers(1);
        Taker(Arc::clone(shared))
    }
}

impl Drop for Taker {
    fn drop(&mut self) {
        self.0.hub.takers(-1);
    }
}

/// What a stream has sent of the newest WAL without a gap: what the replica can be reminded of.
#[derive(Default)]
pub(super) struct Fed(u64);

impl Fed {
    /// A chunk of so many unpacked bytes was queued. The replica forgets with a large one, see `format::recent::Window`.
    pub(super) fn chunk(&mut self, size: u64) {
        self.0 = match size > LARGEST as u64 {
            true => 0,
            false => (self.0 + size).min(RECENT),
        };
    }

    /// The replica forgets all.
    pub(super) fn forget(&mut self) {
        self.0 = 0;
    }

    /// Whether the replica has all that a form refers to.
    pub(super) fn covers(&self, recent: &Recent) -> bool {
        recent.reach <= self.0
    }
}
