//! Objects of one archive: read, written, listed, removed. A directory and the providers' buckets behave the same.

use super::bucket::{bucket, settings};
use super::error::ArchiveError;
use super::key::Key;
use super::location::{Location, LocationError};
use super::staged;
use crate::disk;
use crate::format::position::Generation;
use bytes::Bytes;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt as _, PutMode, PutPayload,
    WriteMultipart,
};
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio_stream::{Stream, StreamExt as _};

/// Bytes of one part of a large object; a few are on their way at once.
const PART_BYTES: usize = 8 << 20;
/// Parts on their way at once.
const PARTS: usize = 3;
/// Bytes of a document, at most: a day of commits at 1,000 each second in one would have fewer.
const DOC_BYTES: u64 = 256 << 20;

/// The objects of one archive.
#[derive(Clone)]
pub struct Store {
    inner: Arc<dyn ObjectStore>,
    prefix: Path,
    location: Location,
}

/// One object of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Object {
    /// Its name.
    pub key: Key,
    /// Its bytes.
    pub size: u64,
    /// When it was written, µs since 1970, by the store's clock.
    pub modified_us: i64,
}

/// An object that is being read.
pub struct Opened {
    /// All of its bytes, wherever the reading began.
    pub size: u64,
    /// What tells this content from another under the same name, if the store has that.
    pub tag: Option<String>,
    /// The bytes.
    pub bytes: Bytestream,
}

/// An object's bytes as they come.
pub type Bytestream = Pin<Box<dyn Stream<Item = Result<Bytes, ArchiveError>> + Send>>;

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Store({})", self.location)
    }
}

impl Store {
    /// To write: makes a directory that is not there, for its owner and group alone.
    ///
    /// # Errors
    /// If the directory cannot be made, or the environment's settings for the bucket do not do. The bucket itself is
    /// not asked yet.
    pub fn create(location: &Location) -> Result<Store, ArchiveError> {
        if let Location::Directory(path) = location {
            let is_new = !path.exists();
            disk::create_dir_all("archive.directory", path)?;
            if is_new {
                disk::set_mode("archive.directory", path, 0o750)?;
            }
        }
        Store::open(location)
    }

    /// To read.
    ///
    /// # Errors
    /// As [`Store::create`], and if there is no such directory.
    pub fn open(location: &Location) -> Result<Store, ArchiveError> {
        let (inner, prefix): (Arc<dyn ObjectStore>, &str) = match location {
            Location::Directory(path) => {
                // Named by our own error first: the library's has the path as a URL.
                disk::metadata("archive.directory", path)?;
                let local = LocalFileSystem::new_with_prefix(path)
                    .map_err(|error| settings(location, &error))?;
                // Each log has a directory. Once retention has emptied it, it would be walked through by every list for ever.
                let local = local.with_fsync(true).with_automatic_cleanup(true);
                (Arc::new(local), "")
            }
            Location::Bucket { prefix, .. } => (bucket(location)?, prefix),
        };
        let unusable = |what: String| LocationError::Settings {
            location: location.to_string(),
            what,
        };
        let prefix = Path::from_url_path(prefix).map_err(|error| unusable(error.to_string()))?;
        Ok(Store {
            inner,
            prefix,
            location: location.clone(),
        })
    }

    /// Removes what killed uploads left where that is a file: for its owner, before it writes. How much it was.
    ///
    /// # Errors
    /// What the directory says; what is left then is only in the way.
    pub async fn sweep(&self) -> Result<usize, ArchiveError> {
        let Location::Directory(root) = self.location.clone() else {
            return Ok(0);
        };
        let swept = tokio::task::spawn_blocking(move || staged::sweep(&root)).await;
        Ok(swept.unwrap_or(Ok(0))?)
    }

    /// Where it is.
    pub fn location(&self) -> &Location {
        &self.location
    }

    /// The file that an object of a directory is, for who reads much of it: `open_object` hands out small pieces.
    pub fn file_of(&self, key: Key) -> Option<std::path::PathBuf> {
        match &self.location {
            Location::Directory(root) => Some(root.join(key.to_string())),
            Location::Bucket { .. } => None,
        }
    }

    fn path(&self, name: &str) -> Path {
        Path::from_iter(self.prefix.parts().chain(Path::from(name).parts()))
    }

    fn error(&self, verb: &'static str, object: &str, source: object_store::Error) -> ArchiveError {
        ArchiveError::Store {
            verb,
            object: object.to_owned(),
            archive: self.location.to_string(),
            source: Box::new(source),
        }
    }

