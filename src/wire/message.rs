//! Messages of a stream.

use super::field::{
    MAX_OFFSET, MAX_WAL, cksum, cksum_to_pb, codec, codec_to_pb, generation, name, packed,
    page_size, parse_position, position_or_none, text, text_of,
};
use super::{WireError, pb};
use crate::format::dbsum::DbSum;
use crate::format::wal::{WAL_HEADER_SIZE, WalHeader};
use crate::model::{
    Chunk, Codec, Commit, Follows, Hello, MAX_CHUNK, Message, PROTOCOL_VERSION, SnapshotBegin,
    SnapshotEnd, SnapshotPages,
};
use bytes::Bytes;
use pb::stream_response::Body;

type Result<T> = std::result::Result<T, WireError>;

impl From<Message> for pb::StreamResponse {
    fn from(message: Message) -> pb::StreamResponse {
        let body = match message {
            Message::Hello(hello) => Body::Hello(hello.into()),
            Message::SnapshotBegin(begin) => Body::SnapshotBegin(begin.into()),
            Message::SnapshotPages(pages) => Body::SnapshotPages(pages.into()),
            Message::SnapshotEnd(end) => Body::SnapshotEnd(end.into()),
            Message::Chunk(chunk) => Body::WalChunk(chunk.into()),
            Message::Heartbeat { position, clock_us } => Body::Heartbeat(pb::Heartbeat {
                position: position.to_string(),
                clock_us,
            }),
        };
        pb::StreamResponse { body: Some(body) }
    }
}

impl TryFrom<pb::StreamResponse> for Message {
    type Error = WireError;

    fn try_from(response: pb::StreamResponse) -> Result<Message> {
        // A body of a later version arrives as no body at all.
        Ok(
            match response
                .body
                .ok_or(WireError::Unknown { what: "message" })?
            {
                Body::Hello(hello) => Message::Hello(hello.try_into()?),
                Body::SnapshotBegin(begin) => Message::SnapshotBegin(begin.try_into()?),
                Body::SnapshotPages(pages) => Message::SnapshotPages(pages.try_into()?),
                Body::SnapshotEnd(end) => Message::SnapshotEnd(end.try_into()?),
                Body::WalChunk(chunk) => Message::Chunk(chunk.try_into()?),
                Body::Heartbeat(beat) => Message::Heartbeat {
                    position: parse_position("heartbeat.position", &beat.position)?,
                    clock_us: beat.clock_us,
                },
            },
        )
    }
}

impl From<Hello> for pb::Hello {
    fn from(hello: Hello) -> pb::Hello {
        pb::Hello {
            protocol: hello.protocol,
            server_id: hello.server_id,
            session_id: hello.session_id,
            page_size: hello.page_size,
            generation: hello.generation.to_string(),
            parent_generation: hello.parent.map(|g| g.to_string()).unwrap_or_default(),
            fork_position: text_of(hello.fork),
            checksum_algorithm: pb::ChecksumAlgorithm::Xxh3Xor.into(),
            follows: follows_to_pb(hello.follows).into(),
            reason: hello.reason,
            position: hello.position.to_string(),
            clock_us: hello.clock_us,
            heartbeat_ms: hello.heartbeat_ms,
            epoch: 0,
        }
    }
}

impl TryFrom<pb::Hello> for Hello {
    type Error = WireError;

    fn try_from(hello: pb::Hello) -> Result<Hello> {
        if hello.protocol != PROTOCOL_VERSION {
            return Err(WireError::Version {
                min: hello.protocol,
                max: hello.protocol,
            });
        }
        match pb::ChecksumAlgorithm::try_from(hello.checksum_algorithm) {
            Ok(pb::ChecksumAlgorithm::Xxh3Xor) => {}
            _ => {
                return Err(WireError::Unknown {
                    what: "checksum algorithm",
                });
            }
        }
        let parent = match hello.parent_generation.as_str() {
            "" => None,
            text => Some(generation("hello.parent_generation", text)?),
        };
        let ours = generation("hello.generation", &hello.generation)?;
        let position = parse_position("hello.position", &hello.position)?;
        if position.generation != ours {
            let expected = "a position of hello.generation";
            return Err(WireError::new("hello.position", position, expected));
        }
        if !(1..=3_600_000).contains(&hello.heartbeat_ms) {
            let expected = "1 ms to one hour";
            return Err(WireError::new(
                "hello.heartbeat_ms",
                hello.heartbeat_ms,
                expected,
            ));
        }
        Ok(Hello {
            protocol: hello.protocol,
            server_id: name("hello.server_id", hello.server_id)?,
            session_id: name("hello.session_id", hello.session_id)?,
            page_size: page_size("hello.page_size", hello.page_size)?,
            generation: ours,
            parent,
            fork: position_or_none("hello.fork_position", &hello.fork_position)?,
            follows: follows(hello.follows)?,
            reason: text(hello.reason),
            position,
            clock_us: hello.clock_us,
            heartbeat_ms: hello.heartbeat_ms,
        })
    }
}

