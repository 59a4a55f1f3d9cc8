//! What only the whole file shows: two databases with one name, one file twice, names that are nowhere.

use super::entries::Placed;
use super::model::{Entry, Readiness};
use super::problem::{Place, Problems};
use super::values::parse_pattern;
use crate::archive::Location;
use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::hash::Hash;
use std::path::{Component, Path, PathBuf};

/// The file itself, however its path is written. What does not exist yet is named by the nearest directory that does.
pub fn identity(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    for there in absolute.ancestors() {
        if let Ok(real) = there.canonicalize() {
            let missing = absolute.strip_prefix(there).unwrap_or(Path::new(""));
            return join(real, missing);
        }
    }
    absolute
}

/// Where nothing exists there are no links, and `..` is what it seems.
fn join(mut real: PathBuf, missing: &Path) -> PathBuf {
    for part in missing.components() {
        match part {
            Component::ParentDir => drop(real.pop()),
            part => real.push(part),
        }
    }
    real
}

/// Tells of names and files that are there twice.
pub(super) fn check_entries(entries: &[Placed], problems: &Problems) {
    let mut names: HashMap<&str, Place> = HashMap::new();
    let mut files: HashMap<PathBuf, Place> = HashMap::new();
    let mut dirs: HashMap<(PathBuf, &str), Place> = HashMap::new();
    for placed in entries {
        match &placed.entry {
            Entry::Database(database) => {
                if let Some(first) = first(&mut names, database.name.as_str(), placed.name) {
                    let text = format!(
                        "the database in line {} is named {} too; give one of them another `name`",
                        first.line, database.name
                    );
                    problems.add(placed.name, text);
                }
                if let Some(first) = first(&mut files, identity(&database.path), placed.path) {
                    let text = format!(
                        "this is the file of the database in line {} too",
                        first.line
                    );
                    problems.add(placed.path, text);
                }
            }
            Entry::Directory(directory) => {
                let key = (identity(&directory.dir), directory.pattern.as_str());
                if let Some(first) = first(&mut dirs, key, placed.path) {
                    let text = format!(
                        "the directory in line {} is this one with the same pattern",
                        first.line
                    );
                    problems.add(placed.path, text);
                }
            }
        }
    }
    check_files_in_directories(&files, &dirs, problems);
    check_archives(entries, problems);
}

/// An archive holds one database: the second would be refused by its owner, at best.
fn check_archives(entries: &[Placed], problems: &Problems) {
    let mut archives: HashMap<String, Place> = HashMap::new();
    for placed in entries {
        let options = match &placed.entry {
            Entry::Database(database) => &database.primary,
            Entry::Directory(directory) => &directory.primary,
        };
        for (archive, place) in options.archives.iter().zip(&placed.archives) {
            let location = match &archive.location {
                Location::Directory(path) => identity(path).display().to_string(),
                bucket @ Location::Bucket { .. } => bucket.to_string(),
            };
            if let Some(first) = first(&mut archives, location, *place) {
                let text = format!(
                    "this is the archive in line {} too, and an archive holds one database; give each one of its own",
                    first.line
                );
                problems.add(*place, text);
            }
        }
    }
}

/// Where the same was before; where it was not, it is now.
fn first<K: Eq + Hash>(seen: &mut HashMap<K, Place>, key: K, place: Place) -> Option<Place> {
    match seen.entry(key) {
        Slot::Occupied(slot) => Some(*slot.get()),
        Slot::Vacant(slot) => {
            slot.insert(place);
            None
        }
    }
}

/// A file that a directory would pick up too would have two names, and two owners.
fn check_files_in_directories(
    files: &HashMap<PathBuf, Place>,
    dirs: &HashMap<(PathBuf, &str), Place>,
    problems: &Problems,
) {
    for ((dir, pattern), directory) in dirs {
        let Ok(pattern) = parse_pattern(pattern) else {
            continue;
        };
        for (file, place) in files {
            if let Ok(relative) = file.strip_prefix(dir)
                && pattern.is_match(relative)
            {
                let text = format!(
                    "the directory in line {} has this file too; change its `pattern`, or leave this database out",
                    directory.line
                );
                problems.add(*place, text);
            }
        }
    }
}

/// Tells of names in `readiness` that no replica has. Directories have names that nobody knows yet.
pub(super) fn check_readiness(
    readiness: &Readiness,
    places: &[Place],
    entries: &[Placed],
    problems: &Problems,
) {
    let Readiness::Named(names) = readiness else {
        return;
    };
    for (name, place) in names.iter().zip(places) {
        let same = entries.iter().find_map(|placed| match &placed.entry {
            Entry::Database(database) if database.name == *name => Some(database),
            _ => None,
        });
        let in_directory = entries.iter().any(|placed| match &placed.entry {
            Entry::Directory(directory) => {
                directory.upstream.is_some()
                    && parse_pattern(&directory.pattern).is_ok_and(|p| p.is_match(name))
            }
            Entry::Database(_) => false,
        });
        let text = match same {
            Some(database) if database.is_replica() => continue,
            Some(_) => format!(
                "`readiness`: {name} is a primary, and only replicas are asked whether they are ready"
            ),
            None if in_directory => continue,
            None => format!("`readiness`: no replica in `dbs` has the name {name}"),
        };
        problems.add(*place, text);
    }
}

#[cfg(test)]
mod tests {
    use super::identity;

    #[test]
    fn a_file_is_the_same_however_it_is_written() {
        let here = tempfile::tempdir().expect("a directory");
        let here = here.path().canonicalize().expect("its name");
        let file = here.join("f.db");
        std::fs::write(&file, b"").expect("a file");
        std::os::unix::fs::symlink(&file, here.join("l.db")).expect("a link");
        assert_eq!(identity(&here.join("l.db")), file);
        assert_eq!(identity(&here.join("./f.db")), file);
        let missing = here.join("no/f.db");
        assert_eq!(identity(&here.join("no/../no/./f.db")), missing);
        assert_eq!(identity(&here.join("other/../no/f.db")), missing);
        assert_ne!(identity(&here.join("f.db/x")), file);
    }
}
