//! What happens to a database beside ordinary commits: pauses and what needs the file alone, files
//! that are replaced or deleted, and a log that changes while nobody looks.

use std::path::{Path, PathBuf};

use rusqlite::Connection;

use crate::support::checker::Required;
use crate::support::child::Spec;
use crate::support::cli::{on, try_on, wait_status};
use crate::support::cluster::{Cluster, NAME};
use crate::support::compare::{compare, query};
use crate::support::load::Load;
use crate::support::proc::{position, wait_same_position};
use crate::support::rng::Rng;
use crate::support::{Scratch, wait_for};

pub const NEW_GENERATION: &str = "a new generation";

struct Scene {
    cluster: Cluster,
    load: Load,
    // Dropped last: the others have their files in it.
    scratch: Scratch,
}

impl Scene {
    /// Level, with readers on the replica and the writer at rest.
    fn at_rest(name: &str, seed: u64) -> Self {
        let seed = Rng::seed_for(name, seed);
        let scratch = Scratch::new(name);
        let mut cluster = Cluster::new(&scratch);
        let options = Spec::default()
            .with("seed", seed)
            .with("blob_kb", 128)
            .with("max_mb", 2)
            .with("rate", 500);
        let mut load = Load::replicated(scratch.path(), &mut cluster, options, 50);
        let replica = cluster.replica_db().to_owned();
        for mode in ["short", "long", "reconnect", "readonly"] {
            load.add_reader(&replica, mode, Spec::default());
        }
        load.wait_logged('r', 5);
        let mut scene = Self {
            cluster,
            load,
            scratch,
        };
        scene.rest();
        scene
    }

    /// Ends the writer; level and equal.
    fn rest(&mut self) -> u64 {
        let report = self.load.stop_writer();
        let version = report.or("version", 0);
        self.cluster.assert_equal(version).page_size
    }

    fn more(&mut self, commits: u64) -> u64 {
        self.load.start_writer();
        self.load.wait_commits(commits);
        self.rest()
    }

    fn generation(&self) -> String {
        generation(&self.cluster)
    }

    fn finish(mut self) -> usize {
        self.load.wait_logged('r', 3);
        self.load.stop_readers();
        self.load.assert_right(&Required::new(100, 10, 3));
        self.cluster.snapshots()
    }
}

pub fn generation(cluster: &Cluster) -> String {
    let text = wait_for("the primary's position", || {
        position(cluster.primary_addr(), NAME)
    });
    text.split('/').next().unwrap_or_default().to_owned()
}

pub fn connect(db: &Path) -> Connection {
    let conn = Connection::open(db).expect("open");
    conn.busy_timeout(std::time::Duration::from_secs(1))
        .expect("set the busy timeout");
    conn
}

pub fn pragma(conn: &Connection, text: &str) -> rusqlite::Result<String> {
    conn.query_row(&format!("PRAGMA {text}"), [], |r| r.get(0))
}

