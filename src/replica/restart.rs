//! When the replica's log is checkpointed and begun anew, so that it stays bounded without disturbing readers.
//!
//! A restart needs every frame checkpointed and no reader on the log. While commits come in, neither is so for long; a
//! short pause in applying lets the checkpoint finish and moves new readers to the database file. Below the soft limit
//! only a quiet moment is used. At the soft limit pauses are short; at the hard limit they are long, which is lag, and
//! status says who causes it.

use super::applier::ApplyError;
use super::checkpointer::Checkpointer;
use super::local::Local;
use super::shared::Shared;
use std::time::{Duration, Instant};

/// A checkpoint begins when this many bytes of log are not in the database file.
const CHECKPOINT_BYTES: u64 = 8 << 20;
/// A quiet moment is used from this size on.
const QUIET_BYTES: u64 = 4 << 20;
/// A pause at the soft limit; at n times the limit it is n times as long.
const SOFT_PAUSE: Duration = Duration::from_millis(30);
/// Between pauses applying goes on for this many times their length.
const PAUSE_SHARE: u32 = 20;
const READER_WAIT: Duration = Duration::from_micros(500);
const HARD_PAUSE: Duration = Duration::from_secs(2);

/// The policy and its memory.
pub struct Policy {
    soft: u64,
    hard: u64,
    next_try: Instant,
    blocked_since: Option<Instant>,
}

impl Policy {
    /// Limits in bytes of the `-wal` file.
    pub fn new(soft: u64, hard: u64) -> Policy {
        Policy {
            soft,
            hard: hard.max(soft),
            next_try: Instant::now(),
            blocked_since: None,
        }
    }

    /// Looks whether something is due. `wait` waits for the checkpointer for at most the given time.
    pub fn run(
        &mut self,
        local: &mut Local,
        checkpointer: &mut Checkpointer,
        shared: &Shared,
        wait: impl FnMut(&mut Checkpointer, Duration),
    ) -> Result<(), ApplyError> {
        let (frames, backfill) = local.backfill();
        if frames == 0 || local.log().next() != frames {
            return Ok(());
        }
        let bytes = local.log().bytes();
        let missing = u64::from(frames - backfill.min(frames)) * local.log().frame_size();
        if missing >= CHECKPOINT_BYTES
            && !checkpointer.checkpointing
            && Instant::now() >= self.next_try
        {
            checkpointer.checkpoint();
            if bytes < self.soft {
                self.next_try = Instant::now() + Duration::from_millis(20);
            }
        }
        let quiet = missing == 0 && bytes >= QUIET_BYTES.min(self.soft);
        if Instant::now() < self.next_try {
            return Ok(());
        }
        if quiet && !checkpointer.checkpointing {
            if local.try_restart()? {
                self.succeeded(shared);
            } else {
                self.next_try = Instant::now() + Duration::from_millis(20);
            }
        } else if bytes >= self.soft {
            self.pause(local, checkpointer, shared, wait, bytes)?;
        }
        Ok(())
    }

    fn succeeded(&mut self, shared: &Shared) {
        self.next_try = Instant::now();
        self.blocked_since = None;
        shared.note_fault("log", None);
    }

    fn pause(
        &mut self,
        local: &mut Local,
        checkpointer: &mut Checkpointer,
        shared: &Shared,
        mut wait: impl FnMut(&mut Checkpointer, Duration),
        bytes: u64,
    ) -> Result<(), ApplyError> {
        let hard = bytes >= self.hard;
        let budget = if hard {
            HARD_PAUSE
        } else {
            soft_pause(bytes, self.soft)
        };
        let deadline = Instant::now() + budget;
        loop {
            let (frames, backfill) = local.backfill();
            if checkpointer.checkpointing {
                wait(
                    checkpointer,
                    deadline.saturating_duration_since(Instant::now()),
                );
            } else if frames != backfill {
                checkpointer.checkpoint();
                wait(
                    checkpointer,
                    deadline.saturating_duration_since(Instant::now()),
                );
                if local.backfill() == (frames, backfill) {
                    // A reader holds an older state, which limits the checkpoint; its end is what this waits for.
                    wait(checkpointer, READER_WAIT);
                }
            } else if local.try_restart()? {
                self.succeeded(shared);
                return Ok(());
            } else {
                // New readers use the database file now; the last one on the log may go at any moment.
                wait(checkpointer, READER_WAIT);
            }
            if Instant::now() >= deadline {
                break;
            }
        }
        self.next_try = Instant::now()
            + if hard {
                Duration::ZERO
            } else {
                budget * PAUSE_SHARE
            };
        let since = *self.blocked_since.get_or_insert_with(Instant::now);
        if since.elapsed() > Duration::from_secs(1) {
            let who = super::holders::describe(shared.config.path.as_path());
            shared.note_fault(
                "log",
                Some(format!(
                    "the local log has {} MiB and cannot begin anew since {} s: {who}",
                    bytes >> 20,
                    since.elapsed().as_secs()
                )),
            );
        }
        Ok(())
    }
}

fn soft_pause(bytes: u64, soft: u64) -> Duration {
    let times = u32::try_from(bytes / soft.max(1)).unwrap_or(u32::MAX);
    SOFT_PAUSE.saturating_mul(times.max(1)).min(HARD_PAUSE)
}
