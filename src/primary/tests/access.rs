//! What is captured is readable by nobody who may not read the database.

use super::*;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};

fn set(path: &Path, mode: u32) {
    let permissions = std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(path, permissions).expect("a mode");
}

/// Mode and group of all in the directory, and of itself.
fn all(directory: &Path) -> Vec<(PathBuf, bool, u32, u32)> {
    let metadata = std::fs::metadata(directory).expect("there");
    let mut found = vec![(
        directory.to_owned(),
        metadata.is_dir(),
        metadata.mode() & 0o7777,
        metadata.gid(),
    )];
    if metadata.is_dir() {
        for entry in std::fs::read_dir(directory).expect("readable") {
            found.extend(all(&entry.expect("an entry").path()));
        }
    }
    found
}

async fn capture(bench: &mut Bench) {
    let primary = bench.primary();
    wait_for_state(&primary, DatabaseState::Streaming, "").await;
    bench.app.sql("INSERT INTO item(v) VALUES(1)");
    primary.fence().await.expect("a position");
    stop(primary).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_cannot_read_the_database_cannot_read_what_was_captured() {
    let mut bench = Bench::new("");
    let kept = bench.dir.path().join("app.db-walcast");
    set(&bench.path(), 0o600);
    capture(&mut bench).await;
    let files = all(&kept);
    let segment = |(path, ..): &(PathBuf, bool, u32, u32)| path.extension() == Some("lz4".as_ref());
    assert!(files.iter().any(segment), "{files:?}");
    let open = |(_, _, mode, _): &&(PathBuf, bool, u32, u32)| mode & 0o077 != 0;
    assert_eq!(files.iter().find(open), None);

    // As an earlier walcast left them, and with a database that its group may read.
    for (path, is_dir, ..) in &files {
        set(path, if *is_dir { 0o755 } else { 0o644 });
    }
    set(&bench.path(), 0o640);
    let root = nix::unistd::geteuid().is_root();
    if root {
        chown(bench.path(), None, Some(64100)).expect("a group");
    }
    let group = std::fs::metadata(bench.path()).expect("there").gid();
    capture(&mut bench).await;
    for (path, is_dir, mode, gid) in all(&kept) {
        let want = if is_dir { 0o750 } else { 0o640 };
        assert_eq!((mode, gid), (want, group), "{}", path.display());
    }
}
