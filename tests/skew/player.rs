//! A primary that plays what it is given, and remembers what it was asked and told.

use crate::grpc::{Messages, Peer, serve};
use crate::messages::{Body, StreamResponse};
use crate::transcript::{Call, End};
use bytes::Bytes;
use prost::Message as _;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::IntervalStream;
use tonic::{Status, Streaming};

/// The recorded primary's own, so that a replica does not believe that it has gone.
const HEARTBEAT: Duration = Duration::from_secs(1);

#[derive(Default)]
struct Stage {
    calls: VecDeque<Call>,
    always: Option<Result<Call, Status>>,
    asked: Vec<Bytes>,
    told: Vec<Bytes>,
    /// Answers to other calls, and how often each was given.
    others: BTreeMap<String, (Bytes, usize)>,
}

/// The server, until the test program ends.
pub struct Player {
    stage: Arc<Mutex<Stage>>,
    pub url: String,
}

struct Playing(Arc<Mutex<Stage>>);

impl Player {
    /// It refuses every stream until it is given a call.
    pub fn start() -> Player {
        let stage = Arc::new(Mutex::new(Stage::default()));
        let url = serve(Arc::new(Playing(stage.clone())));
        Player { stage, url }
    }

    /// Answers the next `Stream` with this.
    pub fn play(&self, call: Call) {
        self.stage.lock().expect("no panic").calls.push_back(call);
    }

    /// Answers with this from now on, where there is no call to play.
    pub fn always(&self, answer: Result<Call, Status>) {
        self.stage.lock().expect("no panic").always = Some(answer);
    }

    /// Answers another call, always.
    pub fn answer(&self, path: &str, message: Bytes) {
        let mut stage = self.stage.lock().expect("no panic");
        stage.others.insert(path.to_owned(), (message, 0));
    }

    /// How often another call was answered.
    pub fn others(&self, path: &str) -> usize {
        self.stage.lock().expect("no panic").others[path].1
    }

    /// The requests whose calls were played, or are.
    pub fn asked(&self) -> Vec<Bytes> {
        self.stage.lock().expect("no panic").asked.clone()
    }

    /// The reports that came.
    pub fn told(&self) -> Vec<Bytes> {
        self.stage.lock().expect("no panic").told.clone()
    }
}

/// What comes again and again while a stream has nothing else: its last heartbeat.
fn heartbeats(answers: &[Bytes]) -> Messages {
    let is_heartbeat = |answer: &&Bytes| {
        let response = StreamResponse::decode((*answer).clone());
        let body = response.expect("protobuf").body;
        matches!(body, Some(Body::Heartbeat(_)))
    };
    match answers.iter().rfind(is_heartbeat).cloned() {
        Some(beat) => {
            let mut clock = tokio::time::interval(HEARTBEAT);
            clock.reset();
            Box::pin(IntervalStream::new(clock).map(move |_| Ok(beat.clone())))
        }
        None => Box::pin(tokio_stream::pending()),
    }
}

#[tonic::async_trait]
impl Peer for Playing {
    async fn stream(&self, request: Bytes) -> Result<Messages, Status> {
        let mut stage = self.0.lock().expect("no panic");
        let next = stage.calls.pop_front().map(Ok);
        let next = next.or_else(|| stage.always.clone());
        let call = next.unwrap_or_else(|| Err(Status::unavailable("nothing to play")))?;
        stage.asked.push(request);
        let end: Messages = match &call.end {
            End::Left => heartbeats(&call.answers),
            end => Box::pin(tokio_stream::once(Err(end.status().expect("a status")))),
        };
        let answers = tokio_stream::iter(call.answers.into_iter().map(Ok));
        Ok(Box::pin(answers.chain(end)))
    }

    async fn report(&self, mut reports: Streaming<Bytes>) -> Result<Bytes, Status> {
        while let Some(report) = reports.message().await? {
            self.0.lock().expect("no panic").told.push(report);
        }
        Ok(Bytes::new())
    }

    async fn other(&self, path: &str, _: Bytes) -> Result<Bytes, Status> {
        let mut stage = self.0.lock().expect("no panic");
        let answer = stage.others.get_mut(path);
        let (message, given) = answer.ok_or_else(|| Status::unimplemented(path))?;
        *given += 1;
        Ok(message.clone())
    }
}
