//! The generator of the end-to-end tests, and some choices.

#[path = "../e2e/support/rng.rs"]
mod splitmix;

pub use splitmix::Rng;

/// True `percent` times of a hundred.
pub fn chance(rng: &mut Rng, percent: u64) -> bool {
    rng.below(100) < percent
}

/// One of them.
pub fn choose<T: Copy>(rng: &mut Rng, of: &[T]) -> T {
    of[rng.below(of.len() as u64) as usize]
}
