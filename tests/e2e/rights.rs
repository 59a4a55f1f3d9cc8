//! Readers that cannot write: another user of the group, and a read-only mount. Same promises,
//! but for the time between a kill in the middle of a publication and the restart.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::support::checker::Required;
use crate::support::child::Spec;
use crate::support::cluster::Cluster;
use crate::support::load::{Load, MODES};
use crate::support::mount::{Mount, is_root};
use crate::support::proc::Walcast;
use crate::support::rng::Rng;
use crate::support::{Scratch, python, scaled, wait_for};

/// Neither walcast's user nor its reader's is root, whom no mode stops.
const WALCAST: u32 = 64101;
const GROUP: u32 = 64100;
const READER: u32 = 64102;

/// What a reader meets that cannot repair the wal-index itself (`SQLITE_READONLY_RECOVERY`).
const READONLY_RECOVERY: i32 = 264;

struct Scene {
    cluster: Cluster,
    load: Load,
    readers: usize,
    _mount: Option<Mount>,
    // Dropped last: the others have their files in it.
    _scratch: Scratch,
}

fn mode(path: &Path, mode: u32) {
    let permissions = std::fs::Permissions::from_mode(mode);
    std::fs::set_permissions(path, permissions).expect("set the mode");
}

/// Replaces the cluster's replica by the same one under another user.
fn as_walcast_user(scratch: &Scratch, cluster: &mut Cluster) {
    let side = cluster.replica_db().parent().expect("a directory");
    chown(side, Some(WALCAST), Some(GROUP)).expect("give the directory away");
    mode(side, 0o750);
    let (reuid, regid) = (format!("--reuid={WALCAST}"), format!("--regid={GROUP}"));
    let db = format!("app={}", cluster.replica_db().display());
    let upstream = format!("http://{}", cluster.proxy.addr());
    let args = [
        &reuid,
        &regid,
        "--clear-groups",
        env!("CARGO_BIN_EXE_walcast"),
        "replica",
        "--upstream",
        &upstream,
        "--db",
        &db,
        "--listen",
        "127.0.0.1:0",
    ];
    let setpriv = PathBuf::from("setpriv");
    cluster.replica = Walcast::with_program(scratch.path(), "replica", &setpriv, &args);
}

impl Scene {
    fn start(name: &str, seed: u64, mounted: bool) -> Self {
        let seed = Rng::seed_for(name, seed);
        let scratch = Scratch::new(name);
        // Readers of another user leave their logs here.
        mode(scratch.path(), 0o777);
        let mut cluster = Cluster::new(&scratch);
        as_walcast_user(&scratch, &mut cluster);
        let options = Spec::default()
            .with("seed", seed)
            .with("blob_kb", 256)
            .with("max_mb", 4)
            .with("rate", 300);
        let mut load = Load::replicated(scratch.path(), &mut cluster, options, 10);
        let side = cluster.replica_db().parent().expect("a directory");
        let (mount, user) = if mounted {
            let at = scratch.join("mounted");
            (Some(Mount::read_only(side, &at)), Spec::default())
        } else {
            (None, Spec::default().with("uid", READER).with("gid", GROUP))
        };
        let db = if mounted {
            scratch.join("mounted/app.db")
        } else {
            cluster.replica_db().to_owned()
        };
        let mut readers = MODES.len();
        for mode in MODES {
            load.add_reader(&db, mode, user.clone());
        }
        if python::available().is_some() {
            load.add_python_reader(&db, "short", user.clone());
            load.add_python_reader(&db, "long", user);
            readers += 2;
        }
        Self {
            cluster,
            load,
            readers,
            _mount: mount,
            _scratch: scratch,
        }
    }

    /// The readers work through the writer's load, and through kills and restarts.
    fn works_through_kills(mut self) {
        self.load.wait_logged('r', 10);
        let kills = scaled(3, 20);
        for _ in 0..kills {
            self.load.wait_commits(50);
            assert!(self.cluster.replica.kill9(), "the replica ended by itself");
            // They read on while nobody is there.
            self.load.wait_logged('r', 3);
            self.cluster.start_replica();
            self.cluster.wait_version(self.load.version());
        }
        self.load.wait_logged('r', 5);
        let report = self.load.stop_writer();
        self.cluster.assert_equal(report.or("version", 0));
        self.load.stop_readers();
        self.load.assert_right(&Required::new(kills * 50, 20, 3));
        assert_eq!(self.cluster.snapshots(), 1, "the log had every position");
    }

