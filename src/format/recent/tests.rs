use super::*;
use crate::format::lz4;
use crate::format::wal::WAL_HEADER_SIZE;
use bytes::Bytes;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        bytes.fill_with(|| self.next() as u8);
    }
}

/// A database whose commits are chunks.
struct Source {
    random: Random,
    pages: Vec<Vec<u8>>,
    frame_len: usize,
}

impl Source {
    fn new(page_size: usize, pages: usize, seed: u64) -> Source {
        let mut random = Random(seed);
        let mut pages = vec![vec![0; page_size]; pages];
        pages.iter_mut().for_each(|page| random.fill(page));
        Source {
            random,
            pages,
            frame_len: FRAME_HEADER_SIZE + page_size,
        }
    }

    /// A few bytes of these pages are others now.
    fn commit(&mut self, pages: &[usize], begins_log: bool) -> Vec<u8> {
        let mut chunk = vec![0; if begins_log { WAL_HEADER_SIZE } else { 0 }];
        self.random.fill(&mut chunk);
        for &page in pages {
            let bytes = &mut self.pages[page];
            let at = self.random.below(bytes.len() - 8);
            self.random.fill(&mut bytes[at..at + 8]);
            chunk.extend_from_slice(&(page as u32 + 1).to_be_bytes());
            // The size after the commit, the salts, and a checksum that is always another.
            chunk.extend_from_slice(&[7; 12]);
            chunk.extend_from_slice(&self.random.next().to_be_bytes());
            chunk.extend_from_slice(&self.pages[page]);
        }
        chunk
    }

    fn some_pages(&mut self) -> Vec<usize> {
        let most = LARGEST / self.frame_len;
        let count = 1 + self.random.below(most.min(5));
        (0..count)
            .map(|_| self.random.below(self.pages.len()))
            .collect()
    }
}

fn plain_len(chunk: &[u8]) -> usize {
    let mut packed = Vec::new();
    lz4::compress(chunk, &mut packed).expect("it fits");
    packed.len()
}

fn pack(packer: &mut Packer, chunk: &[u8], frame_len: usize) -> Option<Packed> {
    let packed = packer.pack(chunk, false, frame_len);
    packer.remember(chunk, false, frame_len);
    packed
}

/// A source, a packer and a window after one commit of page 0.
fn begun(page_size: usize) -> (Source, Packer, Window) {
    let (mut source, mut packer, mut window) = (
        Source::new(page_size, 8, 5),
        Packer::default(),
        Window::default(),
    );
    let first = source.commit(&[0], false);
    assert_eq!(pack(&mut packer, &first, source.frame_len), None);
    window.remember(first.into());
    (source, packer, window)
}

#[test]
fn random_commits_come_back_and_small_ones_are_small() {
    for page_size in [512, 1024, 4096, 8192, 16384, 32768] {
        let mut source = Source::new(page_size, 40, page_size as u64);
        let frame_len = source.frame_len;
        let (mut packer, mut window) = (Packer::default(), Window::default());
        let (mut small, mut plain, mut count) = (0, 0, 0);
        for round in 0..400 {
            let pages = source.some_pages();
            let begins_log = round % 50 == 0;
            let chunk = source.commit(&pages, begins_log);
            let packed = packer.pack(&chunk, begins_log, frame_len);
            packer.remember(&chunk, begins_log, frame_len);
            if let Some(Packed { data, reach }) = packed {
                assert!(reach >= frame_len as u64 && reach <= window.reach());
                let back = unpack(&data, &window, frame_len, chunk.len()).expect("just packed");
                assert!(back == chunk, "round {round}, pages of {page_size}");
                small += data.len();
                plain += plain_len(&chunk);
                count += 1;
            }
            window.remember(chunk.into());
            if round == 333 {
                packer.forget();
                window.forget();
            }
        }
        assert!(count > 150, "{count} of 400, pages of {page_size}");
        assert!(
            small * 3 < plain,
            "{small} of {plain}, pages of {page_size}"
        );
    }
}

#[test]
fn a_commit_of_one_row_is_a_few_dozen_bytes() {
    let (mut source, mut packer, window) = begun(4096);
    let chunk = source.commit(&[0], false);
    let packed = pack(&mut packer, &chunk, source.frame_len).expect("its page is held");
    assert_eq!(packed.reach, 4120);
    assert!(packed.data.len() < 80, "{} bytes", packed.data.len());
    let back = unpack(&packed.data, &window, 4120, 4120).expect("just packed");
    assert!(back == chunk);
}

