//! Every disk operation fails once: each one that a run without faults meets, in the primary and in the replica, at its first
//! and at a later time.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::workload::{self, PRIMARY, REPLICA, database, seen_mark};
use super::{app, images, known};
use crate::support::proc::Walcast;
use crate::support::rng::Rng;
use crate::support::{Scratch, poll_for, scaled};

/// Nothing that goes on takes as long.
const PATIENCE: Duration = Duration::from_secs(30);

/// The parts of a life. In one of them a fault strikes; none does in the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    /// Nothing is there yet.
    Begins,
    /// All goes on where it ended; the logs begin anew.
    GoesOn,
    /// The application's log was reset meanwhile: another generation, a snapshot in place.
    IsLost,
    Last,
}

const PARTS: [Part; 3] = [Part::Begins, Part::GoesOn, Part::IsLost];

/// An operation of a process in a part of its life.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    part: Part,
    side: &'static str,
    name: String,
}

/// What fails, and how.
struct Fault {
    place: Place,
    action: &'static str,
    time: u64,
}

/// Operations whose failure nobody needs to hear of, and why.
fn may_be_silent(name: &str) -> bool {
    match name {
        // What cannot be read is made durable once more.
        "position.read" => true,
        // A size for the progress that is shown, no more.
        "db.stat" => true,
        _ => false,
    }
}

struct Life<'a> {
    dir: &'a Path,
    fault: Option<&'a Fault>,
    mark: u64,
    rng: Rng,
}

impl Life<'_> {
    fn root(&self) -> PathBuf {
        self.dir.join("root")
    }

    fn met(&self, part: Part, side: &str) -> PathBuf {
        self.dir.join(format!("{part:?}.{side}.met"))
    }

    /// What is planned for a process in a part.
    fn prepare(&self, part: Part, side: &'static str, walcast: &mut Walcast) {
        walcast.env(
            "WALCAST_FAULTS_MET",
            &self.met(part, side).display().to_string(),
        );
        let here = |fault: &&Fault| (fault.place.part, fault.place.side) == (part, side);
        if let Some(fault) = self.fault.filter(here) {
            let Fault {
                place,
                action,
                time,
            } = fault;
            walcast.env("WALCAST_FAULTS", &format!("{}={action}@{time}", place.name));
        }
    }

    /// Starts a process; one that says clearly why it ends is started once more, as a supervisor does.
    fn start(&self, walcast: &mut Walcast) -> Result<std::net::SocketAddr, String> {
        let first = walcast.try_start(PATIENCE);
        first.or_else(|why| {
            self.is_told(&why).then_some(()).ok_or(why)?;
            walcast.kill9();
            walcast.env("WALCAST_FAULTS", "");
            walcast.try_start(PATIENCE)
        })
    }

    /// True if a text names the operation that fails, and a file.
    fn is_told(&self, text: &str) -> bool {
        let told = |fault: &Fault| {
            let name = format!("{} /", fault.place.name);
            text.lines().any(|line| line.contains(&name))
        };
        self.fault.is_some_and(told)
    }

    fn part(&mut self, part: Part) -> Result<(), String> {
        let sql = |e: rusqlite::Error| format!("the application: {e}");
        let root = self.root();
        let (db, copy) = (database(&root, PRIMARY), database(&root, REPLICA));
        let mut conn = app::open(&db, 4096, "NORMAL").map_err(sql)?;
        if part == Part::IsLost {
            for _ in 0..2 {
                app::mark(&conn, 0).map_err(sql)?;
                let truncate = "PRAGMA wal_checkpoint(TRUNCATE)";
                conn.query_row(truncate, [], |_| Ok(())).map_err(sql)?;
            }
        }
        let mut up = workload::primary(self.dir, &root);
        self.prepare(part, PRIMARY, &mut up);
        let mut address = self.start(&mut up)?;
        for _ in 0..3 {
            app::act(&conn, &mut self.rng).map_err(sql)?;
        }
        let mut down = workload::replica(self.dir, &root, address);
        self.prepare(part, REPLICA, &mut down);
        self.start(&mut down)?;
        let mut logs = String::new();
        for checkpoint in ["PASSIVE", "TRUNCATE", "RESTART"] {
            for _ in 0..6 {
                app::act(&conn, &mut self.rng).map_err(sql)?;
            }
            // Enough for the replica's log to begin anew.
            conn.execute(
                "INSERT INTO t(n, b) VALUES(4, ?1)",
                [self.rng.bytes(100_000)],
            )
            .map_err(sql)?;
            let sql_text = format!("PRAGMA wal_checkpoint({checkpoint})");
            conn.query_row(&sql_text, [], |_| Ok(())).map_err(sql)?;
            self.mark += 1;
            app::mark(&conn, self.mark).map_err(sql)?;
            let mark = self.mark;
            let level = poll_for("the replica to be level", PATIENCE, || {
                for process in [&mut up, &mut down] {
                    if !process.is_running() {
                        return Ok(Err(process.log()));
                    }
                }
                match seen_mark(&copy)? {
                    seen if seen == mark => Ok(Ok(())),
                    seen => Err(format!("it is at {seen}")),
                }
            });
            let ended = level.map_err(|why| {
                format!(
                    "{why}\n--- primary\n{}\n--- replica\n{}",
                    up.log(),
                    down.log()
                )
            })?;
            if let Err(log) = ended {
                self.is_told(&log)
                    .then_some(())
                    .ok_or_else(|| format!("it ended without a clear error:\n{log}"))?;
                logs.push_str(&log);
                for process in [&mut up, &mut down] {
                    process.kill9();
                    process.env("WALCAST_FAULTS", "");
                }
                address = up.try_start(PATIENCE)?;
                down = workload::replica(self.dir, &root, address);
                down.try_start(PATIENCE)?;
            }
        }
        for process in [&mut down, &mut up] {
            // What the end makes durable may be what fails.
            if process.is_running() {
                process.terminate();
            }
            logs.push_str(&process.log());
        }
        self.judge(part, &logs)?;
        let replica = known::state(&copy)?.ok_or("the copy is gone")?;
        images::same(&known::state_of(&mut conn)?, &replica)
    }

    fn judge(&self, part: Part, logs: &str) -> Result<(), String> {
        if logs.contains("panicked") || logs.contains("a snapshot heals it") {
            return Err(format!("damaged:\n{logs}"));
        }
        let Some(fault) = self.fault.filter(|fault| fault.place.part == part) else {
            return Ok(());
        };
        let met = std::fs::read_to_string(self.met(part, fault.place.side)).unwrap_or_default();
        let struck = met
            .lines()
            .any(|line| line == format!("{}!", fault.place.name));
        let must_be_told =
            matches!(fault.action, "eio" | "enospc") && !may_be_silent(&fault.place.name);
        if struck && must_be_told && !self.is_told(logs) {
            return Err(format!("it failed, and nobody is told:\n{logs}"));
        }
        Ok(())
    }

    fn live(&mut self) -> Result<(), String> {
        for side in [PRIMARY, REPLICA] {
            std::fs::create_dir_all(self.root().join(side)).map_err(|e| e.to_string())?;
        }
        let conn = app::open(&database(&self.root(), PRIMARY), 4096, "NORMAL")
            .map_err(|e| e.to_string())?;
        for part in PARTS.into_iter().chain([Part::Last]) {
            self.part(part)?;
            // The parts after the fault only have to work.
            if self.fault.is_some_and(|fault| part > fault.place.part) {
                break;
            }
        }
        drop(conn);
        Ok(())
    }
}

