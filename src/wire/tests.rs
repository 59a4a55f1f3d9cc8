//! Round trips, and arbitrary messages from a peer.

use super::pb;
use super::*;
use crate::format::dbsum::DbSum;
use crate::format::position::{Generation, Position};
use crate::format::recent::{LARGEST, MAX_PACKED as MOST_RECENT};
use crate::format::wal::{Cksum, WalHeader};
use crate::model::*;
use bytes::Bytes;
use proptest::prelude::*;
use prost::Message as _;

mod copies;

fn position() -> impl Strategy<Value = Position> {
    (any::<u64>(), 0..u64::MAX, 0..=MAX_OFFSET).prop_map(|(generation, index, offset)| Position {
        generation: Generation(generation),
        index,
        offset,
    })
}

fn page_size() -> impl Strategy<Value = u32> {
    (9u32..=16).prop_map(|bits| 1 << bits)
}

fn hello() -> impl Strategy<Value = Hello> {
    let follows = prop_oneof![
        Just(Follows::Resume),
        Just(Follows::NewReplica),
        Just(Follows::OtherGeneration),
        Just(Follows::NotRetained),
        Just(Follows::ReplicaAhead),
        Just(Follows::ChecksumDiffers),
        Just(Follows::PageSizeDiffers),
    ];
    let parent = proptest::option::of(any::<u64>().prop_map(Generation));
    let fork = proptest::option::of(position());
    (
        position(),
        parent,
        fork,
        follows,
        page_size(),
        any::<i64>(),
        1u32..=3_600_000,
        "[ -~]{0,40}",
    )
        .prop_map(
            |(position, parent, fork, follows, page_size, clock_us, heartbeat_ms, reason)| Hello {
                protocol: PROTOCOL_VERSION,
                server_id: "server".into(),
                session_id: "session".into(),
                page_size,
                generation: position.generation,
                parent,
                fork,
                follows,
                reason,
                position,
                clock_us,
                heartbeat_ms,
            },
        )
}

fn codec_and_data(size: u32) -> impl Strategy<Value = (Codec, Bytes)> {
    prop_oneof![
        Just((Codec::None, Bytes::from(vec![7; size as usize]))),
        proptest::collection::vec(any::<u8>(), 1..64)
            .prop_map(|data| (Codec::Lz4, Bytes::from(data))),
    ]
}

fn message() -> impl Strategy<Value = Message> {
    let begin = (position(), any::<u32>(), page_size(), any::<[u32; 5]>()).prop_map(
        |(start, page_count, page_size, [sequence, a, b, c, d])| {
            let log = (start.offset > 0)
                .then(|| (WalHeader::new(page_size, sequence, [a, b]), Cksum(c, d)));
            Message::SnapshotBegin(SnapshotBegin {
                page_count,
                start,
                log,
            })
        },
    );
    let pages = (1u32..=16, 1u32..1000)
        .prop_flat_map(|(count, first)| {
            (Just(first), Just(count * 512), codec_and_data(count * 512))
        })
        .prop_map(|(first_page, size, (codec, data))| {
            Message::SnapshotPages(SnapshotPages {
                first_page,
                codec,
                size,
                data,
            })
        });
    let end = (position(), any::<u64>(), any::<u32>(), any::<i64>()).prop_map(
        |(position, dbsum, page_count, time_us)| {
            Message::SnapshotEnd(SnapshotEnd {
                position,
                dbsum: DbSum(dbsum),
                page_count,
                time_us,
            })
        },
    );
    let commit = proptest::option::of((any::<u64>(), 1..u32::MAX, any::<i64>()).prop_map(
        |(dbsum, page_count, time_us)| Commit {
            dbsum: DbSum(dbsum),
            page_count,
            time_us,
        },
    ));
    let chunk = (position(), 1u32..5000, commit)
        .prop_flat_map(|(start, size, commit)| {
            (Just(start), Just(size), codec_and_data(size), Just(commit))
        })
        .prop_map(|(mut start, size, (codec, data), commit)| {
            start.offset = start.offset.min(MAX_OFFSET - u64::from(size));
            let end_offset = start.offset + u64::from(size);
            let codec = match codec {
                Codec::Lz4 if size % 2 == 0 => Codec::Lz4Recent,
                codec => codec,
            };
            Message::Chunk(Chunk {
                start,
                end_offset,
                codec,
                data,
                commit,
            })
        });
    let heartbeat = (position(), any::<i64>())
        .prop_map(|(position, clock_us)| Message::Heartbeat { position, clock_us });
    prop_oneof![
        hello().prop_map(Message::Hello),
        begin,
        pages,
        end,
        chunk,
        heartbeat
    ]
}

