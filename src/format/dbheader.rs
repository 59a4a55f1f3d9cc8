//! The database header: the first 100 bytes of page 1.
//!
//! Source: SQLite file format, section 1.3 "The Database Header"
//! (<https://www.sqlite.org/fileformat2.html#the_database_header>), and `lockBtree` in
//! `btree.c`, which decides what SQLite itself accepts. All numbers are big-endian.

use std::ops::Range;

/// Length of the header, in bytes.
pub const HEADER_SIZE: usize = 100;

/// Bytes 0..16 of every SQLite database that is not encrypted.
pub const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// Byte of page 1 that says who may write: 1 rollback journal, 2 WAL, above 2 nobody.
pub const WRITE_VERSION_OFFSET: usize = 18;

/// Bytes of page 1 that hold the schema cookie.
pub const SCHEMA_COOKIE: Range<usize> = 40..44;

/// File format version of a database in WAL mode.
const WAL_VERSION: u8 = 2;

/// The write version of a replica's page 1. SQLite opens a file whose write version is above
/// the one it knows, but read-only: its own way to keep applications from writing.
pub const REPLICA_WRITE_VERSION: u8 = 3;

/// `PENDING_BYTE` in `os.h`: the page that holds it is used for locks and never for data.
const PENDING_BYTE: u32 = 0x4000_0000;

/// SQLite's lower limit for the bytes of a page that are not reserved.
const MIN_USABLE_SIZE: u32 = 480;

/// The header's fields. Those that SQLite keeps constant are checked by [`DbHeader::parse`]
/// and left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DbHeader {
    /// Bytes in a page: a power of two in 512..=65536 (offset 16).
    pub page_size: u32,
    /// File format write version (offset 18): 2 is WAL, 3 a walcast replica.
    pub write_version: u8,
    /// File format read version (offset 19): 1 rollback journal, 2 WAL.
    pub read_version: u8,
    /// Bytes at the end of each page left to extensions, as the checksum VFS (offset 20).
    pub reserved: u8,
    /// File change counter (offset 24).
    pub change_counter: u32,
    /// Size of the database in pages (offset 28). Valid only if
    /// [`DbHeader::page_count_is_valid`]; the file's size counts otherwise.
    pub page_count: u32,
    /// Schema cookie: changes with the schema (offset 40).
    pub schema_cookie: u32,
    /// Largest root page if the database is in auto-vacuum mode, else 0 (offset 52).
    pub largest_root: u32,
    /// `PRAGMA user_version` (offset 60).
    pub user_version: u32,
    /// `PRAGMA application_id` (offset 68).
    pub application_id: u32,
    /// The change counter for which `page_count` was written (offset 92).
    pub version_valid_for: u32,
    /// `SQLITE_VERSION_NUMBER` of the last writer (offset 96).
    pub sqlite_version: u32,
}

/// Why bytes are not a database header.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DbHeaderError {
    /// An empty file is a valid database of 0 pages, but it has no header yet.
    #[error("the database is empty: nothing was written to it yet")]
    Empty,
    /// Fewer bytes than a header has.
    #[error("the file has {0} bytes, fewer than a database header's 100: it is no SQLite database")]
    TooShort(usize),
    /// The magic is missing.
    #[error(
        "the file does not begin like a SQLite database: it is another kind of file, or encrypted"
    )]
    NotSqlite,
    /// The page size is not one SQLite uses.
    #[error("page size {0} in the database header is not a power of two from 512 to 65536")]
    BadPageSize(u32),
    /// The file format read version is above 2.
    #[error("file format read version {0} is newer than the versions known (1 and 2)")]
    UnknownReadVersion(u8),
    /// The payload fractions are not 64, 32, 32.
    #[error("the payload fractions in the database header are {0:?}, not [64, 32, 32]")]
    BadFractions([u8; 3]),
    /// Too little of a page is left beside the reserved bytes.
    #[error("{reserved} reserved bytes leave fewer than 480 of a page's {page_size}")]
    BadReserved {
        /// Bytes in a page.
        page_size: u32,
        /// Reserved bytes at a page's end.
        reserved: u8,
    },
}

