//! Walks the frames in a stretch of WAL bytes and tells its four kinds of end apart.

use super::{Cksum, FRAME_HEADER_SIZE, FrameHeader, WalHeader, checksum};

/// A valid frame: its salts are the log's, and its checksum continues the chain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Frame<'a> {
    /// The frame's header, verified.
    pub header: FrameHeader,
    /// The page.
    pub data: &'a [u8],
    /// Where the frame's header begins in the scanned buffer, in bytes.
    pub offset_in_buf: usize,
    /// The chain after this frame.
    pub cksum_after: Cksum,
}

/// Why a scan ended. Different causes want different answers, so they are never one EOF.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ScanEnd {
    /// The buffer ends exactly where a frame ends.
    End,
    /// The buffer ends within a frame. Of an incomplete frame nothing is believed.
    Torn {
        /// Bytes of it that are there, fewer than a frame.
        bytes: usize,
    },
    /// The next frame is of another (an older) run of the log. A hole (zeros) looks the same.
    SaltChanged,
    /// The next frame has this log's salts but does not continue the chain: damaged, half
    /// written, or written over.
    BadChecksum {
        /// Number of the frame, from 1 at the start of the buffer.
        frame: u32,
    },
    /// The next frame has this log's salts, but is for page 0, which does not exist.
    BadPageNumber,
}

impl std::fmt::Display for ScanEnd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            ScanEnd::End => "the log ends before it",
            ScanEnd::Torn { .. } => "it is cut off",
            ScanEnd::SaltChanged => "it is not of this log",
            ScanEnd::BadChecksum { .. } => "it does not have its checksum",
            ScanEnd::BadPageNumber => "it is for page 0",
        })
    }
}

/// Iterates over the valid frames at the start of a buffer; [`FrameScanner::end`] then tells
/// why it stopped. Ends for good at the first frame that is not valid.
#[derive(Clone, Debug)]
pub struct FrameScanner<'a> {
    buf: &'a [u8],
    big_endian: bool,
    frame_size: usize,
    salt: [u32; 2],
    cksum: Cksum,
    offset: usize,
    frames: u32,
    end: Option<ScanEnd>,
}

impl<'a> FrameScanner<'a> {
    /// Scans `buf`, which begins at a frame boundary of the log that `header` heads. `seed` is
    /// the chain there: `header.cksum` before the first frame, else the `cksum_after` of the
    /// frame before.
    pub fn new(header: &WalHeader, seed: Cksum, buf: &'a [u8]) -> FrameScanner<'a> {
        FrameScanner {
            buf,
            big_endian: header.big_endian,
            frame_size: FRAME_HEADER_SIZE + header.page_size as usize,
            salt: header.salt,
            cksum: seed,
            offset: 0,
            frames: 0,
            end: None,
        }
    }

    /// Why the scan ended, or `None` while `next` has not returned `None` yet.
    pub fn end(&self) -> Option<ScanEnd> {
        self.end
    }

    /// The chain after the last frame returned.
    pub fn cksum(&self) -> Cksum {
        self.cksum
    }

    /// Bytes of the buffer in the frames returned.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// Number of frames returned.
    pub fn frames(&self) -> u32 {
        self.frames
    }

    /// Runs to the end, for callers who only want the outcome.
    pub fn finish(&mut self) -> ScanEnd {
        loop {
            match self.step() {
                Ok(_) => {}
                Err(end) => return end,
            }
        }
    }

    /// The next frame, or the end. The order of the checks is `walDecodeFrame`'s.
    fn step(&mut self) -> Result<Frame<'a>, ScanEnd> {
        let verified = match self.end {
            Some(end) => Err(end),
            None => self.verify(),
        };
        match verified {
            Ok(frame) => {
                self.cksum = frame.cksum_after;
                self.offset += self.frame_size;
                self.frames += 1;
            }
            Err(end) => self.end = Some(end),
        }
        verified
    }

    fn verify(&self) -> Result<Frame<'a>, ScanEnd> {
        let rest = &self.buf[self.offset..];
        let (head, data) = match rest.get(..self.frame_size) {
            Some(frame) => frame
                .split_first_chunk::<FRAME_HEADER_SIZE>()
                .ok_or(ScanEnd::Torn { bytes: rest.len() })?,
            None if rest.is_empty() => return Err(ScanEnd::End),
            None => return Err(ScanEnd::Torn { bytes: rest.len() }),
        };
        let header = FrameHeader::parse(head);
        if header.salt != self.salt {
            return Err(ScanEnd::SaltChanged);
        }
        if header.pgno == 0 {
            return Err(ScanEnd::BadPageNumber);
        }
        let sum = checksum(self.big_endian, &head[..8], self.cksum);
        let sum = checksum(self.big_endian, data, sum);
        if sum != header.cksum {
            return Err(ScanEnd::BadChecksum {
                frame: self.frames + 1,
            });
        }
        Ok(Frame {
            header,
            data,
            offset_in_buf: self.offset,
            cksum_after: sum,
        })
    }
}

impl<'a> Iterator for FrameScanner<'a> {
    type Item = Frame<'a>;

    fn next(&mut self) -> Option<Frame<'a>> {
        self.step().ok()
    }
}

impl std::iter::FusedIterator for FrameScanner<'_> {}

#[cfg(test)]
mod tests {
    use super::super::seal_frame;
    use super::*;
    use proptest::prelude::*;

    const SIZE: usize = FRAME_HEADER_SIZE + 512;

