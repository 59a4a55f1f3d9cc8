//! One attachment to the database's log: where the archive goes on, and how the log gets there.

use super::batch::{Batch, Segment};
use super::beside::{Beside, Done};
use super::context::{Context, Stop};
use super::found::Found;
use super::gap;
use super::hold::Hold;
use crate::archive::{Claim, DOC_VERSION, GenerationDoc, Key, Store};
use crate::format::lz4;
use crate::format::position::{Generation, Position};
use crate::model::{DatabaseState, Follows, Message, clock_us};
use crate::primary::{Kept, LogFrom, StreamHandle};
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

/// How long a new generation is waited for that was asked for.
const RENEWAL: Duration = Duration::from_secs(10);

/// What does not change while the archiver lives.
pub struct Writer {
    /// What all share.
    pub ctx: Arc<Context>,
    /// The archive.
    pub store: Store,
    /// The right to write there.
    pub claim: Claim,
    /// Keeps the log until it is archived.
    pub kept: Kept,
    /// Knows a clock that jumped.
    pub hold: Arc<Mutex<Hold>>,
    /// When its last generation began.
    pub begun: Ascending,
}

/// Times that ascend whatever the clock does. By them the generations of one owner are in order: were a clock put back between
/// two, a restore would take the older one for the newest.
#[derive(Debug)]
pub struct Ascending(AtomicI64);

impl Ascending {
    /// Nothing has begun.
    pub fn new() -> Ascending {
        Ascending(AtomicI64::new(i64::MIN))
    }

    /// The time for what begins now.
    fn at(&self, clock_us: i64) -> i64 {
        let last = self.0.fetch_max(clock_us, Relaxed);
        match last < clock_us {
            true => clock_us,
            false => self.0.fetch_add(1, Relaxed) + 1,
        }
    }
}

struct Session<'a> {
    writer: &'a Writer,
    stream: StreamHandle,
    batch: Batch,
    archived: watch::Sender<Position>,
    beside: Beside,
}

impl Writer {
    /// Archives until the log ends, for the server's end, or until something has to begin anew.
    pub async fn session(&self) -> Result<(), Stop> {
        let ctx = &self.ctx;
        let tip = ctx.point().await?;
        let generation = tip.position.generation;
        let mut tries = ctx.tries();
        let mut found = loop {
            if let Some(found) = tries.run(Found::look(&self.store, generation)).await? {
                break found;
            }
        };
        if let Some(what) = &found.unclear {
            return self.renew(generation, what).await;
        }
        let start = found.start(ctx.primary.name());
        let (stream, from) = ctx.primary.open_log(start).await?;
        if from.position.generation != generation {
            // It changed in between: look again.
            return Ok(());
        }
        match from.follows {
            Follows::ReplicaAhead | Follows::ChecksumDiffers | Follows::PageSizeDiffers => {
                let what = format!("the archive has another history: {}", from.reason);
                return self.renew(generation, &what).await;
            }
            _ => {}
        }
        if from.follows != Follows::Resume {
            let mut tries = ctx.tries();
            while tries
                .run(found.keep_bare(&self.store, &self.claim))
                .await?
                .is_none()
            {}
        }
        let is_whole = self.prepare(&found, &from).await?;
        let newest = found.snapshot;
        self.kept.at(from.position);
        if from.follows == Follows::Resume {
            ctx.state.durable(from.position);
        }
        ctx.state.set_restorable(is_whole);
        let reason = match from.follows {
            Follows::NewReplica => "the archive has nothing of this history yet",
            _ => &from.reason,
        };
        ctx.state.set(DatabaseState::CatchingUp, reason);
        let archived = watch::Sender::new(from.position);
        let session = Session {
            writer: self,
            stream,
            batch: Batch::new(from.page_size, from.position, from.previous_end),
            beside: Beside::new(self, archived.subscribe(), newest, is_whole),
            archived,
        };
        session.run().await
    }

    /// Makes the archive ready for what comes from `from` on. True if the newest snapshot reaches there without a gap.
    async fn prepare(&self, found: &Found, from: &LogFrom) -> Result<bool, Stop> {
        let generation = from.position.generation;
        let created = GenerationDoc {
            version: DOC_VERSION,
            page_size: from.page_size,
            created_us: self.begun.at(clock_us()),
            fork: from.fork,
            epoch: self.claim.epoch,
        };
        let key = Key::GenerationDoc {
            generation: generation.into(),
        };
        let last = found.last.map(|(position, _)| position);
        let follows = match last {
            _ if from.follows == Follows::Resume => true,
            // What was archived ends exactly where the newest index begins.
            Some(last) => {
                last.index + 1 == from.position.index && from.previous_end == Some(last.offset)
            }
            None => false,
        };
        let mut tries = self.ctx.tries();
        let mut ready = None;
        while ready.is_none() {
            let make = async {
                self.claim.check(&self.store).await?;
                self.store.create_object(key, created.encode()).await?;
                // What the next segment is written over may hold commits, and stays until then.
                let bare = found.bare.filter(|_| !(follows && found.tail.is_empty()));
                for segment in bare.iter().chain(&found.tail) {
                    if let Some(doc) = segment.doc() {
                        self.store.delete(doc).await?;
                    }
                    self.store.delete(*segment).await?;
                }
                match last {
                    Some(last) if !follows => gap::mark(&self.store, last, found.page_size).await,
                    _ => Ok(()),
                }
            };
            ready = tries.run(make).await?;
        }
        let gap = match last {
            Some(last) if !follows => gap::text(last, from.position),
            _ => String::new(),
        };
        self.ctx.state.set_gap(&gap);
        Ok(follows && found.whole)
    }

