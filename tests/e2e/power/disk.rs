//! What a disk may hold after a power cut.
//!
//! What was synced is there. Of the rest any part is:
//!
//! - **Bytes**: each unsynced write as a whole, in sectors of 512 bytes, up to some point and no further, or not at all;
//!   what a file had before, or zeros where it had nothing, stands in the place of what is lost.
//! - **Names and sizes**, in one of two ways. A *journalling* file system (ext4, XFS) brings them to disk in the order in
//!   which they were made, up to some point, and every sync brings all before it. A *strict* one promises what POSIX does and
//!   no more: a name is safe once its directory was synced, a size with its file, and of the rest any subset is there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::image::Image;
use super::recording::{Event, Kind, Recording};
use crate::support::rng::Rng;

const SECTOR: u64 = 512;

/// How the file system brings names and sizes to disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileSystem {
    Journalling,
    Strict,
}

/// What becomes of the unsynced writes of a file.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Lost,
    Kept,
    /// Each write, with this chance in 8.
    Writes(u64),
    /// Each sector, with this chance in 8.
    Sectors(u64),
    /// All up to this entry, of which some sectors.
    UpTo(usize),
}

#[derive(Default)]
struct Inode {
    /// Entries of it, by number.
    ops: Vec<usize>,
    /// Those of them that the journal is needed for.
    changes: Vec<usize>,
    size: u64,
    /// Everything before this entry is synced.
    synced: usize,
}

impl Inode {
    fn add(&mut self, number: usize, event: &Event) {
        self.ops.push(number);
        let size = match event.kind {
            Kind::Truncate => event.a,
            Kind::Write | Kind::Fallocate => self.size.max(event.a + event.b),
            _ => 0,
        };
        if size != self.size || event.kind == Kind::Create {
            self.changes.push(number);
        }
        self.size = size;
    }
}

enum NameOp {
    Set(PathBuf, usize),
    Unset(PathBuf),
    Move(PathBuf, PathBuf, usize),
    MakeDir(PathBuf),
    RemoveDir(PathBuf),
    /// With all that is in it.
    MoveDir(PathBuf, PathBuf),
}

impl NameOp {
    fn directories(&self) -> Vec<&Path> {
        match self {
            NameOp::Set(path, _)
            | NameOp::Unset(path)
            | NameOp::MakeDir(path)
            | NameOp::RemoveDir(path) => path.parent().into_iter().collect(),
            NameOp::Move(from, to, _) | NameOp::MoveDir(from, to) => {
                from.parent().into_iter().chain(to.parent()).collect()
            }
        }
    }
}

/// The entries of one machine up to one moment, put in order.
pub struct Moment<'a> {
    recording: &'a Recording,
    at: usize,
    inodes: Vec<Inode>,
    names: Vec<(usize, NameOp)>,
    dir_syncs: Vec<(PathBuf, usize)>,
    /// Names and sizes before this entry are on disk, where the file system journals.
    journalled: usize,
}

