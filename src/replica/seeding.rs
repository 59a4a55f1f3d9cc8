//! A snapshot on the replica: a first one into a file that takes its name when it is whole, or one in place under readers.

use super::applier::{Applier, attached};
use super::error::ApplyError;
use super::house::{make_durable, note_done};
use super::local::{Local, LocalError};
use super::machine::StreamError;
use super::open::OpenError;
use super::record::Mark;
use super::seed::{FreshSeed, Seed};
use crate::ownership;
use std::time::Duration;
use tokio::time::Instant;

/// How long a page-size change waits for readers that use the log, before it gives way and tries later.
const SEED_PATIENCE: Duration = Duration::from_secs(10);
impl Applier {
    pub(super) fn begin_snapshot(
        &mut self,
        page_size: u32,
        page_count: u32,
    ) -> Result<(), ApplyError> {
        let name = &self.shared.config.name;
        tracing::info!(database = %name, pages = page_count, page_size, "receiving snapshot");
        let bytes = u64::from(page_count) * u64::from(page_size);
        self.shared.snapshot_began(bytes);
        let Some(local) = &mut self.local else {
            let mode = self.shared.config.mode;
            self.seed = Seed::Fresh(Box::new(FreshSeed::begin(
                &self.shared.config.path,
                &self.directory,
                page_size,
                mode,
            )?));
            return Ok(());
        };
        // A reader's prepared statements trust the schema cookie: after a seed it must never equal one seen before.
        let before = self
            .record
            .pending_delta
            .unwrap_or(self.record.cookie_delta);
        let delta = before.wrapping_add(1_000_003);
        self.record.pending_delta = Some(delta);
        self.record.save_identity()?;
        let deadline = Instant::now() + SEED_PATIENCE;
        while !local.begin_seed(&self.directory, page_size, delta)? {
            if Instant::now() > deadline {
                let path = self.shared.config.path.clone();
                let what = "the primary's page size changed, and a reader here still uses the old log; end its transaction";
                return Err(LocalError::Busy { path, what }.into());
            }
            if let Some(checkpointer) = &mut self.checkpointer
                && checkpointer.may_checkpoint()
            {
                checkpointer.checkpoint();
            }
            if let Ok(done) = self.done.1.recv_timeout(Duration::from_millis(5)) {
                note_done(&self.shared, &mut self.checkpointer, done);
            }
        }
        self.seed = Seed::InPlace;
        Ok(())
    }

    pub(super) fn end_snapshot(&mut self, mark: Mark) -> Result<(), ApplyError> {
        match std::mem::replace(&mut self.seed, Seed::None) {
            Seed::Fresh(seed) => self.end_fresh(seed, mark)?,
            Seed::InPlace => self.end_in_place(mark)?,
            Seed::None => {
                let what = "a snapshot ends that was not begun".to_owned();
                return Err(StreamError::Protocol(what).into());
            }
        }
        self.machine.published(mark);
        self.shared.applied(&mark.point, true);
        self.shared.snapshot_ended();
        let (name, position) = (&self.shared.config.name, mark.point.position);
        tracing::info!(database = %name, %position, "snapshot complete");
        self.after_publish(0);
        Ok(())
    }

    fn end_fresh(&mut self, mut seed: Box<FreshSeed>, mark: Mark) -> Result<(), ApplyError> {
        let path = self.shared.config.path.clone();
        let got = seed.sum(mark.point.page_count);
        if got != mark.point.dbsum {
            return Err(LocalError::Checksum {
                path,
                got,
                want: mark.point.dbsum,
            }
            .into());
        }
        if self.is_behind_its_file() {
            return Err(OpenError::NotOurs { path }.into());
        }
        let delta = self.record.cookie_delta;
        self.record.note_next(mark)?;
        let finished = seed.finish(&path, mark.point.page_count, delta);
        if matches!(&finished, Err(LocalError::Disk(error)) if error.is_there_already()) {
            // What has the name is not what was noted.
            self.record.forget()?;
        }
        let named = finished?;
        self.record.is_visible(&mark);
        ownership::guard(&self.shared.config.name, &path)?;
        if let Some(durable) = &mut self.durable {
            durable.note(mark)?;
        }
        // Kept: see the trap in `disk`.
        let db = self.shared.raw_file()?;
        let mut local = Local::attach(&path, db, &self.directory, mark.point.page_size, delta)?;
        drop(named.index);
        local.adopt(named.sums, named.page1);
        self.adopt(local)
    }

    fn end_in_place(&mut self, mark: Mark) -> Result<(), ApplyError> {
        let local = attached(&mut self.local, &self.shared)?;
        let record = &mut self.record;
        local.publish_seed(&mark, || record.note_next(mark))?;
        record.is_visible(&mark);
        if let Some(delta) = self.record.pending_delta.take() {
            self.record.cookie_delta = delta;
            self.record.save_identity()?;
        }
        if let Some(checkpointer) = &mut self.checkpointer {
            checkpointer.reopen();
            make_durable(local, checkpointer, mark, &self.shared);
        }
        Ok(())
    }
}
