//! The task that follows the upstream: asks, receives, hands on, and tries again.

use super::archive::{Feeding, Turns};
use super::queue::Queue;
use super::record::Mark;
use super::report::report;
use super::shared::Shared;
use super::worker::{AtOnce, at_once};
use super::{Command, random_u64};
use crate::client::{MessageStream, Upstream, UpstreamError};
use crate::model::{DatabaseState, Follows, Hello, Message, StreamStart};
use crate::restore::RestoreError;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// What a stream asks for.
pub struct Request {
    /// Where the local database is.
    pub mark: Option<Mark>,
    /// The replica's lasting identity.
    pub replica_id: String,
    /// There is no local database.
    pub fresh: bool,
}

/// Why no stream begins.
pub enum Refusal {
    /// The database cannot be opened.
    Failed(String),
    /// The reason is in the state already.
    Told,
}

/// Between two looks around while something is due.
const TICK: Duration = Duration::from_millis(100);
/// The same while nothing is: whether the files are still there, and untouched. About; see [`jitter`].
const CALM: Duration = Duration::from_secs(4);
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const LONGEST_BACKOFF: Duration = Duration::from_secs(5);
/// Packed bytes that wait for the applier at most.
const IN_FLIGHT: usize = 8 << 20;
/// An applier that takes nothing for this long is stuck. What it does not take must not lie in the connection, which other
/// databases share.
const STUCK: Duration = Duration::from_secs(15);

/// Wakes the applier for its housekeeping.
pub async fn ticks(shared: Arc<Shared>, queue: Arc<Queue>, cancel: CancellationToken) {
    loop {
        let pause = match shared.is_calm() {
            true => jitter(CALM),
            false => TICK,
        };
        tokio::select! {
            biased;
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
            () = shared.woken() => {}
        }
        if queue.tick().is_err() {
            return;
        }
    }
}

/// How one stream ended.
enum Ended {
    /// The applier refused, or its database cannot be opened; the reason is in the state already.
    Here,
    /// The upstream or the network failed.
    Upstream(UpstreamError),
    /// Nothing came for this long.
    Silent(Duration),
    /// Nothing was taken here.
    Stuck,
    /// The upstream closed it cleanly.
    Cleanly,
    /// The upstream would send a snapshot, and the archive comes first.
    Owed,
    /// The archive has sent what it has of a history.
    Read,
    /// The archive cannot be read.
    Archive(RestoreError),
}

/// Where messages come from.
enum Messages {
    Upstream(Box<MessageStream>),
    Archive(Feeding),
}

impl Messages {
    async fn next(&mut self) -> Result<Message, Ended> {
        match self {
            Messages::Upstream(stream) => match stream.next().await {
                Some(message) => message.map_err(Ended::Upstream),
                None => Err(Ended::Cleanly),
            },
            Messages::Archive(feeding) => match feeding.next().await {
                Some(message) => message.map_err(Ended::Archive),
                None => Err(Ended::Read),
            },
        }
    }
}

/// Who follows, and who applies.
pub struct Follower {
    /// What all of the replica share.
    pub shared: Arc<Shared>,
    /// `None`: the archive is all that there is.
    pub upstream: Option<Upstream>,
    /// Who applies.
    pub queue: Arc<Queue>,
}

/// Follows until cancelled.
pub async fn run(follower: Follower, cancel: CancellationToken) {
    let Follower { shared, queue, .. } = &follower;
    let mut backoff = FIRST_BACKOFF;
    let mut turns = Turns::default();
    while !cancel.is_cancelled() {
        let began = Instant::now();
        let holds = shared.holds();
        let session = cancel.child_token();
        shared.set_session(session.clone());
        let stream = async {
            shared.room().await;
            stream_once(&follower, &session, &mut turns).await
        };
        let ended = tokio::select! {
            biased;
            () = cancel.cancelled() => break,
            ended = stream => ended,
        };
        let Some(ended) = finish(queue, &session, ended).await else {
            break;
        };
        if is_next_due(&follower, &mut turns, &ended) {
            continue;
        }
        if shared.holds() != holds {
            // The local log had no room for more: what is waited for is room, and nothing on top of it. What the primary
            // keeps for this replica is bounded.
            backoff = FIRST_BACKOFF;
            continue;
        }
        if began.elapsed() > LONGEST_BACKOFF {
            backoff = FIRST_BACKOFF;
        }
        let wait = describe(shared, &ended).unwrap_or(backoff);
        tokio::select! {
            biased;
            () = cancel.cancelled() => break,
            () = tokio::time::sleep(jitter(wait)) => {}
        }
        backoff = (backoff * 2).min(LONGEST_BACKOFF);
    }
}

