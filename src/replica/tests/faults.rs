//! Each disk operation of the replica fails once, by name: the list is what a run without faults met.

use super::*;
use crate::disk::fault::{Plan, with_plan};
use crate::replica::error::ApplyError;

fn source() -> Source {
    let source = Source::new(4096);
    source.run("CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT); INSERT INTO t(b) VALUES('first')");
    source
}

fn attempt(target: &Target, source: &Source) -> Result<(), ApplyError> {
    let mut applier = Applier::open(target.shared.clone(), target.side())?;
    let mark = applier.request().mark;
    let messages = match mark {
        Some(mark) => source.since(&mark, 100),
        None => source.snapshot(),
    };
    for message in messages {
        applier.message(message)?;
    }
    applier.tick(true)
}

/// A replica from nothing, commits, a restart with more commits.
fn life(target: &Target, source: &Source) -> Result<(), ApplyError> {
    attempt(target, source)?;
    source.run("INSERT INTO t(b) VALUES(hex(randomblob(9000)))");
    attempt(target, source)?;
    source.run("DELETE FROM t WHERE a=1; INSERT INTO t(b) VALUES('last')");
    attempt(target, source)
}

#[test]
fn every_disk_operation_may_fail_once() {
    let (clean, plan) = with_plan(Plan::default(), || life(&Target::new(), &source()));
    clean.expect("a life without faults");
    let mut names: Vec<_> = plan.met().iter().map(|(name, met)| (*name, *met)).collect();
    names.sort_unstable();
    assert!(names.len() > 20, "few operations: {names:?}");
    for (name, met) in names {
        for time in [1, met.div_ceil(2), met] {
            one_fault(name, "eio", time);
        }
        for action in ["enospc", "eintr", "short"] {
            one_fault(name, action, met.div_ceil(2));
        }
    }
}

fn one_fault(name: &str, action: &str, time: u64) {
    let rule = format!("{name}={action}@{time}");
    let (target, source) = (Target::new(), source());
    let plan = Plan::parse(&rule).expect("a plan");
    let (outcome, _) = with_plan(plan, || life(&target, &source));
    if let Err(error) = &outcome {
        let text = error.to_string();
        assert!(!text.is_empty() && !error.is_diverged(), "{rule}: {text}");
    }
    // The fault is over: it goes on from what is there, and ends equal.
    let again = attempt(&target, &source);
    let again = match again {
        Err(error) if error.is_diverged() => panic!("{rule}: the replica was damaged: {error}"),
        other => other,
    };
    again.unwrap_or_else(|error| panic!("{rule}: {error}"));
    let reader = target.reader();
    assert_eq!(rows(&reader), rows(&source.sql), "{rule}");
    assert_eq!(check(&reader), "ok", "{rule}");
}
