//! `walcast::format` against SQLite itself: what SQLite writes is read, and what is written
//! here SQLite accepts, at every page size.
//!
//! These tests open and close files that SQLite has open, which drops its locks: fine for one
//! connection that nobody else competes with, and nowhere else.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use tempfile::TempDir;
use walcast::format::Cksum;
use walcast::format::dbheader::{self, DbHeader, to_replica};
use walcast::format::wal::{
    FRAME_HEADER_SIZE, FrameHeader, FrameScanner, ScanEnd, WAL_HEADER_SIZE, WalHeader, checksum,
    frames_before, seal_frame,
};
use walcast::format::walindex::{self, IndexHeader};

const ROWS: u32 = 300;

/// A database with committed frames in its log, still open.
struct Live {
    dir: TempDir,
    db: Connection,
    page_size: u32,
}

impl Live {
    fn new(page_size: u32) -> Live {
        let dir = tempfile::tempdir().unwrap();
        let db = Connection::open(dir.path().join("a.db")).unwrap();
        db.execute_batch(&format!(
            "PRAGMA page_size={page_size}; PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0;
             CREATE TABLE t(id INTEGER PRIMARY KEY, x BLOB); PRAGMA user_version=77;"
        ))
        .unwrap();
        for id in 0..ROWS {
            let blob = vec![id as u8; 1000];
            db.execute("INSERT INTO t VALUES (?1, ?2)", (id, blob))
                .unwrap();
        }
        Live { dir, db, page_size }
    }

    fn file(&self, suffix: &str) -> Vec<u8> {
        fs::read(self.path(suffix)).unwrap()
    }

    fn path(&self, suffix: &str) -> PathBuf {
        self.dir.path().join(format!("a.db{suffix}"))
    }

    fn pragma(&self, name: &str) -> u32 {
        self.db
            .pragma_query_value(None, name, |row| row.get(0))
            .unwrap()
    }
}

fn page_sizes() -> impl Iterator<Item = u32> {
    (9..=16).map(|shift| 1 << shift)
}

fn wal_header(wal: &[u8]) -> WalHeader {
    WalHeader::parse(wal.first_chunk().unwrap()).unwrap()
}

/// All frame headers of a whole, valid log.
fn frames(wal: &[u8]) -> Vec<FrameHeader> {
    let header = wal_header(wal);
    let mut scanner = FrameScanner::new(&header, header.cksum, &wal[WAL_HEADER_SIZE..]);
    let frames = scanner.by_ref().map(|frame| frame.header).collect();
    assert_eq!(scanner.end(), Some(ScanEnd::End));
    frames
}

/// Lays a database and a log into a new directory, for SQLite to recover.
fn recovered(live: &Live, db: &[u8], wal: &[u8]) -> (TempDir, Connection) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.db");
    fs::write(&path, db).unwrap();
    fs::write(with_wal(&path), wal).unwrap();
    let copy = Connection::open(&path).unwrap();
    let size: u32 = copy
        .pragma_query_value(None, "page_size", |row| row.get(0))
        .unwrap();
    assert_eq!(size, live.page_size);
    (dir, copy)
}

fn with_wal(path: &Path) -> PathBuf {
    path.with_extension("db-wal")
}

fn rows(db: &Connection) -> u32 {
    let check: String = db
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(check, "ok");
    db.query_row("SELECT count(*) FROM t", [], |row| row.get(0))
        .unwrap()
}