/// True if the other one's turn is now: the upstream's after the archive's, or the reverse; or the archive's next history.
fn is_next_due(follower: &Follower, turns: &mut Turns, ended: &Ended) -> bool {
    let config = &follower.shared.config;
    let beside = follower.upstream.is_some();
    match ended {
        Ended::Read | Ended::Owed => true,
        Ended::Archive(error) => {
            if turns.failed(error) && beside {
                let (name, upstream) = (&config.name, &config.upstream);
                tracing::warn!(database = %name, "the archive is not used, {upstream} is asked: {error}");
            }
            beside
        }
        _ => false,
    }
}

/// Ends the session. What came before its end is good and is applied first: a primary that drains ends its stream at its
/// last position and is gone, so nobody could be asked for the rest again. `None`: the applier has ended.
async fn finish(queue: &Arc<Queue>, session: &CancellationToken, ended: Ended) -> Option<Ended> {
    if matches!(ended, Ended::Here) {
        session.cancel();
    }
    let (reply, taken) = oneshot::channel();
    queue.send(Command::End(reply)).await.ok()?;
    taken.await.ok()?;
    // The applier refused some of it, and has said why.
    let refused = session.is_cancelled();
    session.cancel();
    Some(if refused { Ended::Here } else { ended })
}

/// Says why the stream ended, and how long the upstream wants to be left alone.
fn describe(shared: &Shared, ended: &Ended) -> Option<Duration> {
    let (reason, wait) = match ended {
        Ended::Here => return None,
        Ended::Cleanly => ("the upstream ended the stream".to_owned(), None),
        Ended::Silent(time) => (
            format!(
                "nothing came for {} s, not even a heartbeat",
                time.as_secs()
            ),
            None,
        ),
        Ended::Stuck => (
            format!(
                "the local database took nothing for {} s (a disk that hangs?); the stream was given up",
                STUCK.as_secs()
            ),
            None,
        ),
        Ended::Upstream(error) => (error.to_string(), error.retry_after()),
        Ended::Archive(error) => (error.to_string(), None),
        // The next begins at once.
        Ended::Read | Ended::Owed => return None,
    };
    if shared.disconnected(&reason) {
        let (name, upstream) = (&shared.config.name, shared.config.source());
        tracing::warn!(database = %name, %upstream, "disconnected: {reason}");
    }
    wait
}

/// Half to one and a half of it, so that many replicas do not come back at once.
fn jitter(wait: Duration) -> Duration {
    let part = (random_u64() % 1000) as f64 / 1000.0;
    wait.mul_f64(0.5 + part)
}

async fn stream_once(follower: &Follower, session: &CancellationToken, turns: &mut Turns) -> Ended {
    let Follower {
        shared,
        queue,
        upstream,
    } = follower;
    let (reply, answer) = oneshot::channel();
    if queue.send(Command::Begin(reply)).await.is_err() {
        return Ended::Here;
    }
    let request = match answer.await {
        Ok(Ok(request)) => request,
        Ok(Err(Refusal::Told)) => return Ended::Here,
        Ok(Err(Refusal::Failed(reason))) => {
            if shared.failed_to_open(&reason) {
                tracing::error!(database = %shared.config.name, "{reason}");
            }
            return Ended::Here;
        }
        Err(_) => return Ended::Here,
    };
    shared.opened();
    let from = request.mark.map(|mark| mark.point.position);
    let seen = (*shared.watch().borrow()).map(|point| point.position);
    let archive = shared.config.archive.as_ref();
    let ask = turns.ask(archive, upstream.is_some(), request.fresh, from, seen);
    shared.set_seeding(ask.is_some() && upstream.is_some());
    if let (Some(archive), Some(ask)) = (archive, ask) {
        let feeding = Messages::Archive(Feeding::begin(archive, ask));
        return receive(follower, session, feeding, &request.replica_id, turns).await;
    }
    let Some(upstream) = upstream else {
        let reason = "there is neither an upstream nor an archive".to_owned();
        shared.set_state(DatabaseState::Failed, reason);
        return Ended::Here;
    };
    let start = start_of(
        shared,
        &request,
        archive.is_some() && turns.is_archive_next(),
    );
    let stream = tokio::select! {
        biased;
        () = session.cancelled() => return Ended::Here,
        stream = upstream.stream(start) => stream,
    };
    let ended = match stream {
        Ok(stream) => {
            let stream = Messages::Upstream(Box::new(stream));
            receive(follower, session, stream, &request.replica_id, turns).await
        }
        Err(error) => Ended::Upstream(error),
    };
    turns.upstream_ended();
    ended
}

