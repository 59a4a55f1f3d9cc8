//! A cluster to which something happens all the time, in an order that a seed gives.

mod fault;

use crate::shared::Shared;
use crate::site::{HEAL_BOUND, Setup, Site, Watched};
use crate::steady::{Pace, readers};
use crate::support::child::{Spec, run as run_child};
use crate::support::rng::Rng;
use fault::{Fault, all_faults};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub const NAME: &str = "storm";

/// As the steady one's, but for VACUUM: it would move what is to be damaged.
const MIX: &str = "one:600,hundred:60,blob:30,ddl:20,grow:4,shrink:4,massdel:1,savepoint:20,rollback:4,ckpt:12,reopen:6,hold:10";

const SIDES: [&str; 2] = ["primary", "replica"];

/// The line of a replica that gives its copy up.
const HEALS: &str = "a snapshot heals it";

/// Text in a table that no checker looks at, and nothing else writes.
pub const BALLAST: &str = "0ballast";

struct Storm {
    site: Site,
    rng: Rng,
    dir: PathBuf,
    /// The operations of the disk that each side has met.
    names: BTreeMap<&'static str, BTreeSet<String>>,
}

fn plan_file(dir: &Path, side: &str) -> PathBuf {
    dir.join(format!("faults-{side}"))
}

fn met_file(dir: &Path, side: &str) -> PathBuf {
    dir.join(format!("met-{side}"))
}

fn setup(dir: &Path, seed: u64, pace: Pace) -> Setup {
    let envs = |side| {
        vec![
            (
                "WALCAST_FAULTS_FILE".to_owned(),
                plan_file(dir, side).display().to_string(),
            ),
            (
                "WALCAST_FAULTS_MET".to_owned(),
                met_file(dir, side).display().to_string(),
            ),
        ]
    };
    let retain = format!("{}s", pace.retain.as_secs());
    Setup {
        name: NAME,
        primary_args: ["--retain-age", &retain, "--retain-size", "32MiB"]
            .map(str::to_owned)
            .to_vec(),
        replica_args: ["--scrub-interval", "3s", "--wal-soft-limit", "4MiB"]
            .map(str::to_owned)
            .to_vec(),
        primary_env: envs("primary"),
        replica_env: envs("replica"),
        load: Spec::default()
            .with("seed", seed)
            .with("rate", pace.rate)
            .with("blob_kb", 64)
            .with("max_mb", 2)
            .with("mix", MIX),
        readers: readers(Duration::from_secs(4)),
        local_reader: false,
        prepare: |db| {
            let conn = rusqlite::Connection::open(db).expect("open");
            conn.busy_timeout(Duration::from_secs(10))
                .expect("set the busy timeout");
            let text = BALLAST.repeat(8000);
            conn.execute_batch(&format!(
                "CREATE TABLE ballast(id INTEGER PRIMARY KEY, data TEXT);
                 INSERT INTO ballast VALUES(1, '{text}');"
            ))
            .expect("write the ballast");
        },
    }
}

/// Until the run is over.
///
/// # Errors
/// What made it end early.
pub fn run(
    shared: &Arc<Shared>,
    dir: &Path,
    seed: u64,
    pace: Pace,
    watched: &Arc<Mutex<Watched>>,
) -> Result<(), String> {
    std::fs::create_dir_all(dir).map_err(|e| e.to_string())?;
    for side in SIDES {
        std::fs::write(plan_file(dir, side), "").map_err(|e| e.to_string())?;
    }
    let mut storm = Storm {
        site: Site::start(shared, dir, setup(dir, seed, pace), watched),
        rng: Rng::new(seed),
        dir: dir.to_owned(),
        names: BTreeMap::new(),
    };
    let mut failed = 0;
    let mut rest_at = shared.clock.awake() + pace.epoch;
    let mut order = Vec::new();
    loop {
        shared.pause(Duration::from_millis(storm.rng.between(300, 4000)));
        if shared.is_over() || shared.clock.awake() >= rest_at {
            storm.site.rest()?;
            storm.forget_met()?;
            if shared.is_over() {
                return Ok(());
            }
            storm.site.go_on()?;
            rest_at = shared.clock.awake() + pace.epoch;
            continue;
        }
        // Each once in an order of its own, and again: none is left to chance.
        if order.is_empty() {
            order = all_faults();
        }
        let fault = order.swap_remove(storm.rng.below(order.len() as u64) as usize);
        storm.site.calm(false);
        let result = storm.one(fault);
        storm.plan("primary", "");
        storm.plan("replica", "");
        match result {
            Ok(Some(time)) => shared.healed(&format!("{NAME}, {}", fault.name()), time),
            Ok(None) => {}
            Err(why) => {
                let logs = [&storm.site.cluster.primary, &storm.site.cluster.replica]
                    .map(|server| server.log());
                let [primary, replica] = logs.each_ref().map(|log| crate::support::proc::tail(log));
                shared.fail(&format!(
                    "{NAME}, {}: {why}\n--- primary\n{primary}\n--- replica\n{replica}",
                    fault.name()
                ));
                storm.site.keep_evidence();
                failed += 1;
                if failed >= 3 {
                    return Err("the third fault that did not heal".to_owned());
                }
            }
        }
        storm.site.calm(true);
    }
}