    /// That an object is damaged, in words.
    pub fn damaged(&self, key: Key, what: impl ToString) -> ArchiveError {
        ArchiveError::Damaged {
            key,
            archive: self.location.to_string(),
            what: what.to_string(),
        }
    }

    /// Writes an object, whole or not at all; one that is there is replaced. When this returns it is durable.
    pub async fn put(&self, key: Key, bytes: impl Into<Bytes>) -> Result<(), ArchiveError> {
        let name = key.to_string();
        let payload = PutPayload::from_bytes(bytes.into());
        let done = self.inner.put(&self.path(&name), payload).await;
        done.map(drop).map_err(|e| self.error("write", &name, e))
    }

    /// Writes an object that is not there yet; `false` if there is one, which stays.
    pub async fn create_object(
        &self,
        key: Key,
        bytes: impl Into<Bytes>,
    ) -> Result<bool, ArchiveError> {
        let name = key.to_string();
        let payload = PutPayload::from_bytes(bytes.into());
        let done = self
            .inner
            .put_opts(&self.path(&name), payload, PutMode::Create.into())
            .await;
        match done {
            Ok(_) => Ok(true),
            Err(object_store::Error::AlreadyExists { .. }) => Ok(false),
            Err(error) => Err(self.error("write", &name, error)),
        }
    }

    /// Writes a large object from a reader, in parts: it is there whole at the end, or not at all.
    pub async fn put_stream(
        &self,
        key: Key,
        mut from: impl AsyncRead + Unpin,
    ) -> Result<(), ArchiveError> {
        let name = key.to_string();
        let failed = |error| self.error("write", &name, error);
        let upload = self.inner.put_multipart(&self.path(&name)).await;
        let upload = upload.map_err(failed)?;
        let mut parts = WriteMultipart::new_with_chunk_size(upload, PART_BYTES);
        let mut buffer = vec![0; 256 << 10];
        let outcome = loop {
            match from.read(&mut buffer).await {
                Ok(0) => break Ok(()),
                Ok(n) => parts.write(&buffer[..n]),
                Err(error) => {
                    let source = Box::new(error);
                    let store = "the source";
                    break Err(object_store::Error::Generic { store, source });
                }
            }
            if let Err(error) = parts.wait_for_capacity(PARTS).await {
                break Err(error);
            }
        };
        match outcome {
            Ok(()) => parts.finish().await.map(drop).map_err(failed),
            Err(error) => {
                // What cannot be taken back now is for the bucket's own lifecycle rules.
                let _ = parts.abort().await;
                Err(failed(error))
            }
        }
    }

    /// The bytes of a small object, `None` if there is none. One that is larger than any document is refused unread.
    pub async fn get(&self, key: Key) -> Result<Option<Bytes>, ArchiveError> {
        let name = key.to_string();
        let got = match self.inner.get(&self.path(&name)).await {
            Ok(got) => got,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(self.error("read", &name, error)),
        };
        if got.meta.size > DOC_BYTES {
            return Err(self.damaged(key, format!("it has {} bytes", got.meta.size)));
        }
        let bytes = got
            .bytes()
            .await
            .map_err(|e| self.error("read", &name, e))?;
        Ok(Some(bytes))
    }

    /// An object's bytes from `at` on, as they come. `tag`: of the object that was begun, which must be the same still.
    pub async fn open_object(
        &self,
        key: Key,
        at: u64,
        tag: Option<String>,
    ) -> Result<Opened, ArchiveError> {
        let name = key.to_string();
        let options = GetOptions {
            range: (at > 0).then_some(GetRange::Offset(at)),
            if_match: tag,
            ..GetOptions::default()
        };
        let got = match self.inner.get_opts(&self.path(&name), options).await {
            Ok(got) => got,
            Err(object_store::Error::NotFound { .. }) => {
                return Err(ArchiveError::Missing {
                    key,
                    archive: self.location.to_string(),
                });
            }
            Err(error) => return Err(self.error("read", &name, error)),
        };
        let (size, tag) = (got.meta.size, got.meta.e_tag.clone());
        let store = self.clone();
        let bytes = got
            .into_stream()
            .map(move |part| part.map_err(|e| store.error("read", &name, e)));
        Ok(Opened {
            size,
            tag,
            bytes: Box::pin(bytes),
        })
    }