#[test]
fn the_layout_is_the_documented_one() {
    let (mut source, mut packer, mut window) = begun(512);
    let second = source.commit(&[3, 0], false);
    pack(&mut packer, &second, 536);
    window.remember(second.clone().into());
    let chunk = source.commit(&[0, 3, 0], false);
    let packed = pack(&mut packer, &chunk, 536).expect("held").data;
    // Two frames: that of page 0 is 536 = 0x98 0x04 back, that of page 3 twice as far.
    assert_eq!(packed[..5], [2, 0x98, 0x04, 0xb0, 0x08]);
    let (block, checksum) = packed[5..].split_at(packed.len() - 9);
    assert_eq!(checksum, xxh32(&chunk, 0).to_le_bytes());
    let dictionary = [&second[536..], &second[..536]].concat();
    let back = lz4_flex::block::decompress_with_dict(block, chunk.len(), &dictionary);
    assert!(back.expect("a block") == chunk);
}

#[test]
fn every_cut_and_every_bit_is_noticed() {
    for page_size in [512, 4096] {
        let (mut source, mut packer, mut window) = begun(page_size);
        let frame_len = source.frame_len;
        let second = source.commit(&[1, 2], false);
        pack(&mut packer, &second, frame_len);
        window.remember(second.into());
        let chunk = source.commit(&[2, 0], false);
        let packed = pack(&mut packer, &chunk, frame_len).expect("held").data;
        for len in 0..packed.len() {
            let cut = unpack(&packed[..len], &window, frame_len, chunk.len());
            assert!(cut.is_err(), "{len} bytes");
        }
        for bit in 0..packed.len() * 8 {
            let mut damaged = packed.to_vec();
            damaged[bit / 8] ^= 1 << (bit % 8);
            // Where the bytes that a reference leads to are the same, the content is.
            if let Ok(content) = unpack(&damaged, &window, frame_len, chunk.len()) {
                assert!(content == chunk, "bit {bit}");
            }
        }
        for len in [chunk.len() - 1, chunk.len() + 1] {
            assert!(unpack(&packed, &window, frame_len, len).is_err(), "{len}");
        }
        assert!(matches!(
            unpack(&packed, &window, frame_len, LARGEST + 1),
            Err(RecentError::Content(_))
        ));
    }
}

#[test]
fn what_is_not_held_is_refused() {
    let (mut source, mut packer, mut window) = begun(4096);
    let chunk = source.commit(&[0], false);
    let packed = pack(&mut packer, &chunk, 4120).expect("held").data;
    let refused = |window: &Window| unpack(&packed, window, 4120, 4120).map(|_| ());
    assert!(refused(&window).is_ok());
    window.forget();
    assert!(matches!(
        refused(&window),
        Err(RecentError::Distance {
            distance: 4120,
            held: 0
        })
    ));
    // Another frame lies there.
    window.remember(source.commit(&[1], false).into());
    assert!(refused(&window).is_err());
}

/// A form that refers to one frame, and an empty block.
fn referring(count: u32, distances: &[u32]) -> Vec<u8> {
    let mut packed = Vec::new();
    put_varint(count, &mut packed);
    distances.iter().for_each(|d| put_varint(*d, &mut packed));
    packed.extend_from_slice(&[0; 5]);
    packed
}

