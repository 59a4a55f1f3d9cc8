//! A small seeded generator (splitmix64), the same on every machine, so that a seed names a run.

/// Not for anything secret: speed and repeatability only.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The seed of a test: `WALCAST_SEED` when set, else `default`. Printed, so that a failure
    /// can be run again.
    ///
    /// # Panics
    /// When `WALCAST_SEED` is not a number.
    pub fn seed_for(test: &str, default: u64) -> u64 {
        let seed = match std::env::var("WALCAST_SEED") {
            Ok(text) => text.parse().expect("WALCAST_SEED is a decimal number"),
            Err(_) => default,
        };
        eprintln!("{test}: WALCAST_SEED={seed}");
        seed
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform enough in `0..n`; 0 when `n` is 0.
    pub fn below(&mut self, n: u64) -> u64 {
        self.next().checked_rem(n).unwrap_or(0)
    }

    /// In `lo..=hi`.
    pub fn between(&mut self, lo: u64, hi: u64) -> u64 {
        lo + self.below(hi.saturating_sub(lo) + 1)
    }

    /// True once in `n`.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// Bytes that lz4 cannot shrink.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(len + 8);
        while out.len() < len {
            out.extend_from_slice(&self.next().to_le_bytes());
        }
        out.truncate(len);
        out
    }
}
