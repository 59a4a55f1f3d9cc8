//! The messages of replication as version 1 has them, written down once and **never changed**: a replica of version 1 that
//! runs somewhere knows these fields and no others. What is added to `proto/walcast/v1` later is not added here.

use bytes::Bytes;

#[derive(Clone, PartialEq, prost::Message)]
pub struct FrameChecksum {
    #[prost(fixed32, tag = "1")]
    pub first: u32,
    #[prost(fixed32, tag = "2")]
    pub second: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct StreamRequest {
    #[prost(string, tag = "1")]
    pub database: String,
    #[prost(string, tag = "2")]
    pub position: String,
    #[prost(fixed64, tag = "3")]
    pub database_checksum: u64,
    #[prost(message, optional, tag = "4")]
    pub frame_checksum: Option<FrameChecksum>,
    #[prost(string, tag = "5")]
    pub replica_id: String,
    #[prost(string, tag = "6")]
    pub replica_name: String,
    #[prost(uint32, tag = "7")]
    pub protocol_min: u32,
    #[prost(uint32, tag = "8")]
    pub protocol_max: u32,
    #[prost(int32, repeated, tag = "9")]
    pub codecs: Vec<i32>,
    #[prost(uint32, tag = "10")]
    pub page_size: u32,
    #[prost(uint64, tag = "11")]
    pub epoch: u64,
    #[prost(bool, tag = "12")]
    pub transient: bool,
    #[prost(bool, tag = "13")]
    pub resume_only: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct StreamResponse {
    #[prost(oneof = "Body", tags = "1, 2, 3, 4, 5, 6")]
    pub body: Option<Body>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Body {
    #[prost(message, tag = "1")]
    Hello(Hello),
    #[prost(message, tag = "2")]
    SnapshotBegin(SnapshotBegin),
    #[prost(message, tag = "3")]
    SnapshotPages(SnapshotPages),
    #[prost(message, tag = "4")]
    SnapshotEnd(SnapshotEnd),
    #[prost(message, tag = "5")]
    WalChunk(WalChunk),
    #[prost(message, tag = "6")]
    Heartbeat(Heartbeat),
}

pub const CODEC_NONE: i32 = 1;
pub const CODEC_LZ4: i32 = 2;
pub const CHECKSUM_ALGORITHM_XXH3_XOR: i32 = 1;
pub const SNAPSHOT_KIND_FULL: i32 = 1;
pub const FOLLOWS_RESUME: i32 = 1;
pub const FOLLOWS_SNAPSHOT_NEW_REPLICA: i32 = 2;
pub const FOLLOWS_SNAPSHOT_OTHER_GENERATION: i32 = 3;
/// The reasons for a snapshot that version 1 knows.
pub const FOLLOWS_SNAPSHOT: std::ops::RangeInclusive<i32> = 2..=7;

#[derive(Clone, PartialEq, prost::Message)]
pub struct Hello {
    #[prost(uint32, tag = "1")]
    pub protocol: u32,
    #[prost(string, tag = "2")]
    pub server_id: String,
    #[prost(string, tag = "3")]
    pub session_id: String,
    #[prost(uint32, tag = "4")]
    pub page_size: u32,
    #[prost(string, tag = "5")]
    pub generation: String,
    #[prost(string, tag = "6")]
    pub parent_generation: String,
    #[prost(string, tag = "7")]
    pub fork_position: String,
    #[prost(int32, tag = "8")]
    pub checksum_algorithm: i32,
    #[prost(int32, tag = "9")]
    pub follows: i32,
    #[prost(string, tag = "10")]
    pub reason: String,
    #[prost(string, tag = "11")]
    pub position: String,
    #[prost(int64, tag = "12")]
    pub clock_us: i64,
    #[prost(uint32, tag = "13")]
    pub heartbeat_ms: u32,
    #[prost(uint64, tag = "14")]
    pub epoch: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct SnapshotBegin {
    #[prost(int32, tag = "1")]
    pub kind: i32,
    #[prost(uint32, tag = "2")]
    pub page_count: u32,
    #[prost(string, tag = "3")]
    pub start: String,
    #[prost(bytes = "bytes", tag = "4")]
    pub wal_header: Bytes,
    #[prost(message, optional, tag = "5")]
    pub frame_checksum: Option<FrameChecksum>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct SnapshotPages {
    #[prost(uint32, tag = "1")]
    pub first_page: u32,
    #[prost(int32, tag = "2")]
    pub codec: i32,
    #[prost(uint32, tag = "3")]
    pub size: u32,
    #[prost(bytes = "bytes", tag = "4")]
    pub data: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct SnapshotEnd {
    #[prost(string, tag = "1")]
    pub position: String,
    #[prost(fixed64, tag = "2")]
    pub database_checksum: u64,
    #[prost(uint32, tag = "3")]
    pub page_count: u32,
    #[prost(int64, tag = "4")]
    pub time_us: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct WalChunk {
    #[prost(string, tag = "1")]
    pub start: String,
    #[prost(uint64, tag = "2")]
    pub end_offset: u64,
    #[prost(int32, tag = "3")]
    pub codec: i32,
    #[prost(uint32, tag = "4")]
    pub size: u32,
    #[prost(bytes = "bytes", tag = "5")]
    pub data: Bytes,
    #[prost(message, optional, tag = "6")]
    pub commit: Option<Commit>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Commit {
    #[prost(fixed64, tag = "1")]
    pub database_checksum: u64,
    #[prost(uint32, tag = "2")]
    pub page_count: u32,
    #[prost(int64, tag = "3")]
    pub time_us: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Heartbeat {
    #[prost(string, tag = "1")]
    pub position: String,
    #[prost(int64, tag = "2")]
    pub clock_us: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ReportProgressRequest {
    #[prost(string, tag = "1")]
    pub database: String,
    #[prost(string, tag = "2")]
    pub replica_id: String,
    #[prost(string, tag = "3")]
    pub session_id: String,
    #[prost(string, tag = "4")]
    pub received: String,
    #[prost(string, tag = "5")]
    pub applied: String,
    #[prost(string, tag = "6")]
    pub durable: String,
    #[prost(double, tag = "7")]
    pub apply_lag_seconds: f64,
}