impl Storm {
    /// From the fault's begin until it is healed: how long that took from the fault's end. `None`: it did not come to it.
    fn one(&mut self, fault: Fault) -> Result<Option<Duration>, String> {
        match fault {
            Fault::KillApplication => {
                self.site.load.kill_writer();
                self.site.load.start_writer();
                self.site.publish();
            }
            Fault::KillReaders => {
                self.site.load.kill_readers();
                self.site.load.restart_readers();
                self.site.publish();
            }
            Fault::KillServer(side) => {
                self.kill_server(side)?;
                // Sometimes long enough for the application to begin its log anew.
                if self.rng.one_in(2) {
                    let alone = Duration::from_millis(self.rng.between(10, 4000));
                    self.site.shared.pause(alone);
                }
                self.site.start_server(side);
            }
            Fault::KillAll => {
                self.site.load.kill_writer();
                self.site.load.kill_readers();
                for side in SIDES {
                    self.kill_server(side)?;
                }
                self.site.load.start_writer();
                self.site.start_server("primary");
                self.site.start_server("replica");
                self.site.load.restart_readers();
                self.site.publish();
            }
            Fault::StopApplication => {
                let pid = self.site.load.pids().0.ok_or("no application")?;
                self.stopped(pid)?;
            }
            Fault::StopServer(side) => {
                let pid = self.site.server(side).pid().ok_or("no server")?;
                self.stopped(pid)?;
            }
            Fault::Network(fault) => fault.strike(&self.site, &mut self.rng),
            Fault::Disk(side) => return self.disk(side),
            Fault::Full(side) => return self.full(side),
            Fault::DamagedByte => self.damage()?,
            Fault::ForeignHeader => self.foreign_header()?,
            Fault::Checkpoint => {
                let mode = ["PASSIVE", "FULL", "RESTART", "TRUNCATE"][self.rng.below(4) as usize];
                self.child("checkpoint", Spec::new("checkpoint").with("mode", mode))?;
            }
        }
        self.site.wait_healed(&|_| false).map(Some)
    }

    fn kill_server(&mut self, side: &'static str) -> Result<(), String> {
        if self.site.server(side).kill9() {
            return Ok(());
        }
        let log = self.site.server(side).log();
        self.site.start_server(side);
        Err(format!("the {side} had ended before it was killed:\n{log}"))
    }

    /// SIGSTOP for a while.
    fn stopped(&mut self, pid: u32) -> Result<(), String> {
        let time = Duration::from_millis(self.rng.below(5000));
        self.site.stopped(pid, || self.site.shared.pause(time))
    }

    /// A helper that does something to the copy.
    fn child(&self, name: &str, spec: Spec) -> Result<Spec, String> {
        let spec = spec.with_path("db", self.site.cluster.replica_db());
        run_child(&self.dir, name, spec)
    }

    /// What fails from now on. In one step: a half-written plan would be no plan.
    fn plan(&self, side: &str, text: &str) {
        let (new, file) = (self.dir.join("faults-new"), plan_file(&self.dir, side));
        let written = std::fs::write(&new, text).and_then(|()| std::fs::rename(&new, &file));
        if let Err(error) = written {
            self.site
                .shared
                .fail(&format!("{}: {error}", file.display()));
        }
    }

    /// How many times a rule struck since the last rest.
    fn struck(&self, side: &str) -> usize {
        let text = std::fs::read_to_string(met_file(&self.dir, side)).unwrap_or_default();
        text.lines().filter(|line| line.ends_with('!')).count()
    }

    /// The operations that a side has met.
    fn met(&mut self, side: &'static str) -> Vec<String> {
        let text = std::fs::read_to_string(met_file(&self.dir, side)).unwrap_or_default();
        let names = self.names.entry(side).or_default();
        names.extend(
            text.lines()
                .filter_map(|line| Some(line.split_once(' ')?.0.to_owned())),
        );
        names.iter().cloned().collect()
    }

