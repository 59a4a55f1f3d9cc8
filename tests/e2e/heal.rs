//! Damage on either disk: found, named, never applied, and healed in place under live readers.
//!
//! The damage is done in a table that the kit's readers do not look at: only checksums can see it,
//! and whatever a reader complains of is walcast's doing.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::Connection;

use crate::support::checker::Required;
use crate::support::child::Spec;
use crate::support::cluster::Cluster;
use crate::support::load::Load;
use crate::support::rng::Rng;
use crate::support::{Scratch, shadow, wait_for, walfile};

/// What the ballast consists of; text that nothing else writes.
const BALLAST: &str = "0ballast";
const IN_THE_LOG: &str = "1ballast";
/// The line of a replica whose copy is not what it left.
const UNPROVEN: &str = "at none of its recorded positions";
/// The line of a replica that gives its copy up.
pub const HEALS: &str = "a snapshot heals it";

pub struct Scene {
    pub cluster: Cluster,
    pub load: Load,
    // Dropped last: the others have their files in it.
    pub scratch: Scratch,
}

fn beside(db: &Path, suffix: &str) -> PathBuf {
    let mut path = db.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

/// Flips a bit in the middle of the last stretch of `pattern` in the file. No SQLite is open on
/// the replica's files in this process.
fn damage(path: &Path, pattern: &str) {
    let bytes = std::fs::read(path).expect("read the file");
    let stretch = pattern.repeat(100);
    let at = bytes
        .windows(stretch.len())
        .rposition(|w| w == stretch.as_bytes());
    flip(
        path,
        at.expect("the pattern in the file") + stretch.len() / 2,
    );
}

fn flip(path: &Path, at: usize) {
    let file = File::options()
        .read(true)
        .write(true)
        .open(path)
        .expect("open");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at as u64)
        .expect("read a byte");
    file.write_all_at(&[byte[0] ^ 0x10], at as u64)
        .expect("write a byte");
}

/// Flips a bit of `pattern` in a frame of the log that readers use now. False: none holds it (the
/// log began anew meanwhile).
fn damage_in_log(db: &Path, pattern: &str) -> bool {
    let open = |suffix| File::open(beside(db, suffix)).expect("open");
    let (shm, log) = (open("-shm"), open("-wal"));
    let index = walfile::index(&shm).expect("read").expect("a valid header");
    let wal = walfile::read(&log, index.mx_frame).expect("read");
    let Some(wal) = wal.filter(|wal| wal.salts == index.salts && wal.frames > 0) else {
        return false;
    };
    let stretch = pattern.repeat(100);
    for at in wal.pages.values() {
        let mut page = vec![0; wal.page_size as usize];
        walfile::read_at_most(&log, &mut page, *at).expect("read");
        if let Some(found) = page
            .windows(stretch.len())
            .position(|w| w == stretch.as_bytes())
        {
            let at = usize::try_from(*at).expect("a small file") + found + stretch.len() / 2;
            flip(&beside(db, "-wal"), at);
            return true;
        }
    }
    false
}

impl Scene {
    /// The writer at rest, walcast killed, and a byte damaged in the log that it left.
    fn damaged_log(&mut self) {
        self.load.stop_writer();
        for _ in 0..20 {
            self.write_ballast(IN_THE_LOG);
            self.cluster.wait_level();
            self.cluster.replica.kill9();
            if damage_in_log(self.cluster.replica_db(), IN_THE_LOG) {
                return;
            }
            self.cluster.start_replica();
            self.cluster.wait_level();
        }
        panic!("the log always began anew");
    }

    /// Level, with the ballast in the replica's file itself.
    pub fn new(name: &str, seed: u64, scrub: bool) -> Self {
        let seed = Rng::seed_for(name, seed);
        let scratch = Scratch::new(name);
        let mut cluster = Cluster::new(&scratch);
        if scrub {
            cluster.replica.arg("--scrub-interval=1s");
        }
        let options = Spec::default()
            .with("seed", seed)
            .with("blob_kb", 64)
            .with("max_mb", 1)
            // A VACUUM would move the ballast into the log.
            .with(
                "mix",
                "one:60,hundred:10,blob:4,ddl:4,grow:2,shrink:2,savepoint:4,ckpt:4,reopen:2,hold:3",
            )
            .with("rate", 300);
        let mut load = Load::new(scratch.path(), cluster.primary_db(), options);
        load.start_writer();
        load.wait_commits(20);
        load.stop_writer();
        let mut scene = Self {
            cluster,
            load,
            scratch,
        };
        scene.on_primary("CREATE TABLE ballast(id INTEGER PRIMARY KEY, data TEXT)");
        scene.write_ballast(BALLAST);
        scene.load.start_writer();
        scene.cluster.start_primary();
        scene.cluster.start_replica();
        scene.cluster.wait_version(scene.load.version());
        scene
    }

    fn on_primary(&self, sql: &str) {
        let conn = Connection::open(self.cluster.primary_db()).expect("open");
        conn.busy_timeout(Duration::from_secs(5))
            .expect("set the busy timeout");
        conn.execute_batch(sql).expect(sql);
    }

    pub fn write_ballast(&self, pattern: &str) {
        let text = pattern.repeat(8000);
        self.on_primary(&format!(
            "INSERT OR REPLACE INTO ballast VALUES(1, '{text}')"
        ));
    }

    pub fn readers(&mut self) {
        let replica = self.cluster.replica_db().to_owned();
        for mode in ["short", "long", "reconnect", "readonly"] {
            self.load.add_reader(&replica, mode, Spec::default());
        }
        self.load.wait_logged('r', 5);
    }

