//! The parts of the shadow WAL that no whole-part test reaches.

use super::*;
use crate::disk::fault;
use crate::format::commits::{CommitRecord, RECORD_SIZE};
use crate::format::dbsum::DbSum;
use crate::format::lz4;
use crate::format::position::Position;
use crate::format::wal::Cksum;
use std::sync::Arc;
use std::time::Duration;

fn lineage() -> Lineage {
    let fork = Position {
        generation: Generation(7),
        index: 3,
        offset: 4152,
    };
    let base = Base {
        dbsum: DbSum(0xabc),
        page_count: 17,
        page_size: 4096,
    };
    Lineage {
        generation: Generation(0x89ab),
        fork: Some(fork),
        base: Some(base),
    }
}

#[test]
fn a_lineage_is_read_as_it_was_written_or_not_at_all() {
    let whole = lineage();
    let alone = Lineage {
        fork: None,
        base: None,
        ..whole
    };
    for lineage in [whole, alone] {
        assert_eq!(Lineage::parse(&lineage.to_text()), Some(lineage));
    }
    let text = whole.to_text();
    for wrong in [
        text.replace("lineage 1", "lineage 2"),
        text.replace("base ", "basis "),
        text.replace(" 17 ", " x "),
        text.replace("generation 0", "generation g"),
        String::new(),
    ] {
        assert_eq!(Lineage::parse(&wrong), None, "{wrong}");
    }
}

#[test]
fn a_lineage_of_another_generation_is_none() {
    let dir = tempfile::tempdir().expect("a directory");
    let layout = Layout::of(&dir.path().join("app.db"));
    std::fs::create_dir(layout.root()).expect("made");
    std::fs::write(layout.lineage(), lineage().to_text()).expect("written");
    let read = |generation| Lineage::read(&layout, Generation(generation)).expect("readable");
    assert_eq!(read(0x89ab), Some(lineage()));
    assert_eq!(read(0x89ac), None);
}

#[test]
fn only_names_of_ours_count() {
    let dir = tempfile::tempdir().expect("a directory");
    let layout = Layout::of(&dir.path().join("app.db"));
    let generation = Generation(5);
    for name in [
        "0000000000000002",
        "0000000000000001",
        "1",
        "000000000000000G",
        ".tmp",
    ] {
        std::fs::create_dir_all(layout.wal(generation).join(name)).expect("made");
    }
    assert_eq!(layout.list_indexes(generation).expect("listed"), [1, 2]);
    for name in [
        "0000000000001018.wal.lz4",
        "0000000000000000.wal.lz4",
        "0000000000000000.wal",
    ] {
        std::fs::write(layout.index(generation, 1).join(name), b"").expect("made");
    }
    assert_eq!(
        layout.list_segments(generation, 1).expect("listed"),
        [0, 0x1018]
    );
    std::fs::write(layout.generation(), b"0000000000000005\n").expect("written");
    assert_eq!(layout.read_generation().expect("read"), Some(generation));
    std::fs::write(layout.generation(), b"5\n").expect("written");
    assert_eq!(layout.read_generation().expect("read"), None);
}

fn index(index: u64, bytes: u64, ended_us: i64) -> IndexSize {
    IndexSize {
        index,
        bytes,
        ended_us,
    }
}

fn pinned(index: u64) -> Needed {
    Needed {
        pinned: Some(index),
        unread: None,
    }
}

#[test]
fn what_an_archive_has_not_read_is_kept_beyond_its_age_but_not_beyond_the_size() {
    let old = vec![index(4, 100, 0), index(5, 100, 0), index(6, 100, 0)];
    let unread = Needed {
        pinned: None,
        unread: Some(5),
    };
    let mut kept = Retention::new(250, Duration::from_secs(5), old);
    let late = 60_000_000;
    assert_eq!(kept.next_to_remove(10, unread, late), Some(4), "read");
    assert_eq!(kept.next_to_remove(10, unread, late), None);
    assert_eq!(kept.next_to_remove(100, unread, late), Some(5), "too large");
    assert_eq!(kept.next_to_remove(100, unread, late), None);
    let none = Needed::default();
    assert_eq!(
        kept.next_to_remove(100, none, late),
        Some(6),
        "nobody reads"
    );
}