#[test]
fn reads_sqlites_log_and_database_header() {
    for size in page_sizes() {
        let live = Live::new(size);
        let wal = live.file("-wal");
        assert_eq!(wal_header(&wal).page_size, size);
        let frames = frames(&wal);
        let commits = frames.iter().filter(|frame| frame.is_commit()).count();
        // CREATE TABLE, user_version and each row; switching to WAL mode goes by the journal.
        assert_eq!(commits as u32, ROWS + 2, "page size {size}");
        assert_eq!(
            frames_before(size, wal.len() as u64),
            Some(frames.len() as u32)
        );
        assert_eq!(
            frames.last().unwrap().commit_size,
            live.pragma("page_count")
        );

        live.db
            .execute_batch("PRAGMA wal_checkpoint(PASSIVE)")
            .unwrap();
        let header = DbHeader::parse(&live.file("")).unwrap();
        assert!(header.is_wal() && !header.is_replica() && header.page_count_is_valid());
        assert_eq!(header.page_size, size);
        assert_eq!(header.page_count, live.pragma("page_count"));
        assert_eq!(header.schema_cookie, live.pragma("schema_version"));
        assert_eq!(header.user_version, 77);
        assert_eq!(header.sqlite_version, rusqlite::version_number() as u32);
    }
}

#[test]
fn reads_sqlites_wal_index() {
    for size in page_sizes() {
        let live = Live::new(size);
        let (wal, shm) = (live.file("-wal"), live.file("-shm"));
        let frames = frames(&wal);
        let last = frames.last().unwrap();
        let word = |at: usize| u32::from_ne_bytes(*shm[at..].first_chunk().unwrap());
        let words = std::array::from_fn(|i| word(4 * i));
        let header = IndexHeader::from_words(&words).unwrap();
        assert_eq!(header.to_words(), words, "page size {size}");
        assert_eq!(header.page_size, size);
        assert_eq!(header.big_endian, wal_header(&wal).big_endian);
        assert_eq!(header.salt, wal_header(&wal).salt);
        assert_eq!(header.mx_frame as usize, frames.len());
        assert_eq!(
            (header.page_count, header.frame_cksum),
            (last.commit_size, last.cksum)
        );
        assert_eq!(word(walindex::CKPT_INFO_OFFSET), 0);
        assert!(word(walindex::READ_MARK_OFFSET + 4) <= header.mx_frame);
    }
}

/// Looks every page up by way of the hash tables, as a reader does, across regions.
#[test]
fn finds_pages_through_sqlites_hash_tables() {
    let live = Live::new(512);
    let mut insert = live
        .db
        .prepare("UPDATE t SET x = randomblob(1000)")
        .unwrap();
    while live.file("-wal").len() < 9000 * (512 + FRAME_HEADER_SIZE) {
        insert.execute([]).unwrap();
    }
    let (shm, frames) = (live.file("-shm"), frames(&live.file("-wal")));
    assert!(walindex::region_of(frames.len() as u32) >= 2);

    let lookup = |pgno: u32, region: u32| -> Option<u32> {
        let base = region as usize * walindex::REGION_SIZE;
        let first = if region == 0 {
            walindex::PGNO_OFFSET_FIRST
        } else {
            0
        };
        let mut slot = walindex::hash(pgno);
        let mut found = None;
        loop {
            let at = base + walindex::HASH_OFFSET + 2 * slot;
            let entry = u16::from_ne_bytes([shm[at], shm[at + 1]]);
            if entry == 0 {
                return found;
            }
            let at = base + first + 4 * (usize::from(entry) - 1);
            if u32::from_ne_bytes(*shm[at..].first_chunk().unwrap()) == pgno {
                found = found.max(Some(walindex::zero_frame(region) + u32::from(entry)));
            }
            slot = walindex::next_slot(slot);
        }
    };
    let mut newest = HashMap::new();
    for (number, frame) in (1..).zip(&frames) {
        newest.insert((frame.pgno, walindex::region_of(number)), number);
    }
    for ((pgno, region), frame) in newest {
        assert_eq!(
            lookup(pgno, region),
            Some(frame),
            "page {pgno} in region {region}"
        );
    }
}

/// The frames of SQLite's log under a header, salts and byte order of ours.
fn resealed(wal: &[u8], header: WalHeader) -> Vec<u8> {
    let source = wal_header(wal);
    let mut log = header.encode().to_vec();
    let mut sum = header.cksum;
    for frame in FrameScanner::new(&source, source.cksum, &wal[WAL_HEADER_SIZE..]) {
        let at = log.len();
        log.resize(at + FRAME_HEADER_SIZE, 0);
        log.extend_from_slice(frame.data);
        let FrameHeader {
            pgno, commit_size, ..
        } = frame.header;
        sum = seal_frame(
            &mut log[at..],
            header.big_endian,
            pgno,
            commit_size,
            header.salt,
            sum,
        );
    }
    log
}

