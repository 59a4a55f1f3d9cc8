//! Another program published: the replica stops, says so everywhere, and reads what is there anew.

use super::*;
use crate::format::walindex::IndexHeader;
use crate::model::DatabaseState;
use crate::replica::Command;
use crate::replica::worker::{Work as _, Worker};
use crate::sqlite::WalIndex;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use std::fs::File;
use tokio::sync::oneshot;

/// As a program leaves it that minds neither locks nor marks.
fn publish_another_header(shm: &File) {
    change_header(shm, |header| IndexHeader {
        change: header.change.wrapping_add(1),
        ..header
    });
}

#[test]
fn it_stops_says_so_and_goes_on_once_the_content_is_proven() {
    let source = Source::new(4096);
    source.run("CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT); INSERT INTO t(b) VALUES('one')");
    let target = Target::new();
    let mut worker = Worker::new(target.shared.clone());
    assert!(stream(&mut worker, &target, &source));
    assert!(*target.shared.caught_up().borrow());
    // Open to the end: closing it here would drop this process's locks.
    let shm = File::options()
        .read(true)
        .write(true)
        .open(target.directory.path().join("copy.db-shm"))
        .expect("the shared memory");
    publish_another_header(&shm);
    source.run("INSERT INTO t(b) VALUES('two')");
    assert!(!stream(&mut worker, &target, &source));
    let status = target.shared.status();
    assert_eq!(status.state, DatabaseState::Disconnected);
    let reason = status.reason;
    assert!(
        reason.contains("was changed by another program"),
        "{reason}"
    );
    assert_eq!(target.shared.meters.checksum_failures.get(), 1);
    assert!(!*target.shared.caught_up().borrow(), "health");
    let reader = target.reader();
    assert_eq!(rows(&reader).len(), 1, "nothing of it is seen");
    assert!(stream(&mut worker, &target, &source));
    assert_eq!(rows(&reader), rows(&source.sql));
    assert_eq!(check(&reader), "ok");
    assert_eq!(target.shared.meters.checksum_failures.get(), 1);
}

/// True if this process has a POSIX lock on the database's shared range (`SHARED_FIRST`), as each open connection in WAL mode.
fn has_shared_lock(database: &File) -> bool {
    let mut lock = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0x4000_0002,
        l_len: 510,
        l_pid: 0,
    };
    // Of another owner than the process, so it meets the process's own.
    fcntl(database, FcntlArg::F_OFD_GETLK(&mut lock)).expect("an answer");
    lock.l_type != libc::F_UNLCK as libc::c_short
}

#[test]
fn a_state_that_is_held_keeps_its_locks_when_the_files_are_opened_anew() {
    let source = Source::new(4096);
    source.run("CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT); INSERT INTO t(b) VALUES('one')");
    let target = Target::new();
    let mut worker = Worker::new(target.shared.clone());
    assert!(stream(&mut worker, &target, &source));
    let open = |path: &Path| {
        let file = File::options().read(true).write(true).open(path);
        // Never closed: that would drop this process's locks.
        &*Box::leak(Box::new(file.expect("a file")))
    };
    let (shm, database) = (
        open(&target.path.with_extension("db-shm")),
        open(&target.path),
    );
    let index = WalIndex::open(&target.path).expect("an index");
    let (reply, mut answer) = oneshot::channel();
    worker.command(Command::View(Box::new(index), reply));
    let view = answer.try_recv().expect("an answer").expect("a view");
    assert!(has_shared_lock(database));
    publish_another_header(shm);
    source.run("UPDATE t SET b = 'two'");
    assert!(
        !stream(&mut worker, &target, &source),
        "another's header is not seen"
    );
    assert!(
        has_shared_lock(database),
        "the lock went with the files of before"
    );
    assert!(stream(&mut worker, &target, &source));
    drop(view);
    assert!(
        has_shared_lock(database),
        "the replica's own lock went with the view"
    );
}