#[test]
fn the_oldest_go_first_by_size_and_by_age() {
    let old = vec![
        index(4, 100, 1_000_000),
        index(5, 100, 2_000_000),
        index(6, 100, 9_000_000),
    ];
    let mut kept = Retention::new(250, Duration::from_secs(5), old);
    assert_eq!(
        kept.next_to_remove(10, Needed::default(), 5_000_000),
        Some(4)
    );
    assert_eq!(kept.next_to_remove(10, Needed::default(), 5_000_000), None);
    // Six seconds later the next is too old.
    assert_eq!(
        kept.next_to_remove(10, Needed::default(), 8_000_000),
        Some(5)
    );
    assert_eq!(kept.next_to_remove(10, Needed::default(), 8_000_000), None);
    // The current index alone may be larger than the limit.
    assert_eq!(
        kept.next_to_remove(1000, Needed::default(), 8_000_000),
        Some(6)
    );
    assert_eq!(
        (
            kept.next_to_remove(1000, Needed::default(), 8_000_000),
            kept.count()
        ),
        (None, 0)
    );
    kept.add(index(7, 300, 0));
    assert_eq!(kept.count(), 1);
}

#[test]
fn a_snapshot_in_progress_keeps_what_it_needs_within_a_limit() {
    const GIB: u64 = 1 << 30;
    let old = vec![index(4, 100, 0), index(5, 100, 0), index(6, 20 * GIB, 0)];
    let mut kept = Retention::new(50, Duration::from_secs(5), old);
    assert_eq!(
        kept.next_to_remove(0, pinned(5), 1),
        Some(4),
        "far above the limit"
    );
    assert_eq!(
        kept.next_to_remove(0, pinned(5), 1),
        Some(5),
        "still above what a pin may hold"
    );
    let mut kept = Retention::new(
        50,
        Duration::from_secs(5),
        vec![index(4, 100, 0), index(5, 100, 0)],
    );
    assert_eq!(kept.next_to_remove(0, pinned(5), 1), Some(4));
    assert_eq!(
        kept.next_to_remove(0, pinned(5), i64::MAX),
        None,
        "neither by size nor by age"
    );
    assert_eq!(kept.next_to_remove(0, Needed::default(), 1), Some(5));
}

fn record(end_offset: u64) -> CommitRecord {
    CommitRecord {
        end_offset,
        dbsum: DbSum(end_offset),
        page_count: 1,
        time_us: 0,
        cksum: Cksum(0, 0),
    }
}

/// Quiet for an hour, then a commit begins the next index: a replica that was away for a second finds what it missed.
#[test]
fn an_index_ages_from_its_end_and_stays_while_it_holds_the_tip() {
    const SECOND: i64 = 1_000_000;
    const HOUR: i64 = 3600 * SECOND;
    let dir = tempfile::tempdir().expect("a directory");
    let layout = Layout::of(&dir.path().join("app.db"));
    disk::create_dir_all("test", layout.root()).expect("made");
    let start = Position::start_of(Generation(7));
    let mut packed = Vec::new();
    lz4::compress(&[1; 536], &mut packed).expect("packed");
    for of_a_former_run in [false, true] {
        let old = match of_a_former_run {
            true => vec![index(0, 100, 0)],
            false => Vec::new(),
        };
        let retention = Retention::new(1 << 30, Duration::from_secs(60), old);
        let housekeeping = Arc::new(Housekeeping::new("test"));
        let mut writer = ShadowWriter::new(layout.clone(), start, 512, retention, housekeeping);
        let append = |writer: &mut ShadowWriter, index, now_us| {
            let piece = Piece {
                index,
                start: 0,
                data: &packed,
                record: Some(record(536)),
            };
            writer.append(&piece, now_us).expect("appended");
        };
        if !of_a_former_run {
            append(&mut writer, 0, 0);
        }
        let gone = std::cell::RefCell::new(Vec::new());
        let tick = |writer: &mut ShadowWriter, now_us| {
            writer.tick(now_us, Needed::default(), |index| {
                gone.borrow_mut().push(index)
            });
            gone.borrow().clone()
        };
        assert!(tick(&mut writer, HOUR).is_empty(), "it holds the tip");
        append(&mut writer, 1, HOUR);
        assert!(
            tick(&mut writer, HOUR + SECOND).is_empty(),
            "it ended just now"
        );
        assert_eq!(tick(&mut writer, HOUR + 61 * SECOND), [0]);
    }
}

