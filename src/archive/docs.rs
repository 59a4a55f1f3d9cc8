//! The documents in `walcast/`, JSON for people and programs. Each has a `version`; unknown fields are ignored.
//!
//! `checksum` is XXH3 (64 bits, seed 0) of the document without it, as compact JSON with sorted names: a flipped bit in a
//! position or a time would otherwise read as another one. Who changes a document by hand removes the field.

use super::error::DocError;
use crate::format::dbheader::valid_page_size;
use crate::format::position::Position;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use xxhash_rust::xxh3::xxh3_64;

/// The version that is written, and the only one that is read.
pub const VERSION: u32 = 1;

/// Who writes to an archive from an epoch on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnerDoc {
    /// [`VERSION`].
    pub version: u32,
    /// A random number of the writer's own, kept beside its database: 32 hex digits.
    pub id: String,
    /// The server, for people.
    pub server: String,
    /// The database's name there, for people.
    pub database: String,
    /// When it began, µs since 1970.
    pub since_us: i64,
}

/// Where a generation came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenerationDoc {
    /// [`VERSION`].
    pub version: u32,
    /// Bytes in a page.
    pub page_size: u32,
    /// When it was first archived, µs since 1970.
    pub created_us: i64,
    /// The last position of the history that it continues, where that is known.
    #[serde(default, with = "text", skip_serializing_if = "Option::is_none")]
    pub fork: Option<Position>,
    /// The epoch of the owner that wrote it first.
    pub epoch: u64,
}

/// What a snapshot is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotDoc {
    /// [`VERSION`].
    pub version: u32,
    /// The committed state that the bytes are.
    #[serde(with = "text_always")]
    pub position: Position,
    /// The checksum of the whole database there, 16 hex digits.
    pub dbsum: String,
    /// Its pages.
    pub page_count: u32,
    /// Bytes in a page.
    pub page_size: u32,
    /// When the last commit in it was captured, µs since 1970, the primary's clock.
    pub time_us: i64,
    /// When the snapshot was taken.
    pub taken_us: i64,
}

const CHECKSUM: &str = "checksum";

fn checksum(fields: &Value) -> String {
    // A map's names are sorted, and its compact form has no choices left.
    let text = serde_json::to_vec(fields).unwrap_or_default();
    format!("{:016x}", xxh3_64(&text))
}

macro_rules! json {
    ($type:ty) => {
        impl $type {
            /// The object's bytes.
            pub fn encode(&self) -> Vec<u8> {
                // Strings and numbers alone: this does not fail.
                let mut value = serde_json::to_value(self).unwrap_or_default();
                let sum = checksum(&value);
                if let Value::Object(fields) = &mut value {
                    fields.insert(CHECKSUM.to_owned(), Value::String(sum));
                }
                let mut bytes = serde_json::to_vec_pretty(&value).unwrap_or_default();
                bytes.push(b'\n');
                bytes
            }

            /// Reads the object's bytes.
            ///
            /// # Errors
            /// If they are not of this kind, or of another version, or were changed, or if no database has such numbers.
            pub fn parse(bytes: &[u8]) -> Result<Self, DocError> {
                let mut value: Value = serde_json::from_slice(bytes)?;
                let stated = value.as_object_mut().and_then(|f| f.remove(CHECKSUM));
                if stated.is_some_and(|stated| stated != checksum(&value).as_str()) {
                    return Err(DocError::Checksum);
                }
                let doc: Self = serde_json::from_value(value)?;
                if doc.version != VERSION {
                    return Err(DocError::Version(doc.version));
                }
                doc.check()?;
                Ok(doc)
            }
        }
    };
}

json!(OwnerDoc);
json!(GenerationDoc);
json!(SnapshotDoc);

impl OwnerDoc {
    fn check(&self) -> Result<(), DocError> {
        Ok(())
    }
}

impl GenerationDoc {
    fn check(&self) -> Result<(), DocError> {
        check_page_size(self.page_size)
    }
}

impl SnapshotDoc {
    fn check(&self) -> Result<(), DocError> {
        check_page_size(self.page_size)?;
        match self.page_count {
            0 => Err(DocError::NoPages),
            _ => Ok(()),
        }
    }
}

/// Who reads a database by it divides by it.
fn check_page_size(page_size: u32) -> Result<(), DocError> {
    match valid_page_size(page_size) {
        true => Ok(()),
        false => Err(DocError::PageSize(page_size)),
    }
}

/// Positions as text, as everywhere.
mod text_always {
    use crate::format::position::Position;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub fn serialize<S: Serializer>(position: &Position, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(position)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Position, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map_err(D::Error::custom)
    }
}

mod text {
    use crate::format::position::Position;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub fn serialize<S: Serializer>(
        position: &Option<Position>,
        out: S,
    ) -> Result<S::Ok, S::Error> {
        match position {
            Some(position) => out.collect_str(position),
            None => out.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Position>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        let parsed = text.map(|text| text.parse().map_err(D::Error::custom));
        parsed.transpose()
    }
}
