//! A primary's database, taken once from its stream by a command: to a file, or as the hashes of its pages.
//!
//! The stream is checked by the same [`Machine`] as a replica's, and what it gives is proven by the primary's checksum.

use super::machine::{Action, Machine, Pages, StreamError};
use super::seed::FreshSeed;
use crate::disk::DiskError;
use crate::format::dbsum::{DbSum, page_hash};
use crate::model::{Message, Point};
use crate::sums::Sums;
use std::path::{Path, PathBuf};

/// A database could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum TakeError {
    /// The stream cannot be believed.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The pages are not those that the checksum is of.
    #[error("the pages at {} have the checksum {got}, and {} was promised: a page is damaged at the source", .point.position, .point.dbsum)]
    Checksum {
        /// What was promised.
        point: Point,
        /// What the pages have.
        got: DbSum,
    },
}

/// What a message changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// Nothing to tell.
    Nothing,
    /// A snapshot begins, of about so many pages.
    Begun(u32),
    /// So many pages of it came.
    Pages(u32),
    /// The whole is exactly at this point, proven.
    At(Point),
}

enum Sink {
    Hashes(Sums),
    File(Box<FreshSeed>),
}

/// A database that is being taken.
pub struct Take {
    machine: Machine,
    directory: PathBuf,
    to_file: Option<u32>,
    sink: Option<Sink>,
    point: Option<Point>,
}

impl Take {
    /// Keeps the hash of each page, in a file without a name in `directory`.
    pub fn hashes(directory: &Path) -> Take {
        Take {
            machine: Machine::new(None, false),
            directory: directory.to_owned(),
            to_file: None,
            sink: None,
            point: None,
        }
    }

    /// Writes the file `seed.tmp` in `directory`, a directory of the caller's own, with this mode.
    pub fn file(directory: &Path, mode: u32) -> Take {
        Take {
            to_file: Some(mode),
            ..Take::hashes(directory)
        }
    }

    /// Takes the stream's next message. After an error nothing more may come.
    pub fn message(&mut self, message: Message) -> Result<Taken, TakeError> {
        let mut taken = Taken::Nothing;
        for action in self.machine.step(message)? {
            match action {
                Action::Greeted { .. } | Action::Seen { .. } => {}
                Action::BeginSnapshot {
                    page_size,
                    page_count,
                } => {
                    self.begin(page_size)?;
                    taken = Taken::Begun(page_count);
                }
                Action::Append(pages) => {
                    self.put(&pages)?;
                    taken = Taken::Pages(pages.list.len() as u32);
                }
                Action::Publish(pages, mark) => {
                    self.put(&pages)?;
                    taken = self.reached(mark.point)?;
                    self.machine.published(mark);
                }
                Action::EndSnapshot(mark) => {
                    taken = self.reached(mark.point)?;
                    self.machine.published(mark);
                }
            }
        }
        Ok(taken)
    }

    fn begin(&mut self, page_size: u32) -> Result<(), TakeError> {
        self.sink = Some(match self.to_file {
            None => Sink::Hashes(Sums::create(&self.directory, page_size)?),
            Some(mode) => {
                // It gets its name from the caller: until then what counts is the directory.
                let unnamed = self.directory.join("whole");
                let seed = FreshSeed::begin(&unnamed, &self.directory, page_size, mode)?;
                Sink::File(Box::new(seed))
            }
        });
        Ok(())
    }

    fn put(&mut self, pages: &Pages) -> Result<(), TakeError> {
        match &mut self.sink {
            None => {}
            Some(Sink::File(seed)) => seed.append(pages)?,
            Some(Sink::Hashes(sums)) => {
                let size = self.machine.page_size() as usize;
                for page in &pages.list {
                    let bytes = &pages.bytes[page.at..page.at + size];
                    sums.set(page.pgno, page_hash(page.pgno, bytes))?;
                }
                // Nothing is taken back: a stream that fails gives nothing.
                sums.commit();
            }
        }
        Ok(())
    }

    fn reached(&mut self, point: Point) -> Result<Taken, TakeError> {
        let got = match &mut self.sink {
            None => return Ok(Taken::Nothing),
            Some(Sink::File(seed)) => seed.sum(point.page_count),
            Some(Sink::Hashes(sums)) => {
                sums.resize(point.page_count);
                sums.commit();
                sums.sum()
            }
        };
        if got != point.dbsum {
            return Err(TakeError::Checksum { point, got });
        }
        self.point = Some(point);
        Ok(Taken::At(point))
    }

    /// Where the whole is now.
    pub fn point(&self) -> Option<Point> {
        self.point
    }

    /// The hash of a page; 0 where hashes are not kept.
    pub fn hash(&self, pgno: u32) -> u64 {
        match &self.sink {
            Some(Sink::Hashes(sums)) => sums.get(pgno),
            _ => 0,
        }
    }

    /// Cuts and syncs the file. The point that it is at, and its path; `None` if no snapshot came to its end, or none is
    /// kept in a file.
    pub fn finish(self) -> Result<Option<(Point, PathBuf)>, TakeError> {
        match (self.sink, self.point) {
            (Some(Sink::File(seed)), Some(point)) => {
                Ok(Some((point, seed.finish_plain(point.page_count)?)))
            }
            _ => Ok(None),
        }
    }
}
