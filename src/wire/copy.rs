//! Messages of a copy that is read once.

use super::field::{codec_to_pb, name, page_size, parse_position};
use super::{WireError, pb};
use crate::format::dbsum::DbSum;
use crate::model::{Codec, CopyBegin, CopyMessage, CopyRequest, MAX_HASHES};
use pb::read_copy_response::Body;

type Result<T> = std::result::Result<T, WireError>;

impl From<CopyRequest> for pb::ReadCopyRequest {
    fn from(request: CopyRequest) -> pb::ReadCopyRequest {
        pb::ReadCopyRequest {
            database: request.database,
            hashes_only: request.hashes_only,
            codecs: if request.lz4 {
                vec![codec_to_pb(Codec::Lz4).into()]
            } else {
                Vec::new()
            },
        }
    }
}

impl TryFrom<pb::ReadCopyRequest> for CopyRequest {
    type Error = WireError;

    fn try_from(request: pb::ReadCopyRequest) -> Result<CopyRequest> {
        Ok(CopyRequest {
            database: name("database", request.database)?,
            hashes_only: request.hashes_only,
            // A codec that this build does not know is one it will not use.
            lz4: request.codecs.contains(&pb::Codec::Lz4.into()),
        })
    }
}

impl From<CopyMessage> for pb::ReadCopyResponse {
    fn from(message: CopyMessage) -> pb::ReadCopyResponse {
        let body = match message {
            CopyMessage::Begin(begin) => Body::Begin(pb::CopyBegin {
                position: begin.position.to_string(),
                database_checksum: begin.dbsum.0,
                page_count: begin.page_count,
                page_size: begin.page_size,
            }),
            CopyMessage::Pages(pages) => Body::Pages(pages.into()),
            CopyMessage::Hashes { first_page, hashes } => {
                Body::Hashes(pb::PageHashes { first_page, hashes })
            }
        };
        pb::ReadCopyResponse { body: Some(body) }
    }
}

impl TryFrom<pb::ReadCopyResponse> for CopyMessage {
    type Error = WireError;

    fn try_from(response: pb::ReadCopyResponse) -> Result<CopyMessage> {
        // A body of a later version arrives as no body at all.
        let body = response
            .body
            .ok_or(WireError::Unknown { what: "message" })?;
        Ok(match body {
            Body::Begin(begin) => CopyMessage::Begin(CopyBegin {
                position: parse_position("begin.position", &begin.position)?,
                dbsum: DbSum(begin.database_checksum),
                page_count: match begin.page_count {
                    0 => {
                        return Err(WireError::Missing {
                            field: "begin.page_count",
                        });
                    }
                    count => count,
                },
                page_size: page_size("begin.page_size", begin.page_size)?,
            }),
            Body::Pages(pages) => CopyMessage::Pages(pages.try_into()?),
            Body::Hashes(pb::PageHashes { first_page, hashes }) => {
                if hashes.is_empty() || hashes.len() > MAX_HASHES {
                    let expected = "1 to 65536 hashes";
                    return Err(WireError::new("hashes.hashes", hashes.len(), expected));
                }
                let last = first_page.checked_add(hashes.len() as u32);
                if first_page == 0 || last.is_none() {
                    let expected = "a page number from 1";
                    return Err(WireError::new("hashes.first_page", first_page, expected));
                }
                CopyMessage::Hashes { first_page, hashes }
            }
        })
    }
}
