//! The work between messages: what the checkpointer did, checkpoints, the log's restart, syncs, the scrub.

use super::applier::Applier;
use super::checkpointer::{Checkpointer, Done};
use super::error::ApplyError;
use super::local::Local;
use super::record::Mark;
use super::shared::Shared;
use std::time::Duration;
use tokio::time::Instant;

/// The durable position is at most this old while commits come in.
const SYNC_INTERVAL: Duration = Duration::from_secs(1);
/// Between two looks whether the paths still lead to the files that are open, however busy they are.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

impl Applier {
    /// Looks whether a stream may begin: not onto a log that is at its limit, which a restart of the process leaves so.
    pub fn make_room(&mut self) -> Result<(), ApplyError> {
        self.keep_house(false)?;
        match self.shared.is_held() {
            true => Err(ApplyError::Full),
            false => Ok(()),
        }
    }

    /// Work between messages: what the checkpointer did, checkpoints, the log's restart, syncs, the scrub.
    pub fn tick(&mut self, idle: bool) -> Result<(), ApplyError> {
        let result = self.keep_house(idle);
        if let Err(error) = &result {
            self.give_up_pending(error);
        }
        result
    }

    pub(super) fn keep_house(&mut self, idle: bool) -> Result<(), ApplyError> {
        self.unkept = 0;
        while let Ok(done) = self.done.1.try_recv() {
            note_done(&self.shared, &mut self.checkpointer, done);
        }
        let at_rest = !self.machine.in_snapshot();
        // A copy whose content is not proven is not at its position: to call that durable would be a claim.
        let proven = self.machine.proven();
        if let (Some(local), Some(checkpointer)) = (&mut self.local, &mut self.checkpointer) {
            if self.last_look.elapsed() >= LOOK_INTERVAL {
                self.last_look = Instant::now();
                local.check_files()?;
            }
            if std::mem::take(&mut checkpointer.unsynced) {
                local.doubt_log()?;
            }
            if let (Some(mark), true) = (proven, at_rest)
                && !checkpointer.syncing
                && self.last_sync.elapsed() >= SYNC_INTERVAL
                && self.shared.durable() != Some(mark.point.position)
            {
                self.last_sync = Instant::now();
                make_durable(local, checkpointer, mark, &self.shared);
            }
            if at_rest {
                let shared = self.shared.clone();
                let wait = |checkpointer: &mut Checkpointer, patience| {
                    if let Ok(done) = self.done.1.recv_timeout(patience) {
                        note_one(&shared, checkpointer, done);
                    }
                };
                let full = self.policy.run(local, checkpointer, &self.shared, wait)?;
                self.shared.note_wal(local.log().bytes());
                if full != self.shared.is_held() {
                    self.shared.set_held(full);
                    if full {
                        return Err(ApplyError::Full);
                    }
                }
            }
            self.shared.note_wal(local.log().bytes());
            if idle && at_rest && self.machine.local().is_some() {
                local.check_untouched()?;
                // In the middle of a transaction the hashes are of what is not visible yet.
                if local.log().next() == local.backfill().0 {
                    self.scrub.step(local, &self.shared)?;
                }
            }
        }
        Ok(())
    }

    /// True if nothing is due before something comes.
    pub fn is_calm(&self) -> bool {
        let Some(local) = &self.local else {
            return true;
        };
        let settled = |c: &Checkpointer| !c.checkpointing && !c.syncing;
        let durable = self.machine.proven().map(|mark| mark.point.position);
        self.checkpointer.as_ref().is_none_or(settled)
            && (durable.is_none() || self.shared.durable() == durable)
            && self.policy.is_calm(local)
            && self.scrub.is_resting()
    }

    /// Gives the memory of buffers back; for a quiet moment.
    pub fn rest(&mut self) {
        if let Some(local) = &mut self.local {
            local.rest();
        }
    }
}

/// Orders that the state `mark`, whose frames are all written, be made durable; not while the log is damaged, since a
/// recovery would end at the damage.
pub(super) fn make_durable(
    local: &Local,
    checkpointer: &mut Checkpointer,
    mark: Mark,
    shared: &Shared,
) {
    let damage = local.log().damage();
    if damage.is_none() {
        checkpointer.sync(mark);
    }
    let fault = damage.map(|what| {
        format!(
            "the local log is damaged ({what}): nothing more becomes durable before readers let it begin anew"
        )
    });
    shared.note_fault("damage", fault);
}

/// Takes note of what was done.
pub(super) fn note_done(shared: &Shared, checkpointer: &mut Option<Checkpointer>, done: Done) {
    if let Some(checkpointer) = checkpointer {
        note_one(shared, checkpointer, done);
    }
}

fn note_one(shared: &Shared, checkpointer: &mut Checkpointer, done: Done) {
    match done {
        Done::Checkpoint(result) => {
            let failed = result.err().filter(|error| !error.is_busy());
            checkpointer.checkpointed(failed.is_some());
            shared.note_fault("checkpoint", failed.map(|error| error.to_string()));
        }
        Done::Sync(result) => {
            checkpointer.syncing = false;
            match result {
                Ok(mark) => {
                    shared.note_durable(mark.point.position);
                    shared.note_fault("sync", None);
                }
                Err(error) => shared.note_fault("sync", Some(error.to_string())),
            }
        }
        Done::Unsynced(error) => {
            checkpointer.syncing = false;
            checkpointer.unsynced = true;
            shared.note_fault("sync", Some(error.to_string()));
        }
    }
}
