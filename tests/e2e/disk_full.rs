//! A disk that is full, on either side: named, nothing damaged, nobody disturbed, and it goes on by
//! itself once there is space.

use std::path::PathBuf;

use rusqlite::Connection;

use crate::support::checker::Required;
use crate::support::child::Spec;
use crate::support::cli::wait_status;
use crate::support::cluster::{Cluster, NAME};
use crate::support::load::Load;
use crate::support::mount::{Mount, is_root};
use crate::support::proc::position;
use crate::support::rng::Rng;
use crate::support::{Scratch, scaled, wait_for};
use walcast::disk::File;
use walcast::sys::HashTable;

struct Scene {
    cluster: Cluster,
    load: Load,
    faults: PathBuf,
    // Dropped last: the others have their files in it.
    scratch: Scratch,
}

impl Scene {
    /// A writer, and both sides with a plan of faults that may change. Nothing else is started.
    fn new(name: &str, seed: u64) -> Self {
        let seed = Rng::seed_for(name, seed);
        let scratch = Scratch::new(name);
        let mut cluster = Cluster::new(&scratch);
        let faults = scratch.join("faults");
        std::fs::write(&faults, "").expect("write the plan");
        let path = faults.display().to_string();
        cluster.primary.env("WALCAST_FAULTS_FILE", &path);
        cluster.replica.env("WALCAST_FAULTS_FILE", &path);
        let options = Spec::default()
            .with("seed", seed)
            .with("blob_kb", 128)
            .with("max_mb", 2)
            .with("busy_timeout", 0)
            // Its own RESTART and TRUNCATE may be refused at no timeout; everything else must not be.
            .with(
                "mix",
                "one:60,hundred:10,blob:4,ddl:4,grow:2,shrink:2,massdel:1,savepoint:4,rollback:2",
            )
            .with("rate", 400);
        let mut load = Load::new(scratch.path(), cluster.primary_db(), options);
        load.start_writer();
        load.wait_commits(10);
        Self {
            cluster,
            load,
            faults,
            scratch,
        }
    }

    fn streaming(name: &str, seed: u64) -> Self {
        let mut scene = Self::new(name, seed);
        scene.cluster.start_primary();
        scene.cluster.start_replica();
        scene.cluster.wait_version(scene.load.version());
        let replica = scene.cluster.replica_db().to_owned();
        for mode in ["short", "long", "reconnect"] {
            scene.load.add_reader(&replica, mode, Spec::default());
        }
        scene
    }

    /// In one step: a half-written plan would be no plan.
    fn plan(&self, text: &str) {
        let new = self.scratch.join("faults.new");
        std::fs::write(&new, text).expect("write the plan");
        std::fs::rename(&new, &self.faults).expect("publish the plan");
    }

    /// Every disk operation of this name fails for as long as it takes to be said, and 150 commits more.
    fn full(&mut self, op: &str, side: fn(&Cluster) -> std::net::SocketAddr) {
        self.plan(&format!("{op}=enospc"));
        let named = |_: &str, reason: &str| reason.contains(op) && reason.contains("No space left");
        let reason = wait_status(side(&self.cluster), &format!("{op} in the status"), named);
        assert!(reason.contains("free some space"), "{reason}");
        self.load.wait_commits(150);
        self.load.wait_logged('r', 3);
        self.plan("");
        self.cluster.wait_version(self.load.version());
        wait_status(
            side(&self.cluster),
            &format!("the end of {op}"),
            |state, reason| state == "streaming" && reason.is_empty(),
        );
        eprintln!("{op}: {reason}");
    }

    fn finish(mut self, commits: u64) {
        self.load.wait_reads(10);
        let report = self.load.stop_writer();
        let busy: Vec<_> = report.prefixed("busy.").collect();
        assert!(busy.is_empty(), "the application met {busy:?}");
        self.cluster.assert_equal(report.or("version", 0));
        self.load.stop_readers();
        self.load.assert_right(&Required::new(commits, 10, 3));
        assert_eq!(self.cluster.snapshots(), 1, "the log had every position");
    }
}

#[test]
fn the_replica_has_no_space_for_its_log() {
    let mut scene = Scene::streaming("full-replica", 701);
    let rounds = scaled(1, 5);
    for _ in 0..rounds {
        for op in ["wal.append", "applied.write"] {
            scene.full(op, Cluster::replica_addr);
        }
    }
    scene.finish(rounds * 300);
}

#[test]
fn the_replica_has_no_space_for_its_position() {
    let mut scene = Scene::streaming("full-position", 702);
    for op in ["durable.write", "position.write"] {
        scene.full(op, Cluster::replica_addr);
    }
    scene.finish(300);
}

#[test]
fn the_primary_has_no_space_for_its_shadow_log() {
    let mut scene = Scene::streaming("full-primary", 703);
    let generation = |scene: &Scene| {
        let text = wait_for("the primary's position", || {
            position(scene.cluster.primary_addr(), NAME)
        });
        text.split('/').next().map(str::to_owned)
    };
    let before = generation(&scene);
    let rounds = scaled(1, 5);
    for _ in 0..rounds {
        for op in ["shadow.append", "shadow.record"] {
            scene.full(op, Cluster::primary_addr);
        }
    }
    assert_eq!(generation(&scene), before, "the hold was never broken");
    scene.finish(rounds * 300);
}