proptest! {
    #[test]
    fn what_is_sent_is_what_arrives(message in message()) {
        let bytes = pb::StreamResponse::from(message.clone()).encode_to_vec();
        let response = pb::StreamResponse::decode(bytes.as_slice()).expect("our own encoding");
        let back = Message::try_from(response).expect("a valid message");
        prop_assert_eq!(format!("{message:?}"), format!("{back:?}"));
    }

    #[test]
    fn any_bytes_are_answered_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        if let Ok(response) = pb::StreamResponse::decode(bytes.as_slice()) {
            let _ = Message::try_from(response);
        }
        if let Ok(request) = pb::StreamRequest::decode(bytes.as_slice()) {
            let _ = StreamStart::try_from(request);
        }
        if let Ok(request) = pb::ReportProgressRequest::decode(bytes.as_slice()) {
            let _ = Progress::try_from(request);
        }
        if let Ok(database) = pb::Database::decode(bytes.as_slice()) {
            let _ = DatabaseStatus::try_from(database);
        }
        if let Ok(replica) = pb::Replica::decode(bytes.as_slice()) {
            let _ = ReplicaStatus::try_from(replica);
        }
    }

    // A valid message with one byte changed reaches the checks far more often than noise does.
    #[test]
    fn one_wrong_byte_is_answered_without_a_panic(
        message in message(), place in any::<prop::sample::Index>(), byte in any::<u8>()
    ) {
        let mut bytes = pb::StreamResponse::from(message).encode_to_vec();
        let place = place.index(bytes.len());
        bytes[place] = byte;
        if let Ok(response) = pb::StreamResponse::decode(bytes.as_slice())
            && let Ok(Message::Chunk(chunk)) = Message::try_from(response)
        {
            prop_assert!(chunk.size() <= (MAX_CHUNK + 65536 + 24 + 32) as u64);
            prop_assert!(chunk.end_offset <= MAX_OFFSET);
            prop_assert!(chunk.data.len() <= MAX_PACKED);
        }
    }

    #[test]
    fn requests_survive_the_wire(
        position in proptest::option::of(position()), size in page_size(), lz4: bool,
        dbsum: u64, cksum in proptest::option::of(any::<(u32, u32)>()),
    ) {
        let start = StreamStart {
            database: "app.db".into(),
            position,
            dbsum: Some(DbSum(dbsum)),
            frame_cksum: cksum.map(|(a, b)| Cksum(a, b)),
            replica_id: "id".into(),
            replica_name: "name".into(),
            lz4,
            recent: lz4 && dbsum % 2 == 0,
            page_size: size,
            address: String::new(),
            transient: lz4,
            resume_only: !lz4,
        };
        let back = StreamStart::try_from(pb::StreamRequest::from(start.clone())).expect("valid");
        prop_assert_eq!(format!("{start:?}"), format!("{back:?}"));
        let progress = Progress {
            database: "app.db".into(),
            replica_id: "id".into(),
            session_id: "s".into(),
            received: position,
            applied: None,
            durable: position,
            apply_lag_seconds: 0.25,
        };
        let back = Progress::try_from(pb::ReportProgressRequest::from(progress.clone()));
        prop_assert_eq!(format!("{progress:?}"), format!("{:?}", back.expect("valid")));
    }
}

fn chunk() -> pb::WalChunk {
    pb::WalChunk {
        start: "89abcdef01234567/0000000000000003:0000000000000020".into(),
        end_offset: 0x20 + 536,
        codec: pb::Codec::None.into(),
        size: 536,
        data: Bytes::from(vec![0; 536]),
        commit: None,
    }
}

/// The error for a chunk after a change to it.
fn refused(change: impl FnOnce(&mut pb::WalChunk)) -> WireError {
    let mut chunk = chunk();
    change(&mut chunk);
    Chunk::try_from(chunk).expect_err("an invalid chunk")
}

#[test]
fn a_chunk_is_checked_in_every_field() {
    assert!(Chunk::try_from(chunk()).is_ok());
    assert_eq!(
        refused(|c| c.start = "x".into()).field(),
        Some("wal_chunk.start")
    );
    let far = "89abcdef01234567/0000000000000003:7fffffffffffffff";
    assert_eq!(
        refused(|c| c.start = far.into()).field(),
        Some("wal_chunk.start")
    );
    let last = "89abcdef01234567/ffffffffffffffff:0000000000000020";
    assert_eq!(
        refused(|c| c.start = last.into()).field(),
        Some("wal_chunk.start")
    );
    assert_eq!(refused(|c| c.size = 0).field(), Some("wal_chunk.size"));
    assert_eq!(
        refused(|c| c.size = 2 << 20).field(),
        Some("wal_chunk.size")
    );
    assert_eq!(
        refused(|c| c.end_offset += 1).field(),
        Some("wal_chunk.end_offset")
    );
    assert_eq!(
        refused(|c| c.end_offset = 1).field(),
        Some("wal_chunk.end_offset")
    );
    assert_eq!(
        refused(|c| c.end_offset = u64::MAX).field(),
        Some("wal_chunk.end_offset")
    );
    assert_eq!(refused(|c| c.codec = 0).field(), Some("wal_chunk.codec"));
    assert_eq!(
        refused(|c| c.codec = 77),
        WireError::Unknown { what: "codec" }
    );
    assert_eq!(
        refused(|c| c.data = Bytes::new()).field(),
        Some("wal_chunk.data")
    );
    let empty = pb::Commit {
        database_checksum: 1,
        page_count: 0,
        time_us: 0,
    };
    assert_eq!(
        refused(|c| c.commit = Some(empty)).field(),
        Some("wal_chunk.commit.page_count")
    );
    let packed = refused(|c| {
        c.codec = pb::Codec::Lz4.into();
        c.data = Bytes::from(vec![0; MAX_PACKED + 1]);
    });
    assert_eq!(packed.field(), Some("wal_chunk.data"));
    let recent = |size: usize, length: usize| {
        refused(|c| {
            c.codec = pb::Codec::Lz4Recent.into();
            c.size = size as u32;
            c.end_offset = 0x20 + size as u64;
            c.data = Bytes::from(vec![0; length]);
        })
    };
    for (size, length) in [(536, 0), (536, MOST_RECENT + 1), (LARGEST + 1, 100)] {
        let error = recent(size, length);
        assert_eq!(error.field(), Some("wal_chunk.data"), "{size} {length}");
    }
}