impl DbHeader {
    /// Parses the header at the start of `page1`, which may be longer.
    ///
    /// # Errors
    /// What SQLite itself would refuse, with the reason.
    pub fn parse(page1: &[u8]) -> Result<DbHeader, DbHeaderError> {
        if page1.is_empty() {
            return Err(DbHeaderError::Empty);
        }
        let Some(bytes) = page1.first_chunk::<HEADER_SIZE>() else {
            return Err(DbHeaderError::TooShort(page1.len()));
        };
        if !bytes.starts_with(MAGIC) {
            return Err(DbHeaderError::NotSqlite);
        }
        let header = Self::fields(bytes);
        if header.read_version > WAL_VERSION {
            return Err(DbHeaderError::UnknownReadVersion(header.read_version));
        }
        let fractions = [bytes[21], bytes[22], bytes[23]];
        if fractions != [64, 32, 32] {
            return Err(DbHeaderError::BadFractions(fractions));
        }
        if !valid_page_size(header.page_size) {
            return Err(DbHeaderError::BadPageSize(header.page_size));
        }
        if header.page_size - u32::from(header.reserved) < MIN_USABLE_SIZE {
            return Err(DbHeaderError::BadReserved {
                page_size: header.page_size,
                reserved: header.reserved,
            });
        }
        Ok(header)
    }

