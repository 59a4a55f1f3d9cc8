//! The two proofs of continuity; `continuity` says what they are.

use super::continuity::{Attaching, file_pages, observe, text};
use super::log::{Cursor, LogError};
use super::shadow::{LastIndex, Recovered};
use super::unsound::Unsound;
use crate::format::dbsum::DbSum;
use crate::format::position::Position;
use crate::format::wal::frames_before;

/// The proof by content needs to keep everything out of the file while it is read; it gives up once the application has
/// written this much meanwhile.
const PROOF_LOG_BYTES: u64 = 64 * 1024 * 1024;
/// What was found out.
pub enum Verdict {
    /// The live log continues the last index: its first frames, up to this cursor, are captured.
    SameLog(Cursor),
    /// The live log, or the next one, follows the last index.
    NextLog,
    /// Continuity is not proven.
    New(String),
}

/// The captured position and what is recorded there.
struct Known {
    position: Position,
    page_size: u32,
    page_count: u32,
    dbsum: Option<DbSum>,
}

fn known(recovered: &Recovered) -> Option<Known> {
    let position = recovered.end;
    if let Some(last) = &recovered.last {
        let record = last.record;
        return Some(Known {
            position,
            page_size: last.header.page_size,
            page_count: record.page_count,
            dbsum: (record.page_count > 0).then_some(record.dbsum),
        });
    }
    let base = recovered.lineage?.base?;
    let (page_size, page_count) = (base.page_size, base.page_count);
    Some(Known {
        position,
        page_size,
        page_count,
        dbsum: Some(base.dbsum),
    })
}

impl Attaching<'_> {
    /// Judges what is there against what a former run left.
    pub(super) fn judge(
        &mut self,
        recovered: &Recovered,
        unsound: &mut Unsound,
    ) -> Result<Verdict, String> {
        let Some(known) = known(recovered) else {
            return Ok(Verdict::New(
                "what was captured before is not readable".into(),
            ));
        };
        if known.page_size != self.candidate.header.page_size {
            return Ok(Verdict::New(format!(
                "the page size changed from {} to {}",
                known.page_size, self.candidate.header.page_size
            )));
        }
        let last = recovered.last.as_ref();
        if let Some(last) =
            last.filter(|last| self.seen.frames > 0 && last.header.salt == self.seen.salt)
        {
            return self.judge_log(&known, last, unsound);
        }
        self.judge_content(&known)
    }

    /// The first proof.
    fn judge_log(
        &mut self,
        known: &Known,
        last: &LastIndex,
        unsound: &mut Unsound,
    ) -> Result<Verdict, String> {
        let took_back = |what: &str| {
            let position = known.position;
            Ok(Verdict::New(format!(
                "the log does not hold what was captured at {position}: {what} (a power cut?)"
            )))
        };
        let salt = self.seen.salt;
        let header = self.log.header();
        let header = header.map_err(|error| unreadable(unsound, salt, &error))?;
        let Some(frames) = frames_before(known.page_size, known.position.offset) else {
            return took_back("no frame ends there");
        };
        if header != last.header {
            return took_back("its header differs");
        }
        if frames == 0 || frames > self.seen.frames {
            return took_back("it is shorter");
        }
        let mut cursor = Cursor::start(header);
        while cursor.frames < frames {
            let stretch = self.log.read(&cursor, frames);
            let stretch = stretch.map_err(|error| unreadable(unsound, salt, &error))?;
            self.sums.reserve(stretch.highest).map_err(text)?;
            for (pgno, page, commit_size) in stretch.frames() {
                self.sums.frame(pgno, page);
                if commit_size > 0 {
                    self.sums.commit(commit_size);
                }
            }
            cursor = stretch.end;
        }
        if cursor.cksum != last.record.cksum {
            return took_back("the frame there has another checksum");
        }
        Ok(Verdict::SameLog(cursor))
    }

    /// The second proof.
    fn judge_content(&mut self, known: &Known) -> Result<Verdict, String> {
        let lost = |what: String| {
            Ok(Verdict::New(format!(
                "{what} since {} was captured",
                known.position
            )))
        };
        let Some(dbsum) = known.dbsum else {
            return lost("the log was reset".into());
        };
        if self.may_be_copied() {
            return lost("the log was reset, and may be copied,".into());
        }
        let (index, hold) = (&mut *self.index, &mut self.hold);
        if !hold.take_file(index).map_err(text)? {
            return lost("the log was reset and is being copied".into());
        }
        self.seen = observe(index)?;
        if self.may_be_copied() {
            return lost("the log was reset, and may be copied,".into());
        }
        let file_pages = file_pages(&self.candidate)?;
        self.sums.reserve(file_pages).map_err(text)?;
        self.sums.commit(file_pages);
        while !self.sums.is_scanned() {
            self.sums.scan_step(&self.candidate.raw).map_err(text)?;
            let (done, total) = self.sums.scanned_bytes();
            self.shared.note_reading(done, total);
            let seen = observe(&*self.index)?;
            let written = u64::from(seen.frames) * u64::from(known.page_size);
            if self.shared.is_stopping() {
                // Nothing is known yet: the next start proves it.
                return Err("walcast is stopping".into());
            }
            if written > PROOF_LOG_BYTES {
                return lost("the log was reset, and the application writes too much for a proof by content,".into());
            }
        }
        if self.sums.sum() != dbsum || file_pages != known.page_count {
            return lost("the database was changed".into());
        }
        Ok(Verdict::NextLog)
    }

    /// True if any of the live log may be in the file. A recovery knows nothing of the copies before it: it sets nBackfill
    /// to 0, and nBackfillAttempted to all of the log (`walIndexRecover`).
    fn may_be_copied(&self) -> bool {
        let copied = self.index.checkpoint_info();
        self.seen.frames > 0 && copied.backfill.max(copied.attempted) > 0
    }
}

/// The wal-index is of the log that was captured, but the file is not that log. Another try finds the same, so it is dealt
/// with as a log that cannot be captured, whose text says what to do.
fn unreadable(unsound: &mut Unsound, salt: [u32; 2], error: &LogError) -> String {
    let reason = text(error);
    if error.is_damage() {
        unsound.note(salt, reason.clone());
    }
    reason
}
