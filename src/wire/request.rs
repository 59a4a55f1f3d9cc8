//! What a replica sends.

use super::field::{
    cksum, cksum_to_pb, name, page_size, parse_position, position_or_none, seconds, text_of,
};
use super::{WireError, pb};
use crate::format::dbsum::DbSum;
use crate::model::{PROTOCOL_VERSION, Progress, StreamStart};

type Result<T> = std::result::Result<T, WireError>;

impl From<StreamStart> for pb::StreamRequest {
    fn from(start: StreamStart) -> pb::StreamRequest {
        pb::StreamRequest {
            database: start.database,
            position: text_of(start.position),
            database_checksum: start.dbsum.unwrap_or_default().0,
            frame_checksum: start.frame_cksum.map(cksum_to_pb),
            replica_id: start.replica_id,
            replica_name: start.replica_name,
            protocol_min: PROTOCOL_VERSION,
            protocol_max: PROTOCOL_VERSION,
            codecs: match (start.lz4, start.recent) {
                (false, _) => Vec::new(),
                (true, false) => vec![pb::Codec::Lz4.into()],
                (true, true) => vec![pb::Codec::Lz4.into(), pb::Codec::Lz4Recent.into()],
            },
            page_size: start.page_size,
            epoch: 0,
            transient: start.transient,
            resume_only: start.resume_only,
        }
    }
}

impl TryFrom<pb::StreamRequest> for StreamStart {
    type Error = WireError;

    /// The address stays empty: the server knows it from the connection.
    fn try_from(request: pb::StreamRequest) -> Result<StreamStart> {
        let (min, max) = (request.protocol_min, request.protocol_max);
        if !(min..=max).contains(&PROTOCOL_VERSION) {
            return Err(WireError::Version { min, max });
        }
        let position = match request.position.as_str() {
            "" => None,
            text => Some(parse_position("position", text)?),
        };
        let page_size = match request.page_size {
            0 if position.is_some() => return Err(WireError::Missing { field: "page_size" }),
            0 => 0,
            size => page_size("page_size", size)?,
        };
        // A codec that this build does not know is one it will not use.
        let lz4 = request.codecs.contains(&pb::Codec::Lz4.into());
        Ok(StreamStart {
            database: name("database", request.database)?,
            position,
            dbsum: Some(DbSum(request.database_checksum)),
            frame_cksum: request.frame_checksum.map(cksum),
            replica_id: name("replica_id", request.replica_id)?,
            replica_name: name("replica_name", request.replica_name)?,
            lz4,
            recent: lz4 && request.codecs.contains(&pb::Codec::Lz4Recent.into()),
            page_size,
            address: String::new(),
            transient: request.transient,
            resume_only: request.resume_only,
        })
    }
}

impl From<Progress> for pb::ReportProgressRequest {
    fn from(progress: Progress) -> pb::ReportProgressRequest {
        pb::ReportProgressRequest {
            database: progress.database,
            replica_id: progress.replica_id,
            session_id: progress.session_id,
            received: text_of(progress.received),
            applied: text_of(progress.applied),
            durable: text_of(progress.durable),
            apply_lag_seconds: progress.apply_lag_seconds,
        }
    }
}

impl TryFrom<pb::ReportProgressRequest> for Progress {
    type Error = WireError;

    fn try_from(request: pb::ReportProgressRequest) -> Result<Progress> {
        Ok(Progress {
            database: name("database", request.database)?,
            replica_id: name("replica_id", request.replica_id)?,
            session_id: name("session_id", request.session_id)?,
            received: position_or_none("received", &request.received)?,
            applied: position_or_none("applied", &request.applied)?,
            durable: position_or_none("durable", &request.durable)?,
            apply_lag_seconds: seconds("apply_lag_seconds", request.apply_lag_seconds)?,
        })
    }
}
