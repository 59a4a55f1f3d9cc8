//! The next index's files: at a restart of the log, at an end between any two steps, on a disk that is full.

use super::*;
use crate::disk::fault::{self, Plan};
use crate::format::commits::CommitRecord;
use crate::format::dbsum::DbSum;
use crate::format::lz4;
use crate::format::position::Position;
use crate::format::wal::{FRAME_HEADER_SIZE, WalHeader, seal_frame};
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

const GENERATION: Generation = Generation(7);
const PAGE: u32 = 512;
const END: u64 = 32 + 24 + PAGE as u64;

fn at(index: u64) -> Position {
    Position {
        generation: GENERATION,
        index,
        offset: END,
    }
}

fn place() -> (tempfile::TempDir, Layout) {
    let dir = tempfile::tempdir().expect("a directory");
    let layout = Layout::of(&dir.path().join("app.db"));
    disk::create_dir_all("test", layout.root()).expect("made");
    layout.write_generation(GENERATION).expect("written");
    (dir, layout)
}

/// A writer, and what came of each time that the files were made.
struct Log {
    writer: ShadowWriter,
    made: Receiver<bool>,
}

impl Log {
    /// While the disk is `full`, this operation of housekeeping fails.
    fn with(layout: &Layout, at: Position, op: &'static str, full: &Arc<AtomicBool>) -> Log {
        let (sender, made) = channel();
        let full = Arc::clone(full);
        let housekeeping = Housekeeping::with("test", move |job| {
            let prepares = matches!(job, Job::Prepare(_));
            let plan = match full.load(Relaxed) {
                true => format!("{op}=enospc"),
                false => String::new(),
            };
            let plan = Plan::parse(&plan).expect("a plan");
            let (done, _) = fault::with_plan(plan, || work(job));
            if prepares {
                // The test may have seen enough.
                let _ = sender.send(done.is_ok());
            }
            done
        });
        let retention = Retention::new(1 << 30, Duration::from_secs(3600), Vec::new());
        let housekeeping = Arc::new(housekeeping);
        Log {
            writer: ShadowWriter::new(layout.clone(), at, PAGE, retention, housekeeping),
            made,
        }
    }

    fn new(layout: &Layout) -> Log {
        Log::with(layout, Position::start_of(GENERATION), "", &Arc::default())
    }

    /// One commit, with which an index begins.
    fn begin(&mut self, index: u64) -> disk::Result<()> {
        let header = WalHeader::new(PAGE, 1, [index as u32, 9]);
        let mut frame = vec![index as u8; FRAME_HEADER_SIZE + PAGE as usize];
        let cksum = seal_frame(
            &mut frame,
            header.big_endian,
            1,
            1,
            header.salt,
            header.cksum,
        );
        let mut packed = Vec::new();
        lz4::compress(&[&header.encode()[..], &frame].concat(), &mut packed).expect("packed");
        let record = CommitRecord {
            end_offset: END,
            dbsum: DbSum(index),
            page_count: 1,
            time_us: 0,
            cksum,
        };
        let piece = Piece {
            index,
            start: 0,
            data: &packed,
            record: Some(record),
        };
        self.writer.append(&piece, 0)
    }

    /// The same; true if the index began with the files that were made for it, and none was made then.
    fn begin_quickly(&mut self, index: u64) -> bool {
        let (begun, plan) = fault::with_plan(Plan::default(), || self.begin(index));
        begun.expect("appended");
        let met = |op| plan.met().contains_key(op);
        let renamed = met("shadow.next-rename") && met("shadow.next-rename-sidecar");
        let made = ["shadow.mkdir", "shadow.create", "shadow.sidecar-create"];
        assert_eq!(renamed, !made.into_iter().any(met), "{:?}", plan.met());
        renamed
    }

    fn wait_made(&self) -> bool {
        let patience = Duration::from_secs(60);
        self.made.recv_timeout(patience).expect("they are made")
    }
}

