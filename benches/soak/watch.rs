//! The sampler of all sites, and a probe of each site's lag.

use crate::observe::{cpu_seconds, descriptors, file_mib, memory_mib, threads, wal_of};
use crate::series::Series;
use crate::shared::{Shared, lock};
use crate::site::Watched;
use crate::support::history::last_done;
use crate::support::shadow;
use rusqlite::{Connection, OpenFlags};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Parts of a site that have a process each.
pub const PARTS: [&str; 8] = [
    "primary",
    "replica",
    "application",
    "reader0",
    "reader1",
    "reader2",
    "reader3",
    "reader4",
];
pub const FILES: [&str; 6] = [
    "primary.database_mib",
    "primary.wal_mib",
    "primary.shadow_mib",
    "replica.database_mib",
    "replica.wal_mib",
    "replica.walcast_mib",
];
const FIGURES: [&str; 4] = ["memory_mib", "descriptors", "threads", "cpu_s"];

/// A site as it is watched.
pub struct Place {
    pub name: &'static str,
    pub watched: Arc<Mutex<Watched>>,
    pub lag: Arc<Mutex<Option<Duration>>>,
}

impl Place {
    pub fn new(name: &'static str) -> Place {
        Place {
            name,
            watched: Arc::default(),
            lag: Arc::default(),
        }
    }

    /// Measures lag again and again until the run is over.
    pub fn start_probe(&self, shared: &Arc<Shared>, every: Duration) -> JoinHandle<()> {
        let (shared, watched, lag) = (shared.clone(), self.watched.clone(), self.lag.clone());
        std::thread::spawn(move || {
            while !shared.is_over() {
                if let Some(time) = probe(&shared, &watched) {
                    *lock(&lag) = Some(time);
                }
                shared.pause(every);
            }
        })
    }
}

/// From a commit's return in the application until a new reader of the replica sees it; only if all was calm.
fn probe(shared: &Shared, watched: &Mutex<Watched>) -> Option<Duration> {
    const LIMIT: Duration = Duration::from_secs(30);
    let state = || {
        let watched = lock(watched);
        watched.calm.then(|| {
            (
                watched.changes,
                watched.history.clone(),
                watched.replica_db.clone(),
            )
        })
    };
    let freezes = shared.clock.freezes();
    let before = state()?;
    let (_, history, replica) = &before;
    let (first, begin) = (last_done(history), Instant::now());
    let version = loop {
        match last_done(history) {
            now if now > first => break now,
            _ if begin.elapsed() > LIMIT => return None,
            _ => std::thread::sleep(Duration::from_micros(200)),
        }
    };
    let committed = Instant::now();
    while !version_in(replica).is_ok_and(|seen| seen >= version) && committed.elapsed() < LIMIT {
        std::thread::sleep(Duration::from_micros(200));
    }
    let lag = committed.elapsed();
    (state()? == before && shared.clock.freezes() == freezes).then_some(lag)
}

/// Whether somebody other than the harness has stopped a process of a site: then nothing that is measured counts.
pub fn is_somebody_stopped(places: &[Place]) -> bool {
    let is_stopped = |pid: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The state is behind the name, which is in parentheses.
        stat.rsplit_once(") ")
            .is_some_and(|(_, rest)| rest.starts_with('T'))
    };
    places.iter().any(|place| {
        let watched = lock(&place.watched);
        let mut others = watched
            .pids
            .iter()
            .filter(|(_, pid)| Some(*pid) != watched.stopped);
        others.any(|(_, pid)| is_stopped(*pid))
    })
}

/// The columns of all places.
pub fn columns(places: &[Place]) -> Vec<String> {
    let mut names = Vec::new();
    for place in places {
        for part in PARTS {
            names.extend(FIGURES.map(|figure| format!("{}.{part}.{figure}", place.name)));
        }
        names.extend(FILES.map(|file| format!("{}.{file}", place.name)));
        names.push(format!("{}.lag_ms", place.name));
    }
    names.extend(FIGURES.map(|figure| format!("harness.{figure}")));
    names
}

/// Looks at everything once.
pub fn sample(series: &mut Series, places: &[Place], seconds: f64) -> std::io::Result<()> {
    let mut values: HashMap<String, f64> = HashMap::new();
    let mut take = |name: String, pid: u32| {
        let figures = [
            memory_mib(pid, "VmRSS"),
            descriptors(pid),
            threads(pid),
            cpu_seconds(pid),
        ];
        for (figure, value) in FIGURES.iter().zip(figures) {
            // It may have ended just now.
            values.insert(format!("{name}.{figure}"), value.unwrap_or(f64::NAN));
        }
    };
    take("harness".to_owned(), std::process::id());
    for place in places {
        for (part, pid) in &lock(&place.watched).pids {
            take(format!("{}.{part}", place.name), *pid);
        }
    }
    for place in places {
        let (primary, replica) = {
            let watched = lock(&place.watched);
            (watched.primary_db.clone(), watched.replica_db.clone())
        };
        if primary.as_os_str().is_empty() {
            continue;
        }
        let files = [
            file_mib(&primary),
            file_mib(&wal_of(&primary)),
            directory_mib(&shadow::directory(&primary)),
            file_mib(&replica),
            file_mib(&wal_of(&replica)),
            directory_mib(&shadow::directory(&replica)),
        ];
        for (file, value) in FILES.iter().zip(files) {
            values.insert(format!("{}.{file}", place.name), value);
        }
        if let Some(lag) = lock(&place.lag).take() {
            let ms = lag.as_secs_f64() * 1000.0;
            values.insert(format!("{}.lag_ms", place.name), ms);
        }
    }
    series.add(seconds, |name| {
        values.get(name).copied().unwrap_or(f64::NAN)
    })
}

/// What a directory's files come to, MiB; those that go away meanwhile are nothing.
fn directory_mib(path: &Path) -> f64 {
    let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
    let size = |path: PathBuf| match path.is_dir() {
        true => directory_mib(&path),
        false => file_mib(&path),
    };
    entries.map(|entry| size(entry.path())).sum()
}

/// The version that a reader who comes now sees.
pub fn version_in(db: &Path) -> Result<u64, String> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let read = || -> rusqlite::Result<u64> {
        let conn = Connection::open_with_flags(db, flags)?;
        conn.busy_timeout(Duration::from_secs(5))?;
        conn.query_row("SELECT version FROM meta WHERE id = 1", [], |row| {
            row.get::<_, i64>(0)
        })
        .map(i64::cast_unsigned)
    };
    read().map_err(|e| e.to_string())
}