    /// What was met is known by now; the files must not grow for hours.
    fn forget_met(&mut self) -> Result<(), String> {
        for side in SIDES {
            self.met(side);
            let file = std::fs::File::options()
                .write(true)
                .open(met_file(&self.dir, side));
            file.and_then(|file| file.set_len(0))
                .map_err(|e| format!("what the {side} met: {e}"))?;
        }
        Ok(())
    }

    fn disk(&mut self, side: &'static str) -> Result<Option<Duration>, String> {
        const ACTIONS: [&str; 6] = ["eio", "enospc", "short", "eintr", "stall", "kill"];
        let action = ACTIONS[self.rng.below(6) as usize];
        let (names, struck) = (self.met(side), self.struck(side));
        let name = &names[self.rng.below(names.len() as u64) as usize];
        self.plan(side, &format!("{name}={action}@1"));
        let told = format!("{name} /");
        let excused = move |log: &str| action == "kill" || log.contains(&told);
        // Much is done only at a start.
        if self.rng.one_in(2) {
            self.kill_server(side)?;
            if let Err(why) = self.site.try_start_server(side) {
                excused(&why).then_some(()).ok_or(why)?;
                self.plan(side, "");
                self.site.server(side).kill9();
                self.site.start_server(side);
            }
        }
        let limit = Duration::from_millis(3000);
        let strikes = || match self.struck(side) {
            now if now > struck => Ok(()),
            _ => Err(String::new()),
        };
        let _in_vain = self.site.wait("strike", limit, strikes);
        let hit = self.struck(side) > struck;
        self.plan(side, "");
        let time = self.site.wait_healed(&excused)?;
        let what = if hit { "struck" } else { "were not met" };
        self.site.shared.count(
            &format!("{NAME}: planned faults of the disk that {what}"),
            1,
        );
        Ok(hit.then_some(time))
    }

    fn full(&mut self, side: &'static str) -> Result<Option<Duration>, String> {
        const VERBS: [&str; 6] = ["append", "write", "record", "create", "sync", "grow"];
        let (mut names, struck) = (self.met(side), self.struck(side));
        names.retain(|name| VERBS.iter().any(|verb| name.ends_with(verb)));
        if names.is_empty() {
            return Err(format!("the {side} writes nothing"));
        }
        // All at once, or one kind.
        let plan = if self.rng.one_in(2) {
            names.iter().map(|name| format!("{name}=enospc;")).collect()
        } else {
            format!(
                "{}=enospc",
                names[self.rng.below(names.len() as u64) as usize]
            )
        };
        self.plan(side, &plan);
        let time = Duration::from_millis(self.rng.between(200, 4000));
        self.site.shared.pause(time);
        self.plan(side, "");
        let excused = |log: &str| log.contains("No space left");
        let time = self.site.wait_healed(&excused)?;
        Ok((self.struck(side) > struck).then_some(time))
    }

    fn damage(&mut self) -> Result<(), String> {
        let heals = |site: &Site| site.cluster.replica.log().matches(HEALS).count();
        let before = heals(&self.site);
        let report = self.child("damage", Spec::new("damage").with("flip", 1))?;
        if report.get("found") != Some("1") {
            self.site
                .shared
                .count(&format!("{NAME}: no byte of the ballast to damage"), 1);
            return Ok(());
        }
        let at = report.or("at", 0u64);
        let began = self.site.shared.clock.awake();
        loop {
            if heals(&self.site) > before {
                return Ok(());
            }
            let look = Spec::new("damage").with("flip", 0).with("at", at);
            if self.child("look", look)?.get("whole") == Some("1") {
                self.site.shared.count(
                    &format!("{NAME}: damaged bytes that were overwritten at once"),
                    1,
                );
                return Ok(());
            }
            if self.site.shared.clock.awake() > began + HEAL_BOUND {
                return Err(format!("the damaged byte {at} of the copy is not found"));
            }
            self.site.shared.pause(Duration::from_millis(500));
            if self.site.shared.is_stopped() {
                std::thread::sleep(Duration::from_millis(500));
            }
        }
    }

    /// While the application rests, and where the log ends stays as it was: so what readers see does.
    fn foreign_header(&mut self) -> Result<(), String> {
        let pid = self.site.load.pids().0.ok_or("no application")?;
        let published = self.site.stopped(pid, || {
            self.site.wait_same_position()?;
            // Whatever walcast does to its log in a pause is done by then.
            std::thread::sleep(Duration::from_secs(1));
            self.child("header", Spec::new("header"))
        })?;
        published.map(drop)
    }
}
