//! A large archive: how long a restore takes beside a copy of as many bytes, and that its memory does not grow with it.
//!
//! `cargo bench --bench restore`; WALCAST_LARGE_MIB sets the size, 1024 by default. To run alone: it moves gigabytes.

use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
use rusqlite::Connection;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use walcast::archive::{GenerationDoc, Key, SegmentDoc, SnapshotDoc};
use walcast::format::commits::CommitRecord;
use walcast::format::dbsum::{DbSum, page_hash};
use walcast::format::lz4;
use walcast::format::position::{Generation, Position};
use walcast::format::wal::{FRAME_HEADER_SIZE, FrameHeader, frame_size};

const PAGE: u32 = 4096;
/// When the first commit was made, and the time between two.
const START_US: i64 = 1_700_000_000_000_000;
const STEP_US: i64 = 1_000_000;
const GENERATION: Generation = Generation(7);
/// Log between two checkpoints, and in a segment.
const LOG: usize = 64 << 20;
const SEGMENT: usize = 8 << 20;

fn write(root: &Path, key: Key, bytes: &[u8]) {
    let path = root.join(key.to_string());
    std::fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
    std::fs::write(path, bytes).expect("written");
}

/// A database and its log are written, and archived as they grow.
struct Large {
    connection: Connection,
    root: std::path::PathBuf,
    log: std::path::PathBuf,
    hashes: Vec<u64>,
    sum: DbSum,
    commits: i64,
}

impl Large {
    fn new(dir: &Path, size: usize) -> Large {
        let path = dir.join("app.db");
        let connection = Connection::open(&path).expect("a database");
        let rows = size / 2000;
        connection
            .execute_batch(&format!(
                "PRAGMA page_size=4096; PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; CREATE TABLE t(id INTEGER PRIMARY KEY, a, b); \
                 INSERT INTO t(a, b) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows}) \
                 SELECT 'customer ' || i || ' of the shop at the corner', hex(randomblob(480)) || randomblob(1000) FROM n; \
                 PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0; PRAGMA cache_size=-200000;"
            ))
            .expect("rows");
        let mut large = Large {
            connection,
            root: dir.join("archive"),
            log: dir.join("app.db-wal"),
            hashes: Vec::new(),
            sum: DbSum::default(),
            commits: 0,
        };
        large.checkpoint();
        large.snapshot(&path);
        large
    }

    fn checkpoint(&self) {
        let sql = "PRAGMA wal_checkpoint(TRUNCATE)";
        self.connection
            .query_row(sql, [], |_| Ok(()))
            .expect("a checkpoint");
    }

    fn snapshot(&mut self, path: &Path) {
        let key = Key::snapshot(GENERATION, 0);
        let object = self.root.join(key.to_string());
        std::fs::create_dir_all(object.parent().expect("a directory")).expect("a directory");
        let info = FrameInfo::new()
            .content_checksum(true)
            .block_mode(BlockMode::Independent)
            .block_size(BlockSize::Max1MB);
        let mut to = FrameEncoder::with_frame_info(info, File::create(object).expect("a file"));
        let mut from = File::open(path).expect("a database");
        let mut page = vec![0; PAGE as usize];
        let mut pgno = 0;
        while from.read_exact(&mut page).is_ok() {
            pgno += 1;
            to.write_all(&page).expect("packed");
            let hash = page_hash(pgno, &page);
            self.hashes.push(hash);
            self.sum ^= hash;
        }
        to.finish().expect("packed");
        let doc = SnapshotDoc {
            version: 1,
            position: Position::start_of(GENERATION),
            dbsum: self.sum.to_string(),
            page_count: pgno,
            page_size: PAGE,
            time_us: START_US,
            taken_us: START_US,
        };
        write(&self.root, key.doc().expect("one"), &doc.encode());
        let doc = GenerationDoc {
            version: 1,
            page_size: PAGE,
            created_us: START_US,
            fork: None,
            epoch: 1,
        };
        let key = Key::GenerationDoc {
            generation: GENERATION.into(),
        };
        write(&self.root, key, &doc.encode());
    }

