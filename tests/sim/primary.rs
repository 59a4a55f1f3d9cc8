//! The primary's process: the shipped capture, turn by turn, the shipped hub, streams and service; and what becomes of its
//! files when it is killed or its machine loses power.

mod moment;

use crate::app::App;
use crate::history::Cut;
use crate::rng::{Rng, choose};
use crate::sched::{self, Group, sleep_ms, spawn};
use crate::world::world;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Notify;
use walcast::config::Limits;
use walcast::format::position::{Generation, Position};
use walcast::model::Point;
use walcast::ownership;
use walcast::primary::parts::Shared;
use walcast::primary::shadow::{Housekeeping, Job, Layout, Lineage, work};
use walcast::primary::{Primary as Served, PrimaryConfig};
use walcast::server::{Registry, Served as InRegistry, Unguarded};

/// No seed's clock comes that far.
const YEARS: u64 = 10 * 365 * 86_400;

/// A process that runs.
#[derive(Clone)]
pub struct Process {
    group: Group,
    pub shared: Arc<Shared>,
    pub served: Arc<Served>,
    server: Unguarded,
    /// What it still orders from the disk after this is not done.
    alive: Arc<AtomicBool>,
}

/// The machine.
pub struct Primary {
    pub app: RefCell<App>,
    pub changed: Notify,
    pub process: RefCell<Option<Process>>,
    /// Nothing can be written to the shadow WAL.
    pub full: Cell<bool>,
    /// Bytes of each file of the shadow WAL that survive a power cut.
    synced: Arc<Mutex<HashMap<PathBuf, u64>>>,
    /// Generations whose files a power cut damaged.
    pub damaged: RefCell<Vec<Generation>>,
    processes: Cell<u64>,
    /// The generation that is captured.
    generation: Cell<Option<Generation>>,
    position: Cell<Option<Position>>,
    /// Counts the logs: that of the newest frame which was captured; `None`: what was captured may be lost.
    pub captured_log: Cell<Option<u64>>,
    /// Power cuts before the process began.
    pub began_after: Cell<Cut>,
    /// The capture thread gets a processor this much later at most, in ms.
    pub sluggish: u64,
    retain: (u64, Duration),
    heartbeat: Duration,
}

impl Primary {
    pub fn new(app: App, rng: &mut Rng) -> Primary {
        let (few, much) = (48 << 10, 1 << 30);
        let retain = choose(
            rng,
            &[
                (few, YEARS),
                (256 << 10, YEARS),
                (4 << 20, 20),
                (much, 20),
                (much, 3_600),
                (much, YEARS),
                (much, YEARS),
            ],
        );
        let heartbeat = choose(rng, &[200, 1_000, 5_000]);
        Primary {
            app: RefCell::new(app),
            changed: Notify::new(),
            process: RefCell::default(),
            full: Cell::new(false),
            synced: Arc::default(),
            damaged: RefCell::default(),
            processes: Cell::new(0),
            generation: Cell::new(None),
            position: Cell::new(None),
            captured_log: Cell::new(None),
            began_after: Cell::new(0),
            sluggish: choose(rng, &[0, 0, 3, 40, 400]),
            retain: (retain.0, Duration::from_secs(retain.1)),
            heartbeat: Duration::from_millis(heartbeat),
        }
    }

    /// Who answers calls now.
    pub fn server(&self) -> Option<(Unguarded, Group)> {
        let process = self.process.borrow();
        process.as_ref().map(|p| (p.server.clone(), p.group))
    }

    /// True if no log is ever removed.
    pub fn keeps_all(&self) -> bool {
        self.retain == (1 << 30, Duration::from_secs(YEARS))
    }

    /// Whether the log after a position is kept, as the hub has it.
    pub fn is_kept(&self, position: Position) -> bool {
        let process = self.process.borrow();
        process
            .as_ref()
            .is_some_and(|p| p.shared.hub.is_kept(position))
    }

    /// What is captured.
    pub fn tip(&self) -> Option<Point> {
        let process = self.process.borrow();
        *process.as_ref()?.served.watch().borrow()
    }

    pub fn path(&self) -> PathBuf {
        self.app.borrow().path.clone()
    }

