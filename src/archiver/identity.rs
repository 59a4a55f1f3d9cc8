//! `<db>-walcast/archive-id`: a random number that tells this database's writer from every other one. 32 hex digits and a
//! line feed, made once, copied to nowhere. A database that is moved with its directory stays the same writer.

use crate::disk::{self, DiskError, File};
use std::io;
use std::path::{Path, PathBuf};

/// The number's file.
pub const FILE: &str = "archive-id";

/// Reads it, or makes it. `directory` is there and this process' own.
pub fn of(directory: &Path) -> Result<String, DiskError> {
    let path = directory.join(FILE);
    if let Some(id) = read(&path)? {
        return Ok(id);
    }
    let number = |error: getrandom::Error| {
        DiskError::new(
            "archive-id.make",
            &path,
            io::Error::other(error.to_string()),
        )
    };
    let (high, low) = (
        getrandom::u64().map_err(number)?,
        getrandom::u64().map_err(number)?,
    );
    let id = format!("{high:016x}{low:016x}");
    let temporary = directory.join(format!("{FILE}.{low:016x}.tmp"));
    let made = make(directory, &temporary, &id);
    if made.is_err() {
        // It is tried again with another name: on a full disk there would be more and more of them. Why it failed is told, not
        // why this does.
        let _ = disk::remove_file("archive-id.remove", &temporary);
    }
    match made {
        // Another archive of the same database may make one just now: the first counts.
        Err(error) if error.is_there_already() => match read(&path)? {
            Some(id) => Ok(id),
            None => Err(unreadable(path)),
        },
        Err(error) => Err(error),
        Ok(()) => Ok(id),
    }
}

fn make(directory: &Path, temporary: &Path, id: &str) -> Result<(), DiskError> {
    let file = File::create_within("archive-id.write", temporary)?;
    file.write_all_at("archive-id.write", format!("{id}\n").as_bytes(), 0)?;
    file.sync_data("archive-id.sync")?;
    disk::rename_new("archive-id.rename", temporary, &directory.join(FILE))?;
    disk::sync_dir("archive-id.rename", directory)
}

fn read(path: &Path) -> Result<Option<String>, DiskError> {
    let Some(bytes) = disk::read_if_exists("archive-id.read", path)? else {
        return Ok(None);
    };
    let text = String::from_utf8_lossy(&bytes);
    let id = text.trim_end();
    let ours = id.len() == 32 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    match ours {
        true => Ok(Some(id.to_owned())),
        false => Err(unreadable(path.to_owned())),
    }
}

/// A new number instead would be another writer, who is refused everywhere: a person decides.
fn unreadable(path: PathBuf) -> DiskError {
    let what = "it is not 32 hex digits; put the right file back, or remove it and start once with --take-over";
    let source = io::Error::new(io::ErrorKind::InvalidData, what);
    DiskError::new("archive-id.read", &path, source)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::fault::{Plan, with_plan};

    #[test]
    fn what_could_not_be_made_leaves_nothing() {
        let directory = tempfile::tempdir().expect("a directory");
        for op in ["archive-id.write", "archive-id.sync", "archive-id.rename"] {
            let plan = Plan::parse(&format!("{op}=enospc")).expect("a plan");
            let (made, _) = with_plan(plan, || of(directory.path()));
            assert!(made.expect_err("the disk is full").is_full(), "{op}");
            let names = disk::list("test.list", directory.path()).expect("a list");
            // A name may be there without being durable.
            let left: Vec<_> = names.iter().filter(|name| *name != FILE).collect();
            assert!(left.is_empty(), "{op}: {left:?}");
        }
        of(directory.path()).expect("there is space again");
    }

    #[test]
    fn it_is_made_once_and_never_guessed() {
        let directory = tempfile::tempdir().expect("a directory");
        let id = of(directory.path()).expect("made");
        assert_eq!(id.len(), 32);
        assert_eq!(of(directory.path()).expect("read"), id);
        let names = disk::list("test.list", directory.path()).expect("a list");
        assert_eq!(names, [FILE]);
        std::fs::write(directory.path().join(FILE), "0123").expect("written");
        let error = of(directory.path()).expect_err("cut off").to_string();
        assert!(
            error.contains("--take-over") && error.contains(FILE),
            "{error}"
        );
    }
}