pub fn beside(db: &Path, suffix: &str) -> PathBuf {
    let mut path = db.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

pub fn remove_with_log(db: &Path) {
    for suffix in ["-wal", "-shm", ""] {
        let _may_be_gone = std::fs::remove_file(beside(db, suffix));
    }
}

#[test]
fn a_pause_without_a_change_keeps_the_generation() {
    let mut scene = Scene::at_rest("pause-nothing", 801);
    let before = scene.generation();
    let addr = scene.cluster.primary_addr();
    let said = on(addr, "pause", NAME);
    assert!(said.starts_with(&format!("paused at {before}/")), "{said}");
    wait_status(addr, "the pause in the status", |state, _| {
        state == "paused"
    });
    // The position is still known, and a second pause is no surprise.
    on(addr, "pause", NAME);
    let said = on(addr, "resume", NAME);
    assert!(said.contains("same generation"), "{said}");
    scene.more(50);
    // Once more, with commits during the pause that stay in the log.
    on(addr, "pause", NAME);
    let conn = connect(scene.cluster.primary_db());
    conn.execute_batch("PRAGMA wal_autocheckpoint = 0")
        .expect("no checkpoint");
    conn.execute_batch("CREATE TABLE during(x); INSERT INTO during VALUES(1)")
        .expect("write");
    let said = on(addr, "resume", NAME);
    assert!(said.contains("same generation"), "{said}");
    drop(conn);
    scene.more(50);
    assert_eq!(scene.generation(), before);
    assert_eq!(scene.finish(), 1, "nothing was missed");
}

#[test]
fn a_pause_for_another_journal_mode_and_page_size() {
    let mut scene = Scene::at_rest("pause-mode", 802);
    let addr = scene.cluster.primary_addr();
    let conn = connect(scene.cluster.primary_db());
    let refused = pragma(&conn, "journal_mode = DELETE").expect_err("walcast has the files");
    assert!(refused.to_string().contains("locked"), "{refused}");
    on(addr, "pause", NAME);
    assert_eq!(
        pragma(&conn, "journal_mode = DELETE").expect("alone"),
        "delete"
    );
    // Not in WAL mode: waited for, and said.
    let said = try_on(addr, "resume", NAME);
    assert_eq!(said.code, Some(5), "{said:?}");
    wait_status(addr, "the line that says how to switch", |state, reason| {
        state == "waiting" && reason.contains("journal_mode=WAL")
    });
    conn.execute_batch("PRAGMA page_size = 8192; VACUUM")
        .expect("another page size");
    assert_eq!(pragma(&conn, "journal_mode = WAL").expect("back"), "wal");
    drop(conn);
    assert_eq!(scene.more(60), 8192);
    assert_eq!(scene.cluster.primary.count_in_logs(NEW_GENERATION), 1);
    assert_eq!(scene.finish(), 2, "another page size needs a snapshot");
}

#[test]
fn a_pause_for_exclusive_locking() {
    let mut scene = Scene::at_rest("pause-exclusive", 803);
    let addr = scene.cluster.primary_addr();
    on(addr, "pause", NAME);
    let conn = connect(scene.cluster.primary_db());
    assert_eq!(
        pragma(&conn, "locking_mode = EXCLUSIVE").expect("alone"),
        "exclusive"
    );
    conn.execute_batch("CREATE TABLE alone(x); INSERT INTO alone VALUES(1)")
        .expect("write alone");
    let said = try_on(addr, "resume", NAME);
    assert_eq!(said.code, Some(5), "{said:?}");
    wait_status(addr, "who holds it", |state, reason| {
        state == "waiting" && reason.contains("EXCLUSIVE")
    });
    conn.execute_batch("INSERT INTO alone VALUES(2)")
        .expect("undisturbed");
    drop(conn);
    scene.more(60);
    scene.finish();
}

#[test]
fn the_database_is_replaced_by_another_file() {
    let mut scene = Scene::at_rest("replaced", 804);
    let db = scene.cluster.primary_db().to_owned();
    let other = scene.scratch.join("other.db");
    let conn = connect(&db);
    // The same state for readers, in other pages.
    conn.execute("VACUUM INTO ?1", [other.display().to_string()])
        .expect("copy");
    drop(conn);
    let conn = connect(&other);
    assert_eq!(pragma(&conn, "journal_mode = WAL").expect("switch"), "wal");
    conn.execute_batch("CREATE TABLE other(x)").expect("differ");
    drop(conn);
    for suffix in ["-wal", "-shm"] {
        let _may_be_gone = std::fs::remove_file(beside(&db, suffix));
    }
    std::fs::rename(&other, &db).expect("replace");
    scene.more(60);
    assert_eq!(scene.cluster.primary.count_in_logs(NEW_GENERATION), 1);
    assert_eq!(scene.finish(), 2);
}

#[test]
fn the_database_is_deleted_and_created_anew() {
    let mut scene = Scene::at_rest("deleted", 805);
    let (db, replica) = (
        scene.cluster.primary_db().to_owned(),
        scene.cluster.replica_db().to_owned(),
    );
    let addr = scene.cluster.primary_addr();
    remove_with_log(&db);
    wait_status(addr, "the missing file in the status", |state, reason| {
        state == "waiting" && reason.contains("does not exist")
    });
    // Whoever reads goes on with what was there.
    scene.load.wait_logged('r', 5);
    scene.load.stop_readers();
    scene.load.assert_right(&Required::new(50, 10, 1));
    let dir = scene.scratch.join("second");
    std::fs::create_dir(&dir).expect("a directory for another history");
    let options = Spec::default()
        .with("seed", 99)
        .with("page_size", 1024)
        .with("blob_kb", 16);
    scene.load = Load::new(&dir, &db, options.with("rate", 500));
    scene.load.start_writer();
    scene.load.wait_commits(60);
    // Versions begin anew: the old one is not the new one's state.
    wait_for("the new database on the replica", || {
        let size = query(scene.scratch.path(), &replica, "PRAGMA page_size")?;
        if size == "1024" { Ok(()) } else { Err(size) }
    });
    for mode in ["short", "reconnect"] {
        scene.load.add_reader(&replica, mode, Spec::default());
    }
    assert_eq!(scene.rest(), 1024);
    scene.more(50);
    assert_eq!(scene.finish(), 2);
}

#[test]
fn the_log_is_restarted_while_the_primary_is_down() {
    let mut scene = Scene::at_rest("restarted", 806);
    let before = scene.generation();
    scene.cluster.primary.kill9();
    scene.load.start_writer();
    scene.load.wait_commits(30);
    let conn = connect(scene.cluster.primary_db());
    wait_for("a checkpoint that restarts the log", || {
        let busy: i64 = conn
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |r| r.get(0))
            .map_err(|e| e.to_string())?;
        if busy == 0 {
            Ok(())
        } else {
            Err("busy".to_owned())
        }
    });
    drop(conn);
    scene.load.wait_commits(30);
    scene.cluster.start_primary();
    scene.rest();
    assert_ne!(scene.generation(), before);
    let log = scene.cluster.primary.log();
    let why = log.lines().find(|l| l.contains(NEW_GENERATION));
    let why = why.unwrap_or_else(|| panic!("no reason in the log:\n{log}"));
    eprintln!("{why}");
    assert!(
        why.contains("was reset") || why.contains("was changed"),
        "{why}"
    );
    assert_eq!(scene.finish(), 2);
}

