//! Checks of single fields.

use super::{WireError, pb};
use crate::format::dbheader::valid_page_size;
use crate::format::position::{Generation, Position};
use crate::format::recent;
use crate::format::wal::{Cksum, FRAME_HEADER_SIZE, WAL_HEADER_SIZE};

use crate::model::{Codec, MAX_CHUNK};
use bytes::Bytes;

pub use crate::model::MAX_NAME;

/// Bytes of a text for people, at most.
pub const MAX_TEXT: usize = 4096;
/// The largest page of SQLite.
const MAX_PAGE: u64 = 65536;
/// The largest frame.
const MAX_FRAME: u64 = FRAME_HEADER_SIZE as u64 + MAX_PAGE;
/// The largest offset in a WAL file: SQLite counts frames in 32 bits. Below it no sum of offsets can overflow.
pub const MAX_OFFSET: u64 = WAL_HEADER_SIZE as u64 + u32::MAX as u64 * MAX_FRAME;
/// Unpacked bytes of one WAL chunk, at most: a chunk is closed by the frame that brings it past 1 MiB.
pub(super) const MAX_WAL: u64 = MAX_CHUNK as u64 + MAX_FRAME + WAL_HEADER_SIZE as u64;
/// Packed bytes of one message, at most. LZ4 stores what does not shrink as it is, with 4 bytes for each block of 64 KiB
/// or more, and at most 27 bytes around them.
pub const MAX_PACKED: usize = MAX_WAL as usize + 4096;

type Result<T> = std::result::Result<T, WireError>;

/// A position that must be there.
pub fn parse_position(field: &'static str, text: &str) -> Result<Position> {
    let position: Position = text
        .parse()
        .map_err(|source| WireError::Position { field, source })?;
    if position.offset > MAX_OFFSET {
        return Err(WireError::new(
            field,
            position,
            "an offset that a WAL file can have",
        ));
    }
    // The next index must exist.
    if position.index == u64::MAX {
        return Err(WireError::new(
            field,
            position,
            "an index below ffffffffffffffff",
        ));
    }
    Ok(position)
}

/// A position that may be absent.
pub(super) fn position_or_none(field: &'static str, text: &str) -> Result<Option<Position>> {
    if text.is_empty() {
        Ok(None)
    } else {
        parse_position(field, text).map(Some)
    }
}

pub(super) fn generation(field: &'static str, text: &str) -> Result<Generation> {
    text.parse()
        .map_err(|source| WireError::Position { field, source })
}

/// The text of a position that may be absent.
pub(super) fn text_of(position: Option<Position>) -> String {
    position.map(|p| p.to_string()).unwrap_or_default()
}

/// A name that must be there: short, and fit for one line of a log.
pub(super) fn name(field: &'static str, text: String) -> Result<String> {
    if text.is_empty() {
        return Err(WireError::Missing { field });
    }
    let text = short(field, text, MAX_NAME, "at most 255 bytes")?;
    if text.chars().any(char::is_control) {
        return Err(WireError::new(
            field,
            format!("{text:?}"),
            "no control characters",
        ));
    }
    Ok(text)
}

/// A text for people that may be empty. Control characters are replaced: it goes to logs and terminals. What is too long
/// loses its middle: it must not hide all else that comes with it.
pub(super) fn text(text: String) -> String {
    let text = shortened(text, MAX_TEXT);
    match text.chars().any(char::is_control) {
        true => text.replace(char::is_control, " "),
        false => text,
    }
}

/// At most `max` bytes: both ends are kept, since a URL's or a path's last part tells the most.
pub(super) fn shortened(text: String, max: usize) -> String {
    const LEFT_OUT: &str = "...";
    if text.len() <= max {
        return text;
    }
    let kept = max - LEFT_OUT.len();
    let mut head = kept / 2;
    while !text.is_char_boundary(head) {
        head -= 1;
    }
    let mut tail = text.len() - (kept - head);
    while !text.is_char_boundary(tail) {
        tail += 1;
    }
    format!("{}{LEFT_OUT}{}", &text[..head], &text[tail..])
}

fn short(field: &'static str, text: String, max: usize, expected: &'static str) -> Result<String> {
    if text.len() > max {
        return Err(WireError::new(
            field,
            format!("{} bytes long", text.len()),
            expected,
        ));
    }
    Ok(text)
}

pub(super) fn page_size(field: &'static str, size: u32) -> Result<u32> {
    if !valid_page_size(size) {
        return Err(WireError::new(
            field,
            size,
            "a power of two from 512 to 65536",
        ));
    }
    Ok(size)
}

/// A duration in seconds.
pub(super) fn seconds(field: &'static str, value: f64) -> Result<f64> {
    if !value.is_finite() {
        return Err(WireError::new(field, value, "a finite number of seconds"));
    }
    Ok(value)
}

pub(super) fn codec(field: &'static str, codec: i32) -> Result<Codec> {
    match pb::Codec::try_from(codec) {
        Ok(pb::Codec::None) => Ok(Codec::None),
        Ok(pb::Codec::Lz4) => Ok(Codec::Lz4),
        Ok(pb::Codec::Lz4Recent) => Ok(Codec::Lz4Recent),
        Ok(pb::Codec::Unspecified) => Err(WireError::Missing { field }),
        Err(_) => Err(WireError::Unknown { what: "codec" }),
    }
}

pub(super) fn codec_to_pb(codec: Codec) -> pb::Codec {
    match codec {
        Codec::None => pb::Codec::None,
        Codec::Lz4 => pb::Codec::Lz4,
        Codec::Lz4Recent => pb::Codec::Lz4Recent,
    }
}

/// Packed data of `size` bytes.
pub(super) fn packed(field: &'static str, codec: Codec, size: u64, data: &Bytes) -> Result<()> {
    let length = data.len();
    match codec {
        Codec::None if length as u64 != size => Err(WireError::new(
            field,
            format!("{length} bytes long where size is {size}"),
            "as many bytes as size says",
        )),
        Codec::Lz4 if length == 0 || length > MAX_PACKED => Err(WireError::new(
            field,
            format!("{length} bytes long"),
            "one LZ4 frame",
        )),
        Codec::Lz4Recent
            if length == 0 || length > recent::MAX_PACKED || size > recent::LARGEST as u64 =>
        {
            Err(WireError::new(
                field,
                format!("{length} bytes long for {size}"),
                "a small chunk packed against those before",
            ))
        }
        _ => Ok(()),
    }
}

pub(super) fn cksum(checksum: pb::FrameChecksum) -> Cksum {
    Cksum(checksum.first, checksum.second)
}

pub(super) fn cksum_to_pb(checksum: Cksum) -> pb::FrameChecksum {
    pb::FrameChecksum {
        first: checksum.0,
        second: checksum.1,
    }
}