#[test]
fn the_replica_has_no_space_for_its_first_snapshot() {
    let mut scene = Scene::new("full-seed", 704);
    scene.cluster.start_primary();
    for op in ["seed.create", "seed.write", "seed.sync"] {
        scene.plan(&format!("{op}=enospc"));
        scene.cluster.start_replica();
        let addr = scene.cluster.replica_addr();
        let reason = wait_status(addr, &format!("{op} in the status"), |_, reason| {
            reason.contains(op) && reason.contains("No space left")
        });
        eprintln!("{op}: {reason}");
        scene.load.wait_commits(50);
        assert!(
            !scene.cluster.replica_db().exists(),
            "half a snapshot became visible"
        );
        scene.cluster.replica.kill9();
    }
    scene.cluster.start_replica();
    wait_status(
        scene.cluster.replica_addr(),
        "a full disk at the start",
        |_, reason| reason.contains("seed.sync"),
    );
    scene.plan("");
    let report = scene.load.stop_writer();
    let busy: Vec<_> = report.prefixed("busy.").collect();
    assert!(busy.is_empty(), "the application met {busy:?}");
    scene.cluster.assert_equal(report.or("version", 0));
}

/// A replica that has a filesystem of its own, level with a primary whose application goes on.
struct Small {
    cluster: Cluster,
    load: Load,
    // Unmounted after the servers are gone, and before the directory goes.
    disk: Mount,
    _scratch: Scratch,
}

impl Small {
    fn new(name: &str, seed: u64, size: &str, options: Spec) -> Self {
        let scratch = Scratch::new(name);
        let mut cluster = Cluster::new(&scratch);
        let side = cluster
            .replica_db()
            .parent()
            .expect("a directory")
            .to_owned();
        let disk = Mount::tmpfs(&side, size);
        let options = options
            .with("seed", Rng::seed_for(name, seed))
            .with("max_mb", 1);
        let load = Load::replicated(scratch.path(), &mut cluster, options, 10);
        Self {
            cluster,
            load,
            disk,
            _scratch: scratch,
        }
    }

    /// Adds a table of this size in one transaction.
    fn grow(&self, bytes: u64) {
        let conn = Connection::open(self.cluster.primary_db()).expect("open");
        conn.execute_batch(&format!(
            "CREATE TABLE ballast(data BLOB); INSERT INTO ballast VALUES(randomblob({bytes}))"
        ))
        .expect("grow");
    }

    fn wait_full(&self) {
        let reason = wait_status(
            self.cluster.replica_addr(),
            "the full disk in the status",
            |_, reason| reason.contains("No space left"),
        );
        eprintln!("full: {reason}");
    }

    fn end(mut self) {
        assert_eq!(self.cluster.snapshots(), 1, "the log had every position");
        // Before the files go: the mount must not be busy.
        self.cluster.replica.kill9();
    }
}

#[test]
fn a_filesystem_that_is_really_full() {
    if !is_root("a full filesystem") {
        return;
    }
    let options = Spec::default().with("blob_kb", 256).with("rate", 300);
    let mut small = Small::new("full-tmpfs", 705, "6m", options);
    let replica = small.cluster.replica_db().to_owned();
    for mode in ["short", "long", "reconnect"] {
        small.load.add_reader(&replica, mode, Spec::default());
    }
    small.load.wait_logged('r', 5);
    small.load.stop_writer();
    // More than the disk has.
    small.grow(12_000_000);
    small.wait_full();
    small.load.start_writer();
    small.load.wait_commits(100);
    small.load.wait_logged('r', 5);
    // Enough for all that a long reader keeps in the log until it ends.
    small.disk.resize("2g");
    small.cluster.wait_version(small.load.version());
    let report = small.load.stop_writer();
    small.cluster.assert_equal(report.or("version", 0));
    small.load.stop_readers();
    small.load.assert_right(&Required::new(110, 10, 2));
    small.end();
}

/// The log takes the disk's last byte while a reader holds it; then the reader ends, and nobody gives any space.
#[test]
fn a_log_that_filled_the_disk_makes_its_own_room() {
    if !is_root("a full filesystem") {
        return;
    }
    let options = Spec::default().with("blob_kb", 64).with("rate", 400);
    let mut small = Small::new("full-held", 706, "24m", options);
    let holder = Connection::open(small.cluster.replica_db()).expect("open");
    holder
        .execute_batch("BEGIN; SELECT count(*) FROM sqlite_master")
        .expect("hold the log");
    // The log has what the database file has no room for once the log has taken the rest.
    small.grow(4_000_000);
    small.wait_full();
    let report = small.load.stop_writer();
    holder.execute_batch("COMMIT").expect("let go");
    small.cluster.wait_version(report.or("version", 0));
    small.cluster.assert_equal(report.or("version", 0));
    drop(holder);
    small.end();
}

#[test]
fn a_table_that_grows_on_a_nearly_full_disk_takes_a_step() {
    if !is_root("a small filesystem") {
        return;
    }
    let scratch = Scratch::new("full-table");
    let at = scratch.join("disk");
    let _disk = Mount::tmpfs(&at, "64m");
    let free = || {
        let system = nix::sys::statvfs::statvfs(&at).expect("a file system");
        system.blocks_free() * system.fragment_size()
    };
    let mut table = HashTable::create(&at).expect("a table");
    let (before, held) = (free(), 20_u32 << 20);
    // A commit that claims the most pages that there can be.
    let error = table.reserve(u32::MAX).expect_err("more than the disk has");
    assert!(error.is_full(), "{error}");
    assert_eq!(free(), before);
    // Half of itself again is more than is left, a step is not.
    table.reserve(held / 8).expect("room");
    let rest = free() - (2 << 20);
    let filled = File::create("fill", &at.join("fill"), 0o600).expect("a file");
    filled.allocate("fill", rest).expect("room");
    table.reserve(held / 8 + 1).expect("room for a step");
    assert!(free() > 1 << 20, "{}", free());
    table.replace(held / 8 + 1, 7);
    assert_eq!(table.get(held / 8 + 1), 7);
}
