//! Who may read a copy, and what is beside it.

use super::source_with_rows;
use super::*;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};

fn of(path: &Path) -> (u32, u32) {
    let metadata = std::fs::metadata(path).expect("a file");
    (metadata.mode() & 0o7777, metadata.gid())
}

/// Mode and group of the copy and what is beside it.
fn access(target: &Target) -> Vec<(u32, u32)> {
    let path = |suffix| target.directory.path().join(format!("copy.db{suffix}"));
    ["", "-wal", "-shm"]
        .map(|suffix| of(&path(suffix)))
        .to_vec()
}

#[test]
fn a_new_file_has_its_mode_and_the_groups_of_its_directory() {
    let source = source_with_rows(4096, 3);
    let target = Target::new();
    // Only root can choose any group; others have their own, which the directory has then.
    let _ = chown(target.directory.path(), None, Some(64_100));
    let group = std::fs::metadata(target.directory.path())
        .expect("a directory")
        .gid();
    let applier = target.seeded(&source);
    assert_eq!(access(&target), vec![(0o640, group); 3]);
    // Scripts of its readers look at the position.
    let beside = |name: &str| of(&target.side().join(name));
    assert_eq!(of(&target.side()), (0o750, group));
    for name in ["position", "replica", "applied", "durable"] {
        assert_eq!(beside(name), (0o640, group), "{name}");
    }
    drop(applier);
    // Who may not read the copy any more may not read what is beside it.
    std::fs::set_permissions(&target.path, std::fs::Permissions::from_mode(0o600)).expect("a mode");
    drop(target.open());
    assert_eq!(of(&target.side()).0, 0o700);
    assert_eq!(beside("position").0, 0o600);
    // What is there already keeps its mode, an empty file too.
    let target = Target::new();
    std::fs::write(&target.path, []).expect("a file");
    std::fs::set_permissions(&target.path, std::fs::Permissions::from_mode(0o606)).expect("a mode");
    let mut applier = target.seeded(&source);
    let kept: Vec<u32> = access(&target).iter().map(|(mode, _)| *mode).collect();
    assert_eq!(kept, [0o606; 3]);
    applier.disconnected();
    feed(&mut applier, source_with_rows(4096, 5).snapshot());
    let kept: Vec<u32> = access(&target).iter().map(|(mode, _)| *mode).collect();
    assert_eq!(kept, [0o606; 3], "a snapshot in place changes no mode");
}
