//! What an upload into a directory leaves when it is killed: `NAME#1` beside the object that it would have become. Lists do not
//! show it, so nothing else would ever remove it, and half a snapshot is large.
//!
//! It lies where the run that was killed wrote: among a generation's documents and snapshots, and in its newest log. The older
//! logs, which may be a hundred thousand directories, are not walked through: each start has swept when they were the newest.

use super::key::Key;
use crate::disk;
use std::path::Path;

/// Removes it from the archive in `root`, whose owner nobody else may be. How much it was.
pub fn sweep(root: &Path) -> disk::Result<usize> {
    let mut gone = 0;
    for top in [
        Key::GENERATIONS.to_owned(),
        format!("{}/{}", Key::OWN, Key::GENERATIONS),
    ] {
        for generation in numbers(&root.join(&top))? {
            let below = format!("{top}/{generation}");
            let logs = format!("{below}/wal");
            let newest = numbers(&root.join(&logs))?
                .pop()
                .map(|index| format!("{logs}/{index}"));
            let snapshots = format!("{below}/snapshots");
            for directory in [Some(below), Some(snapshots), newest].into_iter().flatten() {
                gone += sweep_one(root, &directory)?;
            }
        }
    }
    Ok(gone)
}

/// The directories of generations, or of logs: what else is there may be anything.
fn numbers(directory: &Path) -> disk::Result<Vec<String>> {
    let mut names = disk::list("archive.sweep", directory)?;
    names.retain(|name| name.len() == 16 && name.bytes().all(|b| b.is_ascii_hexdigit()));
    Ok(names)
}

fn sweep_one(root: &Path, directory: &str) -> disk::Result<usize> {
    let mut gone = 0;
    for name in disk::list("archive.sweep", &root.join(directory))? {
        if is_staged(&format!("{directory}/{name}")) {
            disk::remove_file("archive.sweep", &root.join(directory).join(name))?;
            gone += 1;
        }
    }
    Ok(gone)
}

/// The name of one of our objects, and a number. What else lies there is somebody else's.
fn is_staged(name: &str) -> bool {
    name.rsplit_once('#').is_some_and(|(key, number)| {
        !number.is_empty()
            && number.bytes().all(|b| b.is_ascii_digit())
            && key.parse::<Key>().is_ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::GenerationKey;
    use crate::format::position::Generation;
    use std::collections::BTreeSet;

    #[test]
    fn half_an_object_goes_and_nothing_else() {
        let directory = tempfile::tempdir().expect("a directory");
        let root = directory.path().join("archive");
        assert_eq!(sweep(&root).expect("there is nothing"), 0);
        let generation = Generation(7);
        let snapshot = Key::snapshot(generation, 3);
        let segment = Key::wal(generation, 4, 1048);
        let about = Key::GenerationDoc {
            generation: GenerationKey(7),
        };
        let keys = [snapshot, segment, about];
        let docs = keys.iter().filter_map(|key| key.doc());
        let whole: BTreeSet<String> = keys
            .iter()
            .copied()
            .chain(docs)
            .map(|key| key.to_string())
            .chain([
                Key::wal(generation, 3, 0).to_string(),
                // Another owner may be at it just now.
                format!("{}#1", Key::Owner { epoch: 9 }),
                format!("app.db/{snapshot}#1"),
                "generations/0000000000000007/snapshots/notes#1".to_owned(),
                "generations/notes".to_owned(),
                "generations/0000000000000007/wal/notes".to_owned(),
                format!("{snapshot}#"),
                format!("{snapshot}#1.part"),
                // In an older log there is none, and nobody looks.
                format!("{}#1", Key::wal(generation, 3, 1048)),
            ])
            .collect();
        let docs = keys.iter().filter_map(|key| key.doc());
        let half: Vec<String> = keys
            .iter()
            .copied()
            .chain(docs)
            .flat_map(|key| [format!("{key}#1"), format!("{key}#27")])
            .collect();
        for name in whole.iter().chain(&half) {
            let path = root.join(name);
            std::fs::create_dir_all(path.parent().expect("a directory")).expect("made");
            std::fs::write(path, name).expect("written");
        }
        assert_eq!(sweep(&root).expect("swept"), half.len());
        for name in &half {
            assert!(!root.join(name).exists(), "{name}");
        }
        for name in &whole {
            assert!(root.join(name).exists(), "{name}");
        }
        assert_eq!(sweep(&root).expect("swept"), 0);
    }
}
