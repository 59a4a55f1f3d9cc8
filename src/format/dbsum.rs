//! The checksum of a whole database, cheap to keep up to date.
//!
//! walcast's own. `dbsum` is the XOR over all pages of [`page_hash`]: a page that changes is
//! taken out with its old hash and put in with its new one, in any order.
//!
//! The sum runs over pages 1 to the database's size, without the lock-byte page
//! ([`super::dbheader::lock_page`]), which has no content. Page 1 is hashed as the primary has
//! it ([`super::dbheader::to_primary`]). It guards against accidents, not against an attacker.

use std::fmt;
use std::ops::{BitXor, BitXorAssign};

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The hash of one page: XXH3 (64 bits) of its bytes, seeded with its number, so that pages
/// that change places change the sum. A page of zeros has hash 0, so that a hole in the file,
/// or a page that was never written, counts as the zeros it reads as.
pub fn page_hash(pgno: u32, page: &[u8]) -> u64 {
    if is_zero(page) {
        0
    } else {
        xxh3_64_with_seed(page, u64::from(pgno))
    }
}

/// Looks at a few words at a time, so that a long run of zeros is passed at memory speed, and
/// leaves at the first that is not zero: with nearly every page that is at once.
fn is_zero(page: &[u8]) -> bool {
    let mut blocks = page.chunks_exact(64);
    blocks.all(|block| block.iter().fold(0, |seen, byte| seen | byte) == 0)
        && blocks.remainder().iter().all(|byte| *byte == 0)
}

/// The checksum of a database. The default, 0, is that of a database without pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct DbSum(pub u64);

impl DbSum {
    /// The sum after one page's hash changed from `old` to `new`. A page that comes is changed
    /// from 0, one that goes (beyond a shrink) is changed to 0.
    #[must_use]
    pub fn replaced(self, old: u64, new: u64) -> DbSum {
        self ^ old ^ new
    }
}

impl BitXor<u64> for DbSum {
    type Output = DbSum;

    /// Puts a page's hash in, or takes it out.
    fn bitxor(self, page_hash: u64) -> DbSum {
        DbSum(self.0 ^ page_hash)
    }
}

impl BitXorAssign<u64> for DbSum {
    fn bitxor_assign(&mut self, page_hash: u64) {
        self.0 ^= page_hash;
    }
}

impl fmt::Display for DbSum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn zeros_hash_to_zero_and_nothing_else_does() {
        for len in [0, 1, 63, 64, 65, 512, 65536] {
            assert_eq!(page_hash(9, &vec![0; len]), 0);
        }
        // One bit anywhere, the first and last byte of a block too.
        for at in 0..200 {
            let mut page = [0; 200];
            page[at] = 1;
            assert_ne!(page_hash(9, &page), 0, "{at}");
        }
    }

    #[test]
    fn the_hash_is_the_published_one() {
        // The sums are stored and sent: another hash would be another format. The value is
        // the known XXH3 of "a" with seed 0.
        assert_eq!(page_hash(0, b"a"), 0xe6c6_32b6_1e96_4e1f);
        assert_ne!(page_hash(1, &[7; 512]), page_hash(2, &[7; 512]));
    }

    #[test]
    fn prints_as_16_digits() {
        assert_eq!(DbSum(0xab).to_string(), "00000000000000ab");
    }

    proptest! {
        #[test]
        fn kept_up_to_date_equals_computed_anew(
            pages in proptest::collection::vec(any::<[u8; 8]>(), 1..20),
            writes in proptest::collection::vec((any::<prop::sample::Index>(), any::<[u8; 8]>()), 0..40),
            keep in any::<prop::sample::Index>(),
        ) {
            let hash = |i: usize, page: &[u8; 8]| page_hash(i as u32 + 1, page);
            let sum = |pages: &[[u8; 8]]| {
                pages.iter().enumerate().fold(DbSum::default(), |s, (i, page)| s ^ hash(i, page))
            };
            let mut pages = pages;
            let mut kept = sum(&pages);
            for (at, page) in writes {
                let at = at.index(pages.len());
                kept = kept.replaced(hash(at, &pages[at]), hash(at, &page));
                pages[at] = page;
            }
            let keep = keep.index(pages.len());
            for (at, page) in pages.iter().enumerate().skip(keep) {
                kept ^= hash(at, page);
            }
            pages.truncate(keep);
            prop_assert_eq!(kept, sum(&pages));
        }
    }
}
