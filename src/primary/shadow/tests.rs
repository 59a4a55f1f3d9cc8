//! The parts of the shadow WAL that no whole-part test reaches.

use super::*;
use crate::format::dbsum::DbSum;
use crate::format::position::Position;
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

fn index(index: u64, bytes: u64, last_us: i64) -> IndexSize {
    IndexSize {
        index,
        bytes,
        last_us,
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
            kept.oldest()
        ),
        (None, None)
    );
    kept.add(index(7, 300, 0));
    assert_eq!(kept.oldest(), Some(7));
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
