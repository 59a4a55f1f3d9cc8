//! The disks after a power cut, one by one: what is on them is right as it stands, and everything goes on from them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::app;
use super::disk::{FileSystem, Moment};
use super::image::Image;
use super::known::{self, Known, State};
use super::recording::{Kind, Recording};
use super::workload::{self, PRIMARY, REPLICA, Shape, database, record, seen_mark};
use crate::support::proc::Walcast;
use crate::support::rng::Rng;
use crate::support::{Scratch, poll_for, scaled};

const SHAPES: [Shape; 4] = [
    Shape {
        page_size: 4096,
        synchronous: "NORMAL",
    },
    Shape {
        page_size: 512,
        synchronous: "FULL",
    },
    Shape {
        page_size: 4096,
        synchronous: "FULL",
    },
    Shape {
        page_size: 1024,
        synchronous: "NORMAL",
    },
];
/// Nothing that goes on takes as long.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Cut {
    Both,
    Primary,
    Replica,
}

/// What an image is made of; all of it follows from its seed.
#[derive(Clone, Copy, Debug)]
struct Choice {
    at: usize,
    file_system: FileSystem,
    cut: Cut,
    /// Only the primary was cut, and the replica was away since this entry.
    away_since: Option<usize>,
    /// A reader opens and closes the copy before walcast is back.
    reader_first: bool,
    /// What the application does before walcast is back.
    app_first: AppFirst,
}

#[derive(Clone, Copy, Debug)]
enum AppFirst {
    Nothing,
    Opens,
    Commits(u64),
    CommitsAndTruncates(u64),
}

impl Choice {
    /// Every other image is of the moment before or after something that promises something, or changes a name or a size,
    /// one after the other; the rest are of any moment.
    fn new(recording: &Recording, telling: &[usize], image: u64, rng: &mut Rng) -> Choice {
        const STRIDE: u64 = 7;
        let events = recording.events.len() as u64;
        let at = match image % 2 {
            0 => rng.below(events + 1) as usize,
            _ => telling[(image / 2 * STRIDE) as usize % telling.len()] + rng.below(2) as usize,
        };
        let cut = [Cut::Both, Cut::Primary, Cut::Replica][rng.below(3) as usize];
        let away = cut == Cut::Primary && rng.one_in(2);
        Choice {
            at,
            file_system: [FileSystem::Journalling, FileSystem::Strict][rng.below(2) as usize],
            cut,
            away_since: away.then(|| at - rng.below(1 + at as u64 / 4) as usize),
            reader_first: rng.one_in(4),
            app_first: match rng.below(6) {
                0..=2 => AppFirst::Nothing,
                3 => AppFirst::Opens,
                4 => AppFirst::Commits(rng.between(1, 30)),
                _ => AppFirst::CommitsAndTruncates(rng.between(1, 15)),
            },
        }
    }

    fn image(&self, recording: &Recording, side: &str, rng: &mut Rng) -> Image {
        let at = match side {
            REPLICA => self.away_since.unwrap_or(self.at),
            _ => self.at,
        };
        let moment = Moment::new(recording, Path::new(side), at);
        let is_cut = match self.cut {
            Cut::Both => true,
            Cut::Primary => side == PRIMARY,
            Cut::Replica => side == REPLICA,
        };
        match is_cut {
            true => moment.cut(self.file_system, rng),
            false => moment.whole(),
        }
    }
}

struct Subject<'a> {
    recording: &'a Recording,
    /// Entries that are no write.
    telling: Vec<usize>,
    known: &'a Known,
    shape: Shape,
}

/// What happened on one image, counted over all.
type Counts = BTreeMap<&'static str, usize>;

