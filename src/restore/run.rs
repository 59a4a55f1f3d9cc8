//! One restore: a plan becomes a file.

use super::error::RestoreError;
use super::fetch::{Fetcher, Incoming, Part, Wanted};
use super::frames::Frames;
use super::image::Image;
use super::object::Source;
use super::plan::{Plan, Stop};
use super::walk::{Next, Seen, Sink, Walk};
use crate::archive::Key;
use crate::format::dbsum::DbSum;
use crate::format::position::Position;
use crate::format::wal::frames_before;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// How to restore.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// The file to make, in a directory of its own.
    pub path: &'a Path,
    /// Objects that are read and unpacked at one time.
    pub parallelism: usize,
    /// Whether SQLite shall look through the result.
    pub integrity_check: bool,
    /// Give the newest sound state before what is missing or damaged, instead of an error.
    pub sound: bool,
    /// Set to stop.
    pub cancel: &'a AtomicBool,
}

/// What was restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The state. Of a snapshot without a document and without a log the offset is not known, and is 0.
    pub position: Position,
    /// The checksum of the database.
    pub dbsum: DbSum,
    /// Whether the archive records that checksum for this state. If not, the log's own checksums are the proof.
    pub is_recorded: bool,
    /// When the state was captured, µs since 1970, if that is recorded.
    pub time_us: Option<i64>,
    /// Its pages.
    pub page_count: u32,
    /// Bytes in a page.
    pub page_size: u32,
    /// What a person should know.
    pub notes: Vec<String>,
}

/// What is done for the bytes that came: how many of how many.
pub(super) type Progress<'a> = &'a mut dyn FnMut(u64, u64);

/// Makes the file that is planned, proven and durable.
pub(super) fn run(
    source: &Source,
    plan: &Plan<'_>,
    avoid: &BTreeSet<Key>,
    options: &Options<'_>,
    progress: Progress<'_>,
) -> Result<Restored, RestoreError> {
    let generation = plan.history.generation;
    let mut wanted = vec![Wanted {
        key: plan.snapshot(),
        has_doc: false,
    }];
    wanted.extend(plan.segments.iter().map(|segment| Wanted {
        key: Key::wal(generation, segment.index, segment.offset),
        has_doc: plan.history.may_have_doc(&segment.listed),
    }));
    let sizes: Vec<u64> = plan.segments.iter().map(|s| s.listed.size).collect();
    let (total, mut done) = (plan.size(), plan.size() - sizes.iter().sum::<u64>());
    let mut fetcher = Fetcher::new(source, avoid, options.parallelism, wanted)?;
    let cancelled = || match options.cancel.load(Ordering::Relaxed) {
        true => Err(RestoreError::Cancelled),
        false => Ok(()),
    };
    let Some(incoming) = fetcher.next() else {
        return Err(source.missing(plan.snapshot()));
    };
    let image = snapshot(source, plan, &incoming, options.path, &cancelled)?;
    progress(done, total);
    let mut log = Log::new(source, plan, image, options.path, &cancelled)?;
    let mut walk = Walk::new(source, generation, log.image.page_size, plan.index);
    let mut sizes = sizes.into_iter();
    let mut next = Next::More;
    while next == Next::More
        && let Some(incoming) = fetcher.next()
    {
        next = walk.segment(&incoming, &mut log)?;
        done += sizes.next().unwrap_or(0);
        progress(done, total);
    }
    drop(fetcher);
    if let Stop::At(wanted) = plan.stop
        && log.state.position != wanted
    {
        return Err(not_there(source, plan, avoid, wanted, &walk));
    }
    let restored = log.finish()?;
    if options.integrity_check {
        check(options.path)?;
    }
    Ok(restored)
}

fn snapshot(
    source: &Source,
    plan: &Plan<'_>,
    incoming: &Incoming,
    path: &Path,
    cancelled: &impl Fn() -> Result<(), RestoreError>,
) -> Result<Image, RestoreError> {
    let key = plan.snapshot();
    let mut image: Option<Image> = None;
    let mut is_whole = true;
    while let Some(part) = incoming.next() {
        cancelled()?;
        let Part::Piece(piece) = part? else { continue };
        let image = match &mut image {
            Some(image) => image,
            none => {
                let begun = Image::begin(path, &piece).map_err(|what| source.damaged(key, what))?;
                none.insert(begun?)
            }
        };
        is_whole = is_whole && image.append(&piece)?;
    }
    let Some(image) = image.filter(|_| is_whole) else {
        return Err(source.damaged(key, "it does not end where a page ends"));
    };
    let Some(doc) = &plan.doc else {
        return Ok(image);
    };
    let sum = image.sum().to_string();
    let is_the_recorded =
        (doc.page_count, doc.page_size, &doc.dbsum) == (image.pages(), image.page_size, &sum);
    match is_the_recorded {
        true => Ok(image),
        false => {
            let what = format!(
                "it is {} pages with the checksum {sum}, and its document says {} with {}",
                image.pages(),
                doc.page_count,
                doc.dbsum
            );
            Err(source.damaged(key, what))
        }
    }
}