#[test]
fn sqlite_accepts_our_log() {
    for size in page_sizes() {
        let live = Live::new(size);
        let native = WalHeader::new(size, 5, [0xfeed_0001, 0xbeef_0002]);
        // The byte order of the other kind of machine, which SQLite reads as well.
        let mut foreign = WalHeader {
            big_endian: !native.big_endian,
            ..native
        };
        let summed = &foreign.encode()[..24];
        foreign.cksum = checksum(foreign.big_endian, summed, Cksum::default());
        for header in [native, foreign] {
            let log = resealed(&live.file("-wal"), header);
            assert_eq!(wal_header(&log), header);
            let (_dir, copy) = recovered(&live, &live.file(""), &log);
            assert_eq!(rows(&copy), ROWS, "page size {size}, {header:?}");
        }
    }
}

/// SQLite and the scanner believe the same frames of a damaged log.
#[test]
fn sqlite_stops_where_the_scanner_stops() {
    let live = Live::new(4096);
    let mut wal = live.file("-wal");
    let middle = wal.len() / 2;
    wal[middle] ^= 1;
    let header = wal_header(&wal);
    let mut scanner = FrameScanner::new(&header, header.cksum, &wal[WAL_HEADER_SIZE..]);
    let commits = scanner
        .by_ref()
        .filter(|frame| frame.header.is_commit())
        .count() as u32;
    assert!(matches!(scanner.end(), Some(ScanEnd::BadChecksum { .. })));
    let (_dir, copy) = recovered(&live, &live.file(""), &wal);
    assert_eq!(rows(&copy), commits - 2);
}

#[test]
fn a_replicas_page_1_is_read_only_to_sqlite() {
    let live = Live::new(4096);
    live.db
        .execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")
        .unwrap();
    let mut db = live.file("");
    let cookie = DbHeader::parse(&db).unwrap().schema_cookie;
    to_replica(&mut db, 1000);
    let (dir, copy) = recovered(&live, &db, &[]);
    let error = copy.execute("DELETE FROM t", []).unwrap_err();
    assert_eq!(
        error.sqlite_error_code(),
        Some(rusqlite::ErrorCode::ReadOnly)
    );
    assert_eq!(rows(&copy), ROWS);
    let seen: u32 = copy
        .pragma_query_value(None, "schema_version", |row| row.get(0))
        .unwrap();
    assert_eq!(seen, cookie + 1000);
    drop(copy);

    dbheader::to_primary(&mut db, 1000);
    assert_eq!(DbHeader::parse(&db).unwrap().schema_cookie, cookie);
    fs::write(dir.path().join("a.db"), &db).unwrap();
    let copy = Connection::open(dir.path().join("a.db")).unwrap();
    assert_eq!(copy.execute("DELETE FROM t", []).unwrap(), ROWS as usize);
}

/// An empty log, as after a recovery, still has a readable index header.
#[test]
fn reads_the_index_of_an_empty_log() {
    let live = Live::new(4096);
    live.db
        .execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")
        .unwrap();
    let (dir, copy) = recovered(&live, &live.file(""), &[]);
    assert_eq!(rows(&copy), ROWS);
    let shm = fs::read(dir.path().join("a.db-shm")).unwrap();
    let words = std::array::from_fn(|i| u32::from_ne_bytes(*shm[4 * i..].first_chunk().unwrap()));
    let header = IndexHeader::from_words(&words).unwrap();
    assert_eq!((header.page_size, header.mx_frame), (0, 0));
    assert_eq!((header.salt, header.frame_cksum), ([0, 0], Cksum(0, 0)));
    assert_eq!(header.to_words(), words);
}
