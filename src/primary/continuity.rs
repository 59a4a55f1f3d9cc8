//! Attaching: is what the application's files hold now the continuation of what was captured, and from where on?
//!
//! Everything is decided under the hold, so that nothing changes meanwhile but the log's end. Two proofs are accepted:
//!
//! 1. **The log**: it has the salts of the last captured index, and the frame at the captured position has the checksum
//!    that was recorded. The chain of checksums then says that all frames before are the captured ones.
//! 2. **The content**: none of the live log can have been copied into the file, and the file has the checksum that was
//!    recorded at the captured position. Then the live log, if there is one, begins where the captured one ended. A log that
//!    a recovery found may have been copied: content that came back to what it was would hide the states in between.
//!
//! Without a proof a new generation begins, and the reason is logged: walcast was down while the log was reset, or a power
//! cut took back commits that were captured already (SQLite then uses the same salts and offsets again).

use super::attach::Candidate;
use super::capture::{Capture, Parts, Seen, Trouble};
use super::hold::Hold;
use super::index::Index;
use super::log::{Cursor, LiveLog};
use super::prove::Verdict;
use super::session::Session;
use super::shadow::{self, Housekeeping, Job, Layout, Lineage, Recovered, Retention, ShadowWriter};
use super::shared::Shared;
use super::sums::Sums;
use super::unsound::Unsound;
use crate::disk;
use crate::format::position::{Generation, Position};
use crate::model::{clock_us, random_u64};
use crate::sqlite::WalIndex;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long to wait for a read slot before telling that readers are on all of them.
const SLOT_WAIT: Duration = Duration::from_millis(200);

pub(super) fn text(error: impl ToString) -> String {
    error.to_string()
}

/// What attaching works with.
pub(super) struct Attaching<'a> {
    pub(super) shared: &'a Arc<Shared>,
    pub(super) candidate: Candidate,
    pub(super) index: Box<dyn Index>,
    pub(super) hold: Hold,
    pub(super) log: LiveLog,
    pub(super) seen: Seen,
    pub(super) sums: Sums,
    passed: Option<([u32; 2], u32)>,
}

/// Takes hold of a database. The error is for people; it is tried again. `renew`: a new generation is wanted, and why.
/// `unsound`: a log that cannot be captured.
pub fn attach(
    shared: &Arc<Shared>,
    candidate: Candidate,
    housekeeping: &Arc<Housekeeping>,
    renew: Option<&str>,
    unsound: &mut Unsound,
) -> Result<Session, String> {
    let path = &shared.config.path;
    let index = WalIndex::open(path).map_err(|error| match error.is_busy() {
        true => format!(
            "{}: the application holds it alone (locking_mode=EXCLUSIVE, or a change of journal_mode)",
            path.display()
        ),
        false => text(error),
    })?;
    attach_with(
        shared,
        candidate,
        Box::new(index),
        housekeeping,
        renew,
        unsound,
    )
}

/// The same with the wal-index at hand.
pub fn attach_with(
    shared: &Arc<Shared>,
    candidate: Candidate,
    index: Box<dyn Index>,
    housekeeping: &Arc<Housekeeping>,
    renew: Option<&str>,
    unsound: &mut Unsound,
) -> Result<Session, String> {
    // The hold comes first: from then on the application cannot restart the log under our eyes.
    let mut attaching = Attaching::begin(shared, candidate, index)?;
    let passed = unsound.pass(&attaching.seen)?;
    let renew = passed.or(renew);
    if passed.is_some() {
        attaching.passed = Some((attaching.seen.salt, attaching.seen.frames));
    }
    // What the attachment before has queued is done: the files are about to be looked at, and replaced.
    housekeeping.settle();
    let recovered = shadow::recover(&shared.layout).map_err(text)?;
    let verdict = match (renew, &recovered) {
        (Some(reason), _) => Verdict::New(reason.to_owned()),
        (None, None) => Verdict::New("nothing of this database was captured before".into()),
        (None, Some(recovered)) => attaching.judge(recovered, unsound)?,
    };
    attaching.finish(housekeeping, recovered, verdict)
}

