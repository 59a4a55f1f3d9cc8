//! The pages of a snapshot: the database file as it is, while the application goes on.
//!
//! The copy takes no lock. It holds every frame that was copied into the file before it began; whatever a checkpoint
//! writes while it is read, torn or not, has a frame in the log behind the snapshot's start, and those frames follow the
//! pages. So pages and log together are one committed state.

use super::error::PrimaryError;
use crate::disk::{self, DiskError, File};
use crate::format::lz4;
use crate::model::{Codec, MAX_CHUNK, SnapshotPages};
use bytes::Bytes;
use std::sync::Arc;
use tokio::task::JoinHandle;

/// lz4 must save a tenth, or it does not pay.
const WORTH: f64 = 0.9;
/// After a message that was not worth packing, this many are not even tried.
const SKIP: u32 = 16;

type Step = Result<Option<SnapshotPages>, DiskError>;

/// Reads the file from page 1 on, one message ahead of the connection.
pub struct Copy {
    file: Arc<File>,
    page_size: u32,
    next_page: u32,
    lz4: bool,
    skip: u32,
    ended: bool,
    job: Option<JoinHandle<Step>>,
}

impl Copy {
    /// `lz4`: whether packing may pay.
    pub fn new(file: Arc<File>, page_size: u32, lz4: bool) -> Copy {
        Copy {
            file,
            page_size,
            next_page: 1,
            lz4,
            skip: 0,
            ended: false,
            job: None,
        }
    }

    fn pages_in_a_message(&self) -> u32 {
        MAX_CHUNK as u32 / self.page_size
    }

    fn begin_step(&mut self) -> JoinHandle<Step> {
        let (file, page_size, first) = (Arc::clone(&self.file), self.page_size, self.next_page);
        let pack = self.lz4 && self.skip == 0;
        self.skip = self.skip.saturating_sub(1);
        // Known before it is read: each message but the last is full.
        self.next_page += self.pages_in_a_message();
        disk::aside(move || read_pages(&file, page_size, first, pack))
    }

    /// The next pages, `None` at the end of the file. May be cancelled and called again.
    pub async fn next(&mut self) -> Result<Option<SnapshotPages>, PrimaryError> {
        if self.ended {
            return Ok(None);
        }
        if self.job.is_none() {
            self.job = Some(self.begin_step());
        }
        let Some(job) = self.job.as_mut() else {
            return Ok(None);
        };
        let pages = job.await.map_err(|e| PrimaryError::Disk(e.to_string()));
        self.job = None;
        let pages = pages??;
        if let Some(pages) = &pages {
            if self.lz4 && self.skip == 0 && pages.codec == Codec::None {
                self.skip = SKIP;
            }
            // A message that is not full was the end of the file. If the file has grown since, by a checkpoint, all of its
            // new pages have frames in the log that follows, and the next message would leave a gap.
            self.ended = pages.size / self.page_size < self.pages_in_a_message();
            if !self.ended {
                self.job = Some(self.begin_step());
            }
        } else {
            self.ended = true;
        }
        Ok(pages)
    }
}

fn read_pages(file: &File, page_size: u32, first_page: u32, pack: bool) -> Step {
    let mut data = vec![0; MAX_CHUNK];
    let offset = u64::from(first_page - 1) * u64::from(page_size);
    let read = file.read_at("snapshot.read", &mut data, offset)?;
    // A page that is cut off is being written by the application just now: its frame follows.
    let size = read - read % page_size as usize;
    if size == 0 {
        return Ok(None);
    }
    data.truncate(size);
    let mut pages = SnapshotPages {
        first_page,
        codec: Codec::None,
        size: size as u32,
        data: Bytes::new(),
    };
    let mut packed = Vec::new();
    if pack
        && lz4::compress(&data, &mut packed).is_ok()
        && (packed.len() as f64) < size as f64 * WORTH
    {
        packed.shrink_to_fit();
        pages.codec = Codec::Lz4;
        pages.data = Bytes::from(packed);
    } else {
        pages.data = Bytes::from(data);
    }
    Ok(Some(pages))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_of_full_messages_has_ended_for_good() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("db");
        std::fs::write(&path, vec![1; MAX_CHUNK]).expect("write");
        let file = Arc::new(File::open_read("test.open", &path).expect("open"));
        let mut copy = Copy::new(file, 4096, false);
        assert!(copy.next().await.expect("read").is_some());
        assert!(copy.next().await.expect("read").is_none());
        std::fs::write(&path, vec![1; 4 * MAX_CHUNK]).expect("write");
        assert!(copy.next().await.expect("read").is_none());
    }

    #[tokio::test]
    async fn a_file_that_grows_while_it_is_copied_ends_where_it_was_short() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("db");
        let size = 4096;
        let pages = MAX_CHUNK / size + 10;
        std::fs::write(&path, vec![1; pages * size]).expect("write");
        let file = Arc::new(File::open_read("test.open", &path).expect("open"));
        let mut copy = Copy::new(file, size as u32, false);
        let mut next_page = 1;
        for expected in [MAX_CHUNK / size, 10] {
            let message = copy.next().await.expect("read").expect("pages");
            assert_eq!(message.first_page, next_page);
            assert_eq!(message.size as usize, expected * size);
            next_page += expected as u32;
        }
        assert!(copy.job.is_none(), "it reads on behind a gap");
        std::fs::write(&path, vec![1; pages * size * 3]).expect("grow");
        assert!(copy.next().await.expect("read").is_none());
    }
}
