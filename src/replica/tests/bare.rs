//! A database that is named without a directory: it is in the current one.

use super::*;
use crate::ownership;
use std::process::Command;

const CHILD: &str = "WALCAST_TEST_BARE";
const NAME: &str = "replica::tests::bare::a_first_snapshot_of_a_bare_name_ends_without_an_error";

#[test]
fn a_first_snapshot_of_a_bare_name_ends_without_an_error() {
    if std::env::var_os(CHILD).is_some() {
        return seed_here();
    }
    // The current directory is the process's, and other tests have it, too.
    for stale in [false, true] {
        let directory = tempfile::tempdir().expect("a directory");
        if stale {
            std::fs::write(directory.path().join("copy.db-wal"), "left").expect("written");
        }
        let output = Command::new(std::env::current_exe().expect("this executable"))
            .args(["--exact", NAME, "--nocapture"])
            .env(CHILD, "1")
            .current_dir(directory.path())
            .output()
            .expect("a child");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "stale: {stale}: {said}");
        assert!(directory.path().join("copy.db").is_file());
    }
}

fn seed_here() {
    let path = PathBuf::from("copy.db");
    let config = ReplicaConfig::new("copy", path.clone(), "http://test");
    let directory = ownership::directory_of(&path);
    std::fs::create_dir_all(&directory).expect("a directory");
    let source = source_with_rows(4096, 5);
    let mut applier = Applier::open(Arc::new(Shared::new(config)), directory).expect("an applier");
    applier.request();
    feed(&mut applier, source.snapshot());
    assert_eq!(rows(&reader(&path)), rows(&source.sql));
}
