//! Files that somebody deletes or replaces under a replica that never rests.

use super::*;
use crate::replica::error::ApplyError;

fn source() -> Source {
    let source = Source::new(4096);
    source.run("CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT); INSERT INTO t(b) VALUES('first')");
    source
}

/// A commit and a look around, a second after the last.
fn commit(applier: &mut Applier, source: &Source) -> Result<(), ApplyError> {
    source.run("INSERT INTO t(b) VALUES('next')");
    let mark = applier.request().mark.expect("a mark");
    let mut messages = source.since(&mark, 100).into_iter();
    messages.try_for_each(|message| applier.message(message))?;
    applier.last_look -= Duration::from_secs(1);
    applier.tick(false)
}

fn notices(name: &str, replaced: bool) -> (Source, Target) {
    let (source, target) = (source(), Target::new());
    let mut applier = target.seeded(&source);
    for _ in 0..3 {
        commit(&mut applier, &source).expect("all is there");
    }
    let path = target.directory.path().join(name);
    match replaced {
        false => std::fs::remove_file(&path).expect("removed"),
        true => {
            let other = target.directory.path().join("other");
            std::fs::copy(source.sql.path().expect("a file"), &other).expect("copied");
            std::fs::rename(other, &path).expect("in its place");
        }
    }
    let error = (0..3).find_map(|_| commit(&mut applier, &source).err());
    let error = error.unwrap_or_else(|| panic!("that {name} is gone is not noticed"));
    assert!(error.must_reopen(), "{error}");
    (source, target)
}

#[test]
fn a_database_that_is_gone_is_noticed_while_commits_come() {
    notices("copy.db", false);
    notices("copy.db", true);
}

#[test]
fn a_log_that_is_gone_is_noticed_while_commits_come() {
    notices("copy.db-wal", false);
}

#[test]
fn shared_memory_that_is_gone_is_noticed_and_made_anew() {
    let (source, target) = notices("copy.db-shm", false);
    let mut applier = target.open();
    source.run("INSERT INTO t(b) VALUES('behind it')");
    catch_up(&mut applier, &source);
    let reader = target.reader();
    assert_eq!(rows(&reader), rows(&source.sql));
    assert_eq!(check(&reader), "ok");
}