#[test]
fn references_are_bounded() {
    let (_, _, window) = begun(4096);
    let error = |packed: &[u8]| unpack(packed, &window, 4120, 4120).expect_err("refused");
    let count = |count| error(&referring(count, &[4120]));
    assert!(matches!(count(0), RecentError::Count { .. }));
    assert!(matches!(count(8), RecentError::Count { .. }));
    assert!(matches!(count(u32::MAX), RecentError::Count { .. }));
    let distance = |distance| error(&referring(1, &[distance]));
    for near_or_far in [0, 1, 4119, 4121, 1 << 20, u32::MAX] {
        assert!(
            matches!(distance(near_or_far), RecentError::Distance { .. }),
            "{near_or_far}"
        );
    }
    // Seven may be named, but must be there.
    assert!(matches!(
        error(&[7, 0x98, 0x20, 0, 0, 0, 0]),
        RecentError::Torn(7)
    ));
    let endless = [1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
    assert!(matches!(error(&endless), RecentError::Number));
    let wide = [1, 0xff, 0xff, 0xff, 0xff, 0x7f, 0, 0, 0, 0, 0];
    assert!(matches!(error(&wide), RecentError::Number));
}

#[test]
fn a_frame_may_cross_the_chunks_of_the_window() {
    let (mut source, mut packer, _) = begun(4096);
    let chunk = source.commit(&[0], false);
    let packed = pack(&mut packer, &chunk, 4120).expect("held").data;
    let mut other = Source::new(4096, 8, 5);
    let first = other.commit(&[0], false);
    let mut window = Window::default();
    for piece in [&first[..1], &first[1..3000], &[], &first[3000..]] {
        window.remember(Bytes::copy_from_slice(piece));
    }
    let back = unpack(&packed, &window, 4120, 4120).expect("as if it were one");
    assert!(back == chunk);
}

#[test]
fn the_window_holds_the_last_mebibyte_and_little_more() {
    let mut source = Source::new(4096, 600, 9);
    let (mut packer, mut window) = (Packer::default(), Window::default());
    let first = source.commit(&[599], false);
    packer.remember(&first, false, 4120);
    window.remember(first.into());
    // All but the last byte of what is within reach.
    for page in 0..253 {
        let chunk = source.commit(&[page], false);
        packer.remember(&chunk, false, 4120);
        window.remember(chunk.into());
    }
    let again = source.commit(&[599], false);
    let packed = packer.pack(&again, false, 4120);
    let packed = packed.expect("254 frames are less than 1 MiB");
    assert_eq!(packed.reach, 254 * 4120);
    assert!(unpack(&packed.data, &window, 4120, 4120).expect("held") == again);
    let chunk = source.commit(&[300], false);
    packer.remember(&chunk, false, 4120);
    window.remember(chunk.into());
    assert_eq!(packer.pack(&again, false, 4120), None);
    let far = referring(1, &[255 * 4120]);
    assert!(matches!(
        unpack(&far, &window, 4120, 4120),
        Err(RecentError::Distance { held: RECENT, .. })
    ));
    for page in 0..600 {
        let chunk = source.commit(&[page], false);
        packer.remember(&chunk, false, 4120);
        window.remember(chunk.into());
    }
    let held = window.end() - window.begin();
    assert!((RECENT..RECENT + 4120).contains(&held), "{held}");
    assert!(packer.pages() <= 64 + 2 * 256, "{}", packer.pages());
}

#[test]
fn a_large_chunk_makes_both_sides_forget() {
    let (mut source, mut packer, mut window) = begun(4096);
    let large = source.commit(&[1, 2, 3, 4, 5, 6, 7, 1], false);
    assert!(large.len() > LARGEST);
    assert_eq!(pack(&mut packer, &large, 4120), None);
    window.remember(large.into());
    assert_eq!((window.reach(), packer.pages()), (0, 0));
    let chunk = source.commit(&[0, 1], false);
    assert_eq!(packer.pack(&chunk, false, 4120), None);
}

#[test]
fn the_largest_chunk_has_every_page_of_it_in_its_dictionary() {
    for page_size in [512, 4096, 16384, 32768] {
        let mut source = Source::new(page_size, 64, 3);
        let frame_len = source.frame_len;
        let (mut packer, mut window) = (Packer::default(), Window::default());
        let pages: Vec<usize> = (0..LARGEST / frame_len).collect();
        for &page in &pages {
            let chunk = source.commit(&[page], false);
            packer.remember(&chunk, false, frame_len);
            window.remember(chunk.into());
        }
        let chunk = source.commit(&pages, false);
        let packed = packer.pack(&chunk, false, frame_len);
        let data = packed.expect("held").data;
        assert_eq!(usize::from(data[0]), pages.len());
        assert!(data.len() * 4 < chunk.len(), "{} bytes", data.len());
        assert!(unpack(&data, &window, frame_len, chunk.len()).expect("held") == chunk);
    }
}

#[test]
fn what_does_not_shrink_stays_within_its_bound() {
    let mut source = Source::new(32768, 2, 4);
    let (mut packer, mut window) = (Packer::default(), Window::default());
    let first = source.commit(&[0], false);
    packer.remember(&first, false, source.frame_len);
    window.remember(first.into());
    let pages = &mut source.pages;
    pages.swap(0, 1);
    let chunk = source.commit(&[0], true);
    assert_eq!(chunk.len(), LARGEST);
    let data = packer
        .pack(&chunk, true, source.frame_len)
        .expect("held")
        .data;
    // A primary does not send it: the LZ4 frame stores such a block.
    assert!(data.len() > plain_len(&chunk));
    let back = unpack(&data, &window, source.frame_len, LARGEST);
    assert!(back.expect("held") == chunk);
}