fn start_of(shared: &Shared, request: &Request, resume_only: bool) -> StreamStart {
    let point = request.mark.map(|mark| mark.point);
    StreamStart {
        database: shared.config.upstream_database.clone(),
        position: point.map(|p| p.position),
        dbsum: point.map(|p| p.dbsum),
        frame_cksum: point.and_then(|p| p.frame_cksum),
        replica_id: request.replica_id.clone(),
        replica_name: shared.config.replica_name.clone(),
        lz4: true,
        recent: true,
        page_size: point.map_or(0, |p| p.page_size),
        address: String::new(),
        transient: false,
        resume_only,
    }
}

async fn receive(
    follower: &Follower,
    session: &CancellationToken,
    mut stream: Messages,
    replica_id: &str,
    turns: &mut Turns,
) -> Ended {
    let shared = &follower.shared;
    let room = Arc::new(Semaphore::new(IN_FLIGHT));
    let mut silence = match &stream {
        Messages::Upstream(_) => Duration::from_secs(15),
        // It ends by itself with an error.
        Messages::Archive(_) => Duration::MAX,
    };
    loop {
        let next = tokio::select! {
            biased;
            () = session.cancelled() => return Ended::Here,
            next = tokio::time::timeout(silence, stream.next()) => next,
        };
        let message = match next {
            Err(_) => return Ended::Silent(silence),
            Ok(Err(ended)) => return ended,
            Ok(Ok(message)) => message,
        };
        if let Message::Hello(hello) = &message {
            if let (Messages::Upstream(_), Some(upstream)) = (&stream, &follower.upstream) {
                let is_gone = hello.follows == Follows::NotRetained;
                if is_gone && shared.config.archive.is_some() && turns.owe(hello.generation) {
                    return Ended::Owed;
                }
                // Three missed heartbeats, and then some: the primary or the way to it is gone.
                silence = Duration::from_millis(u64::from(hello.heartbeat_ms) * 4)
                    .max(Duration::from_secs(4));
                shared.note_follows(hello.follows);
                let ids = (replica_id.to_owned(), hello.session_id.clone());
                tokio::spawn(report(
                    shared.clone(),
                    upstream.clone(),
                    session.clone(),
                    ids,
                ));
            }
            greet(shared, hello);
        }
        let size = payload(&message);
        shared.note_bytes(size);
        // All permits are back: what was queued before is applied.
        let message = match room.available_permits() {
            IN_FLIGHT => match at_once(follower.queue.worker(), session, message) {
                AtOnce::Done => continue,
                AtOnce::Refused => return Ended::Here,
                AtOnce::Later(message) => message,
            },
            _ => message,
        };
        let hand_on = hand_on(follower, session, &room, message, size);
        match tokio::time::timeout(STUCK, hand_on).await {
            Ok(true) => {}
            Ok(false) => return Ended::Here,
            Err(_) => return Ended::Stuck,
        }
    }
}

/// Queues a message once there is room for it; false if nobody takes it any more.
async fn hand_on(
    follower: &Follower,
    session: &CancellationToken,
    room: &Arc<Semaphore>,
    message: Message,
    size: usize,
) -> bool {
    let permits = u32::try_from(size.clamp(1, IN_FLIGHT)).unwrap_or(u32::MAX);
    let permit = room.clone().acquire_many_owned(permits).await.ok();
    let command = Command::Message {
        message,
        session: session.clone(),
        permit,
    };
    follower.queue.send(command).await.is_ok()
}

fn greet(shared: &Arc<Shared>, hello: &Hello) {
    shared.meters.streams.add(1);
    let name = &shared.config.name;
    tracing::info!(database = %name, follows = ?hello.follows, "connected: {}", hello.reason);
    shared.set_state(DatabaseState::CatchingUp, hello.reason.clone());
}

fn payload(message: &Message) -> usize {
    match message {
        Message::Chunk(chunk) => chunk.data.len(),
        Message::SnapshotPages(pages) => pages.data.len(),
        _ => 0,
    }
}
