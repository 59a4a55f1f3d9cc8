use std::io::{Read, Write};
use std::process::{Command, Stdio};

use super::*;
use lz4_flex::frame::{BlockSize, FrameDecoder, FrameEncoder, FrameInfo};
use proptest::collection::vec;
use proptest::prelude::*;

const LIMIT: usize = 16 << 20;

fn packed(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    compress(data, &mut out).unwrap();
    out
}

fn unpacked(frame: &[u8]) -> Result<Vec<u8>, Lz4Error> {
    let mut out = Vec::new();
    decompress(frame, LIMIT, &mut out).map(|()| out)
}

/// Bytes that compress (`noise` 0) or do not (`noise` 255), the same for the same arguments.
fn bytes(len: usize, noise: u8) -> Vec<u8> {
    let mut state = 0x9e37_79b9u32;
    let mut byte = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 8) as u8 & noise
    };
    (0..len).map(|i| byte() ^ (i / 100) as u8).collect()
}

/// Lengths around every block size, with data that compresses and data that does not.
fn samples() -> Vec<Vec<u8>> {
    let edges = [64 << 10, 256 << 10, 1 << 20, 2 << 20];
    let around = edges.iter().flat_map(|edge| [edge - 1, *edge, edge + 1]);
    let lengths = [0, 1, 12, 13, 100, 4152].into_iter().chain(around);
    lengths
        .flat_map(|len| [bytes(len, 0), bytes(len, 3), bytes(len, 255)])
        .collect()
}

#[test]
fn round_trips_around_every_block_size() {
    for data in samples() {
        let frame = packed(&data);
        let extent = FrameExtent {
            compressed_len: frame.len(),
            content_len: data.len() as u64,
        };
        assert_eq!(frame_extent(&frame).unwrap(), Some(extent));
        assert!(unpacked(&frame).unwrap() == data, "{} bytes", data.len());
    }
}

#[test]
fn appends_and_leaves_what_was_there() {
    let mut out = b"before".to_vec();
    compress(b"one", &mut out).unwrap();
    let first = frame_extent(&out[6..]).unwrap().unwrap().compressed_len;
    compress(b"two", &mut out).unwrap();
    let mut content = b"before ".to_vec();
    decompress(&out[6..6 + first], 3, &mut content).unwrap();
    decompress(&out[6 + first..], 3, &mut content).unwrap();
    assert_eq!(content, b"before onetwo");
    assert!(decompress(&out[6..], 3, &mut content).is_err());
    assert_eq!(content, b"before onetwo");
}

#[test]
fn lz4_flex_reads_ours_and_we_read_its() {
    for data in samples() {
        let mut content = Vec::new();
        FrameDecoder::new(&packed(&data)[..])
            .read_to_end(&mut content)
            .unwrap();
        assert!(content == data);

        let info = FrameInfo::new()
            .block_size(BlockSize::Max1MB)
            .content_size(Some(data.len() as u64))
            .content_checksum(true);
        let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
        encoder.write_all(&data).unwrap();
        assert!(unpacked(&encoder.finish().unwrap()).unwrap() == data);
    }
}

