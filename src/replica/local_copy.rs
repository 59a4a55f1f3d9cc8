//! A replica's file, read by a command on its host, whether a walcast serves it or not.

use super::record::{Mark, RecordError, look};
use crate::format::dbheader::to_primary;
use crate::format::dbsum::{DbSum, page_hash};
use crate::model::Point;
use crate::ownership;
use crate::sqlite::{View, ViewError};
use std::path::{Path, PathBuf};

/// A replica's file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LocalCopyError {
    /// It is none.
    #[error("{path} is no replica of walcast", path = path.display())]
    NotReplica {
        /// The file.
        path: PathBuf,
    },
    /// It could not be held or read.
    #[error(transparent)]
    View(#[from] ViewError),
    /// Its record could not be read.
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// One state of a replica's file, held as an open read transaction holds it.
pub struct LocalCopy {
    view: View,
    deltas: Vec<u32>,
    marks: Vec<Mark>,
}

impl LocalCopy {
    /// Holds the state that a reader sees now.
    pub fn open(path: &Path) -> Result<LocalCopy, LocalCopyError> {
        let directory = ownership::directory_of(path);
        if !directory.join("replica").is_file() || !path.is_file() {
            return Err(LocalCopyError::NotReplica {
                path: path.to_owned(),
            });
        }
        // A running replica names each state before it is visible, in one of two places in turn: looks on both sides of
        // the hold see the one that is held, unless several commits fall between.
        let (_, mut marks) = look(&directory)?;
        let view = View::open(path)?;
        let (deltas, after) = look(&directory)?;
        marks.extend(after);
        Ok(LocalCopy {
            view,
            deltas,
            marks,
        })
    }

    /// Bytes in a page.
    pub fn page_size(&self) -> u32 {
        self.view.page_size()
    }

    /// Pages of the database.
    pub fn pages(&self) -> u32 {
        self.view.pages()
    }

    /// Reads consecutive pages as they are here: page 1 has the replica's mark.
    pub fn read(&mut self, first: u32, buf: &mut [u8]) -> Result<(), ViewError> {
        self.view.read(first, buf)
    }

    /// Finds the recorded state that the pages are: `others` is the checksum of all but page 1, which is made the
    /// primary's. `None`: they are none of the recorded ones.
    pub fn prove(&self, others: DbSum, page1: &mut Vec<u8>) -> Option<Point> {
        for delta in &self.deltas {
            let mut page = page1.clone();
            to_primary(&mut page, *delta);
            let sum = others ^ page_hash(1, &page);
            let found = self.marks.iter().map(|mark| mark.point).find(|point| {
                point.dbsum == sum
                    && point.page_count == self.pages()
                    && point.page_size == self.page_size()
            });
            if found.is_some() {
                *page1 = page;
                return found;
            }
        }
        None
    }
}
