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
    let file = File::create_within("archive-id.write", &temporary)?;
    file.write_all_at("archive-id.write", format!("{id}\n").as_bytes(), 0)?;
    file.sync_data("archive-id.sync")?;
    // Another archive of the same database may make one just now: the first counts.
    match disk::rename_new("archive-id.rename", &temporary, &path) {
        Err(error) if error.source.kind() == io::ErrorKind::AlreadyExists => {
            disk::remove_file("archive-id.remove", &temporary)?;
            match read(&path)? {
                Some(id) => Ok(id),
                None => Err(unreadable(path)),
            }
        }
        Err(error) => Err(error),
        Ok(()) => {
            disk::sync_dir("archive-id.rename", directory)?;
            Ok(id)
        }
    }
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