    /// Has a new generation begun: what the archive has of this one stays as it is.
    async fn renew(&self, generation: Generation, what: &str) -> Result<(), Stop> {
        let ctx = &self.ctx;
        ctx.state.set(
            DatabaseState::Starting,
            &format!("a new generation: {what}"),
        );
        ctx.primary.renew(generation, what);
        let mut tip = ctx.primary.watch();
        let other = tip.wait_for(|tip| tip.is_some_and(|t| t.position.generation != generation));
        tokio::select! {
            () = ctx.cancel.cancelled() => Err(Stop::Ended),
            // Paused, or waiting for something: it is looked at again.
            _ = timeout(RENEWAL, other) => Ok(()),
        }
    }

    /// Writes a segment, and then its document: so a document without a segment is a loss, which a reader names. A segment
    /// whose document never came can be read without, and is written again by the next run.
    async fn write(&self, segment: Segment) -> Result<u64, Stop> {
        let Segment {
            key, doc, content, ..
        } = segment;
        let packed = tokio::task::spawn_blocking(move || {
            let mut packed = Vec::with_capacity(content.len() / 2);
            lz4::compress(&content, &mut packed).map(|()| packed)
        });
        let packed = packed.await.map_err(|error| Stop::Log(error.to_string()))?;
        let packed = packed.map_err(|error| Stop::Log(error.to_string()))?;
        let (packed, doc) = (bytes::Bytes::from(packed), bytes::Bytes::from(doc.encode()));
        let size = (packed.len() + doc.len()) as u64;
        let mut tries = self.ctx.tries();
        loop {
            let put = async {
                self.claim.check(&self.store).await?;
                self.store.put(key, packed.clone()).await?;
                match key.doc() {
                    Some(key) => self.store.put(key, doc.clone()).await,
                    None => Ok(()),
                }
            };
            if tries.run(put).await?.is_some() {
                return Ok(size);
            }
        }
    }
}

impl Session<'_> {
    async fn run(mut self) -> Result<(), Stop> {
        let outcome = self.follow().await;
        // What is committed and came is archived, whatever ended the log.
        let outcome = match outcome {
            Ok(()) | Err(Stop::Source(_)) if self.batch.since().is_some() => {
                self.flush().await.and(outcome)
            }
            outcome => outcome,
        };
        self.beside.end().await;
        outcome
    }

    async fn follow(&mut self) -> Result<(), Stop> {
        let ctx = Arc::clone(&self.writer.ctx);
        let interval = ctx.config.options.sync_interval;
        loop {
            self.beside.begin_what_is_due(*self.archived.borrow());
            let due = self.batch.since().map(|since| since + interval);
            let look = self.beside.due();
            tokio::select! {
                biased;
                () = ctx.cancel.cancelled() => return Err(Stop::Ended),
                done = self.beside.done() => self.take(done)?,
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    self.flush().await?;
                    ctx.state.set(DatabaseState::Streaming, "");
                }
                () = sleep_until(look.unwrap_or_else(Instant::now)), if look.is_some() => {}
                message = self.stream.next() => match message {
                    Some(Ok(message)) => self.message(message).await?,
                    Some(Err(error)) => return Err(error.into()),
                    None => return Ok(()),
                },
            }
        }
    }

    fn take(&mut self, done: Done) -> Result<(), Stop> {
        let state = &self.writer.ctx.state;
        state.beside("");
        match done {
            Done::Snapshot => {
                state.set_gap("");
                state.set_restorable(true);
            }
            Done::Damaged(what) => {
                state.set_gap(&format!("the archive is damaged: {what}"));
                state.set_restorable(false);
            }
            Done::Nothing => {}
            Done::Failed(error @ Stop::Owned(_)) => return Err(error),
            Done::Failed(error) => {
                let (database, archive) = (
                    self.writer.ctx.primary.name(),
                    self.writer.store.location().to_string(),
                );
                tracing::warn!(database, archive, "archive: {error}; tries again");
                state.beside(&format!("tries again: {error}"));
            }
        }
        Ok(())
    }

    async fn message(&mut self, message: Message) -> Result<(), Stop> {
        let state = &self.writer.ctx.state;
        match message {
            Message::Chunk(chunk) => {
                if !self.batch.has_room_for(&chunk) {
                    // More comes than fits into an object for each interval.
                    if chunk.start.offset != 0 {
                        state.set(DatabaseState::CatchingUp, "");
                    }
                    while !self.batch.has_room_for(&chunk) {
                        self.flush().await?;
                    }
                }
                let pushed = self.batch.push(&chunk);
                pushed.map_err(|error| Stop::Log(error.to_string()))?;
            }
            Message::Heartbeat { .. } if self.batch.is_empty() => {
                state.set(DatabaseState::Streaming, "");
            }
            _ => {}
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), Stop> {
        let Some(segment) = self.batch.take() else {
            return Ok(());
        };
        let ctx = &self.writer.ctx;
        let (end, is_committed) = (segment.end, !segment.doc.records.is_empty());
        ctx.state.sent(end);
        let size = self.writer.write(segment).await?;
        ctx.state.meters.uploads.add(1);
        ctx.state.meters.uploaded_bytes.add(size);
        if is_committed {
            ctx.state.durable(end);
            self.writer.kept.at(end);
            self.archived.send_replace(end);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_begins_later_has_a_later_time() {
        let begun = Ascending::new();
        let times = [50, 51, 51, 7, 8, 60].map(|clock_us| begun.at(clock_us));
        assert_eq!(times, [50, 51, 52, 53, 54, 60]);
    }
}
