//! One committed state of a database in any journal mode. For a command alone: a process that has other connections to the
//! file must not close descriptors of it (SQLite, "How To Corrupt", 2.2), and this does.

use super::connect::read_connection;
use super::{SqliteError, View, ViewError};
use crate::disk::{self, File};
use crate::format::dbheader::{DbHeader, HEADER_SIZE};
use rusqlite::Connection;
use std::path::Path;

/// A state that is held. Dropping it lets go.
pub enum FileView {
    /// In WAL mode.
    Log(Box<View>),
    /// In another mode: an open read transaction keeps writers out.
    Plain {
        /// The file.
        file: File,
        /// Bytes in a page.
        page_size: u32,
        /// Pages.
        pages: u32,
        /// Holds the read transaction.
        connection: Connection,
    },
}

impl FileView {
    /// Opens the database and holds its state.
    pub fn open(path: &Path) -> Result<FileView, ViewError> {
        match View::open(path) {
            Err(ViewError::Sqlite(SqliteError::NotWal { .. })) => FileView::plain(path),
            view => Ok(FileView::Log(Box::new(view?))),
        }
    }

    fn plain(path: &Path) -> Result<FileView, ViewError> {
        let connection = read_connection(path)?;
        let file = File::open_read("view.open", path)?;
        let mut bytes = [0; HEADER_SIZE];
        let read = file.read_at("view.read", &mut bytes, 0)?;
        let header = DbHeader::parse(&bytes[..read]).map_err(|error| ViewError::Database {
            path: path.to_owned(),
            what: error.to_string(),
        })?;
        let length = disk::metadata("view.size", path)?.len();
        Ok(FileView::Plain {
            file,
            page_size: header.page_size,
            pages: (length / u64::from(header.page_size)) as u32,
            connection,
        })
    }

    /// Bytes in a page.
    pub fn page_size(&self) -> u32 {
        match self {
            FileView::Log(view) => view.page_size(),
            FileView::Plain { page_size, .. } => *page_size,
        }
    }

    /// Pages of the database.
    pub fn pages(&self) -> u32 {
        match self {
            FileView::Log(view) => view.pages(),
            FileView::Plain { pages, .. } => *pages,
        }
    }

    /// Reads consecutive pages from `first` on, as many as `buf` holds.
    pub fn read(&mut self, first: u32, buf: &mut [u8]) -> Result<(), ViewError> {
        match self {
            FileView::Log(view) => view.read(first, buf),
            FileView::Plain {
                file, page_size, ..
            } => {
                let offset = u64::from(first - 1) * u64::from(*page_size);
                Ok(file.read_exact_at("view.read", buf, offset)?)
            }
        }
    }
}