    /// Bytes that a replica may need to become level, about: the database, or the log as it is packed, with what each
    /// message adds.
    pub fn to_send(&self) -> u64 {
        let app = self.app.borrow();
        let database = u64::from(app.page_count()) * u64::from(app.page_size);
        let log = ownership::directory_of(&app.path).join("generations");
        database + 2 * bytes_below(&log)
    }

    /// Starts walcast.
    pub fn start(&self) {
        // Connections of a process that is gone are reset.
        world().net.cut_all(0);
        let group = sched::group();
        let mut config = PrimaryConfig::new("db", self.path());
        (config.retain_bytes, config.retain_age) = self.retain;
        config.heartbeat = self.heartbeat;
        config.server_id = "primary".to_owned();
        let shared = Arc::new(Shared::new(config));
        self.forget_unproven(&shared.layout);
        let served = Served::simulated(shared.clone());
        let registry = Registry::new(None);
        let database = InRegistry::Primary(Arc::new(served.clone()));
        registry.add(database).expect("an empty registry");
        let process = Process {
            group,
            shared,
            served,
            server: Unguarded::new(registry, &Limits::default()),
            alive: Arc::new(AtomicBool::new(true)),
        };
        *self.process.borrow_mut() = Some(process.clone());
        self.processes.set(self.processes.get() + 1);
        self.began_after.set(self.app.borrow().history.cuts());
        world().note(format_args!(
            "primary: process {} starts",
            self.processes.get()
        ));
        spawn(
            group,
            crate::capture::capture(process, self.processes.get()),
        );
    }

    /// Of a generation that began with an empty log and has nothing in it yet, only the record of its base can prove
    /// anything, and that is an errand for the disk, which an end may come before.
    fn forget_unproven(&self, layout: &Layout) {
        let generation = self.generation.get();
        let began = generation.filter(|g| self.position.get() == Some(Position::start_of(*g)));
        let lineage = began.and_then(|g| Lineage::read(layout, g).expect("a disk that reads"));
        if began.is_some() && lineage.is_none_or(|lineage| lineage.base.is_none()) {
            self.captured_log.set(None);
            world().count("an end before a generation's base was recorded");
        }
    }

    /// SIGKILL.
    pub fn kill(&self) {
        let process = self.process.borrow_mut().take();
        if let Some(process) = process {
            process.alive.store(false, Relaxed);
            process.shared.stop();
            sched::kill(process.group);
            world().note(format_args!("primary: killed"));
        }
    }

    /// Ends in order: streams reach the last position.
    pub async fn stop(&self) {
        let Some(process) = self.process.borrow().clone() else {
            return;
        };
        world().note(format_args!("primary: drains"));
        process.server.drain(Duration::from_secs(10)).await;
        process.shared.stop();
        self.changed.notify_one();
        sleep_ms(1_000).await;
        *self.process.borrow_mut() = None;
        process.alive.store(false, Relaxed);
        sched::kill(process.group);
        world().note(format_args!("primary: stopped"));
    }

    /// The machine loses power; the application is back at once, walcast is not. Returns the commits that are lost.
    pub fn power_cut(&self, rng: &mut Rng) -> usize {
        self.kill();
        self.captured_log.set(None);
        let moment = match rng.one_in(2) {
            true => self.app.borrow_mut().some_moment(),
            false => None,
        };
        if let Some(frames) = moment {
            let log_len = self.app.borrow().len_of(frames);
            let lost = self.app.borrow_mut().power_cut_since(frames);
            self.lose_since(log_len, rng);
            return lost;
        }
        let lost = self.app.borrow_mut().power_cut();
        let generations = ownership::directory_of(&self.path()).join("generations");
        let commits = ownership::directory_of(&self.path()).join("commits");
        // The kernel may have written all of it meanwhile, while the application's log was not so lucky.
        if rng.one_in(2) {
            for directory in [generations, commits] {
                self.lose_unsynced(&directory, rng);
            }
        }
        lost
    }