impl<'a> Attaching<'a> {
    fn begin(
        shared: &'a Arc<Shared>,
        candidate: Candidate,
        mut index: Box<dyn Index>,
    ) -> Result<Attaching<'a>, String> {
        let path = &shared.config.path;
        let mut hold = Hold::default();
        let begun = Instant::now();
        while !hold.take_log(&mut *index).map_err(text)? {
            if begun.elapsed() > SLOT_WAIT {
                return Err(format!(
                    "{}: readers are on every read slot",
                    path.display()
                ));
            }
            shared.wake.wait(Duration::from_millis(1));
        }
        let log = LiveLog::open(&LiveLog::path_of(path)).map_err(text)?;
        let (seen, page_count) = look(&*index, &candidate)?;
        let page_size = candidate.header.page_size;
        let sums = Sums::new(shared.layout.root(), page_size, page_count).map_err(text)?;
        Ok(Attaching {
            shared,
            candidate,
            index,
            hold,
            log,
            seen,
            sums,
            passed: None,
        })
    }

    fn finish(
        self,
        housekeeping: &Arc<Housekeeping>,
        recovered: Option<Recovered>,
        verdict: Verdict,
    ) -> Result<Session, String> {
        let shared = Arc::clone(self.shared);
        let page_size = self.candidate.header.page_size;
        let config = &shared.config;
        let retention = |old| Retention::new(config.retain_bytes, config.retain_age, old);
        let begun = match (verdict, recovered) {
            (Verdict::New(reason), recovered) => {
                let lineage = new_generation(&shared, recovered.as_ref(), &reason)?;
                let at = Position::start_of(lineage.generation);
                Begun {
                    lineage,
                    position: at,
                    recovered: None,
                    cursor: None,
                    ready: false,
                }
            }
            (_, None) => return Err("there is nothing to continue".into()),
            (verdict, Some(recovered)) => {
                let generation = recovered.generation;
                let none = Lineage {
                    generation,
                    fork: None,
                    base: None,
                };
                let lineage = recovered.lineage.unwrap_or(none);
                let (cursor, ready) = match verdict {
                    Verdict::SameLog(cursor) => (Some(cursor), false),
                    _ => (None, true),
                };
                Begun {
                    lineage,
                    position: recovered.end,
                    recovered: Some(recovered),
                    cursor,
                    ready,
                }
            }
        };
        let Begun {
            lineage,
            position,
            recovered,
            cursor,
            ready,
        } = begun;
        let last = recovered.as_ref().and_then(|r| r.last);
        let mut old = recovered
            .as_ref()
            .map(|r| r.old.clone())
            .unwrap_or_default();
        if let (Some(last), None) = (last, cursor) {
            old.push(last.size);
        }
        let oldest = old.first().map_or(position.index, |index| index.index);
        let layout = shared.layout.clone();
        let mut shadow = ShadowWriter::new(
            layout,
            position,
            page_size,
            retention(old),
            Arc::clone(housekeeping),
        );
        if let (Some(last), Some(_)) = (last, cursor) {
            let size = last.size;
            shadow
                .reopen(size.index, last.sidecar_len, size.bytes)
                .map_err(text)?;
        }
        if let Some(recovered) = &recovered {
            remove_stranded(&shared, &mut shadow, &recovered.stranded);
        }
        remove_others(&shared.layout, lineage.generation, housekeeping)?;
        if shared
            .hub
            .tip_now()
            .is_some_and(|tip| tip.position != position)
        {
            shared.hub.forget_tip();
        }
        shared.hub.begin(position, oldest);
        let unknown = last
            .map(|last| last.record)
            .filter(|record| record.page_count == 0);
        let expected = last
            .filter(|last| last.record.page_count > 0)
            .map(|l| (position, l.record.dbsum));
        let parts = Parts {
            raw: self.candidate.raw,
            index: self.index,
            hold: self.hold,
            log: self.log,
            sums: self.sums,
            shadow,
            page_size,
            position,
            end: last.map(|last| (last.header, last.record.cksum)),
            cursor,
            passed: self.passed,
            ready,
            unknown,
            time_us: last.map_or_else(clock_us, |last| last.record.time_us),
        };
        Ok(Session::new(
            Capture::new(shared, parts),
            Arc::clone(housekeeping),
            lineage,
            expected,
        ))
    }
}

