//! Beginning a stream: the judgement, the hello, and what comes first.

use super::decide::decide;
use super::error::PrimaryError;
use super::recent::{Fed, Taker};
use super::shadow::{Lineage, ShadowReader};
use super::shared::{Request, Shared, SnapshotStart};
use super::snapshot::Copy;
use super::stream::{Phase, StreamHandle, heartbeat};
use super::{ask, begin_snapshot};
use crate::disk;
use crate::format::position::{Generation, Position};
use crate::model::{
    DatabaseState, Follows, Hello, Message, PROTOCOL_VERSION, Point, StreamStart, clock_us,
};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use tokio::time::Instant;

/// Bytes of the database's name in a session's, which must not be longer than names may be.
const NAME_IN_SESSION: usize = 200;

/// Begins a stream.
pub async fn open(shared: &Arc<Shared>, start: StreamStart) -> Result<StreamHandle, PrimaryError> {
    if shared.is_draining() || shared.is_stopping() {
        return Err(PrimaryError::Draining);
    }
    let changes = shared.hub.changes();
    let (epoch, tip) = fence(shared).await?;
    let (start, judged) = {
        let shared = Arc::clone(shared);
        let judging = disk::aside(move || {
            let judged = decide(&shared, epoch, &start, &tip);
            (start, judged)
        });
        judging
            .await
            .map_err(|e| PrimaryError::Disk(e.to_string()))?
    };
    let (follows, reason) = judged?;
    let is_elsewhere = start.resume_only && follows == Follows::NotRetained;
    let snapshot = match follows {
        Follows::Resume => None,
        _ if is_elsewhere => None,
        _ => Some(begin_snapshot(shared).await?),
    };
    let began = snapshot
        .as_ref()
        .map(|s| (s.epoch, s.begin.start.generation));
    let other = began.is_some_and(|began| began != (epoch, tip.position.generation));
    if other || epoch != shared.hub.epoch() {
        // The attachment that gave the tip is over.
        return Err(shared.not_ready());
    }
    shared.meters.streams.add(1);
    let number = shared.sessions.fetch_add(1, Relaxed);
    let session = session_id(&shared.config.name, number);
    let hello = hello(shared, &session, follows, &reason, &tip).await?;
    let mut stream = StreamHandle {
        shared: Arc::clone(shared),
        replica_id: start.replica_id.clone(),
        session,
        lz4: start.lz4,
        together: !start.transient,
        taker: (start.lz4 && start.recent).then(|| Taker::new(shared)),
        fed: Fed::default(),
        epoch,
        page_size: tip.page_size,
        cursor: start.position.unwrap_or(tip.position),
        phase: match is_elsewhere {
            true => Phase::Elsewhere,
            false => Phase::Follow,
        },
        out: VecDeque::from([Message::Hello(hello)]),
        reading: None,
        changes,
        last_sent: Instant::now(),
        opened: Instant::now(),
        state: DatabaseState::CatchingUp,
        reason,
    };
    if is_elsewhere {
        let (database, name, reason) = (&shared.config.name, &start.replica_name, &stream.reason);
        tracing::info!(database, "replica '{name}' goes to its archive: {reason}");
        return Ok(stream);
    }
    stream.begin(&start, follows, snapshot, &tip);
    Ok(stream)
}

/// Where a reader of the log in this process begins, and why there.
#[derive(Clone, Debug)]
pub struct LogFrom {
    /// [`Follows::Resume`]: at the position that was asked for. Else at the beginning of the newest index.
    pub follows: Follows,
    /// The same for people.
    pub reason: String,
    /// The first byte that comes.
    pub position: Position,
    /// Where the index before `position.index` ended, if that is known: the newest index follows it without a gap.
    pub previous_end: Option<u64>,
    /// Bytes in a page.
    pub page_size: u32,
    /// The last known position of the generation before.
    pub fork: Option<Position>,
}

/// Reads the log in this process, without being a replica: from where `start` proves to be on, or from the beginning of
/// the newest index. There is no hello, and nobody sees it in the list of replicas.
pub async fn open_log(
    shared: &Arc<Shared>,
    start: StreamStart,
) -> Result<(StreamHandle, LogFrom), PrimaryError> {
    if shared.is_draining() || shared.is_stopping() {
        return Err(PrimaryError::Draining);
    }
    let changes = shared.hub.changes();
    let (epoch, tip) = fence(shared).await?;
    let judging = {
        let shared = Arc::clone(shared);
        disk::aside(move || log_from(&shared, epoch, &start, &tip))
    };
    let from = judging
        .await
        .map_err(|e| PrimaryError::Disk(e.to_string()))??;
    if epoch != shared.hub.epoch() {
        return Err(shared.not_ready());
    }
    let number = shared.sessions.fetch_add(1, Relaxed);
    let stream = StreamHandle {
        shared: Arc::clone(shared),
        replica_id: String::new(),
        session: session_id(&shared.config.name, number),
        lz4: true,
        together: false,
        taker: None,
        fed: Fed::default(),
        epoch,
        page_size: tip.page_size,
        cursor: from.position,
        phase: Phase::Follow,
        out: VecDeque::new(),
        reading: None,
        changes,
        last_sent: Instant::now(),
        opened: Instant::now(),
        state: DatabaseState::CatchingUp,
        reason: String::new(),
    };
    Ok((stream, from))
}

