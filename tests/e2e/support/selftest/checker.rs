//! The history checker against written logs: what is right passes, each planted fault fails.

use std::fmt::Write;

use crate::support::Scratch;
use crate::support::checker::{Required, check};
use crate::support::history::History;

fn state(version: u64) -> String {
    format!("{:016x}", version * 7919)
}

/// The history of versions 1..=n by one writer.
fn history(n: u64) -> String {
    let mut text = "start 0 -\n".to_owned();
    for v in 1..=n {
        let s = state(v);
        writeln!(text, "intent {v} {s}\ndone {v} {s}").expect("write to a string");
    }
    text
}

fn reads(versions: impl IntoIterator<Item = u64>) -> String {
    versions
        .into_iter()
        .map(|v| format!("r 1 {v} {}\n", state(v)))
        .collect()
}

/// The verdict on one reader's log.
fn judge(history: &str, log: &str, required: &Required) -> Result<(), String> {
    let scratch = Scratch::new("checker");
    std::fs::write(scratch.join("history"), history).expect("write");
    std::fs::write(scratch.join("log"), log).expect("write");
    check(&scratch.join("history"), &[scratch.join("log")], required).map(drop)
}

fn some() -> Required {
    Required::new(1, 1, 1)
}

fn fails(history: &str, log: &str, with: &str) {
    let why = judge(history, log, &some()).expect_err(with);
    assert!(why.contains(with), "{with:?} is not said in {why:?}");
}

#[test]
fn a_right_run_passes() {
    judge(&history(9), &reads([1, 1, 4, 9]), &Required::new(9, 4, 3)).expect("right");
}

#[test]
fn too_little_fails() {
    for (required, with) in [
        (Required::new(10, 4, 3), "only 9 commits"),
        (Required::new(9, 5, 3), "only 4 reads"),
        (Required::new(9, 4, 4), "only 3 different"),
    ] {
        let why = judge(&history(9), &reads([1, 1, 4, 9]), &required).expect_err(with);
        assert!(why.contains(with), "{why}");
    }
    let scratch = Scratch::new("nologs");
    std::fs::write(scratch.join("history"), history(9)).expect("write");
    check(&scratch.join("history"), &[], &some()).expect_err("no log at all");
    check(&scratch.join("history"), &[scratch.join("absent")], &some())
        .expect_err("a log is absent");
}

#[test]
fn a_planted_read_fails() {
    let log = reads([1, 2]);
    fails(
        &history(9),
        &format!("{log}r 1 3 {}\n", state(4)),
        "never committed",
    );
    fails(&history(9), &reads([1, 10]), "never committed");
    fails(&history(9), &reads([1, 5, 4]), "version 4 after 5");
    let reconnected = format!("{}r 2 4 {}\n", reads([1, 5]), state(4));
    fails(&history(9), &reconnected, "version 4 after 5");
    fails(
        &history(9),
        &format!("{log}e 1 11 meta malformed\n"),
        "error 11",
    );
    fails(
        &history(9),
        &format!("{log}v 1 rows differ\n"),
        "broken promise: rows differ",
    );
    fails(&history(9), &format!("{log}nonsense\n{log}"), "unreadable");
}

#[test]
fn allowed_errors_are_counted_and_others_are_not_allowed() {
    let log = format!("{}e 1 261 begin locked\n", reads([1]));
    let mut required = some();
    judge(&history(9), &log, &required).expect_err("not allowed");
    required.allowed_errors = vec![5];
    judge(&history(9), &log, &required).expect_err("another code");
    required.allowed_errors = vec![261];
    judge(&history(9), &log, &required).expect("allowed");
}

#[test]
fn a_missing_or_foreign_commit_fails() {
    let whole = history(9);
    let without_5 = whole.replace(&format!("intent 5 {0}\ndone 5 {0}\n", state(5)), "");
    fails(&without_5, &reads([1]), "version 6 follows 4");
    fails(&without_5, &reads([5]), "version 5 state");
    let without_intent = whole.replace(&format!("intent 5 {}\n", state(5)), "");
    fails(&without_intent, &reads([1]), "done 5");
    let without_done = whole.replace(&format!("done 5 {}\n", state(5)), "");
    fails(&without_done, &reads([1]), "intent of 6 while 5 is open");
    fails(
        &whole.replace("done 5", "dune 5"),
        &reads([1]),
        "unreadable line",
    );
}

#[test]
fn an_intent_may_stay_open_only_at_a_kill() {
    let open = format!("{}intent 10 {}\n", history(9), state(10));
    judge(&open, &reads([9]), &some()).expect("not committed: right");
    judge(&open, &reads([9, 10]), &some()).expect("committed: right");
    assert_eq!(History::parse(&open).open_end, Some(10));
    let undone = format!("{open}start 9 {}\n", state(9));
    judge(&undone, &reads([9]), &some()).expect("the next start did not find it");
    fails(&undone, &reads([10]), "never committed");
    let found = format!("{open}start 10 {}\n", state(10));
    judge(&found, &reads([9, 10]), &some()).expect("the next start found it");
    // The version is taken again by another state.
    let again = format!("{undone}intent 10 {0}\ndone 10 {0}\n", state(99));
    fails(&again, &reads([10]), "never committed");
    judge(&again, &format!("r 1 10 {}\n", state(99)), &some()).expect("the one that was committed");
}

#[test]
fn a_lost_commit_is_found_at_the_next_start() {
    let lost = format!("{}start 8 {}\n", history(9), state(8));
    fails(
        &lost,
        &reads([1]),
        "started at version 8, but 9 was committed",
    );
    let other = format!("{}start 9 {}\n", history(9), state(1));
    fails(&other, &reads([1]), "unknown state");
}

#[test]
fn an_aborted_commit_must_not_be_seen() {
    let aborted = format!("{}intent 10 {1}\nabort 10 {1}\n", history(9), state(10));
    judge(&aborted, &reads([9]), &some()).expect("not seen: right");
    fails(&aborted, &reads([10]), "never committed");
}

#[test]
fn a_line_torn_by_a_kill_is_no_fault_but_only_there() {
    let torn = format!("{}intent 10 00 torn\nstart 9 {}\n", history(9), state(9));
    judge(&torn, &reads([9]), &some()).expect("torn before a start");
    judge(&format!("{}done 1", history(9)), &reads([9]), &some()).expect("torn at the end");
    judge(&history(9), &format!("{}r 1 9", reads([9])), &some()).expect("a reader was killed");
    let inside = history(9).replace(&format!("done 4 {}", state(4)), "done 4 00 torn");
    fails(&inside, &reads([9]), "unreadable line");
}

/// What comes after a history that was checked and dropped.
fn after(base: u64, n: u64) -> String {
    let s = state(base);
    let mut text = format!("base {base} {s}\nstart {base} {s}\n");
    for v in base + 1..=base + n {
        let s = state(v);
        writeln!(text, "intent {v} {s}\ndone {v} {s}").expect("write to a string");
    }
    text
}

#[test]
fn a_history_may_go_on_where_one_was_dropped() {
    judge(&after(7, 3), &reads([7, 8, 10]), &Required::new(3, 3, 3)).expect("right");
    fails(&after(7, 3), &reads([6, 8]), "never committed");
    fails(&after(7, 3), &reads([8, 7]), "version 7 after 8");
    let gap = after(7, 3).replace(
        &format!("start 7 {}", state(7)),
        &format!("start 8 {}", state(8)),
    );
    fails(&gap, &reads([9]), "started at version 8");
    let late = history(3) + &format!("base 9 {}\n", state(9));
    fails(&late, &reads([3]), "without its intent");
}