impl Subject<'_> {
    fn examine(&self, seed: u64, image: u64, dir: &Path) -> Result<Counts, String> {
        let mut rng = Rng::new(seed ^ (image << 20));
        let choice = Choice::new(self.recording, &self.telling, image, &mut rng);
        let wrong = |what: &str, why: String| format!("{what}: {why}\n{choice:?}");
        let root = dir.join("root");
        let still = dir.join("still");
        for side in [PRIMARY, REPLICA] {
            let image = choice.image(self.recording, side, &mut rng);
            for root in [&root, &still] {
                std::fs::create_dir_all(root.join(side)).expect("make a machine's directory");
                image.write(root);
            }
        }
        // As any reader finds it, before walcast is back.
        known::state(&database(&still, PRIMARY))
            .map_err(|why| wrong("the primary's database", why))?;
        let copy = database(&still, REPLICA);
        let judged = known::claims(&copy).and_then(|claims| {
            let state = known::state(&copy)?;
            self.known.judge(state.as_ref(), &claims)
        });
        judged.map_err(|why| wrong("the replica's database", why))?;
        self.go_on(&choice, dir, &root, &mut rng)
            .map_err(|why| wrong("started again", why))
    }

    fn go_on(
        &self,
        choice: &Choice,
        dir: &Path,
        root: &Path,
        rng: &mut Rng,
    ) -> Result<Counts, String> {
        let sql = |e: rusqlite::Error| format!("the application: {e}");
        let (db, copy) = (database(root, PRIMARY), database(root, REPLICA));
        let open = || app::open(&db, self.shape.page_size, self.shape.synchronous).map_err(sql);
        if choice.reader_first {
            known::state(&copy)?;
        }
        let mut before = 0;
        match choice.app_first {
            AppFirst::Nothing => {}
            AppFirst::Opens => drop(open()?),
            AppFirst::Commits(acts) | AppFirst::CommitsAndTruncates(acts) => {
                before = acts;
                let conn = open()?;
                for _ in 0..acts {
                    app::act(&conn, rng).map_err(sql)?;
                }
            }
        }
        if let AppFirst::CommitsAndTruncates(_) = choice.app_first {
            let truncate = "PRAGMA wal_checkpoint(TRUNCATE)";
            open()?.query_row(truncate, [], |_| Ok(())).map_err(sql)?;
        }
        let mut up = workload::primary(dir, root);
        let address = up.try_start(PATIENCE)?;
        let mut down = workload::replica(dir, root, address);
        down.try_start(PATIENCE)?;
        let mut conn = open()?;
        for _ in 0..rng.between(1, 10) {
            app::act(&conn, rng).map_err(sql)?;
        }
        let mark = 1_000_000 + before;
        app::mark(&conn, mark).map_err(sql)?;
        let level = poll_for("the replica to be level", PATIENCE, || {
            match seen_mark(&copy)? {
                seen if seen == mark => Ok(()),
                seen => Err(format!("it is at {seen}")),
            }
        });
        let equal = level.and_then(|()| {
            let replica = known::state(&copy)?.ok_or("the copy is gone")?;
            same(&known::state_of(&mut conn)?, &replica)
        });
        let logs = judge_logs(choice.cut, &mut up, &mut down);
        equal.map_err(|why| {
            format!(
                "{why}\n--- primary\n{}\n--- replica\n{}",
                up.log(),
                down.log()
            )
        })?;
        logs
    }
}

/// Equal page by page, but for what a replica's page 1 differs in.
pub fn same(primary: &State, replica: &State) -> Result<(), String> {
    let plain = |state: &State| {
        let mut pages = state.pages.clone();
        pages[18] = 0;
        pages[40..44].fill(0);
        pages
    };
    let (a, b) = (plain(primary), plain(replica));
    if primary.page_size != replica.page_size || a.len() != b.len() {
        return Err(format!("{} bytes against {}", a.len(), b.len()));
    }
    let size = primary.page_size as usize;
    let differing: Vec<_> = (1..)
        .zip(a.chunks(size).zip(b.chunks(size)))
        .filter(|(_, (a, b))| a != b)
        .map(|(number, _): (u32, _)| number)
        .collect();
    match differing.is_empty() {
        true => Ok(()),
        false => Err(format!("the pages {differing:?} differ")),
    }
}

fn judge_logs(cut: Cut, up: &mut Walcast, down: &mut Walcast) -> Result<Counts, String> {
    let mut counts = Counts::from([("images", 1)]);
    let (up_log, down_log) = (up.log(), down.log());
    for (log, process) in [(&up_log, &mut *up), (&down_log, &mut *down)] {
        if log.contains("panicked") || !process.is_running() {
            return Err(format!("it ended or panicked:\n{log}"));
        }
    }
    let words = [
        (&up_log, "a new generation", "new generations"),
        (&up_log, "(a power cut?)", "commits taken back"),
        (&up_log, "sending snapshot", "snapshots"),
        (&down_log, "connected: goes on from", "resumed"),
        (
            &down_log,
            "the copy is at none of its recorded positions",
            "between recorded positions",
        ),
        (&up_log, "the shadow WAL is damaged", "damaged shadow WALs"),
        (&down_log, "a snapshot heals it", "healed by a snapshot"),
        (
            &down_log,
            "a snapshot replaces it",
            "copies that SQLite could not open",
        ),
    ];
    for (log, words, name) in words {
        if log.contains(words) {
            *counts.entry(name).or_insert(0) += 1;
        }
    }
    // Where both lost power, the copy may have commits that the primary lost, and no record says so: only the checksum does.
    let may_heal = cut == Cut::Both && counts.contains_key("between recorded positions");
    let healed = counts.contains_key("healed by a snapshot") && !may_heal;
    if healed || counts.contains_key("copies that SQLite could not open") {
        return Err(format!(
            "walcast believed what is not so:\n--- primary\n{up_log}\n--- replica\n{down_log}"
        ));
    }
    Ok(counts)
}