    fn fields(bytes: &[u8; HEADER_SIZE]) -> DbHeader {
        let number = |at: usize| {
            u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        DbHeader {
            page_size: match u16::from_be_bytes([bytes[16], bytes[17]]) {
                // 65536 does not fit in two bytes.
                1 => 65536,
                size => u32::from(size),
            },
            write_version: bytes[WRITE_VERSION_OFFSET],
            read_version: bytes[19],
            reserved: bytes[20],
            change_counter: number(24),
            page_count: number(28),
            schema_cookie: number(SCHEMA_COOKIE.start),
            largest_root: number(52),
            user_version: number(60),
            application_id: number(68),
            version_valid_for: number(92),
            sqlite_version: number(96),
        }
    }

    /// Whether the database is in WAL mode: both versions 2, or 3 and 2 on a replica.
    pub fn is_wal(&self) -> bool {
        self.read_version == WAL_VERSION
            && matches!(self.write_version, WAL_VERSION | REPLICA_WRITE_VERSION)
    }

    /// Whether the file carries a replica's mark, as [`to_replica`] sets it.
    pub fn is_replica(&self) -> bool {
        self.read_version == WAL_VERSION && self.write_version == REPLICA_WRITE_VERSION
    }

    /// Whether `page_count` may be trusted: SQLite before 3.7.0 did not keep it.
    pub fn page_count_is_valid(&self) -> bool {
        self.page_count > 0 && self.change_counter == self.version_valid_for
    }
}

/// Whether SQLite uses this page size: a power of two from 512 to 65536.
pub fn valid_page_size(page_size: u32) -> bool {
    page_size.is_power_of_two() && (512..=65536).contains(&page_size)
}

/// The page that holds the lock bytes: it has no content, and is in the file only if the
/// database reaches beyond 1 GiB.
///
/// Source: file format 1.4 "The Lock-Byte Page"; `PENDING_BYTE_PAGE` in `pager.c`.
///
/// # Panics
/// If `page_size` is 0.
pub fn lock_page(page_size: u32) -> u32 {
    PENDING_BYTE / page_size + 1
}

/// Makes the primary's page 1 a replica's, in place.
///
/// Byte 18 becomes 3, so that SQLite refuses local writes. `cookie_delta`, a constant of each
/// seed, is added to the schema cookie (wrapping), so that statements which an application
/// prepared before a re-seed are prepared anew, although the cookie itself may be the same.
///
/// # Panics
/// If `page1` has fewer than 44 bytes. Every page has 512 or more.
pub fn to_replica(page1: &mut [u8], cookie_delta: u32) {
    page1[WRITE_VERSION_OFFSET] = REPLICA_WRITE_VERSION;
    map_cookie(page1, |cookie| cookie.wrapping_add(cookie_delta));
}

/// Makes a replica's page 1 the primary's again, in place: the inverse of [`to_replica`] for
/// every page 1 of a database in WAL mode (byte 18 becomes 2 whatever it was).
///
/// # Panics
/// If `page1` has fewer than 44 bytes. Every page has 512 or more.
pub fn to_primary(page1: &mut [u8], cookie_delta: u32) {
    page1[WRITE_VERSION_OFFSET] = WAL_VERSION;
    map_cookie(page1, |cookie| cookie.wrapping_sub(cookie_delta));
}

fn map_cookie(page1: &mut [u8], map: impl Fn(u32) -> u32) {
    let bytes = &mut page1[SCHEMA_COOKIE];
    let cookie = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    bytes.copy_from_slice(&map(cookie).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A page 1 as SQLite writes it for an empty database in WAL mode, fields spread apart.
    fn page1(page_size: u32) -> Vec<u8> {
        let mut page = vec![0; page_size as usize];
        page[..16].copy_from_slice(MAGIC);
        let stored = if page_size == 65536 {
            1
        } else {
            page_size as u16
        };
        page[16..18].copy_from_slice(&stored.to_be_bytes());
        page[18..24].copy_from_slice(&[2, 2, 0, 64, 32, 32]);
        for (at, value) in [
            (24, 7u32),
            (28, 11),
            (40, 13),
            (52, 17),
            (60, 19),
            (68, 23),
            (92, 7),
        ] {
            page[at..at + 4].copy_from_slice(&value.to_be_bytes());
        }
        page
    }

    #[test]
    fn parses_every_page_size() {
        for shift in 9..=16 {
            let size = 1 << shift;
            let header = DbHeader::parse(&page1(size)).unwrap();
            assert_eq!(header.page_size, size);
            assert_eq!((header.change_counter, header.page_count), (7, 11));
            assert_eq!((header.schema_cookie, header.largest_root), (13, 17));
            assert_eq!((header.user_version, header.application_id), (19, 23));
            assert!(header.page_count_is_valid() && header.is_wal() && !header.is_replica());
        }
    }

    #[test]
    fn names_what_is_wrong() {
        let with = |at: usize, value: u8| {
            let mut page = page1(512);
            page[at] = value;
            DbHeader::parse(&page)
        };
        assert_eq!(DbHeader::parse(&[]), Err(DbHeaderError::Empty));
        assert_eq!(DbHeader::parse(&[0; 99]), Err(DbHeaderError::TooShort(99)));
        assert_eq!(DbHeader::parse(&[0; 100]), Err(DbHeaderError::NotSqlite));
        assert_eq!(with(0, b's'), Err(DbHeaderError::NotSqlite));
        assert_eq!(with(16, 3), Err(DbHeaderError::BadPageSize(768)));
        assert_eq!(with(16, 1), Err(DbHeaderError::BadPageSize(256)));
        assert_eq!(with(19, 3), Err(DbHeaderError::UnknownReadVersion(3)));
        assert_eq!(with(22, 33), Err(DbHeaderError::BadFractions([64, 33, 32])));
        let reserved = DbHeaderError::BadReserved {
            page_size: 512,
            reserved: 33,
        };
        assert_eq!(with(20, 33), Err(reserved));
        assert_eq!(with(20, 32).unwrap().reserved, 32);
    }

    #[test]
    fn rollback_mode_is_not_wal() {
        let mut page = page1(4096);
        for versions in [[1, 1], [2, 1], [1, 2], [4, 2]] {
            page[18..20].copy_from_slice(&versions);
            assert!(!DbHeader::parse(&page).unwrap().is_wal(), "{versions:?}");
        }
    }

    #[test]
    fn lock_page_holds_the_byte_at_one_gib() {
        assert_eq!(lock_page(512), 2_097_153);
        assert_eq!(lock_page(4096), 262_145);
        assert_eq!(lock_page(65536), 16_385);
        for shift in 9..=16u32 {
            let first = u64::from(lock_page(1 << shift) - 1) << shift;
            assert_eq!(first, 1 << 30);
        }
    }

    #[test]
    fn only_powers_of_two_are_page_sizes() {
        let valid: Vec<u32> = (0..=200_000)
            .filter(|size| valid_page_size(*size))
            .collect();
        assert_eq!(valid, [512, 1024, 2048, 4096, 8192, 16384, 32768, 65536]);
        assert!(!valid_page_size(u32::MAX));
    }

    proptest! {
        #[test]
        fn replica_and_back_changes_five_bytes_at_most(delta: u32, cookie: u32) {
            let mut page = page1(512);
            page[40..44].copy_from_slice(&cookie.to_be_bytes());
            let original = page.clone();
            to_replica(&mut page, delta);
            let header = DbHeader::parse(&page).unwrap();
            prop_assert!(header.is_wal() && header.is_replica());
            prop_assert_eq!(header.schema_cookie, cookie.wrapping_add(delta));
            let touched = |at: &usize| *at != 18 && !(40..44).contains(at);
            prop_assert!((0..512).filter(touched).all(|at| page[at] == original[at]));
            to_primary(&mut page, delta);
            prop_assert_eq!(page, original);
        }

        #[test]
        fn never_panics(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), magic: bool) {
            if magic && bytes.len() >= 16 {
                bytes[..16].copy_from_slice(MAGIC);
            }
            if let Ok(header) = DbHeader::parse(&bytes) {
                prop_assert!(valid_page_size(header.page_size));
            }
        }
    }
}
