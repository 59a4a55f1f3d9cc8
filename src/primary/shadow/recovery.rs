//! What a former run left: the newest committed position that the shadow WAL proves, and the rest cut off behind it.

use super::{Layout, Lineage, Retention, ShadowError, ShadowReader};
use crate::disk::{self, File};
use crate::format::commits::CommitRecord;
use crate::format::position::{Generation, Position};
use crate::format::wal::{FRAME_HEADER_SIZE, FrameHeader, WAL_HEADER_SIZE, WalHeader, frame_size};
use std::os::unix::fs::MetadataExt;

/// What an index takes on disk.
#[derive(Clone, Copy, Debug)]
pub struct IndexSize {
    /// The index.
    pub index: u64,
    /// Bytes on disk, directories included.
    pub bytes: u64,
    /// When it ended, or when its newest commit was captured as long as none follows it, µs since 1970.
    pub ended_us: i64,
}

/// The newest index, cut to its last committed chunk.
#[derive(Clone, Copy, Debug)]
pub struct LastIndex {
    /// Its WAL header.
    pub header: WalHeader,
    /// What is recorded at the end.
    pub record: CommitRecord,
    /// Bytes of its sidecar.
    pub sidecar_len: u64,
    /// What it takes on disk.
    pub size: IndexSize,
}

/// What a former run left.
#[derive(Clone, Debug)]
pub struct Recovered {
    /// Its generation.
    pub generation: Generation,
    /// Where that came from.
    pub lineage: Option<Lineage>,
    /// The newest committed position.
    pub end: Position,
    /// The index of that position, `None` at (generation, 0, 0).
    pub last: Option<LastIndex>,
    /// The complete indexes before.
    pub old: Vec<IndexSize>,
}

/// Finds out what is there, and cuts off what is not proven: torn or damaged frames, and frames behind the last record.
/// `None` if there is no generation.
pub fn recover(layout: &Layout) -> Result<Option<Recovered>, ShadowError> {
    let Some(generation) = layout.read_generation()? else {
        return Ok(None);
    };
    let lineage = Lineage::read(layout, generation)?;
    let mut indexes = layout.list_indexes(generation)?;
    let mut last = None;
    while let Some(index) = indexes.pop() {
        last = recover_index(layout, generation, index)?;
        if last.is_some() {
            break;
        }
        // Nothing in it was ever published as committed, or nothing of it can be believed.
        disk::remove_dir_all("shadow.discard", &layout.index(generation, index))?;
        disk::remove_file("shadow.discard", &layout.sidecar(generation, index))?;
    }
    let end = match &last {
        Some(last) => Position {
            generation,
            index: last.size.index,
            offset: last.record.end_offset,
        },
        None => Position {
            generation,
            index: 0,
            offset: 0,
        },
    };
    let old = indexes
        .iter()
        .map(|index| index_size(layout, generation, *index));
    let mut old = old.collect::<Result<Vec<_>, _>>()?;
    let next = indexes.iter().copied().skip(1);
    let next = next.chain(last.as_ref().map(|last| last.size.index));
    for (size, next) in old.iter_mut().zip(next) {
        // It may have been idle for long before the next one began.
        let began_us = began_us(layout, generation, next)?;
        size.ended_us = size.ended_us.max(began_us);
    }
    Ok(Some(Recovered {
        generation,
        lineage,
        end,
        last,
        old,
    }))
}

fn recover_index(
    layout: &Layout,
    generation: Generation,
    index: u64,
) -> Result<Option<LastIndex>, ShadowError> {
    let start = Position {
        generation,
        index,
        offset: 0,
    };
    let Some(found) = walk(layout, start)? else {
        return Ok(None);
    };
    for segment in layout.list_segments(generation, index)? {
        let path = layout.segment(generation, index, segment);
        if segment > found.segment {
            disk::remove_file("shadow.discard", &path)?;
        } else if segment == found.segment {
            cut(&path, found.segment_len)?;
        }
    }
    cut(&layout.sidecar(generation, index), found.sidecar_len)?;
    let mut size = index_size(layout, generation, index)?;
    size.ended_us = found.record.time_us;
    let Found {
        header,
        record,
        sidecar_len,
        ..
    } = found;
    Ok(Some(LastIndex {
        header,
        record,
        sidecar_len,
        size,
    }))
}