    /// Commits until the log is full; archives it.
    fn fill(&mut self, index: u64, previous_end: u64) -> u64 {
        while std::fs::metadata(&self.log).map_or(0, |log| log.len()) < LOG as u64 {
            self.connection
                .execute_batch(
                    "BEGIN; WITH k(id) AS (SELECT abs(random()) % (SELECT max(id) FROM t) FROM t LIMIT 30) \
                     UPDATE t SET b = hex(randomblob(480)) || randomblob(1000) WHERE id IN k; COMMIT",
                )
                .expect("a commit");
        }
        let log = std::fs::read(&self.log).expect("a log");
        let whole = frame_size(PAGE) as usize;
        let (mut start, mut records) = (0, Vec::new());
        for (number, frame) in log[32..].chunks_exact(whole).enumerate() {
            let end = 32 + (number + 1) * whole;
            let header =
                FrameHeader::parse(frame.first_chunk::<FRAME_HEADER_SIZE>().expect("a frame"));
            let hash = page_hash(header.pgno, &frame[FRAME_HEADER_SIZE..]);
            let place = &mut self.hashes[header.pgno as usize - 1];
            self.sum = self.sum.replaced(*place, hash);
            *place = hash;
            if !header.is_commit() {
                continue;
            }
            self.commits += 1;
            records.push(CommitRecord {
                end_offset: end as u64,
                dbsum: self.sum,
                page_count: header.commit_size,
                time_us: START_US + self.commits * STEP_US,
                cksum: header.cksum,
            });
            if end - start >= SEGMENT || end == log.len() {
                let key = Key::wal(GENERATION, index, start as u64);
                let mut packed = Vec::new();
                lz4::compress(&log[start..end], &mut packed).expect("packed");
                write(&self.root, key, &packed);
                let doc = SegmentDoc {
                    page_size: PAGE,
                    start: start as u64,
                    end: end as u64,
                    previous_end: if start == 0 { previous_end } else { 0 },
                    records: std::mem::take(&mut records),
                };
                write(&self.root, key.doc().expect("one"), &doc.encode());
                start = end;
            }
        }
        assert_eq!(start, log.len(), "the log ends with a commit");
        self.checkpoint();
        log.len() as u64
    }
}

fn copy_and_sync(from: &Path, to: &Path) -> Duration {
    let begun = Instant::now();
    let mut to = File::create(to).expect("a file");
    std::io::copy(&mut File::open(from).expect("a file"), &mut to).expect("copied");
    to.sync_all().expect("synced");
    begun.elapsed()
}

/// Runs a restore: its time, and the most memory that it had, in KiB. Not by `getrusage`, which counts the memory of this
/// process before the other program took its place.
fn restored(root: &Path, out: &Path) -> (Duration, u64) {
    let begun = Instant::now();
    let mut child = Command::new(env!("CARGO_BIN_EXE_walcast"))
        .args(["restore", "--quiet", "--force", "-o"])
        .args([out, root])
        .stdout(Stdio::null())
        .spawn()
        .expect("walcast runs");
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    let code = loop {
        let now = std::fs::read_to_string(&status).unwrap_or_default();
        let high = now.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let high = high.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
        peak = peak.max(high.unwrap_or(0));
        if let Some(code) = child.try_wait().expect("a child") {
            break code;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    assert!(code.success());
    (begun.elapsed(), peak)
}

fn main() {
    let mib = std::env::var("WALCAST_LARGE_MIB").map_or(1024, |mib| mib.parse().expect("a number"));
    let size = mib << 20;
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let mut large = Large::new(dir.path(), size);
    let mut end = 0;
    for index in 0..(size / LOG).max(1) as u64 {
        end = large.fill(index, end);
    }
    let double = dir.path().join("double");
    let mut file = File::create(&double).expect("a file");
    for _ in 0..2 {
        let mut app = File::open(dir.path().join("app.db")).expect("a database");
        std::io::copy(&mut app, &mut file).expect("copied");
    }
    file.sync_all().expect("synced");
    drop(file);
    let out = dir.path().join("out.db");
    let mut peak = 0;
    for _ in 0..3 {
        let copied = copy_and_sync(&double, &dir.path().join("copy"));
        let (restored, kib) = restored(&large.root, &out);
        peak = peak.max(kib);
        let ratio = restored.as_secs_f64() / copied.as_secs_f64();
        println!("copy of 2 x {mib} MiB: {copied:?}; restore: {restored:?}: {ratio:.2} times");
    }
    let peak = peak >> 10;
    println!("peak memory of a restore: {peak} MiB");
    assert!(peak <= 128, "{peak} MiB");
    let same = std::fs::read(&out).expect("a database")
        == std::fs::read(dir.path().join("app.db")).expect("a database");
    assert!(same, "it differs");
}
