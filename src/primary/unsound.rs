//! A log whose committed frames are not all in its chain of checksums.
//!
//! SQLite 3.40 leaves one where a transaction writes a page anew that its small cache has spilled into the log already, then
//! rolls back to a savepoint before that and commits: frames behind the savepoint's end keep zeros for salts and checksums
//! (`Wal.iReCksum` outlives `sqlite3WalSavepointUndo`; newer versions reset it there). SQLite's own readers do not look at
//! them, only its recovery does; for us such a log is no history. Its content gets into the file all the same, and the
//! application's next log is sound again. So nothing of it is held, and what comes after it begins a new generation. A log
//! that is damaged under a running application looks the same.

use super::capture::Seen;

/// What is known of the log that could not be captured last.
#[derive(Debug, Default)]
pub struct Unsound {
    salt: [u32; 2],
    times: u32,
    reason: String,
}

impl Unsound {
    /// The log with these salts could not be captured.
    pub fn note(&mut self, salt: [u32; 2], reason: String) {
        let again = self.times > 0 && self.salt == salt;
        self.times = if again { self.times + 1 } else { 1 };
        // The first reason says most: it names the frame.
        if !again {
            (self.salt, self.reason) = (salt, reason);
        }
    }

    /// Why the log that is seen is passed over: it is that one, and all of it is in the file. `None` if it is another, or if
    /// once is not enough: it may have been the hold that was broken.
    ///
    /// # Errors
    /// What has to happen first, for people. Nothing may be held meanwhile.
    pub fn pass(&self, seen: &Seen) -> Result<Option<&'static str>, String> {
        if self.times < 2 || seen.frames == 0 || seen.salt != self.salt {
            return Ok(None);
        }
        if seen.backfill < seen.frames {
            return Err(format!(
                "{}: no checksum covers what is committed there (older versions of SQLite leave it so, or it is damaged); it \
                 goes on once the application has checkpointed this log to its end, or begun it anew",
                self.reason
            ));
        }
        Ok(Some("the log before could not be captured"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(salt: u32, frames: u32, backfill: u32) -> Seen {
        Seen {
            salt: [salt, 0],
            frames,
            backfill,
            pages: 9,
        }
    }

    #[test]
    fn a_log_is_passed_over_when_it_failed_twice_and_is_copied() {
        let mut unsound = Unsound::default();
        assert_eq!(unsound.pass(&seen(0, 5, 5)), Ok(None));
        unsound.note([7, 0], "frame 3".into());
        assert_eq!(unsound.pass(&seen(7, 5, 5)), Ok(None));
        unsound.note([7, 0], "it goes on".into());
        let waits = unsound.pass(&seen(7, 5, 4)).expect_err("not copied");
        assert!(waits.starts_with("frame 3: "), "{waits}");
        assert!(unsound.pass(&seen(7, 5, 5)).is_ok_and(|p| p.is_some()));
        assert_eq!(unsound.pass(&seen(8, 5, 5)), Ok(None), "another log");
        assert_eq!(unsound.pass(&seen(7, 0, 0)), Ok(None), "it is empty");
        unsound.note([8, 0], "frame 1".into());
        assert_eq!(unsound.pass(&seen(8, 5, 5)), Ok(None), "once");
    }
}
