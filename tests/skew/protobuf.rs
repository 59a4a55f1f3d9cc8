//! Edits messages on the wire, as peers of other versions would have written them.

use bytes::{BufMut as _, Bytes, BytesMut};
use prost::encoding::{WireType, decode_key, decode_varint, encode_key, encode_varint};

/// One field as it stands in a message: its number, and its bytes with the key.
struct Field {
    number: u32,
    whole: Bytes,
    /// What a message, text or bytes hold.
    inner: Option<Bytes>,
}

fn fields(message: &Bytes) -> Vec<Field> {
    let mut rest = message.clone();
    let mut fields = Vec::new();
    while !rest.is_empty() {
        let before = rest.clone();
        let (number, kind) = decode_key(&mut rest).expect("a key");
        let mut inner = None;
        match kind {
            WireType::Varint => {
                decode_varint(&mut rest).expect("a number");
            }
            WireType::SixtyFourBit => drop(rest.split_to(8)),
            WireType::ThirtyTwoBit => drop(rest.split_to(4)),
            WireType::LengthDelimited => {
                let length = decode_varint(&mut rest).expect("a length");
                inner = Some(rest.split_to(usize::try_from(length).expect("a length")));
            }
            other => panic!("{other:?} is not of proto3"),
        }
        let whole = before.slice(..before.len() - rest.len());
        fields.push(Field {
            number,
            whole,
            inner,
        });
    }
    fields
}

/// A field with bytes, a text or a message.
pub fn delimited(number: u32, inner: &[u8]) -> Bytes {
    let mut field = BytesMut::new();
    encode_key(number, WireType::LengthDelimited, &mut field);
    encode_varint(inner.len() as u64, &mut field);
    field.put_slice(inner);
    field.freeze()
}

/// A field with a number.
pub fn varint(number: u32, value: u64) -> Bytes {
    let mut field = BytesMut::new();
    encode_key(number, WireType::Varint, &mut field);
    encode_varint(value, &mut field);
    field.freeze()
}

/// Fields of every wire type, with numbers that no version has given out yet.
fn later_fields() -> Bytes {
    let mut later = BytesMut::new();
    later.put(varint(1000, u64::MAX));
    encode_key(1001, WireType::SixtyFourBit, &mut later);
    later.put_u64_le(0x0123_4567_89ab_cdef);
    later.put(delimited(1002, b"what a later version says"));
    later.put(delimited(1003, &varint(1, 7)));
    encode_key(1004, WireType::ThirtyTwoBit, &mut later);
    later.put_u32_le(0x0123_4567);
    // In the first byte of a key fits what is below 16: a message of today could take it for a field of its own.
    later.put(varint(15, 3));
    later.freeze()
}

/// The message as a later version could write it: with fields that are not known today, before and behind those that are.
pub fn with_later_fields(message: &Bytes) -> Bytes {
    let later = later_fields();
    [later.clone(), message.clone(), later].concat().into()
}

/// The same for an answer: in the message that it carries as well, and in each field of this number of that one.
pub fn answer_with_later_fields(answer: &Bytes, and_in: &[u32]) -> Bytes {
    let mut whole = BytesMut::new();
    for field in fields(answer) {
        let mut body = BytesMut::new();
        for part in fields(&field.inner.expect("an answer is a message in a message")) {
            match part.inner {
                Some(inner) if and_in.contains(&part.number) => {
                    body.put(delimited(part.number, &with_later_fields(&inner)));
                }
                _ => body.put(part.whole),
            }
        }
        whole.put(delimited(field.number, &with_later_fields(&body.freeze())));
    }
    with_later_fields(&whole.freeze())
}

/// The message with this field in place of those of its number.
pub fn with_field(message: &Bytes, number: u32, field: &Bytes) -> Bytes {
    let others = fields(message)
        .into_iter()
        .filter(|field| field.number != number)
        .map(|field| field.whole);
    let mut edited: BytesMut = others.flatten().collect();
    edited.put(field.clone());
    edited.freeze()
}

/// The answer with this field in the message that it carries.
pub fn answer_with_field(answer: &Bytes, number: u32, field: &Bytes) -> Bytes {
    let body = fields(answer).remove(0);
    let inner = body.inner.expect("an answer is a message in a message");
    delimited(body.number, &with_field(&inner, number, field))
}