    /// True if the object is there.
    pub async fn has(&self, key: Key) -> Result<bool, ArchiveError> {
        let name = key.to_string();
        match self.inner.head(&self.path(&name)).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::NotFound { .. }) => Ok(false),
            Err(error) => Err(self.error("read", &name, error)),
        }
    }

    /// All of an archive's objects below a prefix such as [`Key::GENERATIONS`], sorted by name. What else is there is left out.
    pub async fn list(&self, prefix: &str) -> Result<Vec<Object>, ArchiveError> {
        self.listed(prefix, self.inner.list(Some(&self.path(prefix))))
            .await
    }

    /// The same, but only names behind `after`: what comes before costs nothing where names are listed in order.
    pub async fn list_after(&self, prefix: &str, after: &str) -> Result<Vec<Object>, ArchiveError> {
        let (below, after) = (self.path(prefix), self.path(after));
        let list = self.inner.list_with_offset(Some(&below), &after);
        // Azure's emulator, and who knows which other store, does not know the wish and lists everything.
        let is_behind = |meta: &object_store::Result<ObjectMeta>| {
            meta.as_ref().map_or(true, |meta| meta.location > after)
        };
        self.listed(prefix, list.filter(is_behind)).await
    }

    async fn listed(
        &self,
        prefix: &str,
        mut list: impl Stream<Item = object_store::Result<ObjectMeta>> + Unpin,
    ) -> Result<Vec<Object>, ArchiveError> {
        let mut objects = Vec::new();
        while let Some(meta) = list.next().await {
            let meta = meta.map_err(|e| self.error("list", prefix, e))?;
            objects.extend(self.object(&meta));
        }
        objects.sort_by_key(|object| object.key);
        Ok(objects)
    }

    /// The same one by one, in no order; they may be removed meanwhile. A busy week is half a million segments: what a list
    /// of them takes has no bound.
    pub fn objects(
        &self,
        prefix: &str,
    ) -> impl Stream<Item = Result<Object, ArchiveError>> + Send + Unpin + use<> {
        let (store, prefix) = (self.clone(), prefix.to_owned());
        let list = self.inner.list(Some(&self.path(&prefix)));
        list.filter_map(move |meta| match meta {
            Ok(meta) => store.object(&meta).map(Ok),
            Err(error) => Some(Err(store.error("list", &prefix, error))),
        })
    }

    /// `None`: it is not the archive's.
    fn object(&self, meta: &ObjectMeta) -> Option<Object> {
        let parts = meta.location.prefix_match(&self.prefix)?;
        let parts: Vec<String> = parts.map(|part| part.as_ref().to_owned()).collect();
        Some(Object {
            key: parts.join("/").parse().ok()?,
            size: meta.size,
            modified_us: meta.last_modified.timestamp_micros(),
        })
    }

    /// The generations of which there are objects. Cheaper than a list of everything.
    pub async fn generations(&self) -> Result<Vec<Generation>, ArchiveError> {
        self.generations_in(Key::GENERATIONS).await
    }

    /// Those of which there is anything: where a removal was interrupted, documents alone may be left.
    pub async fn all_generations(&self) -> Result<Vec<Generation>, ArchiveError> {
        let mut all = self.generations().await?;
        let own = format!("{}/{}", Key::OWN, Key::GENERATIONS);
        all.extend(self.generations_in(&own).await?);
        all.sort_by_key(|generation| generation.0);
        all.dedup();
        Ok(all)
    }

    /// The names directly below a prefix that are generations.
    async fn generations_in(&self, name: &str) -> Result<Vec<Generation>, ArchiveError> {
        let list = self.inner.list_with_delimiter(Some(&self.path(name))).await;
        let list = list.map_err(|e| self.error("list", name, e))?;
        let names = list.common_prefixes.iter();
        let mut found: Vec<_> = names
            .filter_map(|path| path.parts().next_back()?.as_ref().parse().ok())
            .collect();
        found.sort_by_key(|generation: &Generation| generation.0);
        Ok(found)
    }

    /// Removes an object; it is no error if there is none.
    pub async fn delete(&self, key: Key) -> Result<(), ArchiveError> {
        let name = key.to_string();
        match self.inner.delete(&self.path(&name)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.error("remove", &name, error)),
        }
    }
}

impl Store {
    /// Removes many objects, in no order, with as few calls as the provider allows. Those that are gone already do not
    /// matter. After an error some may be left.
    pub async fn delete_all(&self, keys: &[Key]) -> Result<(), ArchiveError> {
        let paths: Vec<_> = keys.iter().map(|key| self.path(&key.to_string())).collect();
        let paths = tokio_stream::iter(paths.into_iter().map(Ok));
        let mut gone = self.inner.delete_stream(Box::pin(paths));
        while let Some(removed) = gone.next().await {
            match removed {
                Ok(_) | Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => {
                    let prefix = keys.first().map(Key::to_string).unwrap_or_default();
                    return Err(self.error("remove", &prefix, error));
                }
            }
        }
        Ok(())
    }
}