    /// The one moment in which they cannot read, and how long it lasts.
    fn meets_a_half_made_publication(mut self) {
        self.load.wait_logged('r', 5);
        for round in 1..=scaled(2, 10) {
            self.cluster.replica.kill9();
            self.cluster
                .replica
                .env("WALCAST_FAULTS", "publish.between-copies=kill@20");
            self.cluster.replica.spawn();
            let replica = &mut self.cluster.replica;
            wait_for("the replica's end between two header copies", || {
                if replica.is_running() {
                    Err("it runs".to_owned())
                } else {
                    Ok(())
                }
            });
            let killed = Instant::now();
            self.cluster.replica.kill9();
            // Every one of them meets it: otherwise this was not the phase.
            self.load.wait_logged('e', 1);
            let errors = self.load.logged('e');
            self.cluster.replica.env("WALCAST_FAULTS", "");
            let restarted = Instant::now();
            self.cluster.start_replica();
            self.load.wait_logged('r', 1);
            eprintln!(
                "round {round}: without walcast for {:?}; readable {:?} after the start of its next run; \
                 errors until then, in all rounds: {errors:?}",
                restarted - killed,
                restarted.elapsed(),
            );
            let settled = self.load.logged('e');
            self.cluster.wait_version(self.load.version());
            self.load.wait_logged('r', 3);
            assert_eq!(self.load.logged('e'), settled, "errors after the restart");
        }
        let report = self.load.stop_writer();
        self.cluster.assert_equal(report.or("version", 0));
        let met = self.load.logged('e');
        assert_eq!(met.len(), self.readers);
        self.load.stop_readers();
        let mut required = Required::new(20, 5, 2);
        required.allowed_errors.push(READONLY_RECOVERY);
        self.load.assert_right(&required);
        assert_eq!(self.cluster.snapshots(), 1, "the log had every position");
    }
}

#[test]
fn another_user_of_the_group_reads_through_kills() {
    if is_root("readers of another user") {
        Scene::start("rights-group", 601, false).works_through_kills();
    }
}

#[test]
fn a_read_only_mount_is_read_through_kills() {
    if is_root("a read-only mount") {
        Scene::start("rights-mount", 602, true).works_through_kills();
    }
}

#[test]
fn another_user_of_the_group_meets_a_half_made_publication() {
    if is_root("readers of another user") {
        Scene::start("rights-group-publish", 603, false).meets_a_half_made_publication();
    }
}

#[test]
fn a_read_only_mount_meets_a_half_made_publication() {
    if is_root("a read-only mount") {
        Scene::start("rights-mount-publish", 604, true).meets_a_half_made_publication();
    }
}

/// walcast's user with a primary of some commits, and the writer's report.
fn with_commits(scratch: &Scratch) -> (Cluster, Spec) {
    mode(scratch.path(), 0o777);
    let mut cluster = Cluster::new(scratch);
    as_walcast_user(scratch, &mut cluster);
    let options = Spec::default().with("commits", 20).with("blob_kb", 16);
    let mut load = Load::new(scratch.path(), cluster.primary_db(), options);
    load.start_writer();
    let report = load.finish_writer(crate::support::DEADLINE);
    cluster.start_primary();
    (cluster, report)
}

/// The log and the wal-index of a new replica are there before its file has its name: nobody else could make them.
#[test]
fn a_new_replica_is_read_as_soon_as_it_has_its_name() {
    if !is_root("readers that cannot write") {
        return;
    }
    let scratch = Scratch::new("rights-new");
    let (mut cluster, report) = with_commits(&scratch);
    let side = cluster.replica_db().parent().expect("a directory");
    let at = scratch.join("mounted");
    let _mount = Mount::read_only(side, &at);
    // The first is the name, the second its sync.
    cluster.replica.run_to_death("seed.rename=kill@2");
    let group = Spec::new("query").with("uid", READER).with("gid", GROUP);
    for (name, spec, db) in [
        ("mounted", Spec::new("query"), at.join("app.db")),
        ("group", group, cluster.replica_db().to_owned()),
    ] {
        let spec = spec
            .with_path("db", &db)
            .with("sql", "SELECT version FROM meta WHERE id = 1");
        let said = crate::support::child::run(scratch.path(), name, spec).expect("a report");
        assert_eq!(said.get("value"), report.get("version"), "{name}: {said:?}");
    }
    cluster.start_replica();
    cluster.assert_equal(report.or("version", 0));
}

/// Who cannot write the files is refused before anything else is looked at.
#[test]
fn another_user_cannot_write() {
    if !is_root("another user") {
        return;
    }
    let scratch = Scratch::new("rights-write");
    let (mut cluster, report) = with_commits(&scratch);
    cluster.start_replica();
    cluster.wait_version(report.or("version", 0));
    let file = std::fs::metadata(cluster.replica_db()).expect("the file");
    assert_eq!(file.permissions().mode() & 0o777, 0o640);
    for (uid, expected) in [(READER, "readonly"), (WALCAST, "readonly")] {
        let spec = Spec::new("query")
            .with("uid", uid)
            .with("gid", GROUP)
            .with_path("db", cluster.replica_db())
            .with("sql", "UPDATE meta SET version = 0 RETURNING version");
        let said = crate::support::child::run(scratch.path(), &format!("write{uid}"), spec);
        let error = said
            .expect("a report")
            .get("error")
            .unwrap_or_default()
            .to_owned();
        assert!(error.contains(expected), "user {uid}: {error}");
    }
    cluster.assert_equal(report.or("version", 0));
}