    pub fn stop_replica(&mut self) {
        assert!(self.cluster.replica.terminate().success());
    }

    /// Waits for the log's line; gives it.
    pub fn named(&self, needle: &str) -> String {
        wait_for(&format!("{needle:?} in the replica's log"), || {
            let log = self.cluster.replica.log();
            let line = log.lines().find(|l| l.contains(needle)).map(str::to_owned);
            line.ok_or(log)
        })
    }

    /// Writes go on, everything gets equal; gives the number of snapshots.
    pub fn finish(mut self) -> usize {
        self.load.wait_commits(30);
        self.load.wait_logged('r', 3);
        let report = self.load.stop_writer();
        self.cluster.assert_equal(report.or("version", 0));
        self.load.stop_readers();
        self.load.assert_right(&Required::new(50, 5, 2));
        self.cluster.snapshots()
    }
}

#[test]
fn a_byte_in_the_database_file_of_a_replica_that_is_down() {
    let mut scene = Scene::new("heal-file", 901, false);
    scene.readers();
    scene.stop_replica();
    damage(scene.cluster.replica_db(), BALLAST);
    scene.cluster.start_replica();
    eprintln!("{}", scene.named(HEALS));
    assert_eq!(scene.finish(), 2);
}

#[test]
fn a_byte_in_the_database_file_of_a_replica_on_an_idle_primary() {
    let mut scene = Scene::new("heal-idle", 902, false);
    scene.readers();
    let report = scene.load.stop_writer();
    scene.cluster.assert_equal(report.or("version", 0));
    scene.stop_replica();
    damage(scene.cluster.replica_db(), BALLAST);
    scene.cluster.start_replica();
    eprintln!("{}", scene.named(HEALS));
    // Without one commit.
    scene.cluster.wait_level();
    scene.cluster.assert_pages_equal();
    scene.load.start_writer();
    assert_eq!(scene.finish(), 2);
}

#[test]
fn a_byte_in_the_database_file_of_a_running_replica_is_found_by_the_scrub() {
    let mut scene = Scene::new("heal-scrub", 903, true);
    scene.readers();
    damage(scene.cluster.replica_db(), BALLAST);
    let line = scene.named("the scrub found page");
    assert!(line.contains(HEALS), "{line}");
    eprintln!("{line}");
    assert_eq!(scene.finish(), 2);
}

#[test]
fn a_scrub_of_a_sound_file_finds_nothing() {
    let mut scene = Scene::new("heal-sound", 904, true);
    scene.readers();
    scene.load.wait_commits(600);
    assert_eq!(scene.cluster.replica.count_in_logs(HEALS), 0);
    assert_eq!(scene.finish(), 1);
}

/// With readers there the wal-index outlives walcast, and nobody recovers the log.
#[test]
fn a_byte_in_the_log_of_a_replica_that_is_down_under_readers() {
    let mut scene = Scene::new("heal-log-readers", 905, false);
    scene.readers();
    scene.damaged_log();
    scene.cluster.start_replica();
    eprintln!("{}", scene.named(UNPROVEN));
    scene.load.start_writer();
    // The primary's log from the durable position on may hold the page once more, or it does not.
    let snapshots = scene.finish();
    assert!((1..=2).contains(&snapshots), "{snapshots} snapshots");
}

/// Without them SQLite recovers the log up to the damage: an older state, with all that follows
/// still in the primary's log.
#[test]
fn a_byte_in_the_log_of_a_replica_that_is_down_alone() {
    let mut scene = Scene::new("heal-log-alone", 906, false);
    scene.damaged_log();
    scene.load.start_writer();
    scene.cluster.start_replica();
    scene.cluster.wait_version(scene.load.version());
    scene.readers();
    let snapshots = scene.finish();
    eprintln!("{snapshots} snapshots in all");
}

fn segments(db: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut dirs = vec![shadow::directory(db).join("generations")];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                dirs.push(path);
            } else {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

#[test]
fn a_byte_in_the_shadow_log_that_a_replica_needs() {
    let mut scene = Scene::new("heal-shadow", 907, false);
    scene.readers();
    scene.stop_replica();
    let before = segments(scene.cluster.primary_db());
    let fresh = wait_for("new files of a complete index in the shadow log", || {
        scene.load.wait_commits(20);
        let mut now = segments(scene.cluster.primary_db());
        now.retain(|path| !before.contains(path));
        match (now.get(1), now.last()) {
            (Some(a), Some(b)) if a.parent() != b.parent() => Ok(now),
            _ => Err(format!("{now:?}")),
        }
    });
    // What was captured lately would come from memory.
    scene.load.stop_writer();
    assert!(scene.cluster.primary.terminate().success());
    let victim = &fresh[1];
    let len = std::fs::metadata(victim).expect("its size").len();
    flip(victim, usize::try_from(len / 2).expect("a small file"));
    scene.cluster.start_primary();
    scene.cluster.start_replica();
    wait_for("the damage in the primary's log", || {
        let log = scene.cluster.primary.log();
        let line = log
            .lines()
            .find(|l| l.contains("the shadow WAL is damaged"));
        let name = victim.file_name().unwrap_or_default().to_string_lossy();
        match line {
            Some(line) if line.contains(&*name) => {
                eprintln!("{line}");
                Ok(())
            }
            _ => Err(format!("{name} is not named:\n{log}")),
        }
    });
    scene.load.start_writer();
    assert_eq!(scene.finish(), 2);
}
