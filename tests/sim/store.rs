//! A replica's database as a model: pages in memory, and a disk that keeps what was synced. What a message means the
//! shipped `Machine` decides; this does it, in the order of `applier`.

use crate::disk::{Content, Disk};
use crate::world::world;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use walcast::model::{DatabaseState, Message, Point};
use walcast::replica::parts::{
    Action, AtOnce, Command, Machine, Mark, Next, Pages, Refusal, Request, Shared, StreamError,
    Work,
};

/// As `worker` has it: what may be applied by the task that receives.
const AT_ONCE: u64 = 64 << 10;
/// As `house` has it.
const SYNC_INTERVAL: Duration = Duration::from_secs(1);

/// Why a message was not applied.
#[derive(Debug)]
pub enum Failed {
    Stream(StreamError),
    /// The copy did not become this.
    Checksum(Point),
    Full,
}

/// The replica's side of the queue.
pub struct Store {
    replica: usize,
    shared: Arc<Shared>,
    disk: Arc<std::sync::Mutex<Disk>>,
    machine: Machine,
    /// Arrived, and not visible: the content of a snapshot, or of a transaction in many chunks.
    pending: Option<Content>,
    /// The stream began with a copy of which nobody knew where it is.
    in_doubt: bool,
    last_sync: Instant,
}

impl Store {
    /// A process starts on what the disk has.
    pub fn open(replica: usize, shared: Arc<Shared>, disk: Arc<std::sync::Mutex<Disk>>) -> Store {
        let found = disk.lock().expect("no panic").open();
        if let (Some(mark), true) = (found.mark, found.proven) {
            shared.applied(&mark.point, false);
        }
        Store {
            replica,
            shared,
            machine: Machine::new(found.mark, found.proven),
            disk,
            pending: None,
            in_doubt: false,
            last_sync: Instant::now(),
        }
    }