impl<'a> Moment<'a> {
    /// The files below `side` after `at` entries.
    pub fn new(recording: &'a Recording, side: &Path, at: usize) -> Moment<'a> {
        let mut moment = Moment {
            recording,
            at,
            inodes: Vec::new(),
            names: Vec::new(),
            dir_syncs: Vec::new(),
            journalled: 0,
        };
        let mut by_number: BTreeMap<u64, usize> = BTreeMap::new();
        let mut by_name: BTreeMap<PathBuf, usize> = BTreeMap::new();
        let mut dirs: BTreeSet<PathBuf> = BTreeSet::from([side.to_owned()]);
        let mut begun: BTreeMap<(u32, u64), usize> = BTreeMap::new();
        for (number, event) in recording.events[..at].iter().enumerate() {
            if !event.name.starts_with(side) {
                continue;
            }
            let name = event.name.clone();
            match event.kind {
                Kind::Create => {
                    let id = moment.inodes.len();
                    let mut inode = Inode::default();
                    inode.add(number, event);
                    moment.inodes.push(inode);
                    by_number.insert(event.ino, id);
                    by_name.insert(name.clone(), id);
                    moment.names.push((number, NameOp::Set(name, id)));
                }
                Kind::Write | Kind::Truncate | Kind::Fallocate => {
                    let id = by_number.get(&event.ino);
                    let id = *id.unwrap_or_else(|| panic!("{event:?} is of no file that was made"));
                    moment.inodes[id].add(number, event);
                }
                Kind::Rename if dirs.contains(&name) => {
                    let to = event.other.clone();
                    by_name = moved_keys(by_name, &name, &to);
                    dirs = dirs.iter().map(|dir| moved(dir, &name, &to)).collect();
                    moment.names.push((number, NameOp::MoveDir(name, to)));
                }
                Kind::Rename => {
                    let id = by_name.remove(&name).expect("a file that has this name");
                    by_name.insert(event.other.clone(), id);
                    moment
                        .names
                        .push((number, NameOp::Move(name, event.other.clone(), id)));
                }
                Kind::Unlink => {
                    by_name.remove(&name);
                    moment.names.push((number, NameOp::Unset(name)));
                }
                Kind::Mkdir => {
                    dirs.insert(name.clone());
                    moment.names.push((number, NameOp::MakeDir(name)));
                }
                Kind::Rmdir => {
                    dirs.remove(&name);
                    moment.names.push((number, NameOp::RemoveDir(name)));
                }
                Kind::SyncBegun => {
                    begun.insert((event.pid, event.b), number);
                }
                Kind::SyncDone => {
                    let begun = begun[&(event.pid, event.b)];
                    if dirs.contains(&name) {
                        moment.dir_syncs.push((name, begun));
                        moment.journalled = moment.journalled.max(begun);
                    } else {
                        moment.sync_file(by_number[&event.ino], begun, event.a == 1);
                    }
                }
            }
        }
        moment
    }

    fn sync_file(&mut self, id: usize, begun: usize, data_alone: bool) {
        let inode = &mut self.inodes[id];
        inode.synced = inode.synced.max(begun);
        let last = match data_alone {
            false => begun,
            // Only what reading the data needs.
            true => inode
                .changes
                .iter()
                .rev()
                .find(|op| **op < begun)
                .map_or(0, |op| op + 1),
        };
        self.journalled = self.journalled.max(last);
    }

    /// Nothing lost: as after a kill.
    pub fn whole(&self) -> Image {
        let names = self.names.iter().map(|(_, op)| op);
        let mut image = self.tree(names.collect());
        for (id, bytes) in &mut image.1 {
            *bytes = self.content(*id, usize::MAX, Fate::Kept, &mut Rng::new(0));
        }
        self.assemble(image)
    }

    /// One way in which the power may have been cut.
    pub fn cut(&self, file_system: FileSystem, rng: &mut Rng) -> Image {
        let journal = match rng.below(4) {
            0 => self.journalled,
            1 => self.at,
            _ => rng.between(self.journalled as u64, self.at as u64) as usize,
        };
        // Often all files share a fate; else each has its own.
        let common = (!rng.one_in(3)).then(|| self.fate(rng));
        let chance = [0, 2, 4, 8][rng.below(4) as usize];
        let kept = self.names.iter().filter(|(number, op)| match file_system {
            FileSystem::Journalling => *number < journal,
            FileSystem::Strict => {
                let safe = |dir: &Path| {
                    self.dir_syncs
                        .iter()
                        .any(|(d, begun)| d == dir && number < begun)
                };
                op.directories().into_iter().any(safe) || rng.below(8) < chance
            }
        });
        let kept: Vec<_> = kept.map(|(_, op)| op).collect();
        let mut tree = self.tree(kept);
        let sizes = match file_system {
            FileSystem::Journalling => journal,
            FileSystem::Strict => usize::MAX,
        };
        for (id, bytes) in &mut tree.1 {
            let fate = common.unwrap_or_else(|| self.fate(rng));
            *bytes = self.content(*id, sizes, fate, rng);
        }
        self.assemble(tree)
    }

    fn fate(&self, rng: &mut Rng) -> Fate {
        match rng.below(6) {
            0 => Fate::Lost,
            1 => Fate::Kept,
            2 => Fate::Writes(rng.between(1, 7)),
            3 | 4 => Fate::Sectors(rng.between(1, 7)),
            _ => Fate::UpTo(self.at - (rng.below(64) as usize).min(self.at)),
        }
    }

    /// Which file each name leads to, and a place for the bytes of each.
    fn tree(
        &self,
        kept: Vec<&NameOp>,
    ) -> (Image, BTreeMap<usize, Vec<u8>>, BTreeMap<PathBuf, usize>) {
        let mut names: BTreeMap<PathBuf, usize> = BTreeMap::new();
        let mut dirs: BTreeSet<PathBuf> = BTreeSet::new();
        for op in kept {
            match op {
                NameOp::Set(path, id) => {
                    names.insert(path.clone(), *id);
                }
                NameOp::Unset(path) => {
                    names.remove(path);
                }
                NameOp::Move(from, to, id) => {
                    if names.get(from) == Some(id) {
                        names.remove(from);
                    }
                    names.insert(to.clone(), *id);
                }
                NameOp::MakeDir(path) => {
                    dirs.insert(path.clone());
                }
                NameOp::RemoveDir(path) => {
                    dirs.remove(path);
                }
                NameOp::MoveDir(from, to) => {
                    names = moved_keys(names, from, to);
                    dirs = dirs.iter().map(|dir| moved(dir, from, to)).collect();
                    // It was there, or it could not have been moved.
                    dirs.insert(to.clone());
                }
            }
        }
        let reached = |path: &Path| {
            let above = path.ancestors().skip(1);
            above
                .filter(|dir| dir.components().count() > 1)
                .all(|dir| dirs.contains(dir))
        };
        names.retain(|path, _| reached(path));
        let image = Image {
            files: BTreeMap::new(),
            dirs: dirs.iter().filter(|dir| reached(dir)).cloned().collect(),
        };
        (
            image,
            names.values().map(|id| (*id, Vec::new())).collect(),
            names,
        )
    }

    fn assemble(
        &self,
        (mut image, bytes, names): (Image, BTreeMap<usize, Vec<u8>>, BTreeMap<PathBuf, usize>),
    ) -> Image {
        for (path, id) in names {
            image.files.insert(path, bytes[&id].clone());
        }
        image
    }

    /// The bytes of a file. Sizes that were changed at or after the entry `sizes` are not what they were changed to.
    fn content(&self, id: usize, sizes: usize, fate: Fate, rng: &mut Rng) -> Vec<u8> {
        let inode = &self.inodes[id];
        let mut file = Content::default();
        for &number in &inode.ops {
            let event = &self.recording.events[number];
            let safe = number < inode.synced;
            let grows = number < sizes;
            match event.kind {
                Kind::Truncate if safe || (sizes != usize::MAX && grows) => file.resize(event.a),
                Kind::Truncate if sizes != usize::MAX => {
                    // What follows stands in blocks that the file does not have yet.
                    break;
                }
                Kind::Truncate if survives(fate, number, rng) => file.resize(event.a),
                Kind::Fallocate if safe || (grows && survives(fate, number, rng)) => {
                    file.grow(event.a + event.b);
                }
                Kind::Write if safe => file.write(event.a, self.recording.data(event)),
                Kind::Write => self.torn(&mut file, event, number, grows, fate, rng),
                _ => {}
            }
        }
        file.bytes
    }

    /// What is there of an unsynced write.
    fn torn(
        &self,
        file: &mut Content,
        event: &Event,
        number: usize,
        grows: bool,
        fate: Fate,
        rng: &mut Rng,
    ) {
        let data = self.recording.data(event);
        let end = event.a + data.len() as u64;
        if grows && rng.one_in(2) {
            // The size came to disk, whatever became of the bytes.
            file.grow(end);
        }
        let limit = if grows {
            u64::MAX
        } else {
            file.bytes.len() as u64
        };
        let whole = match fate {
            Fate::Lost => return,
            Fate::Kept => true,
            Fate::Writes(chance) if rng.below(8) >= chance => return,
            Fate::Writes(_) => true,
            Fate::Sectors(_) => false,
            Fate::UpTo(last) if number > last => return,
            Fate::UpTo(last) => number < last,
        };
        let chance = if let Fate::Sectors(chance) = fate {
            chance
        } else {
            4
        };
        let mut from = event.a;
        while from < end.min(limit) {
            let to = ((from / SECTOR + 1) * SECTOR).min(end).min(limit);
            if whole || rng.below(8) < chance {
                file.write(
                    from,
                    &data[(from - event.a) as usize..(to - event.a) as usize],
                );
            }
            from = to;
        }
    }
}

/// Where a path leads once a directory has moved.
fn moved(path: &Path, from: &Path, to: &Path) -> PathBuf {
    match path.strip_prefix(from) {
        // Joined, an empty rest would end in a slash.
        Ok(rest) if rest.as_os_str().is_empty() => to.to_owned(),
        Ok(rest) => to.join(rest),
        Err(_) => path.to_owned(),
    }
}

fn moved_keys(names: BTreeMap<PathBuf, usize>, from: &Path, to: &Path) -> BTreeMap<PathBuf, usize> {
    let names = names.into_iter();
    names
        .map(|(path, id)| (moved(&path, from, to), id))
        .collect()
}

fn survives(fate: Fate, number: usize, rng: &mut Rng) -> bool {
    match fate {
        Fate::Lost => false,
        Fate::Kept => true,
        Fate::Writes(chance) | Fate::Sectors(chance) => rng.below(8) < chance,
        Fate::UpTo(last) => number <= last,
    }
}

#[derive(Default)]
struct Content {
    bytes: Vec<u8>,
}

impl Content {
    fn resize(&mut self, len: u64) {
        self.bytes.resize(len as usize, 0);
    }

    fn grow(&mut self, len: u64) {
        if self.bytes.len() < len as usize {
            self.resize(len);
        }
    }

    fn write(&mut self, at: u64, data: &[u8]) {
        self.grow(at + data.len() as u64);
        self.bytes[at as usize..at as usize + data.len()].copy_from_slice(data);
    }
}
