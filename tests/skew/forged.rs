//! What no primary says: messages that are well formed, in the right place, and claim what is not so. Each is refused with words that
//! name what is wrong, readers keep the state before it, and the replica goes on with the next stream that is right.

use crate::messages::*;
use crate::newer_primary::copy_after;
use crate::stage::{PAGE_SIZE, assert_content, content_of, read_only, wait_reason};
use crate::transcript::{Call, End, recorded, unpack};
use crate::walfile::{FRAME_HEADER, sum};
use bytes::Bytes;
use prost::Message as _;

/// A change to the chunk of a commit.
type Forging = fn(&mut Chunk);

/// A chunk, and its bytes as they are in the log.
struct Chunk {
    message: WalChunk,
    frames: Vec<u8>,
    /// The checksum of the frame before it.
    before: (u32, u32),
}

impl Chunk {
    fn of(message: &WalChunk, before: FrameChecksum) -> Chunk {
        assert_eq!(message.codec, CODEC_LZ4);
        let mut chunk = Chunk {
            message: message.clone(),
            frames: unpack(&message.data),
            before: (before.first, before.second),
        };
        let recorded = chunk.frames.clone();
        chunk.seal();
        assert_eq!(
            chunk.frames, recorded,
            "checksums are computed as they were"
        );
        chunk
    }

    fn each(&mut self) -> impl Iterator<Item = &mut [u8]> {
        let size = FRAME_HEADER as usize + PAGE_SIZE;
        assert!(self.frames.len().is_multiple_of(size), "a log goes on");
        self.frames.chunks_exact_mut(size)
    }

    fn last(&mut self) -> &mut [u8] {
        self.each().last().expect("a frame")
    }

    fn commit(&mut self) -> &mut Commit {
        self.message.commit.as_mut().expect("a commit")
    }

    /// Makes the checksums of all frames right.
    fn seal(&mut self) {
        let mut state = self.before;
        for frame in self.each() {
            let (header, page) = frame.split_at_mut(FRAME_HEADER as usize);
            state = sum(sum(state, &header[..8], false), page, false);
            header[16..20].copy_from_slice(&state.0.to_be_bytes());
            header[20..24].copy_from_slice(&state.1.to_be_bytes());
        }
    }

    fn into_answer(self) -> Bytes {
        let message = WalChunk {
            codec: CODEC_NONE,
            data: self.frames.into(),
            ..self.message
        };
        answer(message)
    }
}

fn answer(chunk: WalChunk) -> Bytes {
    let body = Some(Body::WalChunk(chunk));
    StreamResponse { body }.encode_to_vec().into()
}

/// The size of the database after the commit, in the frame and in the message.
fn pages(chunk: &mut Chunk, count: u32) {
    chunk.last()[4..8].copy_from_slice(&count.to_be_bytes());
    chunk.commit().page_count = count;
    chunk.seal();
}

/// Each with what the replica says.
const FORGINGS: &[(&str, Forging)] = &[
    // No disk has 16 TiB free.
    ("No space left on device", |chunk| pages(chunk, u32::MAX)),
    ("commit is not where it says", |chunk| {
        chunk.commit().page_count += 1;
    }),
    ("does not have its checksum", |chunk| {
        chunk.last()[FRAME_HEADER as usize] ^= 1;
    }),
    ("is not of this log", |chunk| {
        chunk.last()[8] ^= 1;
        chunk.seal();
    }),
    ("is for page 0", |chunk| {
        chunk.last()[..4].fill(0);
        chunk.seal();
    }),
    ("wal_chunk.end_offset is", |chunk| chunk.message.size += 1),
    ("wal_chunk.size is", |chunk| {
        chunk.message.size = u32::MAX;
        chunk.message.end_offset = u64::MAX;
    }),
    ("came after", |chunk| {
        let start = chunk.message.start.len() - 1;
        chunk.message.start.replace_range(start.., "0");
        chunk.message.end_offset -= 8;
    }),
];

/// A call whose first commit is forged; nothing comes behind it.
fn forged(call: &Call, forging: Forging) -> Call {
    let before = call.asked().frame_checksum.expect("it resumes in a log");
    let mut answers = Vec::new();
    for (recorded, body) in call.answers.iter().zip(call.bodies()) {
        if let Body::WalChunk(message) = body {
            let mut chunk = Chunk::of(&message, before);
            forging(&mut chunk);
            answers.push(chunk.into_answer());
            break;
        }
        answers.push(recorded.clone());
    }
    Call {
        answers,
        end: End::Left,
        ..call.clone()
    }
}

#[test]
fn what_is_forged_is_refused_and_nothing_changes() {
    let transcript = recorded();
    let [before @ .., last] = &transcript.calls[..] else {
        panic!("calls")
    };
    let (player, place) = copy_after(before);
    let has = before.last().expect("calls").state();
    let reader = read_only(&place.db());
    for (words, forging) in FORGINGS {
        player.always(Ok(forged(last, *forging)));
        let replica = place.replica(&player.url);
        let status = wait_reason(&replica, words);
        println!("{}", status["reason"]);
        assert_eq!(status["position"], *has.position, "{words}");
        assert_eq!(content_of(&reader), has.content, "{words}");
        assert_content(&place.db(), has);
    }
}
