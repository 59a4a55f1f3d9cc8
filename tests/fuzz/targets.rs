//! What each target does with arbitrary bytes: it must not panic, not take more memory than its bound, and what it
//! accepts must mean the same when it is written and read again. Used by `cargo test --test fuzz`, which changes the kept
//! inputs at random, and by libFuzzer, which is led by coverage: see README.md.

#[path = "step.rs"]
pub mod step;

use std::env::VarError;
use std::fmt::{Debug, Display};
use std::str::FromStr;
use walcast::archive::{GenerationDoc, Key, Location, OwnerDoc, SegmentDoc, SnapshotDoc};
use walcast::format::commits;
use walcast::format::dbheader::DbHeader;
use walcast::format::recent::{LARGEST, Packer, Window, unpack};
use walcast::format::time::{parse_time, write_time};
use walcast::format::wal::{
    Cksum, FRAME_HEADER_SIZE, FrameScanner, ScanEnd, WAL_HEADER_SIZE, WalHeader, frame_size,
    seal_frame,
};
use walcast::format::walindex::{HEADER_WORDS, IndexHeader};
use walcast::format::{Generation, Position, base64, lz4};
use walcast::model::{
    CopyMessage, CopyRequest, DatabaseStatus, Message, Progress, ReplicaStatus, StreamStart,
};
use walcast::wire::pb;

/// A target and its name, which is that of its directory of inputs.
pub type Target = (&'static str, fn(&[u8]));

/// All of them.
#[allow(dead_code, reason = "libFuzzer runs one")]
pub const ALL: [Target; 9] = [
    ("config", config),
    ("docs", docs),
    ("index", index),
    ("lz4_frames", lz4_frames),
    ("names", names),
    ("recent", recent),
    ("step", step::step),
    ("wal", wal),
    ("wire", wire),
];

/// A log as it is, and the same pages sealed into a log that is right: that one must be read to its end.
pub fn wal(data: &[u8]) {
    let Some((head, frames)) = data.split_first_chunk::<WAL_HEADER_SIZE>() else {
        return;
    };
    if let Ok(header) = WalHeader::parse(head) {
        assert_eq!(WalHeader::parse(&header.encode()), Ok(header));
        scan(&header, header.cksum, frames);
    }
    let page_size = 512 << (head[0] % 8);
    let header = WalHeader::new(page_size, 1, [1, 2]);
    let size = frame_size(page_size) as usize;
    let (mut log, mut chain) = (Vec::new(), header.cksum);
    for page in frames.chunks_exact(page_size as usize) {
        let at = log.len();
        log.resize(at + FRAME_HEADER_SIZE, 0);
        log.extend_from_slice(page);
        let pgno = u32::from(page[0]) + 1;
        chain = seal_frame(
            &mut log[at..],
            header.big_endian,
            pgno,
            u32::from(page[1]),
            header.salt,
            chain,
        );
    }
    let frames = (log.len() / size) as u32;
    assert_eq!(scan(&header, header.cksum, &log), (frames, ScanEnd::End));
    // A bit that flips is noticed in its frame, or makes it a frame of another log.
    if let Some(at) = log
        .len()
        .checked_sub(1)
        .map(|last| usize::from(head[1]) * 251 % (last + 1))
    {
        log[at] ^= 1 << (head[2] % 8);
        let (good, end) = scan(&header, header.cksum, &log);
        assert_eq!(good as usize, at / size);
        assert_ne!(end, ScanEnd::End);
    }
}

fn scan(header: &WalHeader, seed: Cksum, bytes: &[u8]) -> (u32, ScanEnd) {
    let size = frame_size(header.page_size) as usize;
    let mut scanner = FrameScanner::new(header, seed, bytes);
    let mut count = 0;
    for frame in scanner.by_ref() {
        assert_eq!(frame.offset_in_buf, count * size);
        assert_eq!(frame.data.len(), header.page_size as usize);
        count += 1;
    }
    assert_eq!(scanner.frames() as usize, count);
    assert_eq!(scanner.offset(), count * size);
    (scanner.frames(), scanner.end().expect("it has ended"))
}

/// The headers of the shared-memory index and of the database.
pub fn index(data: &[u8]) {
    let mut words = [0; HEADER_WORDS];
    for (word, bytes) in words.iter_mut().zip(data.chunks_exact(4)) {
        *word = u32::from_ne_bytes(bytes.try_into().expect("four bytes"));
    }
    if let Ok(header) = IndexHeader::from_words(&words) {
        assert_eq!(IndexHeader::from_words(&header.to_words()), Ok(header));
    }
    if let Ok(header) = DbHeader::parse(data) {
        assert!(header.page_size.is_power_of_two());
        assert!((512..=65536).contains(&header.page_size));
    }
}

/// Frames of lz4, one after the other, as a segment has them.
pub fn lz4_frames(data: &[u8]) {
    const MOST: usize = 256 << 10;
    let mut rest = data;
    while let Ok(Some(extent)) = lz4::frame_extent(rest) {
        assert!(extent.compressed_len > 0 && extent.compressed_len <= rest.len());
        let mut out = Vec::new();
        if lz4::decompress(&rest[..extent.compressed_len], MOST, &mut out).is_ok() {
            assert!(out.len() <= MOST, "{} bytes", out.len());
        }
        rest = &rest[extent.compressed_len..];
    }
    let data = &data[..data.len().min(MOST)];
    for pack in [lz4::compress, lz4::store] {
        let (mut packed, mut out) = (Vec::new(), Vec::new());
        pack(data, &mut packed).expect("it fits");
        lz4::decompress(&packed, MOST, &mut out).expect("just packed");
        assert_eq!(out, data);
    }
}

/// A chunk that is packed against what is held: an input is the size of a page, the length of the content, the bytes that
/// are held, and the packed form. And any pages, packed against those before them.
pub fn recent(data: &[u8]) {
    let Some(([size, content @ .., held_low, held_high], rest)) = data.split_first_chunk::<5>()
    else {
        return;
    };
    let page_size = 512 << (size % 7);
    let frame_len = FRAME_HEADER_SIZE + page_size;
    let content_len = usize::from(u16::from_le_bytes(*content));
    let held = usize::from(u16::from_le_bytes([*held_low, *held_high]));
    let (held, packed) = rest.split_at(held.min(rest.len()));
    let mut window = Window::default();
    for chunk in held.chunks(frame_len) {
        window.remember(chunk.to_vec().into());
    }
    if let Ok(content) = unpack(packed, &window, frame_len, content_len) {
        assert!(content.len() == content_len && content_len <= LARGEST);
    }
    let (mut packer, mut window) = (Packer::default(), Window::default());
    for page in rest.chunks_exact(page_size) {
        let mut chunk = vec![0; FRAME_HEADER_SIZE];
        chunk[3] = page[0] % 3;
        chunk.extend_from_slice(page);
        if let Some(packed) = packer.pack(&chunk, false, frame_len) {
            assert!(packed.reach <= window.reach());
            let back = unpack(&packed.data, &window, frame_len, chunk.len());
            assert_eq!(back.expect("just packed"), chunk);
        }
        packer.remember(&chunk, false, frame_len);
        window.remember(chunk.into());
    }
}

/// What people and file names say.
pub fn names(data: &[u8]) {
    assert_eq!(base64::decode(&base64::encode(data)).as_deref(), Some(data));
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    same::<Position>(text);
    same::<Generation>(text);
    same::<Key>(text);
    same::<Location>(text);
    if let Ok(size) = walcast::config::parse_size(text) {
        let written = walcast::config::write_size(size);
        assert_eq!(walcast::config::parse_size(&written), Ok(size), "{written}");
    }
    if let Ok(duration) = walcast::config::parse_duration(text) {
        let written = walcast::config::write_duration(duration);
        assert_eq!(
            walcast::config::parse_duration(&written),
            Ok(duration),
            "{written}"
        );
    }
    if let Ok(time) = parse_time(text) {
        let written = write_time(time);
        assert_eq!(parse_time(&written), Ok(time), "{written}");
    }
}

fn same<T: FromStr + Display + PartialEq + Debug>(text: &str) {
    if let Ok(value) = text.parse::<T>() {
        let written = value.to_string();
        match written.parse::<T>() {
            Ok(again) => assert_eq!(again, value, "{written}"),
            Err(_) => panic!("{value:?} is written {written}, which is not read"),
        }
    }
}

/// A configuration: whatever is wrong has its place, and what is right is shown so that it can be read.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match walcast::config::parse(text, "walcast.yml", None) {
        Ok(config) => {
            let shown = walcast::config::show(&config);
            // A token that is not in a file of its own is not shown.
            if !shown.contains("***") {
                let again = walcast::config::parse(
                    &shown,
                    "shown.yml",
                    Some(&|_| Err(VarError::NotPresent)),
                );
                assert_eq!(
                    again.map_err(|e| e.to_string()).as_ref(),
                    Ok(&config),
                    "{shown}"
                );
            }
        }
        Err(error) => assert!(error.to_string().contains("walcast.yml"), "{error}"),
    }
}

