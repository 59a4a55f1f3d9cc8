//! A restore by hand, as somebody does it who has no walcast: `lz4 -d` and `sqlite3`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use walcast::archive::SegmentDoc;
use walcast::format::dbheader::lock_page;
use walcast::format::dbsum::{DbSum, page_hash};

/// Names in a directory, sorted.
fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .into_string()
                .expect("UTF-8")
        })
        // Half an object that was never given its name.
        .filter(|name| !name.contains('#'))
        .collect();
    names.sort();
    names
}

fn unpack(from: &Path, to: &File) {
    let status = Command::new("lz4")
        .args(["-d", "-c", "-q"])
        .arg(from)
        .stdin(Stdio::null())
        .stdout(to.try_clone().expect("a file"))
        .status()
        .expect("lz4 is installed");
    assert!(status.success(), "lz4 -d {}", from.display());
}

fn sqlite(db: &Path, sql: &str) -> String {
    let output = Command::new("sqlite3")
        .arg(db)
        .arg(sql)
        .stdin(Stdio::null())
        .output()
        .expect("sqlite3 is installed");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// The generation with the snapshot that was written last, and the highest index of a snapshot in it.
fn newest(archive: &Path) -> Option<(String, String)> {
    let generations = archive.join("generations");
    let of = |generation: String| {
        let snapshots = generations.join(&generation).join("snapshots");
        let name = names(&snapshots).pop()?;
        let written = fs::metadata(snapshots.join(&name)).ok()?.modified().ok()?;
        Some((written, generation, name))
    };
    let (_, generation, name) = names(&generations).into_iter().filter_map(of).max()?;
    Some((generation, name.strip_suffix(".snapshot.lz4")?.to_owned()))
}

/// True once there is something to restore.
pub fn is_restorable(archive: &Path) -> bool {
    newest(archive).is_some()
}

/// What was restored.
pub struct Restored {
    pub db: PathBuf,
    pub generation: String,
    _dir: tempfile::TempDir,
}

/// Restores the newest state, and compares it with the checksum that the archive records for it.
pub fn restore(archive: &Path) -> Restored {
    let dir = tempfile::tempdir().expect("a directory");
    let db = dir.path().join("restored.db");
    let (generation, first) = newest(archive).expect("a snapshot");
    let root = archive.join("generations").join(&generation);
    let snapshot = root.join("snapshots").join(format!("{first}.snapshot.lz4"));
    unpack(&snapshot, &File::create(&db).expect("a file"));
    let mut expected = None;
    let mut due = u64::from_str_radix(&first, 16).expect("an index");
    for index in names(&root.join("wal")) {
        if index < first {
            continue;
        }
        assert_eq!(
            u64::from_str_radix(&index, 16),
            Ok(due),
            "an index is missing"
        );
        due += 1;
        let wal = dir.path().join("restored.db-wal");
        let file = File::create(&wal).expect("a file");
        for segment in names(&root.join("wal").join(&index)) {
            let offset = segment.strip_suffix(".wal.lz4").expect("a segment");
            let here = fs::metadata(&wal).expect("a file").len();
            assert_eq!(
                u64::from_str_radix(offset, 16),
                Ok(here),
                "{index}/{segment}"
            );
            unpack(&root.join("wal").join(&index).join(&segment), &file);
            let doc = archive
                .join("walcast/generations")
                .join(&generation)
                .join("wal")
                .join(&index)
                .join(format!("{offset}.commits"));
            match fs::read(&doc) {
                Ok(bytes) => {
                    let doc = SegmentDoc::parse(&bytes).expect("a document");
                    assert_eq!(doc.end, fs::metadata(&wal).expect("a file").len());
                    if let Some(record) = doc.records.last() {
                        // While the primary reads its database at a start, the checksum is not known.
                        expected =
                            (record.page_count > 0).then_some((record.dbsum, record.page_count));
                    }
                }
                // A kill came between the two: what is newer than the record may be in the segment.
                Err(_) => expected = None,
            }
        }
        sqlite(&db, "PRAGMA wal_checkpoint(TRUNCATE)");
    }
    if let Some((dbsum, pages)) = expected {
        assert_eq!(sum(&db), (dbsum, pages), "not the state that was archived");
    }
    Restored {
        db,
        generation,
        _dir: dir,
    }
}

/// The checksum of a database file, and its pages.
fn sum(db: &Path) -> (DbSum, u32) {
    let bytes = fs::read(db).expect("a file");
    let size = match u16::from_be_bytes([bytes[16], bytes[17]]) {
        1 => 65536,
        size => u32::from(size),
    };
    let pages = bytes.chunks_exact(size as usize);
    let count = pages.len() as u32;
    let numbered = (1..)
        .zip(pages)
        .filter(|(pgno, _)| *pgno != lock_page(size));
    let sum = numbered.fold(0, |sum, (pgno, page)| sum ^ page_hash(pgno, page));
    (DbSum(sum), count)
}
