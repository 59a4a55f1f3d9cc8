//! What a former run left: the newest committed position that the shadow WAL proves, and the rest cut off behind it.

use super::{Layout, Lineage, Retention, ShadowError, ShadowReader};
use crate::disk::{self, File};
use crate::format::commits::CommitRecord;
use crate::format::position::{Generation, Position};
use crate::format::wal::{FRAME_HEADER_SIZE, FrameHeader, WAL_HEADER_SIZE, WalHeader, frame_size};
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

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
    /// The complete indexes before, each of which leads on to the next.
    pub old: Vec<IndexSize>,
    /// Older ones, which lead nowhere: behind them one is missing, or a part of it. They are of no use.
    pub stranded: Vec<u64>,
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
    let old = leading_to(layout, generation, &mut indexes, end.index)?;
    Ok(Some(Recovered {
        generation,
        lineage,
        end,
        last,
        old,
        stranded: indexes,
    }))
}

/// Takes from the end of `indexes` those that lead to `next` without a hole.
fn leading_to(
    layout: &Layout,
    generation: Generation,
    indexes: &mut Vec<u64>,
    mut next: u64,
) -> disk::Result<Vec<IndexSize>> {
    let mut old = Vec::new();
    while let Some(&index) = indexes.last()
        && index.checked_add(1) == Some(next)
        && let Some(mut size) = index_size(layout, generation, index)?
    {
        // It may have been idle for long before the next one began.
        size.ended_us = size.ended_us.max(began_us(layout, generation, next)?);
        old.push(size);
        indexes.pop();
        next = index;
    }
    old.reverse();
    Ok(old)
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
    let Some(mut size) = index_size(layout, generation, index)? else {
        return Ok(None);
    };
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

fn cut(path: &Path, len: u64) -> disk::Result<()> {
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
    let segment = stat(&layout.segment(generation, index, 0))?;
    Ok(segment.map_or(0, |segment| segment.mtime() * 1_000_000))
}

/// `None` if the sidecar or the beginning is missing.
fn index_size(
    layout: &Layout,
    generation: Generation,
    index: u64,
) -> disk::Result<Option<IndexSize>> {
    let mut size = IndexSize {
        index,
        bytes: Retention::PER_INDEX,
        ended_us: 0,
    };
    let mut begins = false;
    for segment in layout.list_segments(generation, index)? {
        if let Some(file) = stat(&layout.segment(generation, index, segment))? {
            begins |= segment == 0;
            size.bytes += Retention::on_disk(file.len());
        }
    }
    let Some(sidecar) = stat(&layout.sidecar(generation, index))? else {
        return Ok(None);
    };
    size.bytes += Retention::on_disk(sidecar.len());
    size.ended_us = sidecar.mtime() * 1_000_000;
    Ok(begins.then_some(size))
}

/// `None` if there is no such file: a removal may not have ended.
fn stat(path: &Path) -> disk::Result<Option<Metadata>> {
    match disk::metadata("shadow.stat", path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.is_missing() => Ok(None),
        Err(error) => Err(error),
    }
}