    fn lose_unsynced(&self, directory: &Path, rng: &mut Rng) {
        let Ok(entries) = std::fs::read_dir(directory) else {
            return;
        };
        let entries = entries.map(|entry| entry.expect("an entry").path());
        let sorted: BTreeSet<PathBuf> = entries.collect();
        for path in sorted {
            if path.is_dir() {
                self.lose_unsynced(&path, rng);
                continue;
            }
            let len = std::fs::metadata(&path).expect("metadata").len();
            let synced = self.synced.lock().expect("no panic").get(&path).copied();
            let kept = synced.unwrap_or(0).min(len);
            if kept == len {
                continue;
            }
            let name = path.components().find_map(|c| {
                let name = c.as_os_str().to_str()?;
                (name.len() == 16).then(|| name.parse().ok()).flatten()
            });
            match rng.below(4) {
                0 => {}
                1 if synced.is_none() => std::fs::remove_file(&path).expect("remove"),
                1 | 2 => {
                    let file = std::fs::File::options().write(true).open(&path);
                    let left = rng.between(kept, len);
                    file.and_then(|f| f.set_len(left)).expect("truncate");
                }
                _ => {
                    let mut bytes = std::fs::read(&path).expect("read");
                    for sector in bytes[kept as usize..].chunks_mut(512) {
                        if rng.one_in(2) {
                            sector.fill(0);
                        }
                    }
                    // In place: who has it open is gone, but the number of the file is not what this is about.
                    std::fs::write(&path, bytes).expect("write");
                }
            }
            if let Some(generation) = name {
                self.damaged.borrow_mut().push(generation);
            }
        }
    }

    /// Indexes of a generation whose files are all still there.
    pub fn kept(&self, generation: Generation) -> BTreeSet<u64> {
        let root = ownership::directory_of(&self.path());
        let wal = root
            .join("generations")
            .join(generation.to_string())
            .join("wal");
        let commits = root.join("commits").join(generation.to_string());
        let Ok(names) = std::fs::read_dir(wal) else {
            return BTreeSet::new();
        };
        names
            .filter_map(|entry| {
                let name = entry.ok()?.file_name().into_string().ok()?;
                let index = u64::from_str_radix(&name, 16).ok()?;
                commits.join(&name).exists().then_some(index)
            })
            .collect()
    }

    /// Housekeeping that knows what is synced.
    pub fn housekeeping(&self, process: &Process) -> Arc<Housekeeping> {
        let (alive, synced) = (process.alive.clone(), self.synced.clone());
        Arc::new(Housekeeping::with("db", move |job| {
            if !alive.load(Relaxed) {
                return Ok(());
            }
            if let Job::Sync(file) = &job {
                let len = file.len("sim.len")?;
                let mut synced = synced.lock().expect("no panic");
                synced.insert(file.path().to_owned(), len);
                return Ok(());
            }
            work(job)
        }))
    }

    /// A new generation begins only where the log that was captured is gone, or something was lost.
    fn check_generation(&self, position: Position) {
        let generation = position.generation;
        let before = self.generation.replace(Some(generation));
        let log = Some(self.app.borrow().restarts);
        if before.is_some_and(|before| before != generation) {
            world().count("generations");
            assert!(
                self.captured_log.get() != log,
                "the generation {generation} begins, and the log is still the one that was captured"
            );
        }
        if self.position.replace(Some(position)) != Some(position) {
            self.captured_log.set(log);
        }
    }

    /// Remembers which state the primary says is at a position.
    pub fn captured(&self, point: &Point) {
        let position = point.position;
        self.check_generation(position);
        let history = &self.app.borrow().history;
        let state = history.find(point.dbsum.0, point.page_count);
        let state = state.unwrap_or_else(|| {
            panic!("the primary captured at {position} what its application never committed")
        });
        if world().check.pair(history, position, state) {
            world().count("excused: a position that is used again");
        }
        assert!(
            history.taken_by(state).is_none(),
            "the primary captured state {state} at {position}, which a power cut took back"
        );
        world().note(format_args!(
            "primary: captured state {state} at {position}"
        ));
    }
}

fn bytes_below(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(found) if found.is_dir() => bytes_below(&entry.path()),
        found => found.map_or(0, |found| found.len()),
    });
    sizes.sum()
}
