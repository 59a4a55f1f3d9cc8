//! What the primary had, and what a replica's files claim.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use rusqlite::{Connection, OpenFlags};
use walcast::format::commits::{CommitRecord, HEADER_SIZE, RECORD_SIZE};
use walcast::format::dbheader::{lock_page, to_primary};
use walcast::format::dbsum::page_hash;
use walcast::format::position::{Generation, Position};
use xxhash_rust::xxh3::xxh3_64;

use super::recording::{Kind, Recording};

/// A position, and before it the generation's number among all, for the order of both.
type Place = (usize, u64, u64);

/// All states of the primary that were captured or that a generation began with, by position, and what a replica may have added to the schema cookie.
pub struct Known {
    states: BTreeMap<u64, BTreeSet<Place>>,
    generations: Vec<Generation>,
    deltas: BTreeSet<u32>,
}

/// A whole database, as SQLite reads it.
pub struct State {
    pub page_size: u32,
    pub pages: Vec<u8>,
}

impl Known {
    pub fn of(recording: &Recording) -> Known {
        let mut known = Known {
            states: BTreeMap::new(),
            generations: Vec::new(),
            deltas: BTreeSet::from([0]),
        };
        let mut sums = HashMap::new();
        for event in &recording.events {
            if event.kind != Kind::Write {
                continue;
            }
            let data = recording.data(event);
            if let Some((generation, index)) = sidecar(&event.name) {
                for record in records(event.a, data) {
                    let position = Position {
                        generation,
                        index,
                        offset: record.end_offset,
                    };
                    let sum = *sums.entry(position).or_insert(record.dbsum);
                    assert_eq!(sum, record.dbsum, "{position} names two states");
                    let rank = known.rank_or_add(generation);
                    known.states.entry(sum.0).or_default().insert((
                        rank,
                        position.index,
                        position.offset,
                    ));
                }
            }
            if event.name.ends_with("app.db-walcast/lineage.tmp")
                && let Some((position, sum)) = base(&String::from_utf8_lossy(data))
            {
                let rank = known.rank_or_add(position.generation);
                let place = (rank, position.index, position.offset);
                known.states.entry(sum).or_default().insert(place);
            }
            if event.name.ends_with("app.db-walcast/replica.tmp") {
                let text = String::from_utf8_lossy(data);
                let numbers = text.lines().filter(|line| line.starts_with("cookie-delta"));
                known.deltas.extend(
                    numbers.filter_map(|line| line.rsplit(' ').next()?.parse::<u32>().ok()),
                );
            }
        }
        known
    }

    pub fn len(&self) -> usize {
        self.states.len()
    }

    pub fn generations(&self) -> usize {
        self.generations.len()
    }

    fn rank(&self, generation: Generation) -> Option<usize> {
        self.generations
            .iter()
            .position(|known| *known == generation)
    }

    fn rank_or_add(&mut self, generation: Generation) -> usize {
        self.rank(generation).unwrap_or_else(|| {
            self.generations.push(generation);
            self.generations.len() - 1
        })
    }

    /// The newest position at which the primary was in this state of a replica.
    pub fn position_of(&self, state: &State) -> Option<Place> {
        let size = state.page_size as usize;
        let lock = lock_page(state.page_size);
        let mut others = 0;
        for (number, page) in (1..).zip(state.pages.chunks(size)).skip(1) {
            if number != lock {
                others ^= page_hash(number, page);
            }
        }
        let found = self.deltas.iter().filter_map(|delta| {
            let mut page1 = state.pages[..size].to_vec();
            to_primary(&mut page1, *delta);
            self.states
                .get(&(others ^ page_hash(1, &page1)))?
                .last()
                .copied()
        });
        found.max()
    }