/// A committed state on the way.
#[derive(Clone, Copy, Debug)]
struct State {
    position: Position,
    is_recorded: bool,
    time_us: Option<i64>,
}

/// Takes the log's frames into the file.
struct Log<'a, C> {
    source: &'a Source,
    plan: &'a Plan<'a>,
    cancelled: &'a C,
    image: Image,
    frames: Frames,
    /// Where in its log the snapshot stands; frames before that are in it.
    base: u64,
    state: State,
    /// Whether any checksum of the whole database was found right.
    was_proven: bool,
    /// A checksum that was not right, where the state may still be a mixture.
    doubt: Option<RestoreError>,
}

impl<'a, C: Fn() -> Result<(), RestoreError>> Log<'a, C> {
    fn new(
        source: &'a Source,
        plan: &'a Plan<'a>,
        image: Image,
        path: &Path,
        cancelled: &'a C,
    ) -> Result<Self, RestoreError> {
        let doc = plan.doc.as_ref();
        let base = doc.map_or(0, |doc| doc.position.offset);
        if frames_before(image.page_size, base).is_none() {
            return Err(misplaced(source, plan));
        }
        let state = State {
            position: Position {
                generation: plan.history.generation,
                index: plan.index,
                offset: base,
            },
            is_recorded: doc.is_some(),
            time_us: doc.map(|doc| doc.time_us).filter(|time| *time != 0),
        };
        let directory = path.parent().unwrap_or(Path::new("."));
        Ok(Log {
            source,
            plan,
            cancelled,
            frames: Frames::new(directory, image.page_size, image.pages()),
            image,
            base,
            state,
            was_proven: doc.is_some(),
            doubt: None,
        })
    }

    /// The frames that the snapshot holds already. Where it ends there must be a commit, of the same state.
    fn in_snapshot(&self, seen: &Seen<'_>) -> Result<(), RestoreError> {
        if seen.position.offset == self.base {
            let doc = self.plan.doc.as_ref();
            let same = |record: crate::format::commits::CommitRecord| {
                record.page_count == 0
                    || doc.is_none_or(|doc| doc.dbsum == record.dbsum.to_string())
            };
            if !seen.frame.header.is_commit() || !seen.record.is_none_or(same) {
                return Err(misplaced(self.source, self.plan));
            }
        }
        Ok(())
    }

    /// Compares with what is recorded. Without its document a snapshot may stand anywhere in its log, and until the end of
    /// that the state may be a mixture.
    fn compare(&mut self, seen: &Seen<'_>) -> Result<(), RestoreError> {
        self.doubt = None;
        let Some(record) = seen.record.filter(|record| record.page_count != 0) else {
            return Ok(());
        };
        let is_mixed = self.plan.doc.is_none() && seen.position.index == self.plan.index;
        let got = (self.image.sum(), self.image.pages());
        if got == (record.dbsum, record.page_count) {
            self.state.is_recorded = true;
            self.was_proven |= !is_mixed;
        } else {
            let what = format!(
                "the log up to {} gives {} pages with the checksum {}, and {} with {} are recorded",
                seen.position, got.1, got.0, record.page_count, record.dbsum
            );
            // Whatever was right before was wrong from the start, or became so here.
            let key = match self.was_proven {
                true => seen.key.doc().unwrap_or(seen.key),
                false => self.plan.snapshot(),
            };
            let error = self.source.damaged(key, what);
            if !is_mixed {
                return Err(error);
            }
            self.doubt = Some(error);
        }
        Ok(())
    }

