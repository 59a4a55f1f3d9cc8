//! The thread that owns the local database: it asks [`Machine`] what a message means and does it.

use super::checkpointer::{Checkpointer, Done};
use super::copy::CopyView;
use super::error::ApplyError;
use super::follow::Request;
use super::gather::{Gathered, page_refs};
use super::house::make_durable;
use super::local::{Local, LocalError};
use super::machine::{Action, Machine, Pages};
use super::open::{OpenError, Opened, open_local};
use super::record::{Durable, Mark, Record};
use super::seed::Seed;
use super::shared::Shared;
use crate::disk;
use crate::model::Message;
use crate::ownership;
use crate::sqlite::WalIndex;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::Instant;

/// Everything that the thread owns.
pub struct Applier {
    pub(super) shared: Arc<Shared>,
    pub(super) directory: PathBuf,
    pub(super) machine: Machine,
    pub(super) record: Record,
    // Before `local`: its connection must be closed before `local` closes a descriptor of the database file.
    pub(super) checkpointer: Option<Checkpointer>,
    pub(super) local: Option<Local>,
    pub(super) seed: Seed,
    /// Commits that are not visible yet.
    gathered: Gathered,
    pub(super) durable: Option<Durable>,
    pub(super) done: (Sender<Done>, Receiver<Done>),
    pub(super) policy: super::restart::Policy,
    pub(super) scrub: super::scrub::Scrub,
    pub(super) last_sync: Instant,
    /// When it was looked last whether the files are still those that are open.
    pub(super) last_look: Instant,
    /// Bytes that became visible since the house was kept last.
    pub(super) unkept: u64,
}

/// A larger message takes long enough that another thread is worth its wake-up.
const AT_ONCE: u64 = 64 << 10;
/// Applied at once, then the house is kept.
const UNKEPT: u64 = 1 << 20;

impl Applier {
    /// Opens what is there. Errors are worth another try: the operator may mend them.
    pub fn open(shared: Arc<Shared>, directory: PathBuf) -> Result<Applier, ApplyError> {
        if shared.config.path.exists() {
            ownership::guard(&shared.config.name, &shared.config.path)?;
        }
        let mut record = Record::open(&directory).map_err(OpenError::from)?;
        let mut durable = Durable::open(&directory)?;
        let published = durable.published();
        let path = &shared.config.path;
        let size = disk::metadata("db.stat", path).map_or(0, |m| m.len());
        shared.work_began("verification", size);
        let grew = |bytes| shared.work_grew(bytes);
        let opened = open_local(
            path,
            shared.raw_file(),
            &directory,
            &mut record,
            durable.mark(),
            &grew,
        );
        shared.work_ended();
        let opened = opened?;
        if let Opened::Nothing = opened {
            // Somebody deleted it, or it was set aside. A snapshot may take long, and the position must not claim it.
            durable.forget()?;
            record.forget()?;
            record.note_detached(false)?;
        }
        let config = &shared.config;
        let policy = super::restart::Policy::new(config.wal_soft_limit, config.wal_hard_limit);
        let scrub = super::scrub::Scrub::new(config.scrub_interval);
        let mut applier = Applier {
            shared,
            directory,
            machine: Machine::new(None, false),
            record,
            local: None,
            seed: Seed::None,
            gathered: Gathered::default(),
            checkpointer: None,
            durable: Some(durable),
            done: channel(),
            policy,
            scrub,
            last_sync: Instant::now(),
            last_look: Instant::now(),
            unkept: 0,
        };
        if let Opened::Database {
            local,
            mark,
            proven,
        } = opened
        {
            if !proven {
                // Not an error: a power cut leaves it so as well, and the log from the durable position on mends both.
                tracing::warn!(
                    database = %applier.shared.config.name,
                    "the copy is at none of its recorded positions (damage, a local write, or a power cut); it is \
                     brought to the primary's position in one step"
                );
            }
            applier.machine = Machine::new(mark, proven);
            applier.adopt(*local)?;
            if let (Some(mark), true) = (mark, proven) {
                let whole = |local: &Local| local.log().damage().is_none();
                if published == Some(mark) && applier.local.as_ref().is_some_and(whole) {
                    applier.shared.note_durable(mark.point.position);
                }
                applier.shared.applied(&mark.point, false);
            }
        }
        Ok(applier)
    }

