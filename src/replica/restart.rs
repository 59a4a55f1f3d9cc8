//! When the replica's log is checkpointed and begun anew, so that it stays bounded without disturbing readers.
//!
//! A restart needs every frame checkpointed and no reader on the log. While commits come in, neither is so for long; a
//! short pause in applying lets the checkpoint finish and moves new readers to the database file. Below three quarters of the
//! soft limit only a quiet moment is used. From there on pauses are short, and checkpoints beside applying make them shorter
//! ([`super::approach`]). At the hard limit nothing more is applied: the stream ends, so that what cannot be taken does not
//! lie in a connection that other databases share, and begins again when the log did. Status says who is in the way.

use super::approach::{Approach, Now, Step};
use super::checkpointer::Checkpointer;
use super::error::ApplyError;
use super::local::Local;
use super::shared::Shared;
use std::time::Duration;
use tokio::time::Instant;

/// A checkpoint begins when this many bytes of log are not in the database file.
const CHECKPOINT_BYTES: u64 = 8 << 20;
/// A quiet moment is used from this size on.
const QUIET_BYTES: u64 = 4 << 20;
/// A pause up to the soft limit; at n times the limit it is n times as long.
const SOFT_PAUSE: Duration = Duration::from_millis(30);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// The last try before the stream is ended.
const LAST_PAUSE: Duration = Duration::from_millis(50);
/// Between two tries that nobody waits for; at n times the soft limit n times as long, as what one costs is.
const TRY_INTERVAL: Duration = Duration::from_millis(20);
/// Between pauses applying goes on for this many times their length.
const PAUSE_SHARE: u32 = 20;
const READER_WAIT: Duration = Duration::from_micros(500);
/// Between two tries at the hard limit: a quarter of the time that it lasts already, within these.
const TRIES: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(1)];
/// Between two looks at who is in the way: each reads all locks of the machine.
const WHO_INTERVAL: Duration = Duration::from_secs(10);

/// The policy and its memory.
pub struct Policy {
    soft: u64,
    hard: u64,
    /// When a checkpoint, or the restart of a log that is checkpointed, is tried next. Whoever applies waits for neither.
    next_try: Instant,
    /// When applying pauses next, at the earliest.
    next_pause: Instant,
    approach: Approach,
    blocked_since: Option<Instant>,
    /// When it was said last who is in the way.
    told: Option<Instant>,
    /// At the hard limit, and the stream was ended for it.
    held: bool,
    /// The disk is full, or the log damaged: a log that begins anew is what may mend it, whatever its size.
    pressed: bool,
}

impl Policy {
    /// Limits in bytes of the `-wal` file.
    pub fn new(soft: u64, hard: u64) -> Policy {
        Policy {
            soft,
            hard: hard.max(soft),
            next_try: Instant::now(),
            next_pause: Instant::now(),
            approach: Approach::new(soft),
            blocked_since: None,
            told: None,
            held: false,
            pressed: false,
        }
    }

    /// The disk has no room for more log.
    pub fn press(&mut self) {
        self.pressed = true;
        self.next_try = Instant::now();
        self.next_pause = self.next_try;
    }

    /// Looks whether something is due. `wait` waits for the checkpointer for at most the given time. `true`: the log is at
    /// its hard limit and cannot begin anew now, so nothing more may be applied.
    pub fn run(
        &mut self,
        local: &mut Local,
        checkpointer: &mut Checkpointer,
        shared: &Shared,
        wait: impl FnMut(&mut Checkpointer, Duration),
    ) -> Result<bool, ApplyError> {
        let (frames, backfill) = local.backfill();
        if frames == 0 {
            // There is nothing that a new log could give back.
            self.pressed = false;
            self.approach.end();
            return Ok(false);
        }
        if local.log().next() != frames {
            return Ok(false);
        }
        // What comes behind the damage is not durable before the log begins anew.
        self.pressed |= local.log().damage().is_some();
        let bytes = local.log().bytes();
        if bytes >= self.hard {
            match self.held {
                true => self.try_once(local, checkpointer, shared)?,
                false => self.pause(local, checkpointer, shared, wait, LAST_PAUSE)?,
            }
            self.held = local.log().bytes() >= self.hard;
            return Ok(self.held);
        }
        let missing = u64::from(frames - backfill.min(frames)) * local.log().frame_size();
        let quiet = missing == 0 && bytes >= QUIET_BYTES.min(self.soft);
        let now = Instant::now();
        if now >= self.next_try && !checkpointer.checkpointing {
            if missing >= CHECKPOINT_BYTES && checkpointer.may_checkpoint() {
                checkpointer.checkpoint();
                self.next_try = now + times(TRY_INTERVAL, bytes, self.soft);
            } else if quiet {
                if local.try_restart(self.keep())? {
                    self.succeeded(shared);
                    return Ok(false);
                }
                self.next_try = now + times(TRY_INTERVAL, bytes, self.soft);
            }
        }
        if quiet || now < self.next_pause {
            return Ok(false);
        }
        let step = match self.pressed {
            true => Step::Pause,
            false => self.approach.step(Now {
                bytes,
                missing,
                busy: !checkpointer.may_checkpoint() || checkpointer.syncing,
                rested: now >= self.next_try,
            }),
        };
        match step {
            Step::Wait => {}
            Step::Checkpoint => {
                checkpointer.checkpoint();
                self.next_try = now + times(TRY_INTERVAL, bytes, self.soft);
            }
            Step::Pause => {
                let budget = times(SOFT_PAUSE, bytes, self.soft);
                self.pause(local, checkpointer, shared, wait, budget)?;
            }
        }
        Ok(false)
    }

