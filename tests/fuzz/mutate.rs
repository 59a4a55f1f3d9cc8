//! Small random changes of inputs, the same for the same seed.

/// Bytes of an input, at most.
const LONGEST: usize = 64 << 10;

/// Words that parsers know, and numbers at the edges of types.
const WORDS: [&[u8]; 12] = [
    b"0000000000000000",
    b"ffffffffffffffff",
    b"18446744073709551615",
    b"${",
    b": ",
    b"\n- ",
    b"/",
    b"\xff\xff\xff\xff",
    b"\x00\x00\x00\x00\x00\x00\x00\x00",
    b"\x80\x00\x00\x00",
    b"\x7f\xff\xff\xff",
    "é".as_bytes(),
];

/// Changes inputs.
pub struct Mutator(u64);

impl Mutator {
    /// From a seed.
    pub fn new(seed: u64) -> Mutator {
        Mutator(seed)
    }

    /// SplitMix64.
    fn random(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.random() % limit.max(1) as u64) as usize
    }

    /// One of the inputs, changed in a few places.
    pub fn next(&mut self, inputs: &[&[u8]]) -> Vec<u8> {
        let chosen = self.below(inputs.len());
        let mut input = inputs[chosen].to_vec();
        for _ in 0..=self.below(4) {
            self.change(&mut input, inputs);
        }
        input.truncate(LONGEST);
        input
    }

    fn change(&mut self, input: &mut Vec<u8>, inputs: &[&[u8]]) {
        let at = self.below(input.len() + 1);
        let end = (at + self.below(16)).min(input.len());
        match self.below(8) {
            0 => input.truncate(at),
            1 => drop(input.drain(at..end)),
            2 => {
                let twice = input[at..end].to_vec();
                drop(input.splice(at..at, twice));
            }
            3 => {
                let word = WORDS[self.below(WORDS.len())];
                drop(input.splice(at..at, word.iter().copied()));
            }
            4 => {
                let word = WORDS[self.below(WORDS.len())];
                let until = (at + word.len()).min(input.len());
                drop(input.splice(at..until, word.iter().copied()));
            }
            5 => {
                let other = inputs[self.below(inputs.len())];
                let from = self.below(other.len() + 1);
                let rest = other[from..].iter().copied();
                drop(input.splice(at.., rest));
            }
            6 if at < input.len() => input[at] = self.random() as u8,
            _ if at < input.len() => input[at] ^= 1 << self.below(8),
            _ => input.push(self.random() as u8),
        }
    }
}