fn follows_to_pb(follows: Follows) -> pb::Follows {
    match follows {
        Follows::Resume => pb::Follows::Resume,
        Follows::NewReplica => pb::Follows::SnapshotNewReplica,
        Follows::OtherGeneration => pb::Follows::SnapshotOtherGeneration,
        Follows::NotRetained => pb::Follows::SnapshotNotRetained,
        Follows::ReplicaAhead => pb::Follows::SnapshotReplicaAhead,
        Follows::ChecksumDiffers => pb::Follows::SnapshotChecksumDiffers,
        Follows::PageSizeDiffers => pb::Follows::SnapshotPageSizeDiffers,
    }
}

fn follows(follows: i32) -> Result<Follows> {
    Ok(match pb::Follows::try_from(follows) {
        Ok(pb::Follows::Resume) => Follows::Resume,
        Ok(pb::Follows::SnapshotNewReplica) => Follows::NewReplica,
        Ok(pb::Follows::SnapshotOtherGeneration) => Follows::OtherGeneration,
        Ok(pb::Follows::SnapshotNotRetained) => Follows::NotRetained,
        Ok(pb::Follows::SnapshotReplicaAhead) => Follows::ReplicaAhead,
        Ok(pb::Follows::SnapshotChecksumDiffers) => Follows::ChecksumDiffers,
        Ok(pb::Follows::SnapshotPageSizeDiffers) => Follows::PageSizeDiffers,
        Ok(pb::Follows::Unspecified) => {
            return Err(WireError::Missing {
                field: "hello.follows",
            });
        }
        Err(_) => {
            return Err(WireError::Unknown {
                what: "reason of what follows",
            });
        }
    })
}

impl From<SnapshotBegin> for pb::SnapshotBegin {
    fn from(begin: SnapshotBegin) -> pb::SnapshotBegin {
        pb::SnapshotBegin {
            kind: pb::SnapshotKind::Full.into(),
            page_count: begin.page_count,
            start: begin.start.to_string(),
            wal_header: begin
                .log
                .map(|(header, _)| Bytes::copy_from_slice(&header.encode()))
                .unwrap_or_default(),
            frame_checksum: begin.log.map(|(_, checksum)| cksum_to_pb(checksum)),
        }
    }
}

impl TryFrom<pb::SnapshotBegin> for SnapshotBegin {
    type Error = WireError;

    fn try_from(begin: pb::SnapshotBegin) -> Result<SnapshotBegin> {
        match pb::SnapshotKind::try_from(begin.kind) {
            Ok(pb::SnapshotKind::Full) => {}
            _ => {
                return Err(WireError::Unknown {
                    what: "kind of snapshot",
                });
            }
        }
        let field = "snapshot_begin.wal_header";
        let start = parse_position("snapshot_begin.start", &begin.start)?;
        let log = match (start.offset, begin.frame_checksum) {
            (0, None) if begin.wal_header.is_empty() => None,
            (0, _) => {
                return Err(WireError::new(
                    field,
                    "given",
                    "no log where start has offset 0",
                ));
            }
            (_, None) => {
                return Err(WireError::Missing {
                    field: "snapshot_begin.frame_checksum",
                });
            }
            (_, Some(checksum)) => {
                let bytes: &[u8; WAL_HEADER_SIZE] =
                    begin.wal_header.as_ref().try_into().map_err(|_| {
                        WireError::new(
                            field,
                            format!("{} bytes long", begin.wal_header.len()),
                            "32 bytes",
                        )
                    })?;
                let header = WalHeader::parse(bytes)
                    .map_err(|error| WireError::new(field, error, "a WAL header"))?;
                Some((header, cksum(checksum)))
            }
        };
        Ok(SnapshotBegin {
            page_count: begin.page_count,
            start,
            log,
        })
    }
}

