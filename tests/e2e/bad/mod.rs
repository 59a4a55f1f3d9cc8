//! What readers may do to a replica, and do: everything that SQLite lets them. Replication goes on, other readers are not
//! disturbed, and the log stays bounded, or the status says who holds it.

pub mod acts;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::changes::beside;
use crate::support::checker::Required;
use crate::support::child::{Child, Spec};
use crate::support::cli::wait_status;
use crate::support::cluster::Cluster;
use crate::support::load::Load;
use crate::support::rng::Rng;
use crate::support::{Scratch, scaled, wait_for};

const MIB: u64 = 1 << 20;
const SOFT: u64 = MIB;
/// One transaction of the writer, and what is applied with it in one step, goes beyond the limit. The largest is a VACUUM of
/// all that it has, with 24 MiB of blobs; the exact limit is tested in `replica/tests/gather.rs`.
const BEYOND: u64 = 26 * MIB;

/// A cluster whose replica has small limits, under a load that could go on for hours, with the kit's readers.
fn small(scratch: &Scratch, seed: u64, hard: u64) -> (Cluster, Load) {
    let mut cluster = Cluster::new(scratch);
    for (option, bytes) in [("--wal-soft-limit", SOFT), ("--wal-hard-limit", hard)] {
        cluster.replica.arg(option);
        cluster.replica.arg(&format!("{}MiB", bytes / MIB));
    }
    let options = Spec::default().with("seed", seed).with("rate", 200);
    let mut load = Load::replicated(scratch.path(), &mut cluster, options, 20);
    let patient = Spec::default().with("hold_ms", 50);
    load.add_readers(cluster.replica_db(), &patient);
    (cluster, load)
}

fn log_bytes(db: &Path) -> u64 {
    std::fs::metadata(beside(db, "-wal")).map_or(0, |m| m.len())
}

/// The bad readers: each has a log of its own, and is started again when it killed itself.
struct Crowd {
    dir: PathBuf,
    db: PathBuf,
    seed: u64,
    started: u64,
    members: Vec<Child>,
}

impl Crowd {
    fn new(scratch: &Scratch, cluster: &Cluster, seed: u64, members: usize) -> Crowd {
        let mut crowd = Crowd {
            dir: scratch.path().to_owned(),
            db: cluster.replica_db().to_owned(),
            seed,
            started: 0,
            members: Vec::new(),
        };
        for _ in 0..members {
            let member = crowd.start();
            crowd.members.push(member);
        }
        crowd
    }

    fn log(&self) -> PathBuf {
        self.dir.join("bad.acts")
    }

    fn start(&mut self) -> Child {
        self.started += 1;
        let name = format!("bad{}", self.started);
        let spec = Spec::new("bad")
            .with_path("db", &self.db)
            .with_path("dir", &self.dir.join(&name))
            .with_path("log", &self.log())
            .with("seed", self.seed + self.started);
        Child::start(&self.dir, &name, spec)
    }

    /// Starts again who killed itself. Whoever ended otherwise has met what it should not.
    fn revive(&mut self) {
        for number in 0..self.members.len() {
            if self.members[number].is_running() {
                continue;
            }
            let ended = self.members[number].wait(std::time::Duration::ZERO);
            let killed = ended.is_ok_and(|status| {
                std::os::unix::process::ExitStatusExt::signal(&status) == Some(9)
            });
            assert!(killed, "a reader ended:\n{}", self.members[number].log());
            self.members[number] = self.start();
        }
    }

    /// How often each act ended in each way.
    fn done(&self) -> BTreeMap<String, u64> {
        let text = std::fs::read_to_string(self.log()).unwrap_or_default();
        text.lines().fold(BTreeMap::new(), |mut counts, line| {
            *counts.entry(line.to_owned()).or_insert(0) += 1;
            counts
        })
    }
}

#[test]
fn whatever_a_reader_does_others_are_not_disturbed() {
    let scratch = Scratch::new("bad");
    let seed = Rng::seed_for("bad readers", 1201);
    let (mut cluster, mut load) = small(&scratch, seed, 32 * MIB);
    let mut crowd = Crowd::new(&scratch, &cluster, seed, 2);
    let goal = scaled(12, 500);
    let mut largest = 0;
    for round in 1..=goal {
        wait_for("the next acts, and each act at last", || {
            crowd.revive();
            largest = largest.max(log_bytes(cluster.replica_db()));
            let done = crowd.done();
            let missing = acts::names().find(|name| {
                let times: u64 = done
                    .iter()
                    .filter(|(line, _)| line.split(' ').next() == Some(*name))
                    .map(|(_, times)| times)
                    .sum();
                times < round
            });
            missing.map_or(Ok(()), |name| {
                Err(format!("{name} was not done {round} times"))
            })
        });
        // Replication goes on meanwhile.
        cluster.wait_version(load.version());
    }
    for member in &mut crowd.members {
        member.kill9();
    }
    let report = load.stop_writer();
    let done = crowd.done();
    eprintln!("{} lives, log up to {largest}: {done:?}", crowd.started);
    cluster.assert_equal(report.or("version", 0));
    load.stop_readers();
    load.assert_right(&Required::new(50, 20, 10));
    assert_eq!(cluster.snapshots(), 1, "a copy had to be healed");
    assert!(largest <= 32 * MIB + BEYOND, "the log had {largest} bytes");
    for deed in ["die-reading now", "die-checkpointing now", "write 8"] {
        assert!(done.contains_key(deed), "{deed} never happened");
    }
}

#[test]
fn a_reader_that_holds_the_log_is_named_and_the_log_stays_bounded() {
    let scratch = Scratch::new("holder");
    let seed = Rng::seed_for("holder", 1202);
    let (mut cluster, mut load) = small(&scratch, seed, 16 * MIB);
    let held = scratch.join("holder.acts");
    let spec = Spec::new("bad")
        .with_path("db", cluster.replica_db())
        .with_path("dir", &scratch.join("holder"))
        .with_path("log", &held)
        .with("hold", 1);
    let mut holder = Child::start(scratch.path(), "holder", spec);
    wait_for("the transaction to begin", || {
        std::fs::read_to_string(&held).map_err(|e| e.to_string())
    });
    let named = format!("(process {})", holder.pid());
    let address = cluster.replica_addr();
    let reason = wait_status(address, "the status to say who", |_, reason| {
        reason.contains("cannot begin anew") && reason.contains(&named)
    });
    eprintln!("{reason}");
    // The application goes on, and so do the others, with what is there.
    let mut largest = 0;
    for _ in 0..scaled(10, 200) {
        load.wait_commits(20);
        load.wait_logged('r', 2);
        largest = largest.max(log_bytes(cluster.replica_db()));
    }
    assert!(largest <= 16 * MIB + BEYOND, "the log has {largest} bytes");
    assert!(largest > SOFT, "nothing held it");
    assert!(holder.is_running(), "{}", holder.log());
    holder.kill9();
    cluster.wait_version(load.version());
    wait_status(address, "nothing to say any more", |_, reason| {
        !reason.contains("cannot begin anew")
    });
    let report = load.stop_writer();
    cluster.assert_equal(report.or("version", 0));
    load.stop_readers();
    load.assert_right(&Required::new(100, 20, 10));
    assert_eq!(cluster.snapshots(), 1, "the log would have done");
}
