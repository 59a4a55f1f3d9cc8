//! Databases that are as a test says.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::watch;
use walcast::format::dbsum::DbSum;
use walcast::format::position::{Generation, Position};
use walcast::model::*;
use walcast::server::*;

pub fn at(offset: u64) -> Position {
    Position {
        generation: Generation(0x89ab_cdef_0123_4567),
        index: 3,
        offset,
    }
}

pub struct Fake {
    pub status: Mutex<DatabaseStatus>,
    pub meters: Arc<Meters>,
    pub replicas: Mutex<Vec<ReplicaStatus>>,
    pub archives: Mutex<Vec<ArchiveStatus>>,
    pub caught_up: AtomicBool,
    pub followed: AtomicBool,
    points: watch::Sender<Option<Point>>,
}

#[derive(Clone)]
pub struct Handle(pub Arc<Fake>);

impl Handle {
    fn new(name: &str, role: Role) -> Handle {
        let status = DatabaseStatus {
            name: name.to_owned(),
            role,
            state: DatabaseState::Streaming,
            reason: String::new(),
            position: Some(at(0x20)),
            size_bytes: 3 * 4096,
            dbsum: DbSum(1),
            wal_bytes: 4152,
            durable: None,
            upstream_position: Some(at(0x40)),
            lag_seconds: 0.0,
            staleness_seconds: 0.5,
            upstream: "http://primary.example:4040".to_owned(),
            path: format!("/data/{name}"),
            bytes_streamed: 0,
            commits: 0,
            snapshots: 0,
        };
        Handle(Arc::new(Fake {
            status: Mutex::new(status),
            meters: Arc::default(),
            replicas: Mutex::default(),
            archives: Mutex::default(),
            caught_up: AtomicBool::new(true),
            followed: AtomicBool::new(true),
            points: watch::Sender::new(None),
        }))
    }

    pub fn primary(name: &str) -> Handle {
        Handle::new(name, Role::Primary)
    }

    pub fn replica(name: &str) -> Handle {
        Handle::new(name, Role::Replica)
    }

    pub fn served(&self) -> Served {
        let role = self.0.status.lock().unwrap().role;
        match role {
            Role::Primary => Served::Primary(Arc::new(Named::new(self.clone()))),
            Role::Replica => Served::Replica(Arc::new(Named::new(self.clone()))),
        }
    }

    pub fn set(&self, change: impl FnOnce(&mut DatabaseStatus)) {
        change(&mut self.0.status.lock().unwrap());
    }

    /// An archive of it that has just begun.
    pub fn archive(&self, url: &str) {
        self.0.archives.lock().unwrap().push(ArchiveStatus {
            database: self.0.status.lock().unwrap().name.clone(),
            archive: url.to_owned(),
            state: DatabaseState::Starting,
            reason: String::new(),
            sent: None,
            durable: None,
            lag_bytes: 0,
            lag_seconds: 0.0,
            since_us: 0,
            meters: Arc::default(),
        });
    }

    /// A replica of this primary.
    pub fn follow(&self, name: &str, id: &str, lag_seconds: f64) {
        self.0.replicas.lock().unwrap().push(ReplicaStatus {
            database: "a.db".to_owned(),
            replica_id: id.to_owned(),
            name: name.to_owned(),
            address: "192.0.2.1:5000".to_owned(),
            state: DatabaseState::Streaming,
            reason: String::new(),
            sent: Some(at(0x40)),
            received: None,
            applied: Some(at(0x20)),
            durable: None,
            lag_bytes: 32,
            lag_seconds,
            connected_since_us: 1_700_000_000_000_000,
            bytes_sent: 7,
        });
    }
}

/// The name is lent out, the status is not.
pub struct Named {
    handle: Handle,
    name: String,
}

impl Named {
    fn new(handle: Handle) -> Named {
        let name = handle.0.status.lock().unwrap().name.clone();
        Named { handle, name }
    }
}

#[tonic::async_trait]
impl Database for Named {
    fn name(&self) -> &str {
        &self.name
    }
    fn status(&self) -> DatabaseStatus {
        self.handle.0.status.lock().unwrap().clone()
    }
    fn meters(&self) -> Arc<Meters> {
        self.handle.0.meters.clone()
    }
    fn watch(&self) -> watch::Receiver<Option<Point>> {
        self.handle.0.points.subscribe()
    }
    fn stop(&self) {}
    async fn stopped(&self) {}
}

#[tonic::async_trait]
impl ReplicaDatabase for Named {
    fn has_caught_up_once(&self) -> bool {
        self.handle.0.caught_up.load(Ordering::SeqCst)
    }
    fn is_followed(&self) -> bool {
        self.handle.0.followed.load(Ordering::SeqCst)
    }
    async fn read_copy(&self, _: CopyRequest) -> Result<Copies, Refusal> {
        unreachable!("nothing on this port copies")
    }
    async fn detach(&self) -> Result<(Option<Position>, PathBuf), Refusal> {
        unreachable!("nothing on this port detaches")
    }
}

#[tonic::async_trait]
impl PrimaryDatabase for Named {
    async fn fence(&self) -> Result<Point, Refusal> {
        unreachable!("nothing on this port asks for a fence")
    }
    async fn open_stream(&self, _: StreamStart) -> Result<Messages, Refusal> {
        unreachable!("nothing on this port streams")
    }
    fn progress(&self, _: Progress) -> Result<(), Refusal> {
        unreachable!("nothing on this port reports")
    }
    fn replicas(&self) -> Vec<ReplicaStatus> {
        self.handle.0.replicas.lock().unwrap().clone()
    }
    fn archives(&self) -> Vec<ArchiveStatus> {
        self.handle.0.archives.lock().unwrap().clone()
    }
    async fn pause(&self) -> Result<Point, Refusal> {
        unreachable!("nothing on this port pauses")
    }
    async fn resume(&self) -> Result<(Point, bool), Refusal> {
        unreachable!("nothing on this port resumes")
    }
    async fn drain(&self) {}
}