/// A disk that was full leaves half a chunk, which is written over once there is room, however long that takes.
#[tokio::test(start_paused = true)]
async fn what_a_full_disk_cut_off_is_no_damage_later() {
    let dir = tempfile::tempdir().expect("a directory");
    let layout = Layout::of(&dir.path().join("app.db"));
    disk::create_dir_all("test", layout.root()).expect("made");
    let start = Position::start_of(Generation(7));
    let housekeeping = Arc::new(Housekeeping::new("test"));
    let retention = Retention::new(1 << 30, Duration::from_secs(60), Vec::new());
    let mut writer = ShadowWriter::new(layout.clone(), start, 512, retention, housekeeping);
    let mut packed = Vec::new();
    lz4::compress(&[1; 536], &mut packed).expect("packed");
    let mut append = |start| {
        let piece = Piece {
            index: 0,
            start,
            data: &packed,
            record: Some(record(start + 536)),
        };
        writer.append(&piece, 0)
    };
    append(0).expect("appended");
    let full = fault::Plan::parse("shadow.append=short").expect("a plan");
    fault::with_plan(full, || append(536))
        .0
        .expect_err("the disk is full");
    tokio::time::advance(Duration::from_secs(SEGMENT_SECONDS + 1)).await;
    append(536).expect("appended");
    append(1072).expect("appended");
    let bound = Position {
        offset: 1608,
        ..start
    };
    let mut reader = ShadowReader::new(layout, start);
    for end in [536, 1072, 1608] {
        let chunk = reader.next(bound).expect("no damage");
        assert_eq!(chunk.map(|chunk| chunk.end_offset), Some(end));
    }
}

/// A power cut takes the end of an index that was not synced yet, with its records, and leaves the next one.
#[test]
fn an_index_that_lost_its_end_is_not_followed_by_the_next() {
    let dir = tempfile::tempdir().expect("a directory");
    let layout = Layout::of(&dir.path().join("app.db"));
    disk::create_dir_all("test", layout.root()).expect("made");
    let start = Position::start_of(Generation(7));
    let housekeeping = Arc::new(Housekeeping::new("test"));
    let retention = Retention::new(1 << 30, Duration::from_secs(60), Vec::new());
    let mut writer = ShadowWriter::new(layout.clone(), start, 512, retention, housekeeping);
    let mut packed = Vec::new();
    lz4::compress(&[1; 536], &mut packed).expect("packed");
    for (index, start) in [(0, 0), (0, 536), (0, 1072), (1, 0), (1, 536)] {
        let piece = Piece {
            index,
            start,
            data: &packed,
            record: Some(record(start + 536)),
        };
        writer.append(&piece, 0).expect("appended");
    }
    writer.close();
    let bound = Position {
        index: 1,
        offset: 1072,
        ..start
    };
    let read = || {
        let mut reader = ShadowReader::new(layout.clone(), start);
        let mut ends = Vec::new();
        loop {
            match reader.next(bound) {
                Ok(Some(chunk)) => ends.push((chunk.start.index, chunk.end_offset)),
                other => return (ends, other.map(drop)),
            }
        }
    };
    let (ends, end) = read();
    assert_eq!(ends, [(0, 536), (0, 1072), (0, 1608), (1, 536), (1, 1072)]);
    assert!(end.is_ok());

    let cut = |path: &Path, by: usize| {
        let file = std::fs::File::options()
            .write(true)
            .open(path)
            .expect("open");
        let len = file.metadata().expect("its size").len();
        file.set_len(len - by as u64).expect("cut");
    };
    cut(&layout.segment(start.generation, 0, 0), packed.len());
    cut(&layout.sidecar(start.generation, 0), RECORD_SIZE);
    let (ends, end) = read();
    assert_eq!(ends, [(0, 536), (0, 1072)]);
    assert!(matches!(end, Err(ShadowError::Damaged { .. })), "{end:?}");
    let previous = ShadowReader::previous_end(&layout, start.generation, 1);
    assert_eq!(previous, Some(1608));
}

