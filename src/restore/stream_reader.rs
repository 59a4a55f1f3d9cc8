//! An object of a bucket as blocking code reads it. A connection that breaks in the middle is made again, where it broke.

use super::object::failed;
use crate::archive::{ArchiveError, Bytestream, Key, Store};
use bytes::Bytes;
use std::io::{self, Read};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio_stream::StreamExt as _;

/// Tries in a row that bring no byte. The store's client has tried several times before each of them, for as long as it
/// does for any request; but it gives up on an object that it has been reading for longer.
const TRIES: u32 = 5;
/// Between them.
const WAIT: Duration = Duration::from_secs(1);

/// The reading end.
pub struct StreamReader {
    store: Store,
    key: Key,
    runtime: Handle,
    bytes: Bytestream,
    /// Without one it cannot be told whether what would be gone on with is the same object.
    tag: Option<String>,
    part: Bytes,
    at: u64,
    failures: u32,
}

impl StreamReader {
    /// Begins to read.
    pub fn open(store: Store, key: Key, runtime: Handle) -> Result<StreamReader, ArchiveError> {
        let opened = runtime.block_on(store.open_object(key, 0, None))?;
        Ok(StreamReader {
            store,
            key,
            runtime,
            bytes: opened.bytes,
            tag: opened.tag,
            part: Bytes::new(),
            at: 0,
            failures: 0,
        })
    }

    /// After a failure: the same object, from where it broke. `Err`: for good.
    fn resume(&mut self, mut error: ArchiveError) -> Result<(), ArchiveError> {
        while self.tag.is_some() && self.failures < TRIES {
            self.failures += 1;
            let (key, at) = (self.key, self.at);
            let archive = self.store.location().to_string();
            tracing::warn!(archive, "goes on with {key} at byte {at}: {error}");
            let opened = self.runtime.block_on(async {
                tokio::time::sleep(WAIT).await;
                self.store.open_object(key, at, self.tag.clone()).await
            });
            match opened {
                Ok(opened) => {
                    self.bytes = opened.bytes;
                    return Ok(());
                }
                Err(missing @ ArchiveError::Missing { .. }) => return Err(missing),
                Err(other) => error = other,
            }
        }
        Err(error)
    }
}

impl Read for StreamReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.part.is_empty() {
            match self.runtime.block_on(self.bytes.next()) {
                Some(Ok(part)) => self.part = part,
                Some(Err(error)) => self.resume(error).map_err(failed)?,
                None => return Ok(0),
            }
        }
        self.failures = 0;
        let n = self.part.len().min(out.len());
        out[..n].copy_from_slice(&self.part.split_to(n));
        self.at += n as u64;
        Ok(n)
    }
}