#[test]
fn pages_are_never_packed_against_what_came_before() {
    let pages = pb::SnapshotPages {
        first_page: 1,
        codec: pb::Codec::Lz4Recent.into(),
        size: 512,
        data: Bytes::from_static(&[0; 9]),
    };
    let error = SnapshotPages::try_from(pages.clone()).expect_err("refused");
    assert_eq!(error.field(), Some("snapshot_pages.codec"));
    let copy = pb::ReadCopyResponse {
        body: Some(pb::read_copy_response::Body::Pages(pages)),
    };
    let error = CopyMessage::try_from(copy).expect_err("refused");
    assert_eq!(error.field(), Some("snapshot_pages.codec"));
}

#[test]
fn a_codec_is_taken_beside_those_that_this_build_does_not_know() {
    let taken = |codecs: &[i32]| {
        let request = pb::StreamRequest {
            database: "app.db".into(),
            replica_id: "id".into(),
            replica_name: "name".into(),
            protocol_min: PROTOCOL_VERSION,
            protocol_max: PROTOCOL_VERSION,
            codecs: codecs.to_vec(),
            ..Default::default()
        };
        let start = StreamStart::try_from(request).expect("valid");
        (start.lz4, start.recent)
    };
    assert_eq!(taken(&[]), (false, false));
    assert_eq!(taken(&[77, 2, -1]), (true, false));
    assert_eq!(taken(&[3, 77, 2]), (true, true));
    assert_eq!(taken(&[3]), (false, false), "of no meaning without LZ4");
}

#[test]
fn a_message_of_a_later_version_is_unknown_and_never_skipped() {
    // Field 15 of the response, a message without fields.
    let later = pb::StreamResponse::decode([0x7a, 0x00].as_slice()).expect("protobuf");
    assert_eq!(
        Message::try_from(later).expect_err("unknown"),
        WireError::Unknown { what: "message" }
    );
    let begin = pb::SnapshotBegin {
        kind: pb::SnapshotKind::Difference.into(),
        start: "89abcdef01234567/0000000000000000:0000000000000000".into(),
        ..Default::default()
    };
    let error = SnapshotBegin::try_from(begin).expect_err("not in this version");
    assert_eq!(
        error,
        WireError::Unknown {
            what: "kind of snapshot"
        }
    );
}

#[test]
fn versions_must_overlap() {
    let request = |min, max| pb::StreamRequest {
        database: "app.db".into(),
        replica_id: "i".into(),
        replica_name: "n".into(),
        protocol_min: min,
        protocol_max: max,
        ..Default::default()
    };
    assert!(StreamStart::try_from(request(1, 1)).is_ok());
    assert!(StreamStart::try_from(request(0, 9)).is_ok());
    for (min, max) in [(0, 0), (2, 3), (3, 1)] {
        let error = StreamStart::try_from(request(min, max)).expect_err("no common version");
        assert_eq!(error, WireError::Version { min, max });
        assert!(
            error.to_string().contains(&format!("{min} to {max}")),
            "{error}"
        );
    }
}

#[test]
fn texts_for_people_cannot_break_a_log_line() {
    let mut hello = pb::Hello {
        protocol: 1,
        server_id: "s".into(),
        session_id: "t".into(),
        page_size: 4096,
        generation: "89abcdef01234567".into(),
        checksum_algorithm: pb::ChecksumAlgorithm::Xxh3Xor.into(),
        follows: pb::Follows::Resume.into(),
        reason: "a\nb\u{1b}[31m".into(),
        position: "89abcdef01234567/0000000000000000:0000000000000000".into(),
        heartbeat_ms: 1000,
        ..Default::default()
    };
    assert_eq!(
        Hello::try_from(hello.clone()).expect("valid").reason,
        "a b [31m"
    );
    hello.session_id = "a\nb".into();
    assert_eq!(
        Hello::try_from(hello).expect_err("a name").field(),
        Some("hello.session_id")
    );
}
