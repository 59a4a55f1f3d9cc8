//! The model of the disk itself: it loses what may be lost, and nothing else.

use std::collections::BTreeSet;
use std::path::Path;

use super::disk::{FileSystem, Moment};
use super::recording::Kind::{Create, Mkdir, Rename, SyncBegun, SyncDone, Truncate, Unlink, Write};
use super::recording::{Kind, Recording};
use crate::support::rng::Rng;

type Step = (Kind, u64, &'static str, u64, &'static [u8]);

const OLD: [u8; 1024] = [b'o'; 1024];
const NEW: [u8; 1024] = [b'n'; 1024];

/// Everything that `name` may be after a cut: absent, or these bytes.
fn fates(steps: &[Step], file_system: FileSystem, name: &str) -> BTreeSet<Option<Vec<u8>>> {
    let recording = Recording::of(steps);
    let moment = Moment::new(&recording, Path::new("m"), steps.len());
    let image = |seed| moment.cut(file_system, &mut Rng::new(seed));
    (0..400)
        .map(|seed| image(seed).files.remove(Path::new(name)))
        .collect()
}

const BOTH: [FileSystem; 2] = [FileSystem::Journalling, FileSystem::Strict];

/// A file with old bytes, synced, and so is its name.
const BEGIN: [Step; 6] = [
    (Create, 1, "m/f", 0, &[]),
    (Write, 1, "m/f", 0, &OLD),
    (SyncBegun, 1, "m/f", 0, &[]),
    (SyncDone, 1, "m/f", 0, &[]),
    (SyncBegun, 9, "m", 0, &[]),
    (SyncDone, 9, "m", 0, &[]),
];

#[test]
fn what_was_synced_is_there() {
    for file_system in BOTH {
        let fates = fates(&BEGIN, file_system, "m/f");
        assert_eq!(fates, BTreeSet::from([Some(OLD.to_vec())]));
    }
}

#[test]
fn an_unsynced_write_is_torn_between_sectors() {
    let steps = [&BEGIN[..], &[(Write, 1, "m/f", 0, &NEW)]].concat();
    let torn = [&NEW[..512], &OLD[512..]].concat();
    let torn_behind = [&OLD[..512], &NEW[512..]].concat();
    for file_system in BOTH {
        let fates = fates(&steps, file_system, "m/f");
        let all = [
            OLD.to_vec(),
            NEW.to_vec(),
            torn.clone(),
            torn_behind.clone(),
        ];
        assert_eq!(fates, all.into_iter().map(Some).collect());
    }
}

#[test]
fn a_write_during_a_sync_is_not_made_durable_by_it() {
    let steps = [
        &BEGIN[..],
        &[
            (SyncBegun, 1, "m/f", 0, &[]),
            (Write, 1, "m/f", 0, &NEW),
            (SyncDone, 1, "m/f", 0, &[]),
        ],
    ]
    .concat();
    let fates = fates(&steps, FileSystem::Journalling, "m/f");
    assert!(fates.contains(&Some(OLD.to_vec())), "it was never lost");
}

#[test]
fn names_wait_for_their_directory_or_for_the_journal() {
    let new: [Step; 5] = [
        (Create, 2, "m/f.tmp", 0, &[]),
        (Write, 2, "m/f.tmp", 0, &NEW),
        (SyncBegun, 2, "m/f.tmp", 0, &[]),
        (SyncDone, 2, "m/f.tmp", 0, &[]),
        (Rename, 2, "m/f.tmp m/f", 0, &[]),
    ];
    let steps = [&BEGIN[..], &new].concat();
    for file_system in BOTH {
        let either = BTreeSet::from([Some(OLD.to_vec()), Some(NEW.to_vec())]);
        assert_eq!(fates(&steps, file_system, "m/f"), either);
    }
    let synced = [&steps[..], &BEGIN[4..]].concat();
    for file_system in BOTH {
        let fates = fates(&synced, file_system, "m/f");
        assert_eq!(fates, BTreeSet::from([Some(NEW.to_vec())]));
    }
    // The sync of another file is enough for a journal, and for nothing else.
    let other = [
        &[(Create, 3, "m/g", 0, &[][..])][..],
        &steps,
        &[(SyncBegun, 3, "m/g", 0, &[]), (SyncDone, 3, "m/g", 0, &[])],
    ]
    .concat();
    let journalled = fates(&other, FileSystem::Journalling, "m/f");
    assert_eq!(journalled, BTreeSet::from([Some(NEW.to_vec())]));
    assert_eq!(fates(&other, FileSystem::Strict, "m/f").len(), 2);
}

#[test]
fn names_go_in_any_order_only_where_there_is_no_journal() {
    let two: [Step; 2] = [(Unlink, 1, "m/f", 0, &[]), (Create, 2, "m/g", 0, &[])];
    let steps = [&BEGIN[..], &two].concat();
    let recording = Recording::of(&steps);
    let moment = Moment::new(&recording, Path::new("m"), steps.len());
    let both_there = |file_system| {
        (0..400).any(|seed| moment.cut(file_system, &mut Rng::new(seed)).files.len() == 2)
    };
    assert!(!both_there(FileSystem::Journalling));
    assert!(both_there(FileSystem::Strict));
}

#[test]
fn a_directory_moves_with_what_is_in_it() {
    let steps: [Step; 8] = [
        (Mkdir, 0, "m/old", 0, &[]),
        (Create, 1, "m/old/f", 0, &[]),
        (Rename, 0, "m/old m/new", 0, &[]),
        (Mkdir, 0, "m/old", 0, &[]),
        (Create, 2, "m/old/f", 0, &[]),
        (Write, 1, "m/new/f", 0, &NEW),
        (SyncBegun, 1, "m/new/f", 0, &[]),
        (SyncDone, 1, "m/new/f", 0, &[]),
    ];
    let recording = Recording::of(&steps);
    let whole = Moment::new(&recording, Path::new("m"), steps.len()).whole();
    let files = [("m/new/f", NEW.to_vec()), ("m/old/f", Vec::new())];
    assert!(whole.files == files.map(|(name, bytes)| (name.into(), bytes)).into());
    let journalled = fates(&steps, FileSystem::Journalling, "m/new/f");
    assert_eq!(journalled, BTreeSet::from([Some(NEW.to_vec())]));
    let strict = fates(&steps, FileSystem::Strict, "m/new/f");
    assert_eq!(strict, BTreeSet::from([None, Some(NEW.to_vec())]));
}

#[test]
fn a_size_that_was_not_synced_may_be_the_old_one() {
    let steps = [&BEGIN[..], &[(Truncate, 1, "m/f", 100, &[])]].concat();
    for file_system in BOTH {
        let fates = fates(&steps, file_system, "m/f");
        let all = [OLD.to_vec(), OLD[..100].to_vec()];
        assert_eq!(fates, all.into_iter().map(Some).collect());
    }
}
