//! Counters of one database, filled where the work is done and read by whoever shows them.
//!
//! A relaxed atomic addition for each chunk or publication, never for a page: what counts must cost nothing. Values only
//! grow, but for those that say so, and begin at zero with the process.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Upper bounds of the time histograms, nanoseconds: 20 µs to 10 s.
const TIMES: &[u64] = &[
    20_000,
    50_000,
    100_000,
    200_000,
    500_000,
    1_000_000,
    2_000_000,
    5_000_000,
    10_000_000,
    50_000_000,
    250_000_000,
    1_000_000_000,
    10_000_000_000,
];
/// The same for what takes long: 10 ms to an hour.
const LONG_TIMES: &[u64] = &[
    10_000_000,
    100_000_000,
    1_000_000_000,
    10_000_000_000,
    60_000_000_000,
    600_000_000_000,
    3_600_000_000_000,
];
/// Upper bounds of sizes, bytes: 256 bytes to 1 MiB.
const SIZES: &[u64] = &[
    256,
    1 << 10,
    4 << 10,
    16 << 10,
    64 << 10,
    256 << 10,
    1 << 20,
];

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Relaxed);
    }

    /// The sum of all that was added.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// How often a value fell between two bounds.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [u64],
    counts: Box<[Counter]>,
    sum: Counter,
}

impl Histogram {
    fn new(bounds: &'static [u64]) -> Histogram {
        Histogram {
            bounds,
            counts: (0..=bounds.len()).map(|_| Counter::default()).collect(),
            sum: Counter::default(),
        }
    }

    /// Takes one value in the histogram's unit.
    pub fn observe(&self, value: u64) {
        // A value belongs to the first bound that is not below it; past the last one there is a counter of its own.
        let at = self.bounds.partition_point(|bound| *bound < value);
        self.counts[at].add(1);
        self.sum.add(value);
    }

    /// Takes one duration; the unit is the nanosecond.
    pub fn time(&self, taken: Duration) {
        self.observe(u64::try_from(taken.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Sum of all values, and for each bound how many fell under it and above the one before; the last has none.
    pub fn read(&self) -> (u64, Vec<(Option<u64>, u64)>) {
        let bounds = self.bounds.iter().copied().map(Some).chain([None]);
        let counts = self.counts.iter().map(Counter::get);
        (self.sum.get(), bounds.zip(counts).collect())
    }
}

/// Why the `-wal` file of a database does not begin anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum LogHolder {
    /// Nothing: the next writer, or the next quiet moment, begins it anew.
    #[default]
    Nothing = 0,
    /// Frames that walcast has not captured or applied yet.
    Walcast = 1,
    /// Frames that no checkpoint has copied yet, since none ran or a reader stood in its way.
    Checkpoint = 2,
    /// A reader with a long transaction.
    Reader = 3,
}

impl LogHolder {
    /// All of them.
    pub const ALL: [LogHolder; 4] = [
        LogHolder::Nothing,
        LogHolder::Walcast,
        LogHolder::Checkpoint,
        LogHolder::Reader,
    ];

    /// One word.
    pub fn name(self) -> &'static str {
        match self {
            LogHolder::Nothing => "nothing",
            LogHolder::Walcast => "walcast",
            LogHolder::Checkpoint => "checkpoint",
            LogHolder::Reader => "reader",
        }
    }
}

/// The counters of one database in either role.
#[derive(Debug)]
pub struct Meters {
    /// Frames captured, or pages made visible to readers.
    pub frames: Counter,
    /// Primary: bytes of WAL captured, before compression.
    pub wal_bytes: Counter,
    /// Bytes of each chunk or snapshot message as it travels.
    pub segments: Histogram,
    /// Nanoseconds to capture a chunk, or to make a publication visible.
    pub work: Histogram,
    /// Nanoseconds that each full snapshot took from its first message to its last.
    pub snapshots: Histogram,
    /// Times that what was read or held was not what its checksum says.
    pub checksum_failures: Counter,
    /// Streams begun.
    pub streams: Counter,
    /// Generations begun here.
    pub generations: Counter,
    holder: AtomicU8,
}

impl Default for Meters {
    fn default() -> Meters {
        Meters {
            frames: Counter::default(),
            wal_bytes: Counter::default(),
            segments: Histogram::new(SIZES),
            work: Histogram::new(TIMES),
            snapshots: Histogram::new(LONG_TIMES),
            checksum_failures: Counter::default(),
            streams: Counter::default(),
            generations: Counter::default(),
            holder: AtomicU8::new(LogHolder::Nothing as u8),
        }
    }
}

impl Meters {
    /// What keeps the log from beginning anew now.
    pub fn set_holder(&self, holder: LogHolder) {
        self.holder.store(holder as u8, Relaxed);
    }

    /// The same, as it was last set.
    pub fn holder(&self) -> LogHolder {
        let holder = self.holder.load(Relaxed);
        let known = LogHolder::ALL.into_iter().find(|h| *h as u8 == holder);
        known.unwrap_or_default()
    }
}

/// The counters of one archive of one database.
#[derive(Debug)]
pub struct ArchiveMeters {
    /// Bytes of all objects written, as they are in the archive.
    pub uploaded_bytes: Counter,
    /// Segments written.
    pub uploads: Counter,
    /// Times that the archive did not take something, or did not answer.
    pub upload_failures: Counter,
    /// Nanoseconds that each snapshot took from its first page to its being in the archive.
    pub snapshots: Histogram,
}

impl Default for ArchiveMeters {
    fn default() -> ArchiveMeters {
        ArchiveMeters {
            uploaded_bytes: Counter::default(),
            uploads: Counter::default(),
            upload_failures: Counter::default(),
            snapshots: Histogram::new(LONG_TIMES),
        }
    }
}

/// What belongs to the process and to no database. Whoever does the work fills it.
#[derive(Debug, Default)]
pub struct ProcessMeters {
    /// gRPC connections accepted.
    pub connections_opened: Counter,
    /// gRPC connections that have ended; the difference is how many are open.
    pub connections_closed: Counter,
    /// Configurations taken over by SIGHUP.
    pub reloads: Counter,
    /// Configurations that were refused; the one before stays.
    pub reload_failures: Counter,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_falls_under_the_first_bound_that_holds_it() {
        let histogram = Histogram::new(SIZES);
        for value in [0, 256, 257, 1 << 20, (1 << 20) + 1] {
            histogram.observe(value);
        }
        let (sum, buckets) = histogram.read();
        assert_eq!(sum, 256 + 257 + (1 << 20) + (1 << 20) + 1);
        let counts: Vec<u64> = buckets.iter().map(|(_, count)| *count).collect();
        assert_eq!(counts, [2, 1, 0, 0, 0, 0, 1, 1]);
        assert_eq!(buckets.last().map(|(bound, _)| *bound), Some(None));
    }

    #[test]
    fn a_holder_is_read_as_it_was_set() {
        let meters = Meters::default();
        assert_eq!(meters.holder(), LogHolder::Nothing);
        for holder in LogHolder::ALL {
            meters.set_holder(holder);
            assert_eq!(meters.holder(), holder);
        }
    }
}