/// How many lives are lived at once.
pub fn workers() -> usize {
    std::thread::available_parallelism()
        .map_or(2, usize::from)
        .min(4)
}

/// A recording to be looked at once more (`WALCAST_POWER_RECORD`: the directory that a failure kept), or a new one.
fn recording(shape: Shape, seed: u64) -> (Recording, Option<Scratch>) {
    if let Some(dir) = std::env::var_os("WALCAST_POWER_RECORD") {
        let dir = Path::new(&dir);
        return (
            Recording::read(&dir.join("record.log"), &dir.join("root")),
            None,
        );
    }
    let (recording, scratch) = record(shape, seed);
    (recording, Some(scratch))
}

fn examine_all(number: usize, images: u64) {
    let begun = Instant::now();
    let shape = SHAPES[number];
    let seed = Rng::seed_for(&format!("power-{number}"), 700 + number as u64);
    let (recording, kept) = recording(shape, seed);
    let known = Known::of(&recording);
    eprintln!(
        "{shape:?}: {} entries, {} states of {} generations, in {:?}",
        recording.events.len(),
        known.len(),
        known.generations(),
        begun.elapsed()
    );
    assert!(known.generations() > 1, "the workload lost what it is for");
    let telling = |kind: Kind| !matches!(kind, Kind::Write | Kind::Fallocate);
    let telling = recording
        .events
        .iter()
        .enumerate()
        .filter(|(_, event)| telling(event.kind));
    let subject = Subject {
        telling: telling.map(|(number, _)| number).collect(),
        recording: &recording,
        known: &known,
        shape,
    };
    let one: Option<u64> = std::env::var("WALCAST_POWER_IMAGE")
        .ok()
        .map(|n| n.parse().expect("an image's number"));
    let numbers: Vec<u64> = one.map_or_else(|| (0..images).collect(), |one| vec![one]);
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let counts = Mutex::new(Counts::new());
    let work = || {
        while let Some(image) = numbers.get(next.fetch_add(1, Ordering::Relaxed)) {
            let scratch = Scratch::in_memory("image");
            match subject.examine(seed, *image, scratch.path()) {
                Ok(found) => {
                    let mut counts = counts.lock().expect("no panic");
                    for (name, times) in found {
                        *counts.entry(name).or_insert(0) += times;
                    }
                }
                Err(why) => {
                    failures
                        .lock()
                        .expect("no panic")
                        .push(format!("image {image}: {why}"));
                    if one.is_some() {
                        eprintln!("its files are kept in {}", scratch.path().display());
                        std::mem::forget(scratch);
                    }
                }
            }
        }
    };
    let workers = std::thread::available_parallelism()
        .map_or(2, usize::from)
        .min(4);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(work);
        }
    });
    let counts = counts.into_inner().expect("no panic");
    eprintln!("{counts:?} in {:?}", begun.elapsed());
    let failures = failures.into_inner().expect("no panic");
    let shown: Vec<_> = failures.iter().take(3).cloned().collect();
    let dir = kept
        .as_ref()
        .map(|scratch| scratch.path().to_owned())
        .unwrap_or_default();
    assert!(
        failures.is_empty(),
        "{} of {} images are wrong. One again: WALCAST_POWER_RECORD={} WALCAST_POWER_IMAGE=N WALCAST_SEED={seed}\n{}",
        failures.len(),
        numbers.len(),
        dir.display(),
        shown.join("\n\n")
    );
}

#[test]
fn after_a_power_cut_at_any_point_pages_of_4096_normal() {
    examine_all(0, scaled(600, 2500));
}

#[test]
fn after_a_power_cut_at_any_point_pages_of_512_full() {
    examine_all(1, scaled(600, 2500));
}