/// The documents of an archive, and of the commits beside a segment.
pub fn docs(data: &[u8]) {
    if let Ok(doc) = GenerationDoc::parse(data) {
        assert_eq!(GenerationDoc::parse(&doc.encode()).ok(), Some(doc));
    }
    if let Ok(doc) = SnapshotDoc::parse(data) {
        assert_eq!(SnapshotDoc::parse(&doc.encode()).ok(), Some(doc));
    }
    if let Ok(doc) = OwnerDoc::parse(data) {
        assert_eq!(OwnerDoc::parse(&doc.encode()).ok(), Some(doc));
    }
    if let Ok(doc) = SegmentDoc::parse(data) {
        assert_eq!(SegmentDoc::parse(&doc.encode()).ok(), Some(doc));
    }
    if let Ok(commits) = commits::parse_all(data) {
        assert!(commits.records.len() * commits::RECORD_SIZE <= data.len());
    }
}

/// Messages of the protocol; the first byte says which.
pub fn wire(data: &[u8]) {
    let Some((kind, bytes)) = data.split_first() else {
        return;
    };
    match kind % 7 {
        0 => believed::<pb::StreamResponse, Message>(bytes),
        1 => believed::<pb::StreamRequest, StreamStart>(bytes),
        2 => believed::<pb::ReportProgressRequest, Progress>(bytes),
        3 => believed::<pb::ReadCopyRequest, CopyRequest>(bytes),
        4 => believed::<pb::ReadCopyResponse, CopyMessage>(bytes),
        5 => believed::<pb::Database, DatabaseStatus>(bytes),
        _ => believed::<pb::Replica, ReplicaStatus>(bytes),
    }
}

/// What is believed is sent on as it came.
fn believed<P, T>(bytes: &[u8])
where
    P: prost::Message + Default + From<T>,
    T: TryFrom<P> + Debug + Clone,
    <T as TryFrom<P>>::Error: Display,
{
    let Ok(message) = P::decode(bytes) else {
        return;
    };
    match T::try_from(message) {
        Ok(value) => {
            let sent = P::from(value.clone()).encode_to_vec();
            let again = P::decode(sent.as_slice()).expect("just encoded");
            match T::try_from(again) {
                Ok(again) => assert_eq!(format!("{again:?}"), format!("{value:?}")),
                Err(error) => panic!("{value:?}: {error}"),
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