/// Ten chunks of one size, each with content of its own.
fn ten_chunks(layout: &Layout) -> Vec<Vec<u8>> {
    disk::create_dir_all("test", layout.root()).expect("made");
    let start = Position::start_of(Generation(7));
    let housekeeping = Arc::new(Housekeeping::new("test"));
    let retention = Retention::new(1 << 30, Duration::from_secs(60), Vec::new());
    let mut writer = ShadowWriter::new(layout.clone(), start, 512, retention, housekeeping);
    let contents: Vec<Vec<u8>> = (0..10).map(|n| vec![n; 100_000]).collect();
    let mut start = 0;
    for content in &contents {
        let mut packed = Vec::new();
        // Not smaller than it is: more than one read of the file.
        lz4::store(content, &mut packed).expect("packed");
        let end = start + content.len() as u64;
        let piece = Piece {
            index: 0,
            start,
            data: &packed,
            record: Some(record(end)),
        };
        writer.append(&piece, 0).expect("appended");
        start = end;
    }
    writer.close();
    contents
}

/// Whoever read on behind it would hand out the next chunk's bytes as those of the one that failed.
#[test]
fn a_read_that_failed_once_is_made_again_at_the_same_place() {
    for plan in [
        "shadow.sidecar-read=eio@1",
        "shadow.sidecar-read=eio@7",
        "shadow.read=eio@2",
        "shadow.open=eio@1",
        "shadow.sidecar-open=eio@1",
    ] {
        let dir = tempfile::tempdir().expect("a directory");
        let layout = Layout::of(&dir.path().join("app.db"));
        let contents = ten_chunks(&layout);
        let start = Position::start_of(Generation(7));
        let bound = Position {
            offset: 1_000_000,
            ..start
        };
        let mut reader = ShadowReader::new(layout, start);
        let (mut read, mut failed) = (Vec::new(), 0);
        let plan = fault::Plan::parse(plan).expect("a plan");
        let (_, plan) = fault::with_plan(plan, || {
            loop {
                match reader.next(bound) {
                    Ok(Some(chunk)) => {
                        assert_eq!(chunk.size(), 100_000);
                        read.push(reader.last().1.to_vec());
                    }
                    Ok(None) => break,
                    Err(ShadowError::Disk(_)) => failed += 1,
                    Err(error) => panic!("{error}"),
                }
            }
        });
        assert_eq!(failed, 1, "{:?}", plan.met());
        assert!(read == contents, "{:?}", plan.met());
    }
}

#[test]
fn a_removal_that_is_cut_short_is_found_at_the_next_start() {
    let dir = tempfile::tempdir().expect("a directory");
    let layout = Layout::of(&dir.path().join("app.db"));
    disk::create_dir_all("test", layout.root()).expect("made");
    let start = Position::start_of(Generation(7));
    layout.write_generation(start.generation).expect("written");
    let mut removed = false;
    // Killed after the first removal.
    let work = move |job| match job {
        Job::Remove(_) if std::mem::replace(&mut removed, true) => Ok(()),
        job => work(job),
    };
    let housekeeping = Arc::new(Housekeeping::with("test", work));
    let retention = Retention::new(1 << 30, Duration::ZERO, Vec::new());
    let mut writer = ShadowWriter::new(
        layout.clone(),
        start,
        512,
        retention,
        Arc::clone(&housekeeping),
    );
    let mut content = vec![0; 32];
    content.extend([1; 536]);
    let mut packed = Vec::new();
    lz4::compress(&content, &mut packed).expect("packed");
    for index in [0, 1] {
        let piece = Piece {
            index,
            start: 0,
            data: &packed,
            record: Some(record(568)),
        };
        writer.append(&piece, 0).expect("appended");
    }
    writer.tick(1, Needed::default(), |_| {});
    writer.close();
    drop(housekeeping);
    let indexes = layout.list_indexes(start.generation).expect("listed");
    for name in disk::list("test", &layout.commits(start.generation)).expect("listed") {
        let index = hex16(&name).expect("a sidecar");
        assert!(indexes.contains(&index), "nobody finds {index}");
    }
}
