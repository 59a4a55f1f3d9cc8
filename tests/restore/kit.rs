//! Restores in this process.

use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;
use tokio::runtime::Runtime;
use walcast::archive::{Location, Store};
use walcast::restore::{Options, Outcome, RestoreError, Source, Target, restore};

pub fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime")
    })
}

pub fn source(root: &Path) -> Source {
    let store = Store::open(&Location::Directory(root.to_owned())).expect("an archive");
    Source::new(store, runtime().handle().clone())
}

/// What a restore gives: its bytes, and what is said of them.
pub fn take(root: &Path, target: Target, sound: bool) -> Result<(Vec<u8>, Outcome), RestoreError> {
    let scratch = tempfile::tempdir().expect("a directory");
    let path = scratch.path().join("restored.db");
    let options = Options {
        path: &path,
        parallelism: 3,
        integrity_check: false,
        sound,
        cancel: &AtomicBool::new(false),
    };
    let outcome = restore(&source(root), target, &options, &mut |_, _| {})?;
    let names = std::fs::read_dir(scratch.path()).expect("a directory");
    assert_eq!(names.count(), 1, "nothing but the database is left");
    Ok((std::fs::read(&path).expect("a database"), outcome))
}
