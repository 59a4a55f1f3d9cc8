//! A WAL file and a wal-index header as SQLite's documentation describes them, written a second
//! time on purpose: the kit must not judge walcast by walcast's own parser.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;

pub const HEADER: u64 = 32;
pub const FRAME_HEADER: u64 = 24;

/// The committed part of a WAL file.
#[derive(Debug, Default)]
pub struct Wal {
    pub page_size: u32,
    pub salts: [u32; 2],
    /// Newest committed frame of each page: the offset of its image in the file.
    pub pages: HashMap<u32, u64>,
    /// Frames up to and with the last commit (or up to the limit).
    pub frames: u32,
    /// Pages of the database after the last commit.
    pub page_count: u32,
    pub commits: u64,
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// SQLite's checksum: words are read in the byte order that the magic names.
pub fn sum(mut state: (u32, u32), bytes: &[u8], big_endian: bool) -> (u32, u32) {
    for pair in bytes.as_chunks::<8>().0 {
        let word = |at: usize| {
            let w: [u8; 4] = pair[at..at + 4].try_into().expect("four bytes");
            if big_endian {
                u32::from_be_bytes(w)
            } else {
                u32::from_le_bytes(w)
            }
        };
        state.0 = state.0.wrapping_add(word(0)).wrapping_add(state.1);
        state.1 = state.1.wrapping_add(word(4)).wrapping_add(state.0);
    }
    state
}

/// Fills as much of `buffer` as the file holds from `at`.
pub fn read_at_most(file: &File, buffer: &mut [u8], at: u64) -> std::io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read_at(&mut buffer[done..], at + done as u64)? {
            0 => break,
            n => done += n,
        }
    }
    Ok(done)
}

/// Reads the committed frames of a WAL file, at most `limit` frames; `None` when it holds no
/// valid header (an empty or foreign file).
///
/// # Errors
/// The file's.
pub fn read(file: &File, limit: u32) -> std::io::Result<Option<Wal>> {
    let mut header = [0; HEADER as usize];
    if read_at_most(file, &mut header, 0)? < header.len() {
        return Ok(None);
    }
    let magic = u32_at(&header, 0);
    let big_endian = magic & 1 == 1;
    let mut state = sum((0, 0), &header[..24], big_endian);
    if magic & !1 != 0x377f_0682 || state != (u32_at(&header, 24), u32_at(&header, 28)) {
        return Ok(None);
    }
    let mut wal = Wal {
        page_size: u32_at(&header, 8),
        salts: [u32_at(&header, 16), u32_at(&header, 20)],
        ..Wal::default()
    };
    let frame_len = FRAME_HEADER + u64::from(wal.page_size);
    let mut frame = vec![0; usize::try_from(frame_len).expect("a frame fits memory")];
    let mut pending: Vec<(u32, u64)> = Vec::new();
    for n in 0..limit {
        let at = HEADER + u64::from(n) * frame_len;
        if read_at_most(file, &mut frame, at)? < frame.len() {
            break;
        }
        state = sum(state, &frame[..8], big_endian);
        state = sum(state, &frame[24..], big_endian);
        let salts = [u32_at(&frame, 8), u32_at(&frame, 12)];
        let stored = (u32_at(&frame, 16), u32_at(&frame, 20));
        if salts != wal.salts || stored != state || u32_at(&frame, 0) == 0 {
            break;
        }
        pending.push((u32_at(&frame, 0), at + FRAME_HEADER));
        let size_after = u32_at(&frame, 4);
        if size_after != 0 {
            wal.pages.extend(pending.drain(..));
            wal.frames = n + 1;
            wal.page_count = size_after;
            wal.commits += 1;
        }
    }
    Ok(Some(wal))
}

/// What the wal-index header says; host byte order (`WalIndexHdr` in `wal.c`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Index {
    /// The 48 bytes: two that are equal were no commit and no restart apart.
    pub raw: [u8; 48],
    pub mx_frame: u32,
    pub page_count: u32,
    pub salts: [u32; 2],
}

/// The header of a `-shm`; `None` while its two copies differ or it was never initialised.
///
/// # Errors
/// The file's.
pub fn index(shm: &File) -> std::io::Result<Option<Index>> {
    let mut both = [0; 96];
    if read_at_most(shm, &mut both, 0)? < both.len() {
        return Ok(None);
    }
    let raw: [u8; 48] = both[..48].try_into().expect("48 bytes");
    if raw != both[48..] || raw[12] == 0 {
        return Ok(None);
    }
    let native = |at: usize| u32::from_ne_bytes(raw[at..at + 4].try_into().expect("four bytes"));
    Ok(Some(Index {
        raw,
        mx_frame: native(16),
        page_count: native(20),
        // The salts are copied from the WAL's header as they stand there.
        salts: [u32_at(&raw, 32), u32_at(&raw, 36)],
    }))
}