/// How often each operation is met, at least; of a run without faults.
fn places(dir: &Path, seed: u64) -> BTreeMap<Place, u64> {
    let mut life = Life {
        dir,
        fault: None,
        mark: 0,
        rng: Rng::new(seed),
    };
    life.live()
        .unwrap_or_else(|why| panic!("without a fault: {why}"));
    let mut places = BTreeMap::new();
    for part in PARTS {
        for side in [PRIMARY, REPLICA] {
            let met = std::fs::read_to_string(life.met(part, side)).expect("what was met");
            for line in met.lines() {
                let (name, times) = line.split_once(' ').expect("a name and a count");
                let place = Place {
                    part,
                    side,
                    name: name.to_owned(),
                };
                places.insert(place, times.parse().expect("a count"));
            }
        }
    }
    places
}

#[test]
fn every_disk_operation_fails_once_and_all_goes_on() {
    let begun = Instant::now();
    let seed = Rng::seed_for("power-faults", 720);
    let scratch = Scratch::in_memory("faults");
    let places = places(scratch.path(), seed);
    let names: BTreeSet<_> = places.keys().map(|place| &place.name).collect();
    eprintln!(
        "{} operations in {} places: {names:?}",
        names.len(),
        places.len()
    );
    assert!(names.len() > 40, "the life lost what it is for");
    let all = ["eio", "enospc", "short", "eintr"];
    let mut faults = Vec::new();
    for (number, (place, times)) in places.into_iter().enumerate() {
        // All of them in full; else each in turn.
        let full = scaled(0, 1) == 1;
        let actions = if full {
            &all[..]
        } else {
            &[all[number % 4]][..]
        };
        for action in actions {
            let later = if times > 2 { Some(times / 2 + 1) } else { None };
            let later = later.filter(|_| full || number % 3 == 0);
            for time in [1].into_iter().chain(later) {
                faults.push(Fault {
                    place: place.clone(),
                    action,
                    time,
                });
            }
        }
    }
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let only = std::env::var("WALCAST_FAULT").ok();
    let work = || {
        while let Some(fault) = faults.get(next.fetch_add(1, Ordering::Relaxed)) {
            let Fault {
                place,
                action,
                time,
            } = fault;
            let what = format!(
                "{:?}.{}.{}={action}@{time}",
                place.part, place.side, place.name
            );
            if only.as_ref().is_some_and(|only| !what.contains(only)) {
                continue;
            }
            let scratch = Scratch::in_memory("fault");
            let mut life = Life {
                dir: scratch.path(),
                fault: Some(fault),
                mark: 0,
                rng: Rng::new(seed),
            };
            if let Err(why) = life.live() {
                failures
                    .lock()
                    .expect("no panic")
                    .push(format!("{what}: {why}"));
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..images::workers() {
            scope.spawn(work);
        }
    });
    let failures = failures.into_inner().expect("no panic");
    eprintln!("{} faults in {:?}", faults.len(), begun.elapsed());
    assert!(
        failures.is_empty(),
        "{} of {} faults (one again: WALCAST_FAULT=WORDS WALCAST_SEED={seed}):\n{}",
        failures.len(),
        faults.len(),
        failures.join("\n\n")
    );
}
