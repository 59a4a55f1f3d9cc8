//! The contents of a disk.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What is on the disk: files by name, and directories.
#[derive(Default, PartialEq, Eq)]
pub struct Image {
    pub files: BTreeMap<PathBuf, Vec<u8>>,
    pub dirs: BTreeSet<PathBuf>,
}

impl Image {
    /// Writes it below a directory.
    pub fn write(&self, root: &Path) {
        for dir in &self.dirs {
            std::fs::create_dir_all(root.join(dir)).expect("make a directory of the image");
        }
        for (path, bytes) in &self.files {
            std::fs::write(root.join(path), bytes).expect("write a file of the image");
        }
    }

    /// What lies below a directory.
    pub fn read(root: &Path, side: &Path) -> Image {
        let mut image = Image::default();
        let mut open = vec![side.to_owned()];
        while let Some(dir) = open.pop() {
            for entry in std::fs::read_dir(root.join(&dir)).expect("list a directory") {
                let entry = entry.expect("an entry");
                let path = dir.join(entry.file_name());
                if entry.file_type().expect("its kind").is_dir() {
                    image.dirs.insert(path.clone());
                    open.push(path);
                } else if !path.to_string_lossy().ends_with("-shm") {
                    let bytes = std::fs::read(root.join(&path)).expect("read a file");
                    image.files.insert(path, bytes);
                }
            }
        }
        image
    }
}
