//! One replica's stream: a cursor over the history, moved by being polled.

use super::batch::{self, BATCH_BYTES, Batch};
use super::decide::damaged;
use super::error::PrimaryError;
use super::hub::{After, Entry};
use super::recent::{Fed, Taker};
use super::shadow::{Layout, MAX_CONTENT, ShadowError, ShadowReader};
use super::shared::{Pin, Shared};
use super::snapshot::Copy;
use super::{Request, ask};
use crate::disk;
use crate::format::lz4;
use crate::format::position::Position;
use crate::model::{Chunk, Codec, DatabaseState, Message, Point, SnapshotEnd, clock_us};
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

type Fencing = std::pin::Pin<Box<dyn Future<Output = Result<Point, PrimaryError>> + Send>>;

pub(super) enum Phase {
    /// Pages of a snapshot.
    Pages(Copy, Pin),
    /// All pages are sent. The answer says up to where the WAL has to follow.
    Fence(Fencing, Pin),
    /// WAL of a snapshot, up to a point.
    Mend(
        Point,
        #[expect(dead_code, reason = "it is held, not read")] Pin,
    ),
    /// WAL.
    Follow,
    /// Nothing follows the hello: the replica has an archive that is to bring it back.
    Elsewhere,
    /// Nothing more comes.
    Ended,
}

/// A stream that is open. Dropping it ends it. It holds no queue: what is not asked for is not read.
pub struct StreamHandle {
    pub(super) shared: Arc<Shared>,
    /// Empty for a reader in this process, which is no replica.
    pub(super) replica_id: String,
    pub(super) session: String,
    pub(super) lz4: bool,
    /// Many commits may come as one chunk. Not for an archive, whose documents name each commit, and not for a command,
    /// which may want to stop at any of them.
    pub(super) together: bool,
    /// There if the replica takes the recent form of chunks.
    pub(super) taker: Option<Taker>,
    pub(super) fed: Fed,
    pub(super) epoch: u64,
    pub(super) page_size: u32,
    /// The end of what was queued.
    pub(super) cursor: Position,
    pub(super) phase: Phase,
    pub(super) out: VecDeque<Message>,
    pub(super) reading: Option<JoinHandle<Batch>>,
    pub(super) changes: watch::Receiver<u64>,
    pub(super) last_sent: Instant,
    /// When the stream began.
    pub(super) opened: Instant,
    pub(super) state: DatabaseState,
    pub(super) reason: String,
}

impl StreamHandle {
    /// The session's name, as in the hello.
    pub fn session_id(&self) -> &str {
        &self.session
    }

    /// The next message. `None`: a clean end, since the server drains or stops. After an error nothing more comes.
    /// May be cancelled and called again.
    pub async fn next(&mut self) -> Option<Result<Message, PrimaryError>> {
        loop {
            if let Some(message) = self.out.pop_front() {
                return match self.plain(message) {
                    Ok(message) => Some(Ok(self.account(message))),
                    Err(error) => Some(Err(self.fail(error))),
                };
            }
            if self.shared.is_stopping() {
                self.phase = Phase::Ended;
            }
            if let Err(error) = self.advance().await {
                return Some(Err(self.fail(error)));
            }
            if matches!(self.phase, Phase::Ended) && self.out.is_empty() {
                return None;
            }
        }
    }

    fn fail(&mut self, error: PrimaryError) -> PrimaryError {
        self.phase = Phase::Ended;
        self.out.clear();
        self.reason = error.to_string();
        error
    }

    /// Unpacked for who does not take lz4: one message at a time, since a batch of pages of zeros is a hundred times as large
    /// as it is packed.
    fn plain(&self, message: Message) -> Result<Message, PrimaryError> {
        match message {
            Message::Chunk(chunk) if !self.lz4 => unpack(chunk).map(Message::Chunk),
            message => Ok(message),
        }
    }

    fn account(&mut self, message: Message) -> Message {
        self.last_sent = Instant::now();
        let (position, bytes) = match &message {
            Message::Chunk(chunk) => (Some(chunk.end()), chunk.data.len()),
            Message::SnapshotPages(pages) => (None, pages.data.len()),
            _ => (None, 0),
        };
        if bytes > 0 && !self.replica_id.is_empty() {
            self.shared.bytes_streamed.fetch_add(bytes as u64, Relaxed);
            self.shared
                .replicas
                .sent(&self.replica_id, &self.session, position, bytes as u64);
        }
        message
    }