fn cut(path: &std::path::Path, len: u64) -> disk::Result<()> {
    let file = File::open_rw("shadow.cut-open", path)?;
    if file.len("shadow.cut-len")? > len {
        file.set_len("shadow.cut", len)?;
    }
    Ok(())
}

struct Found {
    header: WalHeader,
    record: CommitRecord,
    segment: u64,
    segment_len: u64,
    sidecar_len: u64,
}

/// Unpacks an index from its start; every byte up to the answer's end is verified by lz4's content checksum.
fn walk(layout: &Layout, start: Position) -> Result<Option<Found>, ShadowError> {
    let Some(page_size) = page_size(layout, start)? else {
        return Ok(None);
    };
    let bound = Position {
        offset: u64::MAX,
        ..start
    };
    let mut reader = ShadowReader::new(layout.clone(), start);
    let mut header = None;
    let mut found = None;
    loop {
        match reader.next(bound) {
            Ok(Some(_)) => {}
            // The end of what was written, torn or not: the record before it counts.
            Ok(None) | Err(ShadowError::Damaged { .. } | ShadowError::Gone { .. }) => {
                return Ok(found);
            }
            Err(error) => return Err(error),
        }
        let (record, content) = reader.last();
        if header.is_none() {
            let bytes = content.first_chunk::<WAL_HEADER_SIZE>();
            header = bytes.and_then(|bytes| WalHeader::parse(bytes).ok());
        }
        let Some(header) = header else {
            return Ok(None);
        };
        let proven = record.filter(|record| ends_with(content, page_size, record));
        if let (Some(record), Some((segment, segment_len, sidecar_len))) = (proven, reader.place())
        {
            found = Some(Found {
                header,
                record,
                segment,
                segment_len,
                sidecar_len,
            });
        }
    }
}

/// Whether the last frame is the commit that the record tells of.
fn ends_with(content: &[u8], page_size: u32, record: &CommitRecord) -> bool {
    let at = content.len().checked_sub(frame_size(page_size) as usize);
    let bytes = at.and_then(|at| content[at..].first_chunk::<FRAME_HEADER_SIZE>());
    let header = bytes.map(FrameHeader::parse);
    header.is_some_and(|header| header.is_commit() && header.cksum == record.cksum)
}

fn page_size(layout: &Layout, at: Position) -> disk::Result<Option<u32>> {
    let sidecar = layout.sidecar(at.generation, at.index);
    let mut bytes = [0; crate::format::commits::HEADER_SIZE];
    match File::open_read("shadow.sidecar-open", &sidecar) {
        Ok(file) => file.read_at("shadow.sidecar-read", &mut bytes, 0)?,
        Err(error) if error.is_missing() => return Ok(None),
        Err(error) => return Err(error),
    };
    let header = crate::format::commits::parse_header(&bytes).ok();
    Ok(header.map(|header| header.page_size))
}

/// When an index began, µs since 1970, to a second: its first segment is closed by then. 0 if that cannot be told.
fn began_us(layout: &Layout, generation: Generation, index: u64) -> disk::Result<i64> {
    match disk::metadata("shadow.stat", &layout.segment(generation, index, 0)) {
        Ok(segment) => Ok(segment.mtime() * 1_000_000),
        Err(error) if error.is_missing() => Ok(0),
        Err(error) => Err(error),
    }
}

fn index_size(layout: &Layout, generation: Generation, index: u64) -> disk::Result<IndexSize> {
    let mut size = IndexSize {
        index,
        bytes: Retention::PER_INDEX,
        ended_us: 0,
    };
    for segment in layout.list_segments(generation, index)? {
        let path = layout.segment(generation, index, segment);
        size.bytes += Retention::on_disk(disk::metadata("shadow.stat", &path)?.len());
    }
    match disk::metadata("shadow.stat", &layout.sidecar(generation, index)) {
        Ok(sidecar) => {
            size.bytes += Retention::on_disk(sidecar.len());
            size.ended_us = sidecar.mtime() * 1_000_000;
        }
        Err(error) if error.is_missing() => {}
        Err(error) => return Err(error),
    }
    Ok(size)
}