impl From<SnapshotPages> for pb::SnapshotPages {
    fn from(pages: SnapshotPages) -> pb::SnapshotPages {
        pb::SnapshotPages {
            first_page: pages.first_page,
            codec: codec_to_pb(pages.codec).into(),
            size: pages.size,
            data: pages.data,
        }
    }
}

impl TryFrom<pb::SnapshotPages> for SnapshotPages {
    type Error = WireError;

    fn try_from(pages: pb::SnapshotPages) -> Result<SnapshotPages> {
        let size = pages.size;
        // The page size is known to the stream's owner alone; every page size is a multiple of the smallest.
        if size == 0 || size as usize > MAX_CHUNK || !size.is_multiple_of(512) {
            let expected = "whole pages, at most 1 MiB";
            return Err(WireError::new("snapshot_pages.size", size, expected));
        }
        let field = "snapshot_pages.first_page";
        if pages.first_page == 0 || pages.first_page.checked_add(size / 512).is_none() {
            return Err(WireError::new(
                field,
                pages.first_page,
                "a page number from 1",
            ));
        }
        let codec = codec("snapshot_pages.codec", pages.codec)?;
        if codec == Codec::Lz4Recent {
            let expected = "a codec that needs nothing before it";
            return Err(WireError::new(
                "snapshot_pages.codec",
                "CODEC_LZ4_RECENT",
                expected,
            ));
        }
        packed("snapshot_pages.data", codec, u64::from(size), &pages.data)?;
        Ok(SnapshotPages {
            first_page: pages.first_page,
            codec,
            size,
            data: pages.data,
        })
    }
}

impl From<SnapshotEnd> for pb::SnapshotEnd {
    fn from(end: SnapshotEnd) -> pb::SnapshotEnd {
        pb::SnapshotEnd {
            position: end.position.to_string(),
            database_checksum: end.dbsum.0,
            page_count: end.page_count,
            time_us: end.time_us,
        }
    }
}

impl TryFrom<pb::SnapshotEnd> for SnapshotEnd {
    type Error = WireError;

    fn try_from(end: pb::SnapshotEnd) -> Result<SnapshotEnd> {
        Ok(SnapshotEnd {
            position: parse_position("snapshot_end.position", &end.position)?,
            dbsum: DbSum(end.database_checksum),
            page_count: end.page_count,
            time_us: end.time_us,
        })
    }
}

impl From<Chunk> for pb::WalChunk {
    fn from(chunk: Chunk) -> pb::WalChunk {
        pb::WalChunk {
            start: chunk.start.to_string(),
            end_offset: chunk.end_offset,
            codec: codec_to_pb(chunk.codec).into(),
            // A chunk beyond 4 GiB cannot be; the receiver refuses what does not agree.
            size: u32::try_from(chunk.size()).unwrap_or(u32::MAX),
            commit: chunk.commit.map(|commit| pb::Commit {
                database_checksum: commit.dbsum.0,
                page_count: commit.page_count,
                time_us: commit.time_us,
            }),
            data: chunk.data,
        }
    }
}

impl TryFrom<pb::WalChunk> for Chunk {
    type Error = WireError;

    fn try_from(chunk: pb::WalChunk) -> Result<Chunk> {
        let start = parse_position("wal_chunk.start", &chunk.start)?;
        let size = u64::from(chunk.size);
        if size == 0 || size > MAX_WAL {
            let expected = "1 byte to 1 MiB and one frame";
            return Err(WireError::new("wal_chunk.size", size, expected));
        }
        let end = chunk.end_offset;
        if end > MAX_OFFSET || end.checked_sub(start.offset) != Some(size) {
            let expected = "the offset of start plus size";
            return Err(WireError::new("wal_chunk.end_offset", end, expected));
        }
        let codec = codec("wal_chunk.codec", chunk.codec)?;
        packed("wal_chunk.data", codec, size, &chunk.data)?;
        let commit = match chunk.commit {
            // A commit frame holds the size of the database, and 0 would mean that it is none.
            Some(commit) if commit.page_count == 0 => {
                return Err(WireError::new(
                    "wal_chunk.commit.page_count",
                    0,
                    "at least 1",
                ));
            }
            Some(commit) => Some(Commit {
                dbsum: DbSum(commit.database_checksum),
                page_count: commit.page_count,
                time_us: commit.time_us,
            }),
            None => None,
        };
        Ok(Chunk {
            start,
            end_offset: end,
            codec,
            data: chunk.data,
            commit,
        })
    }
}
