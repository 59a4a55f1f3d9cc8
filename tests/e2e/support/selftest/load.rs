//! Writer and readers on one plain SQLite database: they pass there, and planted faults are seen.

use std::time::Duration;

use rusqlite::Connection;

use super::{open, populated};
use crate::support::checker::Required;
use crate::support::child::{Child, Spec};
use crate::support::load::{Load, MODES};
use crate::support::rng::Rng;
use crate::support::{DEADLINE, Scratch, compare, python, scaled, wait_for};

#[test]
fn all_readers_pass_beside_the_full_mix() {
    let scratch = Scratch::new("fullmix");
    let seed = Rng::seed_for("full mix on plain SQLite", 11);
    let db = scratch.join("app.db");
    let options = Spec::default()
        .with("seed", seed)
        .with("blob_kb", 512)
        .with("max_mb", 8);
    let mut load = Load::new(scratch.path(), &db, options);
    load.add_readers(
        &db,
        &Spec::default().with("wait_first", 1).with("hold_ms", 100),
    );
    load.start_writer();
    load.wait_commits(scaled(400, 4000));
    load.wait_reads(20);
    let report = load.stop_writer();
    load.stop_readers();
    load.assert_right(&Required::new(scaled(400, 4000), 20, 3));
    let history = load.read_history();
    assert_eq!(report.or("version", 0), history.last);
    let seen = compare::query(scratch.path(), &db, "SELECT version FROM meta").expect("query");
    assert_eq!(seen, history.last.to_string());
}

#[test]
fn the_same_seed_makes_the_same_database() {
    let run = |commits: u64| {
        let scratch = Scratch::new("seed");
        let options = Spec::default()
            .with("seed", 3)
            .with("commits", commits)
            .with("blob_kb", 64);
        let mut load = Load::new(scratch.path(), &scratch.join("app.db"), options);
        load.start_writer();
        let report = load.finish_writer(DEADLINE);
        assert_eq!(load.read_history().committed, report.or("version", 0));
        report.get("state").expect("a state").to_owned()
    };
    let first = run(50);
    assert_eq!(first, run(50));
    assert_ne!(first, run(51));
}

#[test]
fn the_writer_meets_no_busy_when_nobody_disturbs_it() {
    let scratch = Scratch::new("quiet");
    let load_options = Spec::default()
        .with("busy_timeout", 0)
        .with("autocheckpoint", 1);
    let mut load = Load::new(scratch.path(), &scratch.join("app.db"), load_options);
    load.start_writer();
    load.wait_commits(100);
    let report = load.stop_writer();
    let busy: Vec<_> = report.prefixed("busy.").collect();
    assert!(busy.is_empty(), "{busy:?}");
}

#[test]
fn the_writer_counts_the_busy_that_somebody_adds() {
    let scratch = Scratch::new("disturbed");
    let options = Spec::default()
        .with("busy_timeout", 0)
        .with("mix", "one")
        .with("conns", 1);
    let mut load = Load::new(scratch.path(), &scratch.join("app.db"), options);
    load.start_writer();
    load.wait_commits(1);
    let other = open(&scratch);
    other
        .busy_timeout(Duration::from_secs(10))
        .expect("timeout");
    for _ in 0..3 {
        other
            .execute_batch("BEGIN IMMEDIATE")
            .expect("take the lock");
        // The writer is at work: with a timeout of 0 it meets the lock again and again.
        std::thread::sleep(Duration::from_millis(20));
        other.execute_batch("ROLLBACK").expect("let go");
        load.wait_commits(1);
    }
    let report = load.stop_writer();
    let busy: u64 = report
        .prefixed("busy.one.")
        .map(|(_, n)| n.parse().unwrap_or(0))
        .sum();
    assert!(busy > 0, "{report:?}");
    load.assert_right(&Required::new(4, 0, 0));
}

#[test]
fn a_killed_writer_goes_on_where_it_was() {
    let scratch = Scratch::new("killed");
    let db = scratch.join("app.db");
    let seed = Rng::seed_for("killed writer", 17);
    let mut rng = Rng::new(seed);
    let options = Spec::default()
        .with("seed", seed)
        .with("blob_kb", 256)
        .with("max_mb", 4);
    let mut load = Load::new(scratch.path(), &db, options);
    load.add_reader(&db, "short", Spec::default().with("wait_first", 1));
    let kills = scaled(5, 30);
    for _ in 0..kills {
        load.start_writer();
        load.wait_commits(rng.between(1, 60));
        load.kill_writer();
    }
    load.start_writer();
    load.wait_commits(10);
    load.wait_reads(5);
    load.stop_writer();
    load.stop_readers();
    load.assert_right(&Required::new(kills + 10, 5, 2));
    assert_eq!(load.read_history().starts, kills + 1);
}

#[test]
fn the_python_writer_goes_on_with_the_same_promises() {
    if python::available().is_none() {
        return;
    }
    let scratch = Scratch::new("pywriter");
    let mut load = populated(&scratch, Spec::default());
    let db = scratch.join("app.db");
    for mode in MODES {
        load.add_python_reader(&db, mode, Spec::default().with("hold_ms", 50));
    }
    load.add_reader(&db, "short", Spec::default());
    load.start_python_writer();
    load.wait_reads(10);
    let report = load.finish_writer(DEADLINE);
    load.stop_readers();
    assert_eq!(report.or("version", 0u64), load.read_history().last);
    load.assert_right(&Required::new(120, 10, 1));
}

