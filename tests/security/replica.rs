//! A replica trusts no byte: a real primary's stream, damaged in every way that a generator finds, at a real replica.
//!
//! What may come of it is a state that the primary had, or none: no panic, no memory beyond bounds, no file beside its own.

use crate::kit::poll;
use crate::running::{Running, within};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use prost::Message as _;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};
use walcast::client::Upstream;
use walcast::primary::{Primary, PrimaryConfig};
use walcast::replica::{Replica, ReplicaConfig};
use walcast::server::Served;
use walcast::wire::pb;

/// Rows at the snapshot, and after each commit that follows.
const ROWS: usize = 40;
const MORE: usize = 6;

type Script = Vec<pb::StreamResponse>;

/// A primary that says what it is told to.
/// Only the first stream gets the script. When a second is asked for, all that the replica makes of the first is done.
#[derive(Clone, Default)]
struct Scripted(Arc<Mutex<(Script, usize)>>);

impl Scripted {
    fn say(&self, script: Script) {
        *self.0.lock().expect("a script") = (script, 0);
    }

    fn asked(&self) -> usize {
        self.0.lock().expect("a script").1
    }
}

#[tonic::async_trait]
impl pb::replication_service_server::ReplicationService for Scripted {
    type StreamStream = Pin<Box<dyn Stream<Item = Result<pb::StreamResponse, Status>> + Send>>;
    type ReadCopyStream = Pin<Box<dyn Stream<Item = Result<pb::ReadCopyResponse, Status>> + Send>>;

    async fn read_copy(
        &self,
        _: Request<pb::ReadCopyRequest>,
    ) -> Result<Response<Self::ReadCopyStream>, Status> {
        Err(Status::unimplemented("not in this test"))
    }

    async fn stream(
        &self,
        _: Request<pb::StreamRequest>,
    ) -> Result<Response<Self::StreamStream>, Status> {
        let script = {
            let mut inner = self.0.lock().expect("a script");
            inner.1 += 1;
            (inner.1 == 1).then(|| inner.0.clone())
        };
        let Some(script) = script else {
            return std::future::pending().await;
        };
        let end = Err(Status::unavailable("the end of the script"));
        let script = tokio_stream::iter(script.into_iter().map(Ok).chain([end]));
        Ok(Response::new(Box::pin(script)))
    }

    async fn report_progress(
        &self,
        _: Request<Streaming<pb::ReportProgressRequest>>,
    ) -> Result<Response<pb::ReportProgressResponse>, Status> {
        Err(Status::unimplemented("not in this test"))
    }
}

fn insert(app: &rusqlite::Connection, count: usize) {
    for _ in 0..count {
        let sql = "INSERT INTO t(b) VALUES(hex(randomblob(600)))";
        app.execute_batch(sql).expect("a row");
    }
}

/// A snapshot and the commits after it, as a real primary sends them.
async fn record(dir: &Path) -> Script {
    let path = dir.join("app.db");
    let app = rusqlite::Connection::open(&path).expect("a database");
    app.execute_batch("PRAGMA journal_mode=WAL; CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT)")
        .expect("a table");
    insert(&app, ROWS);
    let mut config = PrimaryConfig::new("app.db", &path);
    config.server_id = "test".to_owned();
    let primary = Primary::start(config);
    let server = Running::start(vec![Served::Primary(Arc::new(primary))]).await;
    let request = pb::StreamRequest {
        database: "app.db".into(),
        replica_id: "id".into(),
        replica_name: "name".into(),
        protocol_min: 1,
        protocol_max: 1,
        codecs: vec![pb::Codec::Lz4.into()],
        ..Default::default()
    };
    let client = server.replication().await;
    let stream = poll("a stream", || {
        let mut client = client.clone();
        let request = request.clone();
        async move { client.stream(request).await.ok() }
    });
    let mut stream = stream.await.into_inner();
    let mut script = Vec::new();
    let mut commits = 0;
    while commits < MORE {
        let message = within(stream.message())
            .await
            .expect("no error")
            .expect("no end");
        let body = message.body.clone().expect("a body");
        use pb::stream_response::Body;
        let ended = script
            .iter()
            .any(|m: &pb::StreamResponse| matches!(m.body, Some(Body::SnapshotEnd(_))));
        let next =
            matches!(body, Body::SnapshotEnd(_)) || (ended && matches!(body, Body::WalChunk(_)));
        commits += usize::from(ended && matches!(body, Body::WalChunk(_)));
        script.push(message);
        if next && commits < MORE {
            insert(&app, 1);
        }
    }
    drop((client, stream));
    server.ended().await;
    script
}