    fn header() -> WalHeader {
        WalHeader::new(512, 1, [0x1111_2222, 0x3333_4444])
    }

    /// Frames for the pages given, the last one a commit.
    fn frames(header: &WalHeader, pages: &[u32]) -> Vec<u8> {
        let mut sum = header.cksum;
        let mut log = Vec::new();
        for (i, pgno) in pages.iter().enumerate() {
            let mut frame = [0u8; SIZE];
            frame[FRAME_HEADER_SIZE..].fill(*pgno as u8);
            let commit = if i + 1 == pages.len() { 9 } else { 0 };
            sum = seal_frame(
                &mut frame,
                header.big_endian,
                *pgno,
                commit,
                header.salt,
                sum,
            );
            log.extend_from_slice(&frame);
        }
        log
    }

    fn scan(log: &[u8]) -> (u32, ScanEnd) {
        let header = header();
        let mut scanner = FrameScanner::new(&header, header.cksum, log);
        let end = scanner.finish();
        assert_eq!(scanner.end(), Some(end));
        assert_eq!(scanner.offset(), scanner.frames() as usize * SIZE);
        (scanner.frames(), end)
    }

    #[test]
    fn yields_what_was_sealed() {
        let header = header();
        let log = frames(&header, &[1, 7, 300]);
        let mut scanner = FrameScanner::new(&header, header.cksum, &log);
        let found: Vec<_> = scanner.by_ref().collect();
        let numbers: Vec<_> = found
            .iter()
            .map(|f| (f.header.pgno, f.header.is_commit()))
            .collect();
        assert_eq!(numbers, [(1, false), (7, false), (300, true)]);
        assert_eq!(found[1].data, [7; 512]);
        assert_eq!(found[1].offset_in_buf, SIZE);
        assert_eq!(found[2].cksum_after, found[2].header.cksum);
        assert_eq!(scanner.cksum(), found[2].cksum_after);
        assert_eq!(scanner.end(), Some(ScanEnd::End));
        // Resume in the middle with the chain as it was there.
        let mut rest = FrameScanner::new(&header, found[0].cksum_after, &log[SIZE..]);
        assert_eq!((rest.finish(), rest.frames()), (ScanEnd::End, 2));
        let mut wrong = FrameScanner::new(&header, header.cksum, &log[SIZE..]);
        assert_eq!(wrong.finish(), ScanEnd::BadChecksum { frame: 1 });
    }

    #[test]
    fn the_ends_are_told_apart() {
        let log = frames(&header(), &[1, 2, 3]);
        assert_eq!(scan(&[]), (0, ScanEnd::End));
        assert_eq!(scan(&log), (3, ScanEnd::End));
        for cut in 1..SIZE {
            assert_eq!(scan(&log[..SIZE + cut]), (1, ScanEnd::Torn { bytes: cut }));
        }
        let older = WalHeader {
            salt: [0x1111_2221, 5],
            ..header()
        };
        let mixed = [log.clone(), frames(&older, &[4])].concat();
        assert_eq!(scan(&mixed), (3, ScanEnd::SaltChanged));
        let hole = [log.clone(), vec![0; 2 * SIZE]].concat();
        assert_eq!(scan(&hole), (3, ScanEnd::SaltChanged));
        let page0 = frames(&header(), &[1, 0, 3]);
        assert_eq!(scan(&page0), (1, ScanEnd::BadPageNumber));
        let swapped = [&log[SIZE..2 * SIZE], &log[..SIZE]].concat();
        assert_eq!(scan(&swapped), (0, ScanEnd::BadChecksum { frame: 1 }));
    }

    #[test]
    fn an_end_is_final() {
        let header = header();
        let mut log = frames(&header, &[1, 2]);
        log[SIZE + 100] ^= 1;
        let mut scanner = FrameScanner::new(&header, header.cksum, &log);
        assert!(scanner.next().is_some() && scanner.end().is_none());
        for _ in 0..3 {
            assert!(scanner.next().is_none());
            assert_eq!(scanner.end(), Some(ScanEnd::BadChecksum { frame: 2 }));
        }
    }

    proptest! {
        #[test]
        fn any_flipped_bit_ends_the_scan_there(at in 0usize..3 * SIZE, bit in 0u8..8) {
            let mut log = frames(&header(), &[1, 2, 3]);
            log[at] ^= 1 << bit;
            let (frames, end) = scan(&log);
            prop_assert_eq!(frames as usize, at / SIZE);
            prop_assert!(!matches!(end, ScanEnd::End | ScanEnd::Torn { .. }), "{:?}", end);
        }

        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..3 * SIZE), salted: bool) {
            let header = header();
            let mut bytes = bytes;
            if salted && bytes.len() >= 16 {
                bytes[8..16].copy_from_slice(&header.encode()[16..24]);
            }
            prop_assert_eq!(scan(&bytes).0, 0);
        }

        #[test]
        fn every_order_of_bytes_chains(big_endian: bool, pages in proptest::collection::vec(1u32.., 1..9)) {
            let header = WalHeader { big_endian, ..header() };
            let log = frames(&header, &pages);
            let mut scanner = FrameScanner::new(&header, header.cksum, &log);
            let found: Vec<u32> = scanner.by_ref().map(|frame| frame.header.pgno).collect();
            prop_assert_eq!(found, pages);
            prop_assert_eq!(scanner.end(), Some(ScanEnd::End));
        }
    }
}