/// Nothing was written, but the log is gone: only the content can prove that nothing was missed.
#[test]
fn the_last_connection_is_closed_while_the_primary_is_down() {
    let mut scene = Scene::at_rest("closed", 807);
    let before = scene.generation();
    for round in 0..2 {
        let keep = connect(scene.cluster.primary_db());
        // A connection that read nothing has no log open, and deletes none.
        keep.query_row("SELECT count(*) FROM meta", [], |_| Ok(()))
            .expect("read");
        if round == 0 {
            scene.cluster.primary.kill9();
        } else {
            assert!(scene.cluster.primary.terminate().success());
        }
        keep.close().expect("close the last connection");
        let log = beside(scene.cluster.primary_db(), "-wal");
        assert!(!log.exists(), "the close did not delete the log");
        scene.cluster.start_primary();
        // Asked before anything is written: what is written and copied into the file before walcast holds the log
        // makes a proof impossible, and rightly begins a new generation.
        assert_eq!(scene.generation(), before, "the content proves it");
        scene.more(50);
    }
    assert_eq!(scene.generation(), before);
    assert_eq!(scene.finish(), 1);
}

#[test]
fn attached_databases_in_one_transaction() {
    let scratch = Scratch::new("attached");
    let mut cluster = Cluster::new(&scratch);
    let (one, copy_of_one) = (
        cluster.primary_db().to_owned(),
        cluster.replica_db().to_owned(),
    );
    let (two, copy_of_two) = (
        one.with_file_name("two.db"),
        copy_of_one.with_file_name("two.db"),
    );
    for (side, path) in [
        (&mut cluster.primary, &two),
        (&mut cluster.replica, &copy_of_two),
    ] {
        side.arg("--db");
        side.arg(&format!("two={}", path.display()));
    }
    let conn = connect(&one);
    conn.execute("ATTACH ?1 AS two", [two.display().to_string()])
        .expect("attach");
    for schema in ["main", "two"] {
        assert_eq!(
            pragma(&conn, &format!("{schema}.journal_mode = WAL")).expect("switch"),
            "wal"
        );
    }
    conn.execute_batch("CREATE TABLE main.t(n); CREATE TABLE two.t(n)")
        .expect("create");
    cluster.start_primary();
    cluster.start_replica();
    for n in 0..300 {
        conn.execute_batch(&format!(
            "BEGIN; INSERT INTO main.t VALUES({n}); INSERT INTO two.t VALUES({n}); COMMIT"
        ))
        .expect("commit in both");
    }
    for name in [NAME, "two"] {
        wait_same_position(cluster.primary_addr(), cluster.replica_addr(), name);
    }
    cluster.assert_pages_equal();
    compare(scratch.path(), &two, &copy_of_two).unwrap_or_else(|why| panic!("{why}"));
    for db in [&copy_of_one, &copy_of_two] {
        let sql = "SELECT count(*) || ' ' || max(n) FROM t";
        assert_eq!(query(scratch.path(), db, sql).as_deref(), Ok("300 299"));
    }
}
