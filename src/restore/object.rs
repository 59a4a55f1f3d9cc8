//! An archive as blocking code reads it: lists, documents, and objects as unpacked bytes.

use super::error::RestoreError;
use super::stream_reader::StreamReader;
use crate::archive::{ArchiveError, Key, Object, SegmentDoc, SnapshotDoc, Store};
use crate::disk::{DiskError, File};
use bytes::Bytes;
use lz4_flex::frame::FrameDecoder;
use std::collections::BTreeSet;
use std::io::{self, BufRead, BufReader, Read};
use tokio::runtime::Handle;
use tokio_stream::StreamExt as _;

/// Bytes read from a file at a time.
const READ_BYTES: usize = 256 << 10;

/// An archive, and where its waiting is done. To be used from threads that may block.
#[derive(Clone, Debug)]
pub struct Source {
    store: Store,
    runtime: Handle,
}

impl Source {
    /// `runtime` must go on by itself, as one with worker threads does.
    pub fn new(store: Store, runtime: Handle) -> Source {
        Source { store, runtime }
    }

    /// The archive, for messages.
    pub fn name(&self) -> String {
        self.store.location().to_string()
    }

    /// Calls `each` with every object below a prefix, in no order.
    pub(super) fn each(
        &self,
        prefix: &str,
        mut each: impl FnMut(&Object),
    ) -> Result<(), ArchiveError> {
        self.runtime.block_on(async {
            let mut objects = self.store.objects(prefix);
            while let Some(object) = objects.next().await {
                each(&object?);
            }
            Ok(())
        })
    }

    pub(super) fn generations(
        &self,
    ) -> Result<Vec<crate::format::position::Generation>, ArchiveError> {
        self.runtime.block_on(self.store.generations())
    }

    pub(super) fn get(&self, key: Key) -> Result<Option<Bytes>, ArchiveError> {
        self.runtime.block_on(self.store.get(key))
    }

    pub(super) fn missing(&self, key: Key) -> RestoreError {
        let archive = self.name();
        ArchiveError::Missing { key, archive }.into()
    }

    pub(super) fn damaged(&self, key: Key, what: impl ToString) -> RestoreError {
        self.store.damaged(key, what).into()
    }

    /// What is recorded of a snapshot; `None` if nothing is.
    pub fn snapshot(&self, key: Key) -> Result<Option<SnapshotDoc>, RestoreError> {
        self.snapshot_doc(key, &BTreeSet::new())
    }

    /// A snapshot's document; `None` if it has none, or one that is not to be believed.
    pub(super) fn snapshot_doc(
        &self,
        key: Key,
        avoid: &BTreeSet<Key>,
    ) -> Result<Option<SnapshotDoc>, RestoreError> {
        let Some((name, bytes)) = self.doc(key, avoid)? else {
            return Ok(None);
        };
        let doc = SnapshotDoc::parse(&bytes).map_err(|error| self.damaged(name, error))?;
        let Key::Snapshot { generation, index } = key else {
            return Ok(None);
        };
        let at = doc.position;
        if at.generation != generation.into() || at.index != index {
            let what = format!("it is of {at}, another snapshot");
            return Err(self.damaged(name, what));
        }
        Ok(Some(doc))
    }

    /// A segment's document, likewise.
    pub(super) fn segment_doc(
        &self,
        key: Key,
        avoid: &BTreeSet<Key>,
    ) -> Result<Option<SegmentDoc>, RestoreError> {
        let Some((name, bytes)) = self.doc(key, avoid)? else {
            return Ok(None);
        };
        let doc = SegmentDoc::parse(&bytes).map_err(|error| self.damaged(name, error))?;
        match key {
            Key::Wal { offset, .. } if doc.start != offset => {
                let what = format!("it is of offset {}, another segment", doc.start);
                Err(self.damaged(name, what))
            }
            _ => Ok(Some(doc)),
        }
    }