/// What happens to a script.
#[derive(Clone, Debug)]
enum Damage {
    /// A byte of a message's encoding.
    Byte { at: usize, xor: u8 },
    /// Bytes of it go.
    Cut { at: usize, length: usize },
    /// A number of it becomes another.
    Number { which: usize, value: u64 },
    /// Its data becomes this.
    Data(Vec<u8>),
    /// It does not come.
    Lost,
    /// It comes twice.
    Twice,
    /// It comes after the next.
    Late,
}

fn damage() -> impl Strategy<Value = Damage> {
    let odd = prop_oneof![
        Just(0_u64),
        Just(1),
        Just(u64::from(u32::MAX)),
        Just(u64::MAX),
        Just(1 << 20),
        any::<u64>(),
        any::<u32>().prop_map(u64::from),
    ];
    prop_oneof![
        3 => (any::<usize>(), 1..=255_u8).prop_map(|(at, xor)| Damage::Byte { at, xor }),
        1 => (any::<usize>(), 1..200_usize).prop_map(|(at, length)| Damage::Cut { at, length }),
        4 => (0..8_usize, odd).prop_map(|(which, value)| Damage::Number { which, value }),
        2 => proptest::collection::vec(any::<u8>(), 0..200).prop_map(Damage::Data),
        1 => Just(Damage::Lost),
        1 => Just(Damage::Twice),
        1 => Just(Damage::Late),
    ]
}

fn number(message: &mut pb::StreamResponse, which: usize, value: u64) {
    use pb::stream_response::Body;
    let small = value as u32;
    match message.body.as_mut().expect("a body") {
        Body::Hello(hello) => match which {
            0 => hello.protocol = small,
            1 => hello.page_size = small,
            2 => hello.follows = small as i32,
            3 => hello.heartbeat_ms = small,
            4 => hello.checksum_algorithm = small as i32,
            _ => hello.clock_us = value as i64,
        },
        Body::SnapshotBegin(begin) => match which {
            0 => begin.page_count = small,
            1 => begin.kind = small as i32,
            _ => {
                begin.frame_checksum = Some(pb::FrameChecksum {
                    first: small,
                    second: small,
                })
            }
        },
        Body::SnapshotPages(pages) => match which {
            0 | 1 => pages.first_page = small,
            2 | 3 => pages.size = small,
            4 => pages.size = (small % 2048) * 512,
            _ => pages.codec = small as i32,
        },
        Body::SnapshotEnd(end) => match which {
            0 => end.page_count = small,
            1 => end.database_checksum = value,
            _ => end.position = format!("{value:016x}/{value:016x}:{value:016x}"),
        },
        Body::WalChunk(chunk) => match which {
            0 => chunk.end_offset = value,
            1 => chunk.size = small,
            2 => chunk.codec = small as i32,
            3 => chunk.start = format!("{value:016x}/{value:016x}:{value:016x}"),
            4 => chunk.commit = None,
            5 => {
                chunk.size = small;
                let start = u64::from_str_radix(&chunk.start[34..], 16).expect("an offset");
                chunk.end_offset = start.wrapping_add(u64::from(small));
            }
            6 => chunk.commit.get_or_insert_default().page_count = small,
            _ => chunk.commit.get_or_insert_default().database_checksum = value,
        },
        Body::Heartbeat(beat) => beat.clock_us = value as i64,
    }
}

fn data(message: &mut pb::StreamResponse, bytes: Vec<u8>) {
    use pb::stream_response::Body;
    match message.body.as_mut().expect("a body") {
        Body::SnapshotPages(pages) => pages.data = bytes.into(),
        Body::WalChunk(chunk) => chunk.data = bytes.into(),
        Body::SnapshotBegin(begin) => begin.wal_header = bytes.into(),
        _ => {}
    }
}

