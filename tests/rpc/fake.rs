//! Databases that do what a test says.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::watch;
use tokio_stream::StreamExt as _;
use tokio_util::sync::CancellationToken;
use walcast::format::dbsum::DbSum;
use walcast::format::position::{Generation, Position};
use walcast::model::*;
use walcast::server::{
    Copies, Database, Messages, PrimaryDatabase, Reason, Refusal, ReplicaDatabase, Served, Source,
    outgoing,
};

pub const GENERATION: Generation = Generation(0x89ab_cdef_0123_4567);

pub fn at(offset: u64) -> Position {
    Position {
        generation: GENERATION,
        index: 0,
        offset,
    }
}

pub fn point(position: Position) -> Point {
    Point {
        position,
        dbsum: DbSum(0x1234),
        page_count: 3,
        page_size: 4096,
        frame_cksum: None,
        time_us: 1,
    }
}

pub fn heartbeat(offset: u64) -> Message {
    Message::Heartbeat {
        position: at(offset),
        clock_us: 1,
    }
}

pub fn hello() -> Message {
    Message::Hello(Hello {
        protocol: PROTOCOL_VERSION,
        server_id: "server".into(),
        session_id: "session".into(),
        page_size: 4096,
        generation: GENERATION,
        parent: None,
        fork: None,
        follows: Follows::Resume,
        reason: String::new(),
        position: at(0),
        clock_us: 1,
        heartbeat_ms: 1000,
    })
}

fn status(
    name: &str,
    role: Role,
    state: DatabaseState,
    position: Option<Position>,
) -> DatabaseStatus {
    DatabaseStatus {
        name: name.to_owned(),
        role,
        state,
        reason: String::new(),
        position,
        size_bytes: 3 * 4096,
        dbsum: DbSum(0x1234),
        wal_bytes: 0,
        durable: None,
        upstream_position: None,
        lag_seconds: 0.0,
        staleness_seconds: 0.0,
        upstream: match role {
            Role::Primary => String::new(),
            Role::Replica => "http://primary.example:4040".to_owned(),
        },
        path: format!("/data/{name}"),
        bytes_streamed: 0,
        commits: 0,
        snapshots: 0,
    }
}

/// What both fakes have.
pub struct Fake {
    pub name: String,
    role: Role,
    pub state: Mutex<DatabaseState>,
    pub staleness: Mutex<f64>,
    pub points: Mutex<Option<watch::Sender<Option<Point>>>>,
    receiver: watch::Receiver<Option<Point>>,
    /// What every call answers, if set.
    pub refuse: Mutex<Option<Refusal>>,
    pub stopped: CancellationToken,
}

impl Fake {
    fn new(name: &str, role: Role) -> Fake {
        let (points, receiver) = watch::channel(Some(point(at(0x20))));
        Fake {
            name: name.to_owned(),
            role,
            state: Mutex::new(DatabaseState::Streaming),
            staleness: Mutex::new(0.0),
            points: Mutex::new(Some(points)),
            receiver,
            refuse: Mutex::new(None),
            stopped: CancellationToken::new(),
        }
    }

    pub fn refuse_with(&self, reason: Reason) {
        *self.refuse.lock().unwrap() =
            Some(Refusal::new(reason, "as the test says").about(&self.name));
    }

    fn answer<T>(&self, value: T) -> Result<T, Refusal> {
        match self.refuse.lock().unwrap().clone() {
            Some(refusal) => Err(refusal),
            None => Ok(value),
        }
    }

    pub fn go_to(&self, position: Option<Position>) {
        let points = self.points.lock().unwrap();
        points
            .as_ref()
            .expect("not ended")
            .send_replace(position.map(point));
    }

    /// Calls that wait for a position now.
    pub fn watchers(&self) -> usize {
        let points = self.points.lock().unwrap();
        // One receiver is the fake's own.
        points
            .as_ref()
            .map_or(0, |points| points.receiver_count() - 1)
    }

    pub fn end_points(&self) {
        self.points.lock().unwrap().take();
    }

    fn now(&self) -> Option<Point> {
        *self.receiver.borrow()
    }
}

pub struct FakePrimary {
    pub fake: Fake,
    /// What each stream sends, one after the other; then it waits for the drain.
    pub script: Mutex<Vec<Result<Message, Refusal>>>,
    /// Streams end after their script once this is cancelled.
    pub drain: CancellationToken,
    /// Streams never end by themselves.
    pub stuck: AtomicBool,
    /// Streams always have a next message, as in a snapshot.
    pub flood: AtomicBool,
    pub reports: Mutex<Vec<Progress>>,
    pub starts: Mutex<Vec<StreamStart>>,
    pub replicas: Mutex<Vec<ReplicaStatus>>,
}

