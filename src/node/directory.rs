//! The databases of a directory.

use super::finding::{Finding, Found, OURS, belongs_to_another};
use globset::GlobMatcher;
use std::fs::{self, FileType};
use std::io;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;

/// Directories in directories. A bound, so that a mistake such as a mounted loop ends.
const DEEPEST: usize = 32;

/// Reads the directory and those in it. Symbolic links are not followed: a database has its `-wal` beside the file itself,
/// and a link may lead out of the directory, to files that nobody meant to serve. A file that is no database is found
/// too: the one who opens it says what it is.
pub fn scan(dir: &Path, pattern: &GlobMatcher) -> io::Result<Found> {
    let mut found = Found::default();
    let mut open = vec![(dir.to_owned(), String::new(), 0)];
    while let Some((path, prefix, depth)) = open.pop() {
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            // A directory may go while its parent is read; the place itself may not.
            Err(error) if depth > 0 && error.kind() == io::ErrorKind::NotFound => continue,
            // Such as lost+found: not ours to read, and no reason to serve nothing.
            Err(error) if depth > 0 && error.kind() == io::ErrorKind::PermissionDenied => {
                let line = format!("left out: '{prefix}' cannot be read: {error}");
                found.nameless.insert(line);
                continue;
            }
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            let kind = match entry.file_type() {
                Ok(kind) => kind,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let file_name = entry.file_name();
            let Some(file_name) = file_name.to_str() else {
                let lossy = file_name.to_string_lossy();
                let line = format!("left out: '{prefix}{lossy}' is not UTF-8");
                found.nameless.insert(line);
                continue;
            };
            let name = format!("{prefix}{file_name}");
            if !kind.is_dir() {
                look(&mut found, &name, kind, pattern);
            } else if !file_name.ends_with(OURS) && depth < DEEPEST {
                open.push((path.join(file_name), format!("{name}/"), depth + 1));
            }
        }
    }
    Ok(found)
}

/// The names of replicas' copies in a directory, by walcast's mark beside them.
pub fn copies(dir: &Path, pattern: &GlobMatcher) -> io::Result<Vec<String>> {
    let found = scan(dir, pattern)?.databases.into_iter();
    let marked = |name: &str| dir.join(format!("{name}{OURS}")).join("replica").is_file();
    let copies = found.filter(|(name, finding)| *finding == Finding::Here && marked(name));
    Ok(copies.map(|(name, _)| name).collect())
}

fn look(found: &mut Found, name: &str, kind: FileType, pattern: &GlobMatcher) {
    if !pattern.is_match(name) || belongs_to_another(name) {
        return;
    }
    let finding = if kind.is_file() {
        Finding::Here
    } else if kind.is_symlink() {
        Finding::Refused(
            "it is a symbolic link, and these are not followed: move the file here, or name its path in an entry of its own"
                .to_owned(),
        )
    } else {
        let what = match () {
            () if kind.is_fifo() => "a pipe",
            () if kind.is_socket() => "a socket",
            () => "a device",
        };
        Finding::Refused(format!(
            "it is {what} and no database; move it away, or change the pattern"
        ))
    };
    found.note(name, finding);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse_pattern;
    use std::os::unix::fs::symlink;

    fn names(found: &Found) -> Vec<(&str, bool)> {
        let here = |finding: &Finding| *finding == Finding::Here;
        let pairs = found.databases.iter();
        pairs.map(|(name, f)| (name.as_str(), here(f))).collect()
    }

    #[test]
    fn what_matches_is_found_and_what_belongs_to_it_is_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |name: &str| dir.path().join(name);
        for sub in ["a/b", "x.db-walcast/shadow", "c.db"] {
            fs::create_dir_all(at(sub)).expect("a directory");
        }
        for file in [
            "x.db",
            "x.db-wal",
            "x.db-shm",
            "x.db-journal",
            "x.db-walcast/sums.db",
            "a/y.db",
            "a/b/z.db",
            "a/b/note.txt",
            "a/tab\there.db",
        ] {
            fs::write(at(file), b"").expect("a file");
        }
        symlink("/etc/passwd", at("out.db")).expect("a link");
        symlink("/etc", at("etc")).expect("a link");
        let scan = |text: &str| scan(dir.path(), &parse_pattern(text).expect("a pattern"));
        let all = scan("**/*").expect("readable");
        let here = ["a/b/note.txt", "a/b/z.db", "a/y.db"].map(|name| (name, true));
        let links = ["etc", "out.db"].map(|name| (name, false));
        let want: Vec<_> = here
            .into_iter()
            .chain(links)
            .chain([("x.db", true)])
            .collect();
        assert_eq!(names(&all), want);
        assert_eq!(all.nameless.len(), 1, "{:?}", all.nameless);
        assert!(all.nameless.iter().all(|line| !line.contains('\t')));
        let top = scan("*.db").expect("readable");
        assert_eq!(names(&top), [("out.db", false), ("x.db", true)]);
        let below = scan("a/*.db").expect("readable");
        assert_eq!(names(&below), [("a/y.db", true)]);
    }

    #[test]
    fn copies_are_known_by_their_mark() {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |name: &str| dir.path().join(name);
        for name in ["t/a.db", "t/own.db", "other.db"] {
            fs::create_dir_all(at(&format!("{name}-walcast"))).expect("a directory");
            fs::write(at(name), b"").expect("a file");
        }
        for name in ["t/a.db", "t/gone.db", "other.db"] {
            fs::create_dir_all(at(&format!("{name}-walcast"))).expect("a directory");
            fs::write(at(&format!("{name}-walcast/replica")), b"").expect("a mark");
        }
        let pattern = parse_pattern("t/*").expect("a pattern");
        assert_eq!(copies(dir.path(), &pattern).expect("readable"), ["t/a.db"]);
    }

    #[test]
    fn a_directory_that_is_not_there_is_an_error() {
        let dir = tempfile::tempdir().expect("a directory");
        let pattern = parse_pattern("**/*.db").expect("a pattern");
        let error = scan(&dir.path().join("none"), &pattern).expect_err("not there");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