    /// Queues at least one message, or ends, or something happened that has to be looked at anew.
    async fn advance(&mut self) -> Result<(), PrimaryError> {
        match &mut self.phase {
            Phase::Ended => Ok(()),
            Phase::Elsewhere => Err(self.too_slow()),
            Phase::Follow => {
                if self.reading.is_none() && self.shared.is_drained(self.cursor) {
                    self.reason = "the server is draining".into();
                    self.phase = Phase::Ended;
                    return Ok(());
                }
                self.follow().await
            }
            Phase::Pages(copy, _) => match copy.next().await? {
                Some(pages) => {
                    self.out.push_back(Message::SnapshotPages(pages));
                    self.check_epoch()
                }
                None => {
                    if let Phase::Pages(_, pin) = std::mem::replace(&mut self.phase, Phase::Ended) {
                        // Everything that a checkpoint wrote into the file while it was copied is committed by now.
                        let shared = Arc::clone(&self.shared);
                        let fence = Box::pin(async move { ask(&shared, Request::Fence).await });
                        self.phase = Phase::Fence(fence, pin);
                    }
                    Ok(())
                }
            },
            Phase::Fence(fence, _) => {
                let due = heartbeat_due(self.last_sent, self.shared.config.heartbeat);
                let Ok(end) = tokio::time::timeout_at(due, fence).await else {
                    // The capture of a large transaction takes its time.
                    self.check_epoch()?;
                    self.fed.forget();
                    self.out.push_back(heartbeat(self.cursor));
                    return Ok(());
                };
                let end = end?;
                self.check_epoch()?;
                if let Phase::Fence(_, pin) = std::mem::replace(&mut self.phase, Phase::Ended) {
                    self.phase = Phase::Mend(end, pin);
                }
                Ok(())
            }
            Phase::Mend(end, _) => {
                let end = *end;
                let key = |p: Position| (p.index, p.offset);
                if self.cursor == end.position {
                    return self.end_snapshot(end);
                }
                if key(self.cursor) > key(end.position) {
                    return Err(PrimaryError::Damaged(format!(
                        "no chunk ends at {}",
                        end.position
                    )));
                }
                self.follow().await
            }
        }
    }

    fn end_snapshot(&mut self, end: Point) -> Result<(), PrimaryError> {
        self.out.push_back(Message::SnapshotEnd(SnapshotEnd {
            position: end.position,
            dbsum: end.dbsum,
            page_count: end.page_count,
            time_us: end.time_us,
        }));
        self.phase = Phase::Follow;
        self.shared.snapshots.fetch_add(1, Relaxed);
        self.shared.meters.snapshots.time(self.opened.elapsed());
        tracing::info!(database = %self.shared.config.name, "snapshot sent, at {}", end.position);
        self.set_state(DatabaseState::CatchingUp);
        Ok(())
    }

    fn set_state(&mut self, state: DatabaseState) {
        // Until a snapshot is complete, that is what the replica is busy with.
        let has_snapshot = matches!(
            self.phase,
            Phase::Mend(..) | Phase::Pages(..) | Phase::Fence(..)
        );
        if self.state == state || has_snapshot {
            return;
        }
        self.state = state;
        if state == DatabaseState::Streaming {
            self.reason.clear();
        }
        self.shared
            .replicas
            .state(&self.replica_id, &self.session, state, &self.reason);
    }

    fn check_epoch(&self) -> Result<(), PrimaryError> {
        match self.shared.hub.epoch() == self.epoch {
            true => Ok(()),
            false => Err(self.ended()),
        }
    }

    /// Why the attachment that this stream lived in is over.
    fn ended(&self) -> PrimaryError {
        match self.shared.hub.generation() {
            Some(generation) if generation != self.cursor.generation => {
                PrimaryError::GenerationChanged(generation)
            }
            _ => self.shared.not_ready(),
        }
    }

    /// Moves on along the WAL.
    async fn follow(&mut self) -> Result<(), PrimaryError> {
        if self.reading.is_some() {
            return self.finish_reading().await;
        }
        // Marked as seen before the look: what comes after it wakes us.
        self.changes.borrow_and_update();
        let mut queued = 0;
        while queued < BATCH_BYTES {
            match self.shared.hub.after(self.epoch, self.cursor) {
                After::Entry(entry) => {
                    queued += entry.chunk.data.len().max(1);
                    self.queue(entry);
                    if let Phase::Mend(end, _) = &self.phase
                        && end.position == self.cursor
                    {
                        break;
                    }
                }
                After::Tip if queued > 0 => break,
                After::Tip => return self.wait_at_tip().await,
                After::Behind { .. } if queued > 0 => break,
                After::Behind { bound } => {
                    self.set_state(DatabaseState::CatchingUp);
                    // A snapshot ends exactly where its end was fixed, however much was captured since.
                    let bound = match &self.phase {
                        Phase::Mend(end, _) => end.position,
                        _ => bound,
                    };
                    self.begin_reading(bound);
                    return Ok(());
                }
                After::Ended => return Err(self.ended()),
            }
        }
        Ok(())
    }

    async fn wait_at_tip(&mut self) -> Result<(), PrimaryError> {
        self.set_state(DatabaseState::Streaming);
        let due = heartbeat_due(self.last_sent, self.shared.config.heartbeat);
        if tokio::time::timeout_at(due, self.changes.changed())
            .await
            .is_ok()
        {
            return Ok(());
        }
        // A heartbeat says "level with the primary": it must not be said while the capture is held up.
        match self.shared.state() {
            (DatabaseState::Streaming, _) => {
                // What was captured since the look is sent first: a heartbeat is not ahead of its stream.
                let key = |p: Position| (p.index, p.offset);
                let sent = |tip: &Point| key(tip.position) <= key(self.cursor);
                if let Some(tip) = self.shared.hub.tip_now().filter(sent) {
                    self.fed.forget();
                    self.out.push_back(heartbeat(tip.position));
                }
                Ok(())
            }
            (DatabaseState::Waiting, reason) => Err(PrimaryError::Disk(reason)),
            _ => Err(self.shared.not_ready()),
        }
    }

