//! The history checker, widened: applications of many connections, in threads and in processes at once, make databases of every
//! shape and write them in every way that `tests/common/crowd.txt` has; every state that a reader sees is one that they
//! committed, in order, by the digest of all its content.

use std::path::PathBuf;

use crate::support::checker::Required;
use crate::support::child::{Child, Spec};
use crate::support::cluster::{Cluster, NAME};
use crate::support::compare::compare;
use crate::support::crowd;
use crate::support::load::{Load, MODES};
use crate::support::plan::Plan;
use crate::support::proc::wait_same_position;
use crate::support::rng::Rng;
use crate::support::{Scratch, scaled, wait_for};

/// One database of the application, its copy, and who reads them.
struct Pair {
    name: &'static str,
    walcast_name: &'static str,
    primary: PathBuf,
    replica: PathBuf,
    load: Load,
}

/// Several processes of several threads at work on the same databases.
struct Crowd {
    processes: Vec<Child>,
    spec: Spec,
    started: u64,
    dir: PathBuf,
}

impl Crowd {
    fn start_one(&mut self) {
        self.started += 1;
        let who = format!("app{}", self.started);
        let seed = self.spec.or::<u64>("seed", 0) ^ self.started << 32;
        let spec = self.spec.clone().with("who", &who).with("seed", seed);
        self.processes.push(Child::start(&self.dir, &who, spec));
    }

    /// In the middle of whatever it does: what it left in the log is SQLite's to undo, and not ours to believe.
    fn kill_one(&mut self) {
        self.processes.remove(0).kill9();
    }

    fn stop(&mut self) -> Vec<Spec> {
        let stop = |mut process: Child| process.stop().unwrap_or_else(|why| panic!("{why}"));
        self.processes.drain(..).map(stop).collect()
    }

    fn assert_running(&mut self) {
        for process in &mut self.processes {
            assert!(process.is_running(), "it ended:\n{}", process.log());
        }
    }
}

/// A life of the databases with these settings; readers of the copy and of the original.
fn round(settings: &[(&str, &str)], attached: bool, seed: u64) {
    eprintln!("{settings:?}, attached: {attached}, seed {seed}");
    let mut rng = Rng::new(seed);
    let scratch = Scratch::new("histories");
    let mut cluster = Cluster::new(&scratch);
    let names: &[_] = if attached {
        &[("main", NAME), ("two", "two")]
    } else {
        &[("main", NAME)]
    };
    let mut spec = Spec::new("crowd")
        .with("seed", seed)
        .with("threads", rng.between(1, 3));
    let mut pairs = Vec::new();
    for &(name, walcast_name) in names {
        let dir = scratch.join(name);
        let histories = dir.join("history");
        std::fs::create_dir_all(&histories).expect("a directory for histories");
        let file = format!("{walcast_name}.db");
        let primary = cluster.primary_db().with_file_name(&file);
        let replica = cluster.replica_db().with_file_name(&file);
        if name != "main" {
            for (side, path) in [
                (&mut cluster.primary, &primary),
                (&mut cluster.replica, &replica),
            ] {
                side.arg("--db");
                side.arg(&format!("{walcast_name}={}", path.display()));
            }
        }
        crowd::create(&primary, settings, &histories.join("creation"), &mut rng);
        spec = spec
            .with_path(&format!("db.{name}"), &primary)
            .with_path(&format!("history.{name}"), &histories);
        let load = Load::new(&dir, &primary, Spec::default());
        pairs.push(Pair {
            name,
            walcast_name,
            primary,
            replica,
            load,
        });
    }
    let mut crowd = Crowd {
        processes: Vec::new(),
        spec,
        started: 0,
        dir: scratch.path().to_owned(),
    };
    for _ in 0..rng.between(2, 3) {
        crowd.start_one();
    }
    cluster.start_primary();
    cluster.start_replica();
    for pair in &mut pairs {
        let options = Spec::default()
            .with("content", 1)
            .with("wait_first", 1)
            .with("quick_every", 40)
            .with("pause_us", 3000)
            .with("hold_ms", 200);
        let mode = MODES[rng.below(4) as usize];
        pair.load.add_reader(&pair.replica, mode, options.clone());
        let mode = MODES[rng.below(4) as usize];
        pair.load.add_reader(&pair.replica, mode, options.clone());
        pair.load.add_reader(&pair.primary, "short", options);
    }
    let commits = scaled(200, 3000);
    wait_for_commits(&mut crowd, &pairs, commits / 2);
    crowd.kill_one();
    crowd.start_one();
    wait_for_commits(&mut crowd, &pairs, commits);
    for pair in &pairs {
        pair.load.wait_reads(10);
    }
    for report in crowd.stop() {
        eprintln!("{}", report.text().replace('\n', " "));
    }
    for mut pair in pairs {
        finish(&mut pair, &cluster, &scratch, commits);
    }
}

fn wait_for_commits(crowd: &mut Crowd, pairs: &[Pair], commits: u64) {
    wait_for(&format!("{commits} commits"), || {
        crowd.assert_running();
        let versions: Vec<u64> = pairs.iter().map(|pair| pair.load.version()).collect();
        if versions.iter().all(|version| *version >= commits) {
            return Ok(());
        }
        Err(format!("at {versions:?}"))
    });
}

/// The copy is level and equal, and nobody saw what never was.
fn finish(pair: &mut Pair, cluster: &Cluster, scratch: &Scratch, commits: u64) {
    let version = pair.load.version();
    let sql = "SELECT n FROM version";
    wait_for(&format!("version {version} on the replica"), || {
        let at = crate::support::compare::query(scratch.path(), &pair.replica, sql)?;
        // A commit whose process was killed before it could note it may be the last one.
        match at.parse::<u64>() {
            Ok(at) if at >= version => Ok(()),
            _ => Err(format!("it is at {at}")),
        }
    });
    let at = wait_same_position(
        cluster.primary_addr(),
        cluster.replica_addr(),
        pair.walcast_name,
    );
    let equal = compare(scratch.path(), &pair.primary, &pair.replica);
    let equal = equal.unwrap_or_else(|why| panic!("{why}"));
    pair.load.stop_readers();
    pair.load.assert_right(&Required::new(commits, 10, 3));
    eprintln!("{}: equal at {at}, version {version}: {equal:?}", pair.name);
}

#[test]
fn every_state_that_is_seen_was_committed() {
    let seed = Rng::seed_for("histories", 701);
    let mut rng = Rng::new(seed);
    let rounds = usize::try_from(scaled(8, 400)).expect("a count");
    let all = Plan::load().settings_by_turns("database", rounds, &mut rng);
    for (number, settings) in all.iter().enumerate() {
        round(settings, number % 4 == 1, rng.next());
    }
}