    pub(super) fn adopt(&mut self, local: Local) -> Result<(), ApplyError> {
        self.record.note_inode(local.inode()?)?;
        let log = local.log();
        let log = (log.file().clone(), log.doubts().clone());
        let durable = match self.durable.take() {
            Some(durable) => durable,
            None => Durable::open(&self.directory)?,
        };
        let sender = self.done.0.clone();
        let wake = self.shared.clone();
        let config = &self.shared.config;
        let checkpointer =
            Checkpointer::new(&config.name, &config.path, log, durable, move |done| {
                let _ = sender.send(done);
                wake.wake();
            });
        self.checkpointer = Some(checkpointer);
        self.local = Some(local);
        Ok(())
    }

    /// True if there is a database at the path that is not open here: a snapshot that was given its name and then could
    /// not be opened. It must be opened, and never be replaced by another: readers may have it open.
    pub fn is_behind_its_file(&self) -> bool {
        let path = &self.shared.config.path;
        self.local.is_none() && std::fs::metadata(path).is_ok_and(|m| m.len() > 0)
    }

    /// What to ask the upstream for, and the replica's identity.
    pub fn request(&mut self) -> Request {
        self.machine.connected();
        Request {
            mark: self.machine.local(),
            replica_id: self.record.id.clone(),
            fresh: self.local.is_none(),
        }
    }

    /// Takes one message. Its commit is visible after [`Applier::settle`], or before. After an error the stream must end;
    /// nothing half-done is left.
    pub fn take(&mut self, message: Message) -> Result<(), ApplyError> {
        let result = self.try_message(message);
        self.judge(result)
    }

    /// A message that nothing waits behind.
    #[cfg(test)]
    pub fn message(&mut self, message: Message) -> Result<(), ApplyError> {
        self.take(message)?;
        self.settle()
    }

    /// Nothing more waits: makes visible what was taken.
    pub fn settle(&mut self) -> Result<(), ApplyError> {
        let result = self.publish_gathered();
        self.judge(result)
    }

    fn judge(&mut self, result: Result<(), ApplyError>) -> Result<(), ApplyError> {
        let result = result.and_then(|()| match self.unkept {
            0 => Ok(()),
            _ => self.keep_house(false),
        });
        if let Err(error) = &result {
            self.give_up_pending(error);
        }
        result
    }

    /// Whether [`Applier::message_at_once`] may be called: a small commit on a log that has begun and needs no room. Then
    /// nothing waits for the disk or for readers.
    pub fn takes_at_once(&self, message: &Message) -> bool {
        let Message::Chunk(chunk) = message else {
            return false;
        };
        let ready = |local: &Local| {
            local.log().is_begun() && local.log().bytes() < self.shared.config.wal_soft_limit
        };
        chunk.size() <= AT_ONCE
            && chunk.commit.is_some()
            && self.machine.is_level()
            && self.local.as_ref().is_some_and(ready)
    }

    /// As [`Applier::take`] and [`Applier::settle`], without the work that may take long: the caller is a task. True if that work is due.
    pub fn message_at_once(&mut self, message: Message) -> Result<bool, ApplyError> {
        let result = self.try_message(message);
        let result = result.and_then(|()| self.publish_gathered());
        if let Err(error) = &result {
            self.give_up_pending(error);
        }
        result.map(|()| self.unkept >= UNKEPT)
    }

    fn try_message(&mut self, message: Message) -> Result<(), ApplyError> {
        for action in self.machine.step(message)? {
            self.act(action)?;
        }
        Ok(())
    }

    fn act(&mut self, action: Action) -> Result<(), ApplyError> {
        // A snapshot follows a hello, before which all is settled.
        if let Action::Append(_) = action {
            self.publish_gathered()?;
            // Between two transactions: in the middle of one the log cannot begin anew, however large it is.
            if self.unkept > 0 {
                self.keep_house(false)?;
            }
        }
        match action {
            Action::Greeted { position, clock_us } => self.shared.greeted(position, clock_us),
            Action::Seen { position, clock_us } => self.shared.seen(position, clock_us),
            Action::BeginSnapshot {
                page_size,
                page_count,
            } => self.begin_snapshot(page_size, page_count)?,
            Action::Append(pages) => self.append(&pages)?,
            Action::Publish(pages, mark) => {
                // What lies in the log already waits for nothing.
                let local = attached(&mut self.local, &self.shared)?;
                let has_begun = local.log().next() != local.backfill().0;
                if self.gathered.add(pages, mark) || has_begun {
                    self.publish_gathered()?;
                }
            }
            Action::EndSnapshot(mark) => self.end_snapshot(mark)?,
        }
        Ok(())
    }

