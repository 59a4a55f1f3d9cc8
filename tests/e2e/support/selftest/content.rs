//! The digest of all content, and the histories of many writers: each planted difference has another name, each planted lie of a
//! history is told.

use rusqlite::Connection;

use crate::support::Scratch;
use crate::support::content::Content;
use crate::support::crowd::{create, run};
use crate::support::history::History;
use crate::support::plan::{Plan, Words};
use crate::support::rng::Rng;

fn state(version: u64) -> String {
    format!("{:016x}", version * 7919)
}

/// One writer's history of these versions.
fn of(versions: &[u64]) -> String {
    let lines = |v: &u64| format!("intent {v} {0}\ndone {v} {0}\n", state(*v));
    versions.iter().map(lines).collect()
}

#[test]
fn histories_of_many_writers_make_one() {
    let aborted = format!("intent 3 {0}\nabort 3 {0}\n", state(99));
    let right = History::merge(&[of(&[1, 4]), of(&[2, 3]) + &aborted, of(&[5])]);
    assert_eq!(right.problems, Vec::<String>::new());
    assert_eq!((right.committed, right.last, right.aborts), (5, 5, 1));
    assert!(right.allows(3, &state(3)) && !right.allows(3, &state(99)));
    for (texts, with) in [
        ([of(&[1, 2]), of(&[2, 3])], "version 2 twice"),
        ([of(&[1, 2]), of(&[4])], "nobody has committed version 3"),
        (
            [of(&[1, 2]), format!("done 3 {}\n", state(3))],
            "without its intent",
        ),
        ([of(&[1, 2]), "intent 3\n".to_owned()], "unreadable"),
    ] {
        let problems = History::merge(&texts).problems;
        assert!(problems.iter().any(|p| p.contains(with)), "{problems:?}");
    }
}

#[test]
fn a_killed_writers_last_commit_was_or_was_not() {
    let open = |v: u64| format!("{}intent {v} {}\n", of(&[1, 2]), state(v + 100));
    // Nobody knows better; somebody has gone on from it; somebody else has committed that version.
    for (others, seen, never) in [
        (of(&[]), true, false),
        (of(&[4]), true, false),
        (of(&[3, 4]), false, true),
    ] {
        let history = History::merge(&[open(3), others]);
        assert_eq!(history.problems, Vec::<String>::new());
        assert_eq!(history.allows(3, &state(103)), seen);
        assert_eq!(history.allows(3, &state(3)), never);
    }
    let torn = History::merge(&[of(&[1, 2]) + "intent 3 0000"]);
    assert_eq!(torn.problems, Vec::<String>::new());
}

/// A database with some of everything in it.
fn database(scratch: &Scratch) -> Connection {
    let mut rng = Rng::new(6);
    let settings = [("page_size", "1024")];
    create(
        &scratch.join("app.db"),
        &settings,
        &scratch.join("history"),
        &mut rng,
    );
    let conn = super::open(scratch);
    let plan = Plan::load();
    let words = Words {
        db: "main",
        page_size: 1024,
    };
    for _ in 0..200 {
        // What it refuses is no matter here.
        if run(&conn, &plan.script("change", words, &mut rng)).is_err() && !conn.is_autocommit() {
            run(&conn, "ROLLBACK").expect("roll back");
        }
    }
    conn
}

#[test]
fn each_difference_has_another_digest() {
    let scratch = Scratch::new("content");
    let conn = database(&scratch);
    let now = || Content::of(&conn, "main").expect("read everything").state;
    let before = now();
    for sql in [
        "UPDATE plain SET t = t || ' ' WHERE id = (SELECT max(id) FROM plain)",
        "UPDATE plain SET r = r * 1.000001 WHERE id = (SELECT max(id) FROM plain WHERE r > 1)",
        "UPDATE plain SET b = CAST(b AS TEXT) WHERE id = (SELECT max(id) FROM plain)",
        "DELETE FROM worowid WHERE a = (SELECT max(a) FROM worowid)",
        "UPDATE words_data SET block = block || x'00' WHERE id = (SELECT max(id) FROM words_data)",
        "DROP INDEX plain_k",
        "ALTER TABLE audit ADD COLUMN more",
        "DELETE FROM sqlite_sequence",
        "PRAGMA user_version = 77",
        "PRAGMA application_id = 77",
    ] {
        run(&conn, &format!("SAVEPOINT planted; {sql}")).expect(sql);
        assert_ne!(now(), before, "{sql} is not seen");
        run(&conn, "ROLLBACK TO planted; RELEASE planted").expect("undo");
        assert_eq!(now(), before, "{sql} is not undone");
    }
    // And what says nothing of the content has the same.
    run(&conn, "UPDATE mark SET text = x'00'; REINDEX; VACUUM").expect("the same content");
    assert_eq!(now(), before);
}

#[test]
fn every_script_of_the_plan_is_sql() {
    let scratch = Scratch::new("plan");
    let conn = database(&scratch);
    let (plan, mut rng) = (Plan::load(), Rng::new(7));
    let words = Words {
        db: "main",
        page_size: 1024,
    };
    let absent = [
        "no such table",
        "no such column",
        "no such index",
        "duplicate",
        "already",
        "FOREIGN KEY",
    ];
    for section in ["change", "idle"] {
        for script in plan.scripts(section, words, &mut rng) {
            let Err(error) = run(&conn, &script) else {
                continue;
            };
            if !conn.is_autocommit() {
                run(&conn, "ROLLBACK").expect("roll back");
            }
            // Something is not there today; never a word that SQLite does not know.
            let text = error.to_string();
            assert!(absent.iter().any(|a| text.contains(a)), "{script}: {text}");
        }
    }
}
