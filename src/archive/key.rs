//! Names of objects. The same text in a bucket and below a directory.

use crate::format::position::Generation;
use std::fmt;
use std::str::FromStr;

/// The name of one object of an archive, relative to the archive's root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// The bytes of a database file, taken while the log `index` was the newest.
    Snapshot {
        /// Its history.
        generation: GenerationKey,
        /// The log that it belongs to.
        index: u64,
    },
    /// A piece of the log `index`.
    Wal {
        /// Its history.
        generation: GenerationKey,
        /// Counts logs in the generation.
        index: u64,
        /// Where in the log its first byte stands.
        offset: u64,
    },
    /// What is known of a generation.
    GenerationDoc {
        /// The generation.
        generation: GenerationKey,
    },
    /// What is known of a snapshot.
    SnapshotDoc {
        /// Its history.
        generation: GenerationKey,
        /// The snapshot's index.
        index: u64,
    },
    /// What is known of a segment.
    SegmentDoc {
        /// Its history.
        generation: GenerationKey,
        /// The segment's log.
        index: u64,
        /// The segment's offset.
        offset: u64,
    },
    /// Who wrote from this epoch on.
    Owner {
        /// Counts owners from 1.
        epoch: u64,
    },
}

/// A generation that can be ordered, to sort names. The order has no meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GenerationKey(pub u64);

impl From<Generation> for GenerationKey {
    fn from(generation: Generation) -> GenerationKey {
        GenerationKey(generation.0)
    }
}

impl From<GenerationKey> for Generation {
    fn from(key: GenerationKey) -> Generation {
        Generation(key.0)
    }
}

impl Key {
    /// The prefix of all generations, by which an ancestor's tools find them.
    pub const GENERATIONS: &str = "generations";
    /// The prefix of all that the ancestor does not know.
    pub const OWN: &str = "walcast";
    /// The prefix of the owners.
    pub const OWNERS: &str = "walcast/owner";

    /// The name of a snapshot.
    pub fn snapshot(generation: Generation, index: u64) -> Key {
        let generation = generation.into();
        Key::Snapshot { generation, index }
    }

    /// The name of a segment.
    pub fn wal(generation: Generation, index: u64, offset: u64) -> Key {
        Key::Wal {
            generation: generation.into(),
            index,
            offset,
        }
    }

    /// The prefix of a generation's objects in the ancestor's layout.
    pub fn prefix(generation: Generation) -> String {
        format!("{}/{generation}", Key::GENERATIONS)
    }

    /// The prefix of a generation's documents.
    pub fn own_prefix(generation: Generation) -> String {
        format!("{}/generations/{generation}", Key::OWN)
    }

    /// The document that belongs to a snapshot or a segment; `None` for what has none.
    pub fn doc(self) -> Option<Key> {
        match self {
            Key::Snapshot { generation, index } => Some(Key::SnapshotDoc { generation, index }),
            Key::Wal {
                generation,
                index,
                offset,
            } => Some(Key::SegmentDoc {
                generation,
                index,
                offset,
            }),
            _ => None,
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Key::Snapshot { generation, index } => write!(
                f,
                "generations/{:016x}/snapshots/{index:016x}.snapshot.lz4",
                generation.0
            ),
            Key::Wal {
                generation,
                index,
                offset,
            } => write!(
                f,
                "generations/{:016x}/wal/{index:016x}/{offset:016x}.wal.lz4",
                generation.0
            ),
            Key::GenerationDoc { generation } => write!(
                f,
                "walcast/generations/{:016x}/generation.json",
                generation.0
            ),
            Key::SnapshotDoc { generation, index } => write!(
                f,
                "walcast/generations/{:016x}/snapshots/{index:016x}.json",
                generation.0
            ),
            Key::SegmentDoc {
                generation,
                index,
                offset,
            } => write!(
                f,
                "walcast/generations/{:016x}/wal/{index:016x}/{offset:016x}.commits",
                generation.0
            ),
            Key::Owner { epoch } => write!(f, "walcast/owner/{epoch:016x}.json"),
        }
    }
}

/// The name is not one of an archive's objects. Others may keep what they like beside them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the name of an archive's object")]
pub struct NotOurs;

impl FromStr for Key {
    type Err = NotOurs;

    fn from_str(name: &str) -> Result<Key, NotOurs> {
        let parts: Vec<&str> = name.split('/').collect();
        let generation = |text| hex16(text).map(GenerationKey);
        let file = |text: &str, suffix| counter(text.strip_suffix(suffix)?);
        let key = match parts[..] {
            ["generations", g, "snapshots", name] => generation(g)
                .zip(file(name, ".snapshot.lz4"))
                .map(|(generation, index)| Key::Snapshot { generation, index }),
            ["generations", g, "wal", index, name] => generation(g)
                .zip(counter(index))
                .zip(file(name, ".wal.lz4"))
                .map(|((generation, index), offset)| Key::Wal {
                    generation,
                    index,
                    offset,
                }),
            ["walcast", "generations", g, "generation.json"] => {
                generation(g).map(|generation| Key::GenerationDoc { generation })
            }
            ["walcast", "generations", g, "snapshots", name] => generation(g)
                .zip(file(name, ".json"))
                .map(|(generation, index)| Key::SnapshotDoc { generation, index }),
            ["walcast", "generations", g, "wal", index, name] => generation(g)
                .zip(counter(index))
                .zip(file(name, ".commits"))
                .map(|((generation, index), offset)| Key::SegmentDoc {
                    generation,
                    index,
                    offset,
                }),
            ["walcast", "owner", name] => file(name, ".json").map(|epoch| Key::Owner { epoch }),
            _ => None,
        };
        key.ok_or(NotOurs)
    }
}

fn hex16(text: &str) -> Option<u64> {
    let ours = text.len() == 16 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    ours.then(|| u64::from_str_radix(text, 16).ok()).flatten()
}

/// A number that counts: an index, an offset or an epoch. No archive comes near `i64::MAX`, and what follows a number up to
/// there is a number too; a name above it is nothing that was counted.
fn counter(text: &str) -> Option<u64> {
    hex16(text).filter(|&number| i64::try_from(number).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_counted_up_to_is_not_ours() {
        let names = |number: &str| {
            let generation = "generations/ffffffffffffffff";
            [
                format!("{generation}/snapshots/{number}.snapshot.lz4"),
                format!("{generation}/wal/{number}/0000000000000000.wal.lz4"),
                format!("{generation}/wal/0000000000000000/{number}.wal.lz4"),
                format!("walcast/{generation}/snapshots/{number}.json"),
                format!("walcast/{generation}/wal/{number}/0000000000000000.commits"),
                format!("walcast/{generation}/wal/0000000000000000/{number}.commits"),
                format!("walcast/owner/{number}.json"),
            ]
        };
        for name in names("7fffffffffffffff") {
            let key: Key = name.parse().expect(&name);
            assert_eq!(key.to_string(), name);
        }
        for number in ["8000000000000000", "ffffffffffffffff"] {
            for name in names(number) {
                assert_eq!(name.parse::<Key>(), Err(NotOurs), "{name}");
            }
        }
    }
}
