//! How a database is archived: what the configuration says, and the writer does.

use super::location::Location;
use std::time::Duration;

/// One archive of a database, or of each database of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchiveOptions {
    /// Where it is; of a directory's databases, what their names are put behind.
    pub location: Location,
    /// How long commits are gathered for one object.
    pub sync_interval: Duration,
    /// Time between two snapshots, if anything changed.
    pub snapshot_interval: Duration,
    /// Each moment of this time can be restored.
    pub retain_age: Duration,
    /// At least so many snapshots stay.
    pub retain_count: usize,
    /// Time between two readings of what a restore would need; `None`: never.
    pub validation_interval: Option<Duration>,
}

impl ArchiveOptions {
    /// With the defaults: an object each second, a snapshot each day, a week and two snapshots.
    pub fn new(location: Location) -> ArchiveOptions {
        ArchiveOptions {
            location,
            sync_interval: Duration::from_secs(1),
            snapshot_interval: Duration::from_secs(24 * 3600),
            retain_age: Duration::from_secs(7 * 24 * 3600),
            retain_count: 2,
            validation_interval: None,
        }
    }

    /// The same for one database of a directory.
    pub fn of(&self, name: &str) -> ArchiveOptions {
        ArchiveOptions {
            location: self.location.join(name),
            ..self.clone()
        }
    }
}

/// An archive that a replica reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchiveSource {
    /// Where it is; of a mirror's databases, what their names are put behind.
    pub location: Location,
    /// Time between two looks for more, where it is all that the replica follows.
    pub poll: Duration,
}

impl ArchiveSource {
    /// How often a replica looks, unless told otherwise.
    pub const POLL: Duration = Duration::from_secs(1);

    /// With the defaults.
    pub fn new(location: Location) -> ArchiveSource {
        ArchiveSource {
            location,
            poll: ArchiveSource::POLL,
        }
    }

    /// The same for one database of a mirror.
    pub fn of(&self, name: &str) -> ArchiveSource {
        ArchiveSource {
            location: self.location.join(name),
            poll: self.poll,
        }
    }
}