/// All that is kept is read from its start to its end.
fn assert_kept(layout: &Layout, indexes: u64) {
    let mut reader = ShadowReader::new(layout.clone(), Position::start_of(GENERATION));
    for index in 0..indexes {
        let chunk = reader.next(at(indexes - 1)).expect("no damage");
        assert_eq!(chunk.expect("a chunk").end(), at(index));
    }
    let recovered = recover(layout).expect("readable").expect("a generation");
    assert_eq!(recovered.end, at(indexes - 1));
    let old: Vec<u64> = recovered.old.iter().map(|old| old.index).collect();
    assert_eq!(old, (0..indexes - 1).collect::<Vec<_>>());
    let last = recovered.last.expect("an index").size;
    for size in recovered.old.iter().chain([&last]) {
        assert_eq!(size.bytes, 3 * 4096, "a directory and two small files");
    }
}

#[test]
fn an_index_begins_with_the_files_that_were_made_before() {
    let (_dir, layout) = place();
    let mut log = Log::new(&layout);
    assert!(!log.begin_quickly(0), "nothing was made yet");
    for index in 1..4 {
        assert!(log.wait_made());
        assert_kept(&layout, index);
        let inode = |path: &Path| std::fs::metadata(path).expect("a file").ino();
        let (segment, sidecar) = (layout.next_segment(), layout.next_sidecar());
        let made = (inode(&segment), inode(&sidecar));
        assert!(log.begin_quickly(index));
        let segment = inode(&layout.segment(GENERATION, index, 0));
        let sidecar = inode(&layout.sidecar(GENERATION, index));
        assert_eq!(made, (segment, sidecar));
    }
    assert!(log.wait_made());
    log.writer.close();
    assert_kept(&layout, 4);
    // Whoever goes on has them made anew.
    let mut log = Log::with(&layout, at(3), "", &Arc::default());
    assert!(layout.next_segment().exists() && !log.begin_quickly(4));
    assert!(log.wait_made());
    assert!(log.begin_quickly(5));
    assert_kept(&layout, 6);
}

/// A panic stands for a kill: nothing that comes after the step is done.
fn dies(op: &str, body: impl FnOnce()) {
    let plan = Plan::parse(&format!("{op}=panic")).expect("a plan");
    let (died, _) = fault::with_plan(plan, || catch_unwind(AssertUnwindSafe(body)));
    assert!(died.is_err(), "{op} was not met");
}

/// A log with one index, and the files of the next.
fn begun() -> (tempfile::TempDir, Layout, Log) {
    let (dir, layout) = place();
    let mut log = Log::new(&layout);
    log.begin(0).expect("appended");
    assert!(log.wait_made());
    (dir, layout, log)
}

/// Whoever goes on behind index 0 uses nothing that is left, and has the files made anew.
fn assert_made_anew(layout: &Layout, op: &str) {
    let mut log = Log::with(layout, at(0), "", &Arc::default());
    assert!(!log.begin_quickly(1), "{op}");
    assert!(log.wait_made());
    assert!(log.begin_quickly(2), "{op}");
    assert_kept(layout, 3);
}

#[test]
fn an_end_between_any_two_steps_leaves_no_index() {
    for op in [
        "shadow.next-rename",
        "shadow.next-rename-sidecar",
        "shadow.next-open",
        "shadow.sidecar-header",
        "shadow.append",
        "shadow.record",
    ] {
        let (_dir, layout, mut log) = begun();
        dies(op, || log.begin(1).expect("appended"));
        drop(log);
        assert_kept(&layout, 1);
        assert_eq!(layout.list_indexes(GENERATION).expect("listed"), [0]);
        assert!(!layout.sidecar(GENERATION, 1).exists(), "{op}");
        assert_made_anew(&layout, op);
    }
    for op in [
        "shadow.next-remove",
        "shadow.next-mkdir",
        "shadow.next-create",
        "shadow.next-sidecar",
    ] {
        let (_dir, layout, log) = begun();
        drop(log);
        dies(op, || NextIndex::new(layout.clone()).make().expect("made"));
        assert_kept(&layout, 1);
        assert_made_anew(&layout, op);
    }
}