impl FakePrimary {
    pub fn new(name: &str) -> Arc<FakePrimary> {
        Arc::new(FakePrimary {
            fake: Fake::new(name, Role::Primary),
            script: Mutex::new(vec![Ok(hello())]),
            drain: CancellationToken::new(),
            stuck: AtomicBool::new(false),
            flood: AtomicBool::new(false),
            reports: Mutex::new(Vec::new()),
            starts: Mutex::new(Vec::new()),
            replicas: Mutex::default(),
        })
    }

    pub fn served(self: &Arc<Self>) -> Served {
        Served::Primary(Arc::new(Primary(self.clone())))
    }
}

pub struct FakeReplica {
    pub fake: Fake,
    pub caught_up: AtomicBool,
}

impl FakeReplica {
    pub fn new(name: &str) -> Arc<FakeReplica> {
        Arc::new(FakeReplica {
            fake: Fake::new(name, Role::Replica),
            caught_up: AtomicBool::new(true),
        })
    }

    pub fn served(self: &Arc<Self>) -> Served {
        Served::Replica(Arc::new(Replica(self.clone())))
    }
}

struct Primary(Arc<FakePrimary>);
struct Replica(Arc<FakeReplica>);

macro_rules! database {
    ($type:ty) => {
        #[tonic::async_trait]
        impl Database for $type {
            fn name(&self) -> &str {
                &self.0.fake.name
            }
            fn status(&self) -> DatabaseStatus {
                let fake = &self.0.fake;
                let position = fake.now().map(|point| point.position);
                let mut status =
                    status(&fake.name, fake.role, *fake.state.lock().unwrap(), position);
                status.staleness_seconds = *fake.staleness.lock().unwrap();
                status
            }
            fn meters(&self) -> Arc<Meters> {
                Arc::default()
            }
            fn watch(&self) -> watch::Receiver<Option<Point>> {
                self.0.fake.receiver.clone()
            }
            fn stop(&self) {
                self.0.fake.stopped.cancel();
            }
            async fn stopped(&self) {
                self.0.fake.stopped.cancelled().await;
            }
        }
    };
}
database!(Primary);
database!(Replica);

#[tonic::async_trait]
impl PrimaryDatabase for Primary {
    async fn fence(&self) -> Result<Point, Refusal> {
        let now = self.0.fake.now();
        self.0.fake.answer(())?;
        now.ok_or_else(|| Refusal::new(Reason::DatabaseNotReady, "nothing yet"))
    }

    async fn open_stream(&self, start: StreamStart) -> Result<Messages, Refusal> {
        self.0.starts.lock().unwrap().push(start);
        self.0.fake.answer(())?;
        let script = self.0.script.lock().unwrap().clone();
        let first = tokio_stream::iter(script);
        let rest = outgoing(Rest(self.0.clone()));
        Ok(Box::pin(first.chain(rest)))
    }

    fn progress(&self, progress: Progress) -> Result<(), Refusal> {
        self.0.fake.answer(())?;
        self.0.reports.lock().unwrap().push(progress);
        Ok(())
    }

    fn replicas(&self) -> Vec<ReplicaStatus> {
        self.0.replicas.lock().unwrap().clone()
    }

    async fn pause(&self) -> Result<Point, Refusal> {
        self.0.fake.answer(point(at(0x20)))
    }

    async fn resume(&self) -> Result<(Point, bool), Refusal> {
        self.0.fake.answer((point(at(0x20)), true))
    }

    async fn drain(&self) {
        self.0.drain.cancel();
    }
}

/// The end of a stream: it comes with the drain.
struct Rest(Arc<FakePrimary>);

impl Source for Rest {
    type Item = Result<Message, Refusal>;

    async fn next(&mut self) -> Option<Self::Item> {
        if self.0.flood.load(Ordering::SeqCst) {
            return Some(Ok(heartbeat(0x20)));
        }
        self.0.drain.cancelled().await;
        if self.0.stuck.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        None
    }
}

#[tonic::async_trait]
impl ReplicaDatabase for Replica {
    fn has_caught_up_once(&self) -> bool {
        self.0.caught_up.load(Ordering::SeqCst)
    }

    async fn read_copy(&self, _: CopyRequest) -> Result<Copies, Refusal> {
        self.0.fake.answer(())?;
        // It never ends by itself.
        Ok(Box::pin(tokio_stream::pending()))
    }

    async fn detach(&self) -> Result<(Option<Position>, PathBuf), Refusal> {
        self.0
            .fake
            .answer((Some(at(0x20)), PathBuf::from("/data/copy.db")))
    }
}