    fn disk(&self) -> std::sync::MutexGuard<'_, Disk> {
        self.disk.lock().expect("no panic")
    }

    fn disconnected(&mut self) {
        self.pending = None;
        self.machine.connected();
    }

    fn message(&mut self, message: Message) -> bool {
        self.shared.set_calm(false);
        world().received(self.replica, &message, self.machine.local());
        let failed = match self.try_message(message) {
            Ok(()) => return true,
            Err(failed) => failed,
        };
        // After a power cut the copy may have what the primary lost by one of its own: only then may it turn out to be wrong.
        let recorded = self.machine.local().map(|mark| mark.point);
        let recorded = recorded.filter(|_| self.in_doubt && !self.machine.is_proven());
        self.disconnected();
        // What it should have become; the record is all that is known of a primary that has nothing newer.
        let meant = match &failed {
            Failed::Stream(StreamError::Diverged(_)) => recorded,
            Failed::Checksum(point) => recorded.and(Some(*point)),
            Failed::Stream(_) | Failed::Full => None,
        };
        world().refused(self.replica, &failed, meant);
        if matches!(
            failed,
            Failed::Stream(StreamError::Diverged(_)) | Failed::Checksum(_)
        ) {
            self.machine.forget_local();
        }
        self.shared
            .set_state(DatabaseState::Disconnected, "refused".to_owned());
        false
    }

    fn try_message(&mut self, message: Message) -> Result<(), Failed> {
        for action in self.machine.step(message).map_err(Failed::Stream)? {
            self.act(action)?;
        }
        Ok(())
    }

    fn act(&mut self, action: Action) -> Result<(), Failed> {
        match action {
            Action::Greeted { position, clock_us } => self.shared.greeted(position, clock_us),
            Action::Seen { position, clock_us } => self.shared.seen(position, clock_us),
            Action::BeginSnapshot {
                page_size,
                page_count,
            } => {
                let bytes = u64::from(page_size) * u64::from(page_count);
                self.shared.snapshot_began(bytes);
                self.pending = Some(Content::new(page_size));
            }
            Action::Append(pages) => self.append(&pages)?,
            Action::Publish(pages, mark) => {
                self.append(&pages)?;
                self.publish(mark)?;
            }
            Action::EndSnapshot(mark) => {
                self.publish(mark)?;
                self.shared.snapshot_ended();
                // A snapshot is synced at its end.
                self.sync(mark);
            }
        }
        Ok(())
    }

    fn append(&mut self, pages: &Pages) -> Result<(), Failed> {
        if self.disk().full {
            return Err(Failed::Full);
        }
        let size = self.machine.page_size();
        if self.pending.is_none() {
            let visible = self.disk().visible().cloned();
            self.pending = Some(visible.unwrap_or_else(|| Content::new(size)));
        }
        let Some(pending) = &mut self.pending else {
            return Ok(());
        };
        for page in &pages.list {
            pending.set(page.pgno, &pages.bytes[page.at..page.at + size as usize]);
        }
        Ok(())
    }

    fn publish(&mut self, mark: Mark) -> Result<(), Failed> {
        let Some(mut content) = self.pending.take() else {
            return Err(Failed::Checksum(mark.point));
        };
        content.resize(mark.point.page_count);
        if content.sum() != mark.point.dbsum.0 {
            return Err(Failed::Checksum(mark.point));
        }
        let first = self.disk().visible().is_none();
        if first && self.disk().failing {
            // It would get its name before it is on the disk.
            return Err(Failed::Full);
        }
        world().published(self.replica, &content, &mark.point);
        self.disk().publish(content, mark);
        self.machine.published(mark);
        self.shared.applied(&mark.point, true);
        self.shared.note_received(self.machine.received());
        Ok(())
    }

    /// The state that readers see is synced, and then noted.
    fn sync(&mut self, mark: Mark) {
        self.last_sync = Instant::now();
        if self.disk().sync() {
            self.shared.note_durable(mark.point.position);
            world().durable(self.replica, mark.point.position);
        }
    }

    fn tick(&mut self) {
        let durable = self.shared.durable();
        let mark = self.machine.local().filter(|_| !self.machine.in_snapshot());
        if let Some(mark) = mark
            && self.machine.is_proven()
            && durable != Some(mark.point.position)
            && self.last_sync.elapsed() >= SYNC_INTERVAL
        {
            self.sync(mark);
        }
        let position = mark.map(|mark| mark.point.position);
        self.shared
            .set_calm(position.is_none() || self.shared.durable() == position);
    }
}

impl Work for Store {
    fn command(&mut self, command: Command) -> Next {
        match command {
            Command::Begin(reply) => {
                self.machine.connected();
                self.in_doubt = !self.machine.is_proven();
                let full = self.disk().full;
                let request = match full {
                    true => Err(Refusal::Told),
                    false => Ok(Request {
                        mark: self.machine.local(),
                        replica_id: format!("replica-{}", self.replica),
                        fresh: self.disk().visible().is_none(),
                    }),
                };
                let _ = reply.send(request);
            }
            Command::Message {
                message,
                session,
                permit,
            } => {
                if !session.is_cancelled() && !self.message(message) {
                    session.cancel();
                }
                drop(permit);
            }
            Command::End(reply) => {
                self.disconnected();
                let _ = reply.send(());
            }
            Command::Tick { .. } => self.tick(),
            Command::View(..) | Command::Detach(_) => {}
            Command::Stop => {
                self.disconnected();
                if let Some(mark) = self.machine.proven() {
                    self.sync(mark);
                }
                return Next::End;
            }
        }
        Next::More
    }

    fn at_once(&mut self, message: Message) -> AtOnce {
        let small = match &message {
            Message::Heartbeat { .. } => true,
            Message::Chunk(chunk) => {
                chunk.size() <= AT_ONCE && chunk.commit.is_some() && self.machine.is_level()
            }
            _ => false,
        };
        if !small || self.disk().slow {
            return AtOnce::Later(message);
        }
        match self.message(message) {
            true => AtOnce::Done,
            false => AtOnce::Refused,
        }
    }
}