/// The script as it arrives. One that does not decode any more ends it, as it would in the client.
fn apply(script: &Script, at: usize, damage: &Damage) -> Script {
    let mut script = script.clone();
    let at = at % script.len();
    match damage {
        Damage::Lost => drop(script.remove(at)),
        Damage::Twice => script.insert(at, script[at].clone()),
        Damage::Late if at + 1 < script.len() => script.swap(at, at + 1),
        Damage::Late => {}
        Damage::Number { which, value } => number(&mut script[at], *which, *value),
        Damage::Data(bytes) => data(&mut script[at], bytes.clone()),
        Damage::Byte { .. } | Damage::Cut { .. } => {
            let mut bytes = script[at].encode_to_vec();
            match *damage {
                Damage::Byte { at, xor } => {
                    let at = at % bytes.len();
                    bytes[at] ^= xor;
                }
                Damage::Cut { at, length } => {
                    let at = at % bytes.len();
                    bytes.drain(at..bytes.len().min(at + length));
                }
                _ => {}
            }
            match pb::StreamResponse::decode(bytes.as_slice()) {
                Ok(message) => script[at] = message,
                Err(_) => script.truncate(at),
            }
        }
    }
    script
}

/// What a reader finds: the number of rows, or nothing.
fn rows(path: &Path) -> Option<usize> {
    if !path.exists() {
        return None;
    }
    let reader = rusqlite::Connection::open(path).expect("a reader");
    let check: String = reader
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .expect("a check");
    assert_eq!(check, "ok");
    let count: i64 = reader
        .query_row("SELECT count(*) FROM t", [], |row| row.get(0))
        .expect("a table");
    Some(usize::try_from(count).expect("a count"))
}

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|l| l.trim().strip_suffix(" kB")?.trim().parse().ok())
        .expect("kB")
}

/// Runs a replica over a script until it has made of it what it makes of it; what it says of the end.
async fn follow(path: &Path, url: &str, scripted: &Scripted) -> String {
    let config = ReplicaConfig::new("app.db", path.to_owned(), url);
    let upstream = Upstream::connect_lazy(url).expect("a URL");
    let replica = Replica::start(config, upstream);
    poll("the replica to ask again", || async {
        (scripted.asked() >= 2).then_some(())
    })
    .await;
    assert_eq!(replica.fatal(), None, "no panic");
    let reason = replica.status().reason;
    replica.stop();
    within(replica.stopped()).await;
    reason
}

#[test]
fn a_damaged_stream_changes_nothing() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let dir = tempfile::tempdir().expect("a directory");
    let script = runtime.block_on(record(dir.path()));
    let scripted = Scripted::default();
    let url = runtime.block_on(serve(scripted.clone()));
    // The script as it is leads to the last state: else the rest would prove nothing.
    let whole = dir.path().join("whole");
    std::fs::create_dir(&whole).expect("a directory");
    scripted.say(script.clone());
    let reason = runtime.block_on(follow(&whole.join("app.db"), &url, &scripted));
    assert_eq!(rows(&whole.join("app.db")), Some(ROWS + MORE), "{reason}");
    let before = resident();
    let mut runner = TestRunner::new(Config {
        cases: 80,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(20_251_125),
        ..Config::default()
    });
    let refused = Mutex::new(0);
    runner
        .run(&(any::<usize>(), damage()), |(at, damage)| {
            let case = tempfile::tempdir().expect("a directory");
            let path = case.path().join("app.db");
            scripted.say(apply(&script, at, &damage));
            runtime.block_on(follow(&path, &url, &scripted));
            let seen = rows(&path);
            if let Some(count) = seen {
                prop_assert!((ROWS..=ROWS + MORE).contains(&count), "{count} rows");
            }
            if seen != Some(ROWS + MORE) {
                *refused.lock().expect("a count") += 1;
            }
            for entry in std::fs::read_dir(case.path()).expect("a directory") {
                let name = entry.expect("an entry").file_name();
                let name = name.to_string_lossy();
                prop_assert!(name.starts_with("app.db"), "a stray file {name}");
            }
            Ok(())
        })
        .expect("no damage harms");
    let refused = refused.into_inner().expect("a count");
    assert!(
        refused > 25,
        "the damage was none: only {refused} of 80 were refused"
    );
    let grown = resident().saturating_sub(before);
    assert!(grown < 128 << 10, "{grown} KiB more were used at some time");
}

async fn serve(scripted: Scripted) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let service = pb::replication_service_server::ReplicationServiceServer::new(scripted);
    let incoming = tonic::transport::server::TcpIncoming::from(listener);
    tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(incoming),
    );
    url
}
