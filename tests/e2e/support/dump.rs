//! A child that reads a whole database at rest, page by page, and writes down a hash of each.
//!
//! It is a process of its own because it opens the database's files beside SQLite: closing such a
//! descriptor drops all of the process's locks on that file. So it never closes them, nor its
//! connection: its own end closes everything at once, without a checkpoint.

use std::fs::File;
use std::io::Write;
use std::mem::ManuallyDrop;
use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use super::child::Spec;
use super::walfile::{self, Index, Wal};

/// The lock-byte page stands at this offset and is never used.
const LOCK_BYTE: u64 = 1 << 30;

/// How often a database that is not at rest is looked at again.
const TRIES: u32 = 200;

struct Files {
    main: ManuallyDrop<File>,
    wal: Option<ManuallyDrop<File>>,
    shm: Option<ManuallyDrop<File>>,
}

fn beside(db: &Path, suffix: &str) -> Option<ManuallyDrop<File>> {
    let mut path = db.as_os_str().to_owned();
    path.push(suffix);
    File::open(path).ok().map(ManuallyDrop::new)
}

fn connect(db: &Path) -> Connection {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(db, flags).expect("open the database");
    conn.busy_timeout(Duration::from_secs(10))
        .expect("set the busy timeout");
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)
        .expect("forbid a checkpoint at the close");
    conn
}

fn text(conn: &Connection, sql: &str) -> String {
    conn.query_row(sql, [], |r| {
        Ok(match r.get_ref(0)? {
            ValueRef::Integer(n) => n.to_string(),
            other => other.as_str().map(str::to_owned).unwrap_or_default(),
        })
    })
    .unwrap_or_else(|e| format!("error: {e}"))
}