    /// A copy in this state, whose files claim what `claims` says, has what it claims.
    pub fn judge(
        &self,
        state: Option<&State>,
        claims: &[(&'static str, Position)],
    ) -> Result<(), String> {
        let Some(state) = state else {
            return match claims.first() {
                Some((file, position)) => Err(format!(
                    "{file} claims {position}, and there is no database"
                )),
                None => Ok(()),
            };
        };
        let Some(held) = self.position_of(state) else {
            return Err("its readers see a state that the primary never had".to_owned());
        };
        for (file, claimed) in claims {
            let claimed_rank = self
                .rank(claimed.generation)
                .ok_or_else(|| format!("{file}: {claimed} never was"))?;
            if (claimed_rank, claimed.index, claimed.offset) > held {
                let (rank, index, offset) = held;
                let generation = self.generations[rank];
                let held = Position {
                    generation,
                    index,
                    offset,
                };
                return Err(format!("{file} claims {claimed}, the disk holds {held}"));
            }
        }
        Ok(())
    }
}

fn sidecar(path: &Path) -> Option<(Generation, u64)> {
    let mut parts = path.iter().rev().filter_map(|part| part.to_str());
    let (index, generation) = (parts.next()?, parts.next()?);
    let index = u64::from_str_radix(index, 16).ok()?;
    (parts.next()? == "commits").then_some((generation.parse().ok()?, index))
}

/// Where a generation began, and with which database, if it began with an empty log.
fn base(lineage: &str) -> Option<(Position, u64)> {
    let word = |key: &str| {
        let line = lineage.lines().find(|line| line.starts_with(key))?;
        line.split(' ').nth(1)
    };
    let start = Position::start_of(word("generation ")?.parse().ok()?);
    Some((start, u64::from_str_radix(word("base ")?, 16).ok()?))
}

fn records(at: u64, data: &[u8]) -> impl Iterator<Item = CommitRecord> {
    let skip = if at == 0 { HEADER_SIZE } else { 0 };
    let records = data
        .get(skip..)
        .unwrap_or_default()
        .chunks_exact(RECORD_SIZE);
    records
        .filter_map(|bytes| CommitRecord::parse(bytes.try_into().ok()?).ok())
        // Its checksum was not known yet.
        .filter(|record| record.page_count > 0)
}

/// The positions that a replica's files claim to be on the disk.
pub fn claims(db: &Path) -> Result<Vec<(&'static str, Position)>, String> {
    let directory = db.with_file_name("app.db-walcast");
    let mut claims = Vec::new();
    if let Ok(text) = std::fs::read_to_string(directory.join("position")) {
        let position = text.trim_end().parse();
        claims.push((
            "position",
            position.map_err(|e| format!("position holds {text:?}: {e}"))?,
        ));
    }
    if let Ok(bytes) = std::fs::read(directory.join("durable")) {
        let newest = bytes
            .chunks(512)
            .filter_map(mark)
            .max_by_key(|(sequence, _)| *sequence);
        claims.extend(newest.map(|(_, position)| ("durable", position)));
    }
    Ok(claims)
}

/// A sector of `durable`, as docs/formats.md has it.
fn mark(sector: &[u8]) -> Option<(u64, Position)> {
    let at = |at: usize| Some(u64::from_le_bytes(sector.get(at..at + 8)?.try_into().ok()?));
    if xxh3_64(sector.get(..96)?) != at(96)? || &sector[..8] != b"WCAPPLY1" {
        return None;
    }
    let position = Position {
        generation: Generation(at(16)?),
        index: at(24)?,
        offset: at(32)?,
    };
    Some((at(8)?, position))
}

/// Reads a database through SQLite, which recovers it; `None` if there is none.
pub fn state(db: &Path) -> Result<Option<State>, String> {
    if std::fs::metadata(db).is_ok_and(|m| m.len() > 0) {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut conn = Connection::open_with_flags(db, flags).map_err(|e| format!("open: {e}"))?;
        return state_of(&mut conn).map(Some);
    }
    Ok(None)
}

/// The same through an open connection.
pub fn state_of(conn: &mut Connection) -> Result<State, String> {
    let text = |e: rusqlite::Error| e.to_string();
    let integrity: String = conn
        .query_row("PRAGMA integrity_check(3)", [], |row| row.get(0))
        .map_err(text)?;
    if integrity != "ok" {
        return Err(format!("integrity_check: {integrity}"));
    }
    let page_size = conn
        .query_row("PRAGMA page_size", [], |row| row.get(0))
        .map_err(text)?;
    let pages = conn.serialize("main").map_err(text)?.to_vec();
    Ok(State { page_size, pages })
}
