//! Unpacks what a stream sends, and holds what later chunks of it may refer to.

use super::machine::{MAX_UNPACKED, StreamError};
use crate::format::lz4;
use crate::format::recent::{self, Window};
use crate::format::wal::frame_size;
use crate::model::{Chunk, Codec, SnapshotPages};
use bytes::Bytes;

type Result<T> = std::result::Result<T, StreamError>;

/// Of one stream: its next begins with [`Unpacker::forget`].
#[derive(Debug, Default)]
pub(super) struct Unpacker {
    window: Window,
}

impl Unpacker {
    /// The bytes of a chunk of a database with pages of `page_size` bytes. It is not held before it is believed, see
    /// [`Unpacker::remember`].
    pub(super) fn chunk(&self, chunk: &Chunk, page_size: u32) -> Result<Bytes> {
        let size = chunk.size() as usize;
        if chunk.codec != Codec::Lz4Recent {
            return unpack(chunk.codec, &chunk.data, size);
        }
        let frame_len = frame_size(page_size) as usize;
        recent::unpack(&chunk.data, &self.window, frame_len, size)
            .map(Bytes::from)
            .map_err(damaged)
    }

    /// The bytes of a snapshot's pages.
    pub(super) fn pages(&self, pages: &SnapshotPages) -> Result<Bytes> {
        unpack(pages.codec, &pages.data, pages.size as usize)
    }

    /// A chunk continued the history: what follows may refer to it.
    pub(super) fn remember(&mut self, chunk: Bytes) {
        self.window.remember(chunk);
    }

    /// Nothing that came may be referred to any more.
    pub(super) fn forget(&mut self) {
        self.window.forget();
    }
}

fn damaged(error: impl std::fmt::Display) -> StreamError {
    StreamError::Damaged(error.to_string())
}

fn unpack(codec: Codec, data: &Bytes, size: usize) -> Result<Bytes> {
    if size > MAX_UNPACKED {
        let what = format!("a message of {size} bytes unpacked");
        return Err(StreamError::Protocol(what));
    }
    let bytes = match codec {
        Codec::None => data.clone(),
        Codec::Lz4 => {
            let mut bytes = Vec::with_capacity(size);
            lz4::decompress(data, size, &mut bytes).map_err(damaged)?;
            Bytes::from(bytes)
        }
        Codec::Lz4Recent => {
            let what = "pages are packed as a piece of log".to_owned();
            return Err(StreamError::Protocol(what));
        }
    };
    if bytes.len() != size {
        return Err(damaged(format!(
            "{} bytes came, {size} were announced",
            bytes.len()
        )));
    }
    Ok(bytes)
}