struct Begun {
    lineage: Lineage,
    position: Position,
    recovered: Option<Recovered>,
    cursor: Option<Cursor>,
    ready: bool,
}

pub(super) fn observe(index: &dyn Index) -> Result<Seen, String> {
    Capture::observe(index).map_err(|trouble| match trouble {
        Trouble::Lost(reason) | Trouble::Later(reason) | Trouble::Unsound { reason, .. } => reason,
        Trouble::Unreadable => "the wal-index is being rebuilt".into(),
    })
}

/// The wal-index, and the pages that the database has by it.
fn look(index: &dyn Index, candidate: &Candidate) -> Result<(Seen, u32), String> {
    let seen = observe(index)?;
    let pages = match seen.frames {
        0 => file_pages(candidate)?,
        _ => seen.pages,
    };
    Ok((seen, pages))
}

pub(super) fn file_pages(candidate: &Candidate) -> Result<u32, String> {
    let len = candidate.raw.len("db.len").map_err(text)?;
    u32::try_from(len / u64::from(candidate.header.page_size)).map_err(text)
}

/// Makes a generation current, durably, before anything is captured in it.
fn new_generation(
    shared: &Shared,
    recovered: Option<&Recovered>,
    reason: &str,
) -> Result<Lineage, String> {
    let number = random_u64().map_err(text)?;
    let fork = recovered.map(|recovered| recovered.end);
    let lineage = Lineage {
        generation: Generation(number),
        fork,
        base: None,
    };
    let layout = &shared.layout;
    let wal = layout.wal(lineage.generation);
    disk::create_dirs_within("generation.mkdir", layout.root(), &wal).map_err(text)?;
    let bytes = lineage.to_text().into_bytes();
    disk::replace(shadow::LINEAGE_OPS, &layout.lineage(), &bytes, true).map_err(text)?;
    layout.write_generation(lineage.generation).map_err(text)?;
    shared.meters.generations.add(1);
    match fork {
        Some(fork) => tracing::warn!(
            database = %shared.config.name,
            "a new generation {} begins, after {fork}: {reason}", lineage.generation
        ),
        None => tracing::info!(
            database = %shared.config.name,
            "the generation {} begins: {reason}", lineage.generation
        ),
    }
    Ok(lineage)
}

/// What leads nowhere goes: a replica there would be told to go on, and could not.
fn remove_stranded(shared: &Shared, shadow: &mut ShadowWriter, stranded: &[u64]) {
    if let (Some(oldest), Some(newest)) = (stranded.first(), stranded.last()) {
        tracing::info!(
            database = %shared.config.name,
            "indexes {oldest:016x} to {newest:016x} of the shadow WAL are removed: what follows them is missing, or they are \
             not whole"
        );
    }
    for index in stranded {
        shadow.discard(*index);
    }
}

/// Other generations are of no use once the current one is durable.
fn remove_others(
    layout: &Layout,
    current: Generation,
    housekeeping: &Housekeeping,
) -> Result<(), String> {
    for directory in [layout.generations(), layout.all_commits()] {
        for name in disk::list("shadow.list", &directory).map_err(text)? {
            if name != current.to_string() {
                // What finds the queue full goes at the next start.
                housekeeping.offer(Job::Remove(directory.join(name)));
            }
        }
    }
    Ok(())
}