/// What operators have: several frames in a file, read by the tool at once.
#[test]
fn the_lz4_tool_reads_concatenated_frames() {
    let installed = Command::new("lz4").arg("--version").output().is_ok();
    if !installed {
        let required = std::env::var_os("WALCAST_REQUIRE_ALL").is_some_and(|value| value == "1");
        assert!(!required, "the lz4 tool is not installed");
        eprintln!("SKIPPED: the lz4 tool is not installed");
        return;
    }
    let data = samples();
    let file: Vec<u8> = data.iter().flat_map(|data| packed(data)).collect();
    let mut tool = Command::new("lz4")
        .args(["-d", "-c"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = tool.stdin.take().unwrap();
    let writer = std::thread::spawn(move || stdin.write_all(&file));
    let output = tool.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success());
    assert!(output.stdout == data.concat());
}

#[test]
fn refuses_large_content_before_allocating() {
    let mut frame = packed(b"");
    frame[6..14].copy_from_slice(&u64::MAX.to_le_bytes());
    frame[14] = header_check(&frame[4..14]);
    let mut out = Vec::new();
    let error = decompress(&frame, 1 << 20, &mut out).unwrap_err();
    assert!(matches!(
        error,
        Lz4Error::TooLarge {
            content_len: u64::MAX,
            max: 1_048_576
        }
    ));
    // Allowed by the limit, but the blocks for it are not there.
    frame[6..14].copy_from_slice(&(1u64 << 40).to_le_bytes());
    frame[14] = header_check(&frame[4..14]);
    let error = decompress(&frame, usize::MAX, &mut out).unwrap_err();
    assert!(matches!(error, Lz4Error::BlockSize { block: 0 }), "{error}");
    assert_eq!(out.capacity(), 0);
    assert!(decompress(&packed(b"four"), 3, &mut out).is_err());
    assert!(decompress(&packed(b"four"), 4, &mut out).is_ok());
}

#[test]
fn errors_are_told_apart() {
    let good = packed(&bytes(5000, 3));
    let with = |at: usize, value: u8| {
        let mut frame = good.clone();
        frame[at] = value;
        frame[14] = header_check(&frame[4..14]);
        unpacked(&frame).unwrap_err()
    };
    assert!(matches!(with(0, 5), Lz4Error::BadMagic(_)));
    // Linked blocks, and a block size of 4 MiB.
    assert!(matches!(
        with(4, 0x4c),
        Lz4Error::Unsupported { flags: 0x4c, .. }
    ));
    assert!(matches!(
        with(5, 0x70),
        Lz4Error::Unsupported {
            block_size: 0x70,
            ..
        }
    ));
    // Another length of content.
    assert!(matches!(
        with(6, good[6] ^ 1),
        Lz4Error::BlockSize { .. } | Lz4Error::Block { .. }
    ));
    let last = good.len() - 1;
    assert!(matches!(with(last, !good[last]), Lz4Error::ContentChecksum));
    let mut header = good.clone();
    header[14] ^= 1;
    assert!(matches!(unpacked(&header), Err(Lz4Error::HeaderChecksum)));
    let longer = [&good[..], b"abc"].concat();
    assert!(matches!(unpacked(&longer), Err(Lz4Error::Trailing(3))));
    assert!(matches!(unpacked(&good[..last]), Err(Lz4Error::Torn(n)) if n == last));
    assert!(matches!(unpacked(b""), Err(Lz4Error::Torn(0))));
}

proptest! {
    #[test]
    fn round_trips(data in vec(any::<u8>(), 0..2000), repeat in 1usize..40, after: [u8; 3]) {
        let data = data.repeat(repeat);
        let frame = packed(&data);
        let extent = frame_extent(&[&frame[..], &after].concat()).unwrap().unwrap();
        prop_assert_eq!(extent.compressed_len, frame.len());
        prop_assert_eq!(extent.content_len, data.len() as u64);
        prop_assert_eq!(unpacked(&frame).unwrap(), data);
    }

    #[test]
    fn every_cut_is_torn(data in vec(any::<u8>(), 0..200), repeat in 1usize..5) {
        let frame = packed(&data.repeat(repeat));
        for cut in 0..frame.len() {
            prop_assert_eq!(frame_extent(&frame[..cut]).unwrap(), None);
            prop_assert!(matches!(unpacked(&frame[..cut]), Err(Lz4Error::Torn(n)) if n == cut));
        }
    }

    /// A changed byte is found, or harmless: two ways to compress the same content exist.
    #[test]
    fn damage_never_changes_the_content(
        data in vec(0u8..4, 0..300), at: prop::sample::Index, flip in 1u8..,
    ) {
        let mut frame = packed(&data);
        let at = at.index(frame.len());
        frame[at] ^= flip;
        if let Ok(content) = unpacked(&frame) {
            prop_assert_eq!(content, data);
        }
    }

    #[test]
    fn never_panics(body in vec(any::<u8>(), 0..300), content in 0u64..1000, header: bool) {
        let mut frame = Vec::new();
        if header {
            frame = packed(b"")[..HEADER_LEN].to_vec();
            frame[6..14].copy_from_slice(&content.to_le_bytes());
            frame[14] = header_check(&frame[4..14]);
        }
        frame.extend_from_slice(&body);
        let _ = frame_extent(&frame);
        let _ = unpacked(&frame);
        // A size that fits, so that arbitrary bytes reach the decompressor.
        if header && content > 1 && body.len() > 4 {
            let size = (content as usize - 1).min(body.len() - 4) as u32;
            frame[15..19].copy_from_slice(&size.to_le_bytes());
            frame.truncate(19 + size as usize);
            frame.extend_from_slice(&[0; TRAILER_LEN]);
            let _ = unpacked(&frame);
        }
    }
}

#[test]
fn stored_frames_are_frames_like_others() {
    for data in samples() {
        let mut frame = Vec::new();
        store(&data, &mut frame).unwrap();
        let extent = frame_extent(&frame).unwrap().unwrap();
        assert_eq!(
            (extent.compressed_len, extent.content_len),
            (frame.len(), data.len() as u64)
        );
        assert!(unpacked(&frame).unwrap() == data, "{} bytes", data.len());
        let mut content = Vec::new();
        FrameDecoder::new(&frame[..])
            .read_to_end(&mut content)
            .unwrap();
        assert!(content == data);
    }
}