/// Reads the shadow WAL: not for an async task.
fn log_from(
    shared: &Shared,
    epoch: u64,
    start: &StreamStart,
    tip: &Point,
) -> Result<LogFrom, PrimaryError> {
    let (follows, reason) = decide(shared, epoch, start, tip)?;
    let generation = tip.position.generation;
    let position = match (follows, start.position) {
        (Follows::Resume, Some(position)) => position,
        _ => Position {
            offset: 0,
            ..tip.position
        },
    };
    // What cannot be read is not known: the reader then has a gap, and says so.
    let previous_end = ShadowReader::previous_end(&shared.layout, generation, position.index);
    let fork = fork(shared, generation);
    Ok(LogFrom {
        follows,
        reason,
        position,
        previous_end,
        page_size: tip.page_size,
        fork,
    })
}

/// Where a generation came from, for people: without it only the past is unknown.
fn fork(shared: &Shared, generation: Generation) -> Option<Position> {
    match Lineage::read(&shared.layout, generation) {
        Ok(lineage) => lineage?.fork,
        Err(error) => {
            tracing::warn!(
                database = %shared.config.name,
                "where the generation {generation} came from is not known: {error}"
            );
            None
        }
    }
}

/// One of its own for each stream. It begins with the database's name, for people, or as much of it as there is room for.
fn session_id(name: &str, number: u64) -> String {
    let mut end = name.len().min(NAME_IN_SESSION);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}-{}-{number}", &name[..end], std::process::id())
}

async fn hello(
    shared: &Arc<Shared>,
    session: &str,
    follows: Follows,
    reason: &str,
    tip: &Point,
) -> Result<Hello, PrimaryError> {
    let generation = tip.position.generation;
    let of = Arc::clone(shared);
    let fork = disk::aside(move || fork(&of, generation)).await;
    let fork = fork.ok().flatten();
    let heartbeat_ms = u32::try_from(shared.config.heartbeat.as_millis()).unwrap_or(u32::MAX);
    Ok(Hello {
        protocol: PROTOCOL_VERSION,
        server_id: shared.config.server_id.clone(),
        session_id: session.to_owned(),
        page_size: tip.page_size,
        generation,
        parent: fork.map(|fork| fork.generation),
        fork,
        follows,
        reason: reason.to_owned(),
        position: tip.position,
        clock_us: clock_us(),
        heartbeat_ms,
    })
}

/// Packing costs more than the loopback interface.
fn is_loopback(address: &str) -> bool {
    let socket = address
        .parse::<std::net::SocketAddr>()
        .map(|address| address.ip());
    socket
        .or_else(|_| address.parse())
        .is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
}

/// The tip, and the attachment that gave it.
async fn fence(shared: &Arc<Shared>) -> Result<(u64, Point), PrimaryError> {
    loop {
        let before = shared.hub.epoch();
        let tip = ask(shared, Request::Fence).await?;
        if shared.hub.epoch() == before {
            return Ok((before, tip));
        }
    }
}

impl StreamHandle {
    pub(super) fn begin(
        &mut self,
        start: &StreamStart,
        follows: Follows,
        snapshot: Option<SnapshotStart>,
        tip: &Point,
    ) {
        let database = &self.shared.config.name;
        let (name, address) = (&start.replica_name, &start.address);
        match snapshot {
            None => {
                debug_assert_eq!(follows, Follows::Resume);
                tracing::info!(
                    database,
                    "resuming replica '{name}' ({address}): {}",
                    self.reason
                );
                if self.cursor == tip.position {
                    // Level: it must learn so now, not at the next commit.
                    self.out.push_back(heartbeat(tip.position));
                }
            }
            Some(snapshot) => {
                tracing::info!(
                    database,
                    "sending snapshot to replica '{name}' ({address}): {}",
                    self.reason
                );
                self.state = DatabaseState::Snapshot;
                self.cursor = snapshot.begin.start;
                self.out.push_back(Message::SnapshotBegin(snapshot.begin));
                let pack = start.lz4 && !is_loopback(address);
                self.phase =
                    Phase::Pages(Copy::new(snapshot.file, self.page_size, pack), snapshot.pin);
            }
        }
        // A position of another history would stand for one that the replica comes to much later.
        let applied = start.position.filter(|_| !follows.is_foreign());
        self.shared
            .replicas
            .connect(start, applied, &self.session, self.state, &self.reason);
    }
}