#[test]
fn a_disk_that_is_full_meanwhile_is_no_hindrance() {
    for op in [
        "shadow.next-remove",
        "shadow.next-mkdir",
        "shadow.next-create",
        "shadow.next-sidecar",
    ] {
        let (_dir, layout) = place();
        let full = Arc::new(AtomicBool::new(true));
        let mut log = Log::with(&layout, Position::start_of(GENERATION), op, &full);
        for index in 0..2 {
            assert!(!log.begin_quickly(index), "{op}");
            assert!(!log.wait_made(), "{op} fails");
            // Once for each index: what fails over and over shall not fill the log.
            log.writer.tick(0, Needed::default(), |_| {});
        }
        full.store(false, Relaxed);
        assert!(!log.begin_quickly(2), "{op}");
        assert!(log.wait_made());
        assert!(log.begin_quickly(3), "{op}");
        assert_kept(&layout, 4);
        assert!(log.wait_made());
        drop(log.writer);
        assert_eq!(log.made.iter().count(), 0, "{op}");
    }
}

#[test]
fn files_that_cannot_be_renamed_are_not_made_again() {
    for op in ["shadow.next-rename", "shadow.next-rename-sidecar"] {
        let (_dir, layout, mut log) = begun();
        let plan = Plan::parse(&format!("{op}=exdev")).expect("a plan");
        let (begun, plan) = fault::with_plan(plan, || log.begin(1));
        begun.expect("in the other way");
        assert!(plan.met().contains_key("shadow.create"), "{op}");
        log.begin(2).expect("appended");
        log.writer.tick(0, Needed::default(), |_| {});
        assert_kept(&layout, 3);
        drop(log.writer);
        assert_eq!(log.made.iter().count(), 0, "{op}");
    }
}

#[test]
fn a_rename_that_failed_is_tried_again() {
    for op in [
        "shadow.next-rename",
        "shadow.next-rename-sidecar",
        "shadow.next-open",
    ] {
        let (_dir, layout, mut log) = begun();
        let plan = Plan::parse(&format!("{op}=enospc")).expect("a plan");
        let (begun, _) = fault::with_plan(plan, || log.begin(1));
        begun.expect("in the other way");
        assert!(!log.begin_quickly(2), "{op}");
        assert!(log.wait_made());
        assert!(log.begin_quickly(3), "{op}");
        assert_kept(&layout, 4);
    }
}

/// The disk is full for what comes after the rename, but not for the files of the next index.
#[test]
fn an_index_that_was_begun_in_vain_is_begun_again() {
    let (_dir, layout, mut log) = begun();
    let plan = Plan::parse("shadow.sidecar-header=enospc").expect("a plan");
    let (failed, _) = fault::with_plan(plan, || log.begin(1));
    failed.expect_err("the disk is full");
    log.writer.tick(0, Needed::default(), |_| {});
    assert!(log.wait_made());
    log.begin(1).expect("in the other way");
    assert!(log.wait_made());
    assert!(log.begin_quickly(2));
    assert_kept(&layout, 3);
}

/// A power cut may take the name of an index away, and leave it under the one that it had before.
#[test]
fn what_lies_there_is_not_the_beginning_of_an_index() {
    let (_dir, layout) = place();
    let mut log = Log::new(&layout);
    log.begin(0).expect("appended");
    assert!(log.wait_made());
    drop(log);
    let later = layout.next_index().join("0000000000001018.wal.lz4");
    for path in [layout.next_segment(), layout.next_sidecar(), later] {
        std::fs::write(path, b"of another log").expect("written");
    }
    assert_kept(&layout, 1);
    let mut log = Log::with(&layout, at(0), "", &Arc::default());
    log.begin(1).expect("appended");
    assert!(log.wait_made());
    assert!(log.begin_quickly(2));
    assert_kept(&layout, 3);
    assert_eq!(layout.list_segments(GENERATION, 2).expect("listed"), [0]);
}
