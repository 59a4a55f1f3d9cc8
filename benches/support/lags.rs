//! How late a reader saw each commit.

use anyhow::bail;
use walcast::demo::stats::percentile;

/// The part of a run that is left out at its beginning: caches are cold, files grow.
const WARM_UP: usize = 10;

/// What a reader saw.
pub struct Seen {
    /// In rising order, ns.
    lags: Vec<u64>,
}

impl Seen {
    /// From when each commit returned, and when each was seen: all of them.
    pub fn new(committed: &[u64], seen: &[u64]) -> anyhow::Result<Seen> {
        if seen.len() != committed.len() {
            bail!("a reader saw {} commits of {}", seen.len(), committed.len());
        }
        Ok(Seen::at_least(committed, seen, 0))
    }

    /// The same when the reader ended, at `end_ns`, before it had seen all: a lag is then at least so long.
    pub fn at_least(committed: &[u64], seen: &[u64], end_ns: u64) -> Seen {
        let seen = seen.iter().copied().chain(std::iter::repeat(end_ns));
        // Rows that were there before have no time.
        let before = committed.iter().take_while(|at| **at == 0).count();
        let skip = before + (committed.len() - before) / WARM_UP;
        // A reader may see a commit before the application has read the clock.
        let mut lags: Vec<u64> = committed
            .iter()
            .zip(seen)
            .skip(skip)
            .map(|(at, seen)| seen.saturating_sub(*at))
            .collect();
        lags.sort_unstable();
        Seen { lags }
    }

    /// The lag that a part `p` (0 to 1) of the commits does not exceed, ms.
    pub fn at(&self, p: f64) -> f64 {
        percentile(&self.lags, p).unwrap_or(0) as f64 / 1e6
    }
}