/// Options: `db`, `out` (one line `PAGE HASH` for each page). Reports `page_size`, `page_count`,
/// `page1` (hex), `integrity`, `rows` (a digest of all rows through SQL), and `source`.
pub fn main(spec: &Spec) -> Spec {
    // As SQLite does: `-wal` and `-shm` stand beside the file that a link leads to.
    let db = std::fs::canonicalize(spec.path("db")).expect("resolve the database's path");
    let conn = ManuallyDrop::new(connect(&db));
    // A first read makes `-wal` and `-shm` when they do not exist.
    text(&conn, "SELECT count(*) FROM sqlite_schema");
    let files = Files {
        main: ManuallyDrop::new(File::open(&db).expect("open the database file")),
        wal: beside(&db, "-wal"),
        shm: beside(&db, "-shm"),
    };
    let mut last = String::new();
    for _ in 0..TRIES {
        match attempt(&conn, &files, &spec.path("out")) {
            Ok(report) => return report,
            Err(why) => last = why,
        }
        let _end_of_the_read = conn.execute_batch("ROLLBACK");
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("{} is not at rest: {last}", db.display());
}

fn header(files: &Files) -> Result<Option<Index>, String> {
    match &files.shm {
        None => Ok(None),
        Some(shm) => walfile::index(shm)
            .map_err(|e| format!("read -shm: {e}"))?
            .map(Some)
            .ok_or_else(|| "the wal-index header is torn".to_owned()),
    }
}

fn attempt(conn: &Connection, files: &Files, out: &Path) -> Result<Spec, String> {
    conn.execute_batch("BEGIN; SELECT count(*) FROM sqlite_schema")
        .map_err(|e| format!("begin: {e}"))?;
    let before = header(files)?;
    let page_size: u64 = text(conn, "PRAGMA page_size").parse().expect("a page size");
    let page_count: u64 = text(conn, "PRAGMA page_count")
        .parse()
        .expect("a page count");
    let wal = committed(files, before.as_ref(), page_size, page_count)?;
    // A damaged database is a difference to report, not a reason to look again.
    let rows = rows_digest(conn).unwrap_or_else(|why| why.replace('\n', "; "));
    let page1 = write_pages(files, wal.as_ref(), (page_size, page_count), out)
        .map_err(|e| format!("read pages: {e}"))?;
    let integrity = text(conn, "PRAGMA integrity_check(3)");
    if header(files)? != before {
        return Err("it was written meanwhile".to_owned());
    }
    let from_wal = wal.map_or(0, |w| w.pages.len());
    Ok(Spec::new("dump")
        .with("page_size", page_size)
        .with("page_count", page_count)
        .with(
            "page1",
            page1.iter().map(|b| format!("{b:02x}")).collect::<String>(),
        )
        .with("integrity", integrity.replace('\n', "; "))
        .with("rows", rows)
        .with("pages_from_wal", from_wal))
}

/// The frames that a reader of this moment uses, proven against header, salts and checksums.
fn committed(
    files: &Files,
    index: Option<&Index>,
    page_size: u64,
    page_count: u64,
) -> Result<Option<Wal>, String> {
    let Some(index) = index.filter(|i| i.mx_frame > 0) else {
        return Ok(None);
    };
    let file = files
        .wal
        .as_ref()
        .ok_or("the index names frames, but there is no -wal")?;
    let wal = walfile::read(file, index.mx_frame)
        .map_err(|e| format!("read -wal: {e}"))?
        .ok_or("the -wal has no valid header")?;
    let found = (
        wal.frames,
        wal.salts,
        u64::from(wal.page_size),
        u64::from(wal.page_count),
    );
    let named = (index.mx_frame, index.salts, page_size, page_count);
    if found != named || u64::from(index.page_count) != page_count {
        return Err(format!(
            "-wal has (frames, salts, page size, pages) {found:?}, not {named:?}"
        ));
    }
    Ok(Some(wal))
}

/// Writes a line for each page; gives page 1 as it stands.
fn write_pages(
    files: &Files,
    wal: Option<&Wal>,
    (page_size, page_count): (u64, u64),
    out: &Path,
) -> std::io::Result<Vec<u8>> {
    let mut out = std::io::BufWriter::new(File::create(out)?);
    let mut page = vec![0; usize::try_from(page_size).expect("a page fits memory")];
    let mut page1 = Vec::new();
    for number in 1..=page_count {
        let at = (number - 1) * page_size;
        if is_lock_byte_page(number, page_size) {
            writeln!(out, "{number} lock-byte")?;
            continue;
        }
        let in_wal = u32::try_from(number).ok().and_then(|n| wal?.pages.get(&n));
        let (file, at) = match (in_wal, &files.wal) {
            (Some(&offset), Some(wal)) => (wal, offset),
            _ => (&files.main, at),
        };
        if walfile::read_at_most(file, &mut page, at)? < page.len() {
            writeln!(out, "{number} missing")?;
            continue;
        }
        if number == 1 {
            page1.clone_from(&page);
            normalise(&mut page);
        }
        writeln!(out, "{number} {:032x}", xxh3_128(&page))?;
    }
    out.flush()?;
    Ok(page1)
}

/// SQLite locks bytes in this page and never stores anything there.
pub fn is_lock_byte_page(number: u64, page_size: u64) -> bool {
    (number - 1) * page_size == LOCK_BYTE
}

/// What a replica's page 1 may differ in: the write version and the schema cookie.
pub fn normalise(page1: &mut [u8]) {
    page1[18] = 0;
    page1[40..44].fill(0);
}

/// All rows of all tables through SQL: this sees what the hash tables of the wal-index lead to,
/// which the page reading above goes round.
fn rows_digest(conn: &Connection) -> Result<String, String> {
    let wrong = |e: rusqlite::Error| format!("read rows: {e}");
    let mut digest = Xxh3::new();
    let names: Vec<String> = conn
        .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")
        .and_then(|mut s| s.query_map([], |r| r.get(0))?.collect())
        .map_err(wrong)?;
    for name in names {
        let sql = format!("SELECT * FROM \"{}\"", name.replace('"', "\"\""));
        let mut statement = conn.prepare(&sql).map_err(wrong)?;
        let columns = statement.column_count();
        digest.update(format!("{name}/{columns}").as_bytes());
        let mut rows = statement.query([]).map_err(wrong)?;
        while let Some(row) = rows.next().map_err(wrong)? {
            for column in 0..columns {
                update(&mut digest, row.get_ref(column).map_err(wrong)?);
            }
        }
    }
    Ok(format!("{:016x}", digest.digest()))
}

fn update(digest: &mut Xxh3, value: ValueRef) {
    let number;
    let (kind, bytes): (u8, &[u8]) = match value {
        ValueRef::Null => (0, &[]),
        ValueRef::Integer(n) => {
            number = n.to_le_bytes();
            (1, &number)
        }
        ValueRef::Real(x) => {
            number = x.to_bits().to_le_bytes();
            (2, &number)
        }
        ValueRef::Text(bytes) => (3, bytes),
        ValueRef::Blob(bytes) => (4, bytes),
    };
    digest.update(&[kind]);
    digest.update(&(bytes.len() as u64).to_le_bytes());
    digest.update(bytes);
}

/// Options: `db`, `sql`. Reports `value` (the first column of the first row) or `error`.
pub fn query_main(spec: &Spec) -> Spec {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let report = Spec::new("query");
    let conn = match Connection::open_with_flags(spec.path("db"), flags) {
        Ok(conn) => ManuallyDrop::new(conn),
        Err(e) => return report.with("error", e.to_string().replace('\n', " ")),
    };
    conn.busy_timeout(Duration::from_secs(5))
        .expect("set the busy timeout");
    let sql = spec.get("sql").expect("sql is given");
    let value: rusqlite::Result<rusqlite::types::Value> = conn.query_row(sql, [], |r| r.get(0));
    match value {
        Ok(rusqlite::types::Value::Integer(n)) => report.with("value", n),
        Ok(rusqlite::types::Value::Text(t)) => report.with("value", t.replace('\n', " ")),
        Ok(other) => report.with("value", format!("{other:?}")),
        Err(e) => report.with("error", e.to_string().replace('\n', " ")),
    }
}