/// Without a transaction a reader really sees parts of different commits, as it would on a replica
/// that publishes half of one: short and long reads, in both languages, must notice.
#[test]
fn a_reader_notices_a_mixture_of_states() {
    let has_python = python::available().is_some();
    for mode in ["short", "long"] {
        let scratch = Scratch::new("mixture");
        let db = scratch.join("app.db");
        let options = Spec::default().with("mix", "hundred").with("rows", 500);
        let mut load = Load::new(scratch.path(), &db, options);
        load.start_writer();
        load.wait_commits(5);
        let torn = Spec::default().with("isolate", 0).with("hold_ms", 50);
        load.add_reader(&db, mode, torn.clone());
        if has_python {
            load.add_python_reader(&db, mode, torn);
        }
        load.wait_commits(1500);
        load.stop_writer();
        for report in load.stop_readers() {
            assert_ne!(report.or("violations", 0), 0, "{mode}: {report:?}");
        }
        let why = load
            .verdict(&Required::new(5, 0, 0))
            .expect_err("mixtures were seen");
        assert!(why.contains("broken promise"), "{why}");
    }
}

/// One reader of each kind reads `reads` times while nobody writes; gives the verdict.
fn read_once(scratch: &Scratch, load: &mut Load, quick_every: u64) -> Vec<Result<(), String>> {
    let db = scratch.join("app.db");
    let options = Spec::default()
        .with("quick_every", quick_every)
        .with("pause_us", 10);
    let mut kinds = vec!["rust"];
    if python::available().is_some() {
        kinds.push("python");
    }
    kinds
        .into_iter()
        .map(|kind| {
            let name = format!("{kind}-planted");
            let log = scratch.join(&format!("{name}.seen"));
            let _from_the_run_before = std::fs::remove_file(&log);
            let spec = options
                .clone()
                .with("role", "reader")
                .with_path("db", &db)
                .with_path("log", &log);
            let mut child = match kind {
                "rust" => Child::start(scratch.path(), &name, spec),
                _ => python::start(scratch.path(), &name, "reader.py", spec),
            };
            wait_for("five lines", || {
                let lines = std::fs::read_to_string(&log)
                    .unwrap_or_default()
                    .lines()
                    .count();
                if lines >= 5 { Ok(()) } else { Err(child.log()) }
            });
            child.stop().expect("the reader ends");
            let required = Required::new(1, 1, 1);
            crate::support::checker::check(load.history(), &[log], &required).map(drop)
        })
        .collect()
}

/// Plants a fault by SQL; every reader must see it.
fn planted(sql: &str, with: &str) {
    let scratch = Scratch::new("planted");
    let mut load = populated(
        &scratch,
        Spec::default().with("mix", "hundred,ddl:1,blob:1"),
    );
    for verdict in read_once(&scratch, &mut load, 2) {
        verdict.expect("right before the fault");
    }
    open(&scratch).execute_batch(sql).expect("plant");
    for verdict in read_once(&scratch, &mut load, 2) {
        let why = verdict.expect_err(sql);
        assert!(
            why.contains(with),
            "{with:?} is not said for {sql:?}: {why}"
        );
    }
}

#[test]
fn a_reader_sees_a_broken_sum() {
    planted("UPDATE acct SET bal = bal + 1 WHERE id = 7", "acct is");
}

#[test]
fn a_reader_sees_a_broken_mirror() {
    planted(
        "UPDATE b SET t = t || 'x' WHERE id = (SELECT min(id) FROM b)",
        "broken promise",
    );
    planted("DELETE FROM a WHERE id = (SELECT max(id) FROM a)", "a is");
}

#[test]
fn a_reader_sees_a_stale_state() {
    planted("UPDATE meta SET version = version - 1", "never committed");
    planted(
        "UPDATE meta SET state = '0123456789abcdef'",
        "never committed",
    );
}

#[test]
fn a_reader_sees_another_schema_and_other_rows_in_it() {
    planted("CREATE TABLE x_99(v)", "broken promise");
    planted(
        "UPDATE ddl SET tables = tables || ' '; CREATE TABLE unseen(x); DROP TABLE unseen",
        "broken promise",
    );
}

#[test]
fn a_reader_sees_a_damaged_blob() {
    planted(
        "UPDATE blobs SET data = CAST(substr(data, 1, n - 1) || x'00' AS BLOB)",
        "a blob's ends",
    );
}

#[test]
fn a_reader_sees_a_damaged_page() {
    use std::os::unix::fs::FileExt;
    let scratch = Scratch::new("damaged");
    let mut load = populated(&scratch, Spec::default().with("mix", "hundred"));
    let conn = Connection::open(scratch.join("app.db")).expect("open");
    let root: u32 = conn
        .query_row(
            "SELECT rootpage FROM sqlite_schema WHERE name = 'a_h'",
            [],
            |r| r.get(0),
        )
        .expect("root page");
    drop(conn);
    let file = std::fs::File::options()
        .write(true)
        .open(scratch.join("app.db"))
        .expect("open");
    file.write_all_at(&[0xee; 64], u64::from(root - 1) * 4096)
        .expect("damage");
    for verdict in read_once(&scratch, &mut load, 2) {
        verdict.expect_err("a damaged index");
    }
}