    /// Proves the state, writes what is left, and makes all of it durable.
    fn finish(self) -> Result<Restored, RestoreError> {
        let Log {
            plan,
            mut image,
            frames,
            state,
            doubt,
            ..
        } = self;
        if let Some(error) = doubt {
            return Err(error);
        }
        image.abandon();
        frames.finish(&mut image)?;
        let restored = Restored {
            position: state.position,
            dbsum: image.sum(),
            is_recorded: state.is_recorded,
            time_us: state.time_us,
            page_count: image.pages(),
            page_size: image.page_size,
            notes: plan.notes.clone(),
        };
        image.finish()?;
        Ok(restored)
    }
}

fn misplaced(source: &Source, plan: &Plan<'_>) -> RestoreError {
    let key = plan.snapshot();
    let what = "its position is not where a commit of that state ends";
    source.damaged(key.doc().unwrap_or(key), what)
}

impl<C: Fn() -> Result<(), RestoreError>> Sink for Log<'_, C> {
    fn frame(&mut self, seen: Seen<'_>) -> Result<bool, RestoreError> {
        let header = &seen.frame.header;
        if seen.position.index == self.plan.index && seen.position.offset <= self.base {
            self.in_snapshot(&seen)?;
            return Ok(true);
        }
        if let Stop::At(wanted) = self.plan.stop
            && (seen.position.index, seen.position.offset) > (wanted.index, wanted.offset)
        {
            return Ok(false);
        }
        self.image.note(header.pgno, seen.frame.data)?;
        self.frames.push(header, seen.frame.data);
        if header.is_commit() {
            self.image.commit(header.commit_size);
            self.frames.commit(&mut self.image, header.commit_size)?;
            self.state = State {
                position: seen.position,
                is_recorded: false,
                time_us: seen.record.map(|r| r.time_us).filter(|time| *time != 0),
            };
            self.compare(&seen)?;
        }
        Ok(self.plan.stop != Stop::At(self.state.position))
    }

    fn pause(&mut self) -> Result<(), RestoreError> {
        (self.cancelled)()?;
        Ok(self.frames.relieve(&mut self.image)?)
    }

    fn log_ended(&mut self) -> Result<(), RestoreError> {
        if let Some(error) = self.doubt.take() {
            return Err(error);
        }
        self.image.abandon();
        self.frames.abandon();
        Ok(())
    }
}

/// Why a position was not met: it is within a transaction, or beyond the end, or something before it is missing.
fn not_there(
    source: &Source,
    plan: &Plan<'_>,
    avoid: &BTreeSet<Key>,
    wanted: Position,
    walk: &Walk,
) -> RestoreError {
    let here = walk.position();
    let at = |offset| Position { offset, ..here };
    let within = RestoreError::NotCommit {
        wanted,
        before: at(walk.committed()),
    };
    if (here.index, here.offset) >= (wanted.index, wanted.offset) {
        return within;
    }
    let missing = Key::wal(here.generation, here.index, here.offset);
    let later = plan.history.segments_from(here.index).iter();
    let mut later = later.filter(|s| (s.index, s.offset) >= (here.index, here.offset));
    match later.next() {
        Some(next) if (next.index, next.offset) == (here.index + 1, 0) => {
            let key = Key::wal(here.generation, next.index, 0);
            let doc = source.segment_doc(key, avoid).ok().flatten();
            match doc.is_some_and(|doc| doc.previous_end == walk.committed()) {
                true => within,
                false => source.missing(missing),
            }
        }
        Some(_) => source.missing(missing),
        None => {
            let lost = missing
                .doc()
                .is_some_and(|doc| plan.history.orphans.contains(&doc));
            match lost {
                true => source.missing(missing),
                false => RestoreError::Beyond {
                    archive: source.name(),
                    wanted,
                    end: at(walk.committed()),
                },
            }
        }
    }
}

/// SQLite's own opinion of the file. It makes no files beside it: there is no log, and `immutable` says so.
fn check(path: &Path) -> Result<(), RestoreError> {
    use rusqlite::{Connection, OpenFlags};
    let unsound = |error: rusqlite::Error| RestoreError::Unsound(error.to_string());
    let escaped: String = path
        .display()
        .to_string()
        .chars()
        .map(|c| match c {
            '%' => "%25".to_owned(),
            '?' => "%3f".to_owned(),
            '#' => "%23".to_owned(),
            c => c.to_string(),
        })
        .collect();
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    let connection = Connection::open_with_flags(format!("file:{escaped}?immutable=1"), flags)
        .map_err(unsound)?;
    let said: String = connection
        .query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))
        .map_err(unsound)?;
    match said.as_str() {
        "ok" => Ok(()),
        _ => Err(RestoreError::Unsound(said)),
    }
}
