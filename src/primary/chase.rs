//! A log that grows although the application's checkpoints keep up with it.
//!
//! The log can be let go only at a moment when all frames are captured and copied. An application that commits without a
//! pause (no fsync, a checkpoint at each commit) leaves such a moment only between a checkpoint's end and its next
//! commit, some ten microseconds, and only to someone who has captured its last commit by then. Compressing alone takes
//! longer. So while the log is long, capture runs in short bursts without sleeping and without compressing, until it
//! meets that moment. A bounded part of one core, and only then.

use super::capture::{Capture, Trouble};
use crate::format::wal::frames_end;
use std::time::{Duration, Instant};

/// A shorter log needs no chase: SQLite's own default lets it grow to about this size.
const LONG: u64 = 6 * 1024 * 1024;
/// A checkpoint that is this many frames behind is held back by a reader, or has not begun: no chase will help.
const CLOSE: u32 = 256;
/// The longest burst.
const BURST: Duration = Duration::from_millis(2);
/// The shortest pause between two.
const PAUSE: Duration = Duration::from_millis(6);

impl Capture {
    /// Runs a burst if the log is long and the checkpoints are close.
    pub fn chase(&mut self) -> Result<(), Trouble> {
        let Some(cursor) = self.cursor.filter(|_| self.ready && self.hold.has_log()) else {
            return Ok(());
        };
        let copied = self.index.checkpoint_info();
        let reach = copied.backfill.max(copied.attempted);
        let long = frames_end(self.page_size, cursor.frames) > LONG;
        if !long || reach.saturating_add(CLOSE) < cursor.frames || self.chased.elapsed() < PAUSE {
            return Ok(());
        }
        self.hasty = true;
        let result = self.burst();
        self.hasty = false;
        self.chased = Instant::now();
        result
    }

    fn burst(&mut self) -> Result<(), Trouble> {
        let begun = Instant::now();
        while begun.elapsed() < BURST && self.hold.has_log() {
            let seen = Self::observe(&*self.index)?;
            self.follow(&seen)?;
            while !self.is_captured(&seen) {
                self.capture_chunk(seen.frames)?;
            }
            self.yield_log()?;
            std::hint::spin_loop();
        }
        Ok(())
    }
}