    /// True if there is nothing to do for it before something is applied.
    pub fn is_calm(&self, local: &Local) -> bool {
        let (frames, backfill) = local.backfill();
        let missing = u64::from(frames - backfill.min(frames)) * local.log().frame_size();
        let quiet = missing == 0 && local.log().bytes() >= QUIET_BYTES.min(self.soft);
        frames == 0
            || (!self.pressed
                && missing < CHECKPOINT_BYTES
                && !quiet
                && local.log().bytes() < self.soft)
    }

    /// Bytes of the log's file that are kept when it begins anew: what it has again soon.
    fn keep(&self) -> u64 {
        self.soft.saturating_mul(2)
    }

    fn succeeded(&mut self, shared: &Shared) {
        self.next_try = Instant::now();
        self.next_pause = self.next_try;
        self.approach.end();
        self.blocked_since = None;
        self.told = None;
        self.held = false;
        self.pressed = false;
        shared.note_fault("log", None);
    }

    fn pause(
        &mut self,
        local: &mut Local,
        checkpointer: &mut Checkpointer,
        shared: &Shared,
        mut wait: impl FnMut(&mut Checkpointer, Duration),
        budget: Duration,
    ) -> Result<(), ApplyError> {
        let deadline = Instant::now() + budget;
        loop {
            let (frames, backfill) = local.backfill();
            if checkpointer.checkpointing {
                wait(
                    checkpointer,
                    deadline.saturating_duration_since(Instant::now()),
                );
            } else if frames != backfill && !checkpointer.may_checkpoint() {
                // It has failed just now: a disk that is full, say. There is nothing to wait for.
                break;
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
            } else if local.try_restart(self.keep())? {
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
        self.approach.end();
        self.next_pause = Instant::now() + budget * PAUSE_SHARE;
        self.tell(local, shared);
        Ok(())
    }

    /// One try that waits for nobody: the stream has ended already.
    fn try_once(
        &mut self,
        local: &mut Local,
        checkpointer: &mut Checkpointer,
        shared: &Shared,
    ) -> Result<(), ApplyError> {
        let now = Instant::now();
        if checkpointer.checkpointing || now < self.next_try {
            return Ok(());
        }
        let (frames, backfill) = local.backfill();
        if frames != backfill {
            if checkpointer.may_checkpoint() {
                checkpointer.checkpoint();
            }
        } else if local.try_restart(self.keep())? {
            self.succeeded(shared);
            return Ok(());
        }
        let lasts = self.blocked_since.map_or(Duration::ZERO, |at| now - at);
        let [shortest, longest] = TRIES;
        self.next_try = now + (lasts / 4).clamp(shortest, longest);
        self.tell(local, shared);
        Ok(())
    }

    /// Says what is in the way, once it is not over in a moment.
    fn tell(&mut self, local: &Local, shared: &Shared) {
        let bytes = local.log().bytes();
        let since = *self.blocked_since.get_or_insert_with(Instant::now);
        let patience = match bytes >= self.hard {
            true => Duration::ZERO,
            false => Duration::from_secs(1),
        };
        let told = self.told.is_some_and(|at| at.elapsed() < WHO_INTERVAL);
        if since.elapsed() < patience || told {
            return;
        }
        self.told = Some(Instant::now());
        let who = super::holders::describe(shared.config.path.as_path(), local.read_marks());
        let text = format!(
            "the local log has {} MiB and cannot begin anew since {} s: {who}",
            bytes >> 20,
            since.elapsed().as_secs()
        );
        shared.note_fault("log", Some(text));
    }
}

/// As long as the log is at its soft limit, more by how many times that it has; at most [`LONGEST_PAUSE`].
fn times(time: Duration, bytes: u64, soft: u64) -> Duration {
    let times = u32::try_from(bytes / soft.max(1)).unwrap_or(u32::MAX);
    time.saturating_mul(times.max(1)).min(LONGEST_PAUSE)
}