    /// The stream ended. What was not published is forgotten.
    pub fn disconnected(&mut self) {
        self.seed = Seed::None;
        self.gathered = Gathered::default();
        self.shared.work_ended();
        if let Some(local) = &mut self.local
            && let Err(error) = local.abandon()
        {
            tracing::error!(database = %self.shared.config.name, "{error}");
        }
        self.machine.connected();
    }

    pub(super) fn give_up_pending(&mut self, error: &ApplyError) {
        self.disconnected();
        if error.is_disk_full() {
            self.policy.press();
        }
        if error.is_diverged() {
            self.machine.forget_local();
        }
    }

    fn append(&mut self, pages: &Pages) -> Result<(), ApplyError> {
        self.shared.work_grew(pages.bytes.len() as u64);
        if let Seed::Fresh(seed) = &mut self.seed {
            return Ok(seed.append(pages)?);
        }
        let local = attached(&mut self.local, &self.shared)?;
        let refs = page_refs(pages, local.page_size());
        match self.seed {
            Seed::InPlace => local.append_seed(&refs)?,
            _ => local.append(&refs)?,
        }
        Ok(())
    }

    fn publish_gathered(&mut self) -> Result<(), ApplyError> {
        let Some(mark) = self.gathered.mark() else {
            return Ok(());
        };
        let gathered = std::mem::take(&mut self.gathered);
        let local = attached(&mut self.local, &self.shared)?;
        let record = &mut self.record;
        let refs = gathered.pages(local.page_size());
        let began = Instant::now();
        local.publish(&refs, &mark, || record.note_next(mark))?;
        record.is_visible(&mark);
        let meters = &self.shared.meters;
        meters.work.time(began.elapsed());
        meters.frames.add(refs.len() as u64);
        self.machine.published(mark);
        self.shared.applied(&mark.point, true);
        self.after_publish(gathered.bytes());
        Ok(())
    }

    pub(super) fn after_publish(&mut self, bytes: usize) {
        self.shared.note_received(self.machine.received());
        self.unkept += bytes.max(1) as u64;
    }

    /// Holds the state that readers see now. The caller is the only one who publishes.
    pub fn view(&self, index: WalIndex) -> Result<CopyView, ApplyError> {
        let path = || self.shared.config.path.clone();
        let busy = |what| LocalError::Busy { path: path(), what };
        let local = self
            .local
            .as_ref()
            .ok_or(busy("the database is not open"))?;
        // In a snapshot the old state is still what readers see, and where it stands is known no more.
        let mark = self.machine.proven();
        let mark = mark.ok_or(busy(
            "its position is not known now: a snapshot is under way, or its content is being proven",
        ))?;
        local.check_untouched()?;
        let (frames, _) = local.backfill();
        let raw = self.shared.raw_file()?;
        let view = CopyView::hold(index, raw, mark.point, self.record.cookie_delta)?;
        if view.frames() != frames {
            let what = "its log changed while it was looked at".to_owned();
            return Err(LocalError::Foreign { path: path(), what }.into());
        }
        Ok(view)
    }

    /// True if commits are taken that are not visible yet.
    pub fn has_gathered(&self) -> bool {
        self.gathered.mark().is_some()
    }

    /// True if there is a database, and not only one in the making.
    pub fn has_database(&self) -> bool {
        self.local.is_some()
    }

    /// Ends replication and leaves an ordinary database.
    pub fn detach(mut self) -> Result<Option<Mark>, ApplyError> {
        self.disconnected();
        let mark = self.machine.proven();
        self.checkpointer = None;
        if let Some(local) = self.local.take() {
            local.release_writable(&mut self.record)?;
        }
        Ok(mark)
    }

    /// Ends in order: the newest state is made durable.
    pub fn close(mut self) {
        self.disconnected();
        let mark = self.machine.proven();
        if let (Some(mut checkpointer), Some(mark), Some(local)) =
            (self.checkpointer.take(), mark, &self.local)
        {
            make_durable(local, &mut checkpointer, mark, &self.shared);
        }
        // The checkpointer is gone, and with it all that it had to do.
        for done in self.done.1.try_iter() {
            if let Done::Sync(Err(error)) | Done::Unsynced(error) = done {
                self.shared.note_fault("sync", Some(error.to_string()));
            }
        }
    }
}

pub(super) fn attached<'a>(
    local: &'a mut Option<Local>,
    shared: &Shared,
) -> Result<&'a mut Local, ApplyError> {
    let path = || shared.config.path.clone();
    local.as_mut().ok_or_else(|| {
        LocalError::Busy {
            path: path(),
            what: "the database is not open",
        }
        .into()
    })
}