    fn doc(&self, key: Key, avoid: &BTreeSet<Key>) -> Result<Option<(Key, Bytes)>, RestoreError> {
        let Some(name) = key.doc().filter(|name| !avoid.contains(name)) else {
            return Ok(None);
        };
        Ok(self.get(name)?.map(|bytes| (name, bytes)))
    }

    /// The content of a packed object.
    pub(super) fn open(&self, key: Key) -> Result<Unpacked, RestoreError> {
        let bytes: Box<dyn Read + Send> = match self.store.file_of(key) {
            Some(path) => match File::open_read("restore.open-object", &path) {
                Ok(file) => Box::new(FileReader { file, at: 0 }),
                Err(error) if error.is_missing() => return Err(self.missing(key)),
                Err(error) => return Err(error.into()),
            },
            None => {
                let reader = StreamReader::open(self.store.clone(), key, self.runtime.clone())?;
                Box::new(reader)
            }
        };
        let bytes = BufReader::with_capacity(READ_BYTES, bytes);
        let noticing = NoticeEnd {
            bytes,
            ended: false,
        };
        Ok(Unpacked {
            source: self.clone(),
            key,
            decoder: FrameDecoder::new(noticing),
            at_end: false,
            is_empty: true,
        })
    }
}

/// The content of one lz4 frame, which is all of an object. Whoever reads to the end knows that the object is whole.
pub(super) struct Unpacked {
    source: Source,
    key: Key,
    decoder: FrameDecoder<NoticeEnd<BufReader<Box<dyn Read + Send>>>>,
    at_end: bool,
    is_empty: bool,
}

impl Unpacked {
    /// Appends up to `max` bytes; `false` at the end.
    pub(super) fn read(&mut self, out: &mut Vec<u8>, max: usize) -> Result<bool, RestoreError> {
        let mut room = max;
        while room > 0 && !self.at_end {
            let got = self.decoder.fill_buf().map(|bytes| {
                let take = bytes.len().min(room);
                out.extend_from_slice(&bytes[..take]);
                take
            });
            match got {
                Ok(0) => {
                    self.check_end()?;
                    self.at_end = true;
                }
                Ok(n) => {
                    self.decoder.consume(n);
                    self.is_empty = false;
                    room -= n;
                }
                Err(error) => return Err(self.failed(error)),
            }
        }
        Ok(room < max)
    }

    /// The decoder takes bytes that end early for the end: whether it met the frame's own end, what it was given tells.
    fn check_end(&mut self) -> Result<(), RestoreError> {
        let (key, bytes) = (self.key, self.decoder.get_mut());
        if bytes.ended {
            return Err(self.source.damaged(key, "it is cut off"));
        }
        let mut more = [0];
        match bytes.read(&mut more) {
            Ok(0) if self.is_empty => Err(self.source.damaged(key, "it holds nothing")),
            Ok(0) => Ok(()),
            Ok(_) => Err(self.source.damaged(key, "more bytes follow its lz4 frame")),
            Err(error) => Err(self.failed(error)),
        }
    }

    fn failed(&self, error: io::Error) -> RestoreError {
        match error.downcast::<Failed>() {
            Ok(failed) => failed.0,
            Err(error) => self.source.damaged(self.key, error),
        }
    }
}

/// A failure of the store on its way through `io::Read`.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Failed(RestoreError);

pub(super) fn failed(error: impl Into<RestoreError>) -> io::Error {
    io::Error::other(Failed(error.into()))
}

/// Knows whether somebody has read on at the end.
struct NoticeEnd<R> {
    bytes: R,
    ended: bool,
}

impl<R: Read> Read for NoticeEnd<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.bytes.read(out)?;
        self.ended |= n == 0 && !out.is_empty();
        Ok(n)
    }
}

struct FileReader {
    file: File,
    at: u64,
}

impl Read for FileReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at("restore.read-object", out, self.at);
        let n = read.map_err(|error: DiskError| failed(error))?;
        self.at += n as u64;
        Ok(n)
    }
}
