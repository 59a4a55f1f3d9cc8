//! Can a replica go on from where it is, or does it need a snapshot, and why?

use super::error::PrimaryError;
use super::shadow::{ShadowError, ShadowReader};
use super::shared::{Request, Shared};
use crate::format::position::Position;
use crate::format::wal::frames_before;
use crate::model::{Follows, Point, StreamStart};

/// Judges a request against the primary's history up to `tip`, which is of the attachment `epoch`. Reads the shadow WAL: not for an async task.
pub fn decide(
    shared: &Shared,
    epoch: u64,
    start: &StreamStart,
    tip: &Point,
) -> Result<(Follows, String), PrimaryError> {
    let Some(position) = start.position else {
        return Ok((Follows::NewReplica, "the replica has nothing yet".into()));
    };
    if position.generation != tip.position.generation {
        let reason = format!(
            "its position {position} is not of the generation {}",
            tip.position.generation
        );
        return Ok((Follows::OtherGeneration, reason));
    }
    if start.page_size != 0 && start.page_size != tip.page_size {
        let reason = format!(
            "its pages have {} bytes, the primary's {}",
            start.page_size, tip.page_size
        );
        return Ok((Follows::PageSizeDiffers, reason));
    }
    if (position.index, position.offset) > (tip.position.index, tip.position.offset) {
        let reason = format!("its position {position} is ahead of {}", tip.position);
        return Ok((Follows::ReplicaAhead, reason));
    }
    // Who is level needs nothing of the log before.
    if position != tip.position && !shared.hub.is_kept(position) {
        return Ok((
            Follows::NotRetained,
            format!("the log after {position} is no longer kept"),
        ));
    }
    let gone = (
        Follows::NotRetained,
        format!("the log before {position} is no longer kept"),
    );
    match compare(shared, start, position, tip) {
        Ok(None) => Ok((Follows::Resume, format!("goes on from {position}"))),
        Ok(Some(differs)) => Ok(differs),
        Err(ShadowError::Gone { .. }) => Ok(gone),
        Err(ShadowError::Disk(error)) => Err(error.into()),
        // Its files are being removed just now.
        Err(_) if !shared.hub.is_kept(position) => Ok(gone),
        // The files may have been cut or removed under the reader, and rightly so.
        Err(_) if shared.hub.epoch() != epoch => Err(shared.not_ready()),
        Err(error) => {
            damaged(shared, position, tip.position, &error);
            Ok((
                Follows::NotRetained,
                format!("the log at {position} cannot be read: {error}"),
            ))
        }
    }
}

/// What differs at the position, if anything.
fn compare(
    shared: &Shared,
    start: &StreamStart,
    position: Position,
    tip: &Point,
) -> Result<Option<(Follows, String)>, ShadowError> {
    let checksum = |reason| (Follows::ChecksumDiffers, reason);
    if position == tip.position {
        let cksum = tip.frame_cksum.map(|c| (c.0, c.1));
        let reason = differs(start, position, cksum, Some(tip.dbsum));
        return Ok(reason.map(checksum));
    }
    let no_end = checksum(format!("{position} is not the end of a transaction"));
    if position.offset == 0 {
        // Only (0, 0) is a position; what it was is proven by the first commit's checksum.
        return Ok((position.index > 0 || start.frame_cksum.is_some()).then_some(no_end));
    }
    if frames_before(tip.page_size, position.offset).is_none_or(|frames| frames == 0) {
        return Ok(Some(no_end));
    }
    if let Some(reason) = beyond_end(shared, position, tip)? {
        return Ok(Some((Follows::ReplicaAhead, reason)));
    }
    let (frame, record) = ShadowReader::frame_ending_at(&shared.layout, tip.page_size, position)?;
    if !frame.is_commit() {
        return Ok(Some(no_end));
    }
    let dbsum = record
        .filter(|record| record.page_count > 0)
        .map(|record| record.dbsum);
    let cksum = (frame.cksum.0, frame.cksum.1);
    Ok(differs(start, position, Some(cksum), dbsum).map(checksum))
}

/// That the position is beyond the end of an index which is complete. The log has nothing there, and never had: a power cut
/// took from the primary what the replica has, or the request is wrong. Where only one of the two that know the end says so,
/// it is the log that is damaged.
fn beyond_end(
    shared: &Shared,
    position: Position,
    tip: &Point,
) -> Result<Option<String>, ShadowError> {
    if position.index == tip.position.index {
        return Ok(None);
    }
    let layout = &shared.layout;
    let end = ShadowReader::last_record(layout, position.generation, position.index)?;
    let end = end.map(|record| record.end_offset);
    let next = ShadowReader::previous_end(layout, position.generation, position.index + 1);
    Ok(end
        .filter(|end| next == Some(*end) && position.offset > *end)
        .map(|end| {
            format!("its position {position} is ahead of that index, which ends at {end:016x}")
        }))
}

fn differs(
    start: &StreamStart,
    position: Position,
    cksum: Option<(u32, u32)>,
    dbsum: Option<crate::format::dbsum::DbSum>,
) -> Option<String> {
    if start.frame_cksum.map(|c| (c.0, c.1)) != cksum {
        return Some(format!(
            "the frame at {position} has another checksum there"
        ));
    }
    let (stated, dbsum) = (start.dbsum?, dbsum?);
    (stated != dbsum)
        .then(|| format!("the database at {position} has the checksum {stated}, not {dbsum}"))
}

/// A damaged stretch is never read again: replicas before it get a snapshot. Where it is in the index that is being
/// written, a snapshot would need it as well, so a new generation begins, from the application's own log. The generation
/// after the damaged one is not touched.
pub fn damaged(shared: &Shared, at: Position, newest: Position, error: &ShadowError) {
    shared.meters.checksum_failures.add(1);
    tracing::error!(database = %shared.config.name, "the shadow WAL is damaged at {at}: {error}");
    if at.index < newest.index {
        shared.hub.forget_before(at.generation, at.index + 1);
    } else {
        let reason = format!("the shadow WAL is damaged: {error}");
        shared.request(Request::Renew(at.generation, reason));
    }
}