    fn queue(&mut self, Entry { chunk, recent }: Entry) {
        self.cursor = chunk.end();
        // What this replica was not sent must not be referred to, though others were.
        let recent = recent.filter(|recent| self.taker.is_some() && self.fed.covers(recent));
        self.fed.chunk(chunk.size());
        let chunk = match recent {
            Some(recent) => Chunk {
                codec: Codec::Lz4Recent,
                data: recent.data,
                ..chunk
            },
            None => chunk,
        };
        self.out.push_back(Message::Chunk(chunk));
    }

    fn begin_reading(&mut self, bound: Position) {
        let layout: Layout = self.shared.layout.clone();
        let reader = ShadowReader::new(layout, self.cursor);
        self.read(reader, bound);
    }

    fn read(&mut self, reader: ShadowReader, bound: Position) {
        let together = self.together;
        self.reading = Some(disk::aside(move || batch::read(reader, bound, together)));
    }

    /// Takes what was read, and reads on while the connection is busy with it.
    async fn finish_reading(&mut self) -> Result<(), PrimaryError> {
        let Some(job) = self.reading.as_mut() else {
            return Ok(());
        };
        let done = job.await;
        self.reading = None;
        let (reader, batch) = done.map_err(|e| PrimaryError::Disk(e.to_string()))?;
        let at = reader.position();
        // Once that is over, its files are cut or removed, and what was read of them says nothing.
        self.check_epoch()?;
        match batch {
            Ok(batch) => {
                for chunk in batch {
                    let recent = None;
                    self.queue(Entry { chunk, recent });
                }
                self.read_on(reader);
                Ok(())
            }
            Err(ShadowError::Disk(error)) => Err(error.into()),
            Err(error) => {
                // Of the index after the cursor's, it may be.
                let at = match error {
                    ShadowError::Gone { index } if index > at.index => Position {
                        index,
                        offset: 0,
                        ..at
                    },
                    _ => at,
                };
                // Its files are being removed one by one. Readers are told before the first goes: what is missing all the
                // same is damage, and who asks again shall not be sent there again.
                if !self.shared.hub.is_kept(at) {
                    return Err(self.too_slow());
                }
                let newest = self.shared.hub.tip_now().map_or(at, |tip| tip.position);
                damaged(&self.shared, at, newest, &error);
                Err(PrimaryError::Damaged(error.to_string()))
            }
        }
    }

    fn too_slow(&self) -> PrimaryError {
        PrimaryError::TooSlow(format!("the log after {} is no longer kept", self.cursor))
    }

    /// Goes on with the same reader as long as the ring does not have what follows.
    fn read_on(&mut self, reader: ShadowReader) {
        let mend_end = match &self.phase {
            Phase::Mend(end, _) => Some(end.position),
            _ => None,
        };
        if mend_end == Some(self.cursor) {
            return;
        }
        if let After::Behind { bound } = self.shared.hub.after(self.epoch, self.cursor) {
            let bound = mend_end.unwrap_or(bound);
            self.read(reader, bound);
        }
    }
}

impl Drop for StreamHandle {
    fn drop(&mut self) {
        let reason = match self.reason.is_empty() {
            true => "the connection ended",
            false => &self.reason,
        };
        self.shared
            .replicas
            .disconnect(&self.replica_id, &self.session, reason);
    }
}

pub(super) fn heartbeat(position: Position) -> Message {
    Message::Heartbeat {
        position,
        clock_us: clock_us(),
    }
}

/// When the next heartbeat is due: no later than its interval after the last message, and together with those of other
/// streams. Hundreds of streams share a connection; what is sent at one time takes one write there, and one read.
fn heartbeat_due(last: Instant, interval: Duration) -> Instant {
    let step = (interval / 8).max(Duration::from_millis(1));
    let due = last + interval;
    // The wall clock is what all streams have in common; it may jump.
    let ahead = due.saturating_duration_since(Instant::now());
    let at_us = i128::from(clock_us()) + ahead.as_micros() as i128;
    let rest = at_us.rem_euclid(step.as_micros() as i128);
    due - Duration::from_micros(u64::try_from(rest).unwrap_or(0))
}

fn unpack(chunk: Chunk) -> Result<Chunk, PrimaryError> {
    let mut data = Vec::with_capacity(chunk.size() as usize);
    lz4::decompress(&chunk.data, MAX_CONTENT, &mut data)
        .map_err(|e| PrimaryError::Damaged(e.to_string()))?;
    Ok(Chunk {
        codec: Codec::None,
        data: Bytes::from(data),
        ..chunk
    })
}
