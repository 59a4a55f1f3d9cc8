//! A local log at its hard limit: nothing more is applied, and nothing is lost by that.

use super::source_with_rows;
use super::*;
use crate::disk::fault::{Plan, with_plan};
use crate::replica::error::ApplyError;
use crate::replica::local::PageRef;
use std::time::{Duration, Instant};

#[test]
fn at_the_hard_limit_nothing_more_is_applied_before_readers_end() {
    let source = source_with_rows(4096, 5);
    let target = Target::with_limits(64 << 10, 256 << 10);
    let mut applier = target.seeded(&source);
    source.run("INSERT INTO t(b) VALUES('what the reader sees')");
    catch_up(&mut applier, &source);
    let reader = target.reader();
    reader.execute_batch("BEGIN").expect("begun");
    let held = rows(&reader);

    let full = (0..100).find_map(|_| {
        source.run("INSERT INTO t(b) VALUES(hex(randomblob(20000)))");
        let mark = applier.request().mark;
        let messages = source.since(&mark.expect("a mark"), 100);
        messages.into_iter().find_map(|m| applier.message(m).err())
    });
    let full = full.expect("the log has a limit");
    assert!(matches!(full, ApplyError::Full), "{full}");
    assert!(target.shared.is_held());
    let status = target.shared.status();
    assert!(status.reason.contains("a reader holds it"), "{status:?}");
    // What was visible before stays so, and no stream may begin.
    assert_eq!(rows(&reader), held);
    assert!(matches!(applier.make_room(), Err(ApplyError::Full)));
    applier.tick(true).expect("told once");

    reader.execute_batch("COMMIT").expect("ended");
    let deadline = Instant::now() + Duration::from_secs(60);
    while target.shared.is_held() {
        applier.tick(true).expect("kept");
        assert!(Instant::now() < deadline, "the log never begins anew");
    }
    applier.make_room().expect("room");
    catch_up(&mut applier, &source);
    assert_eq!(rows(&reader), rows(&source.sql));
    assert_eq!(check(&reader), "ok");
}

#[test]
fn what_no_disk_has_room_for_is_refused_before_its_hashes_are_kept() {
    let source = source_with_rows(4096, 5);
    let target = Target::new();
    let mut applier = target.seeded(&source);
    let mut mark = applier.machine.proven().expect("a mark");
    // The most that a commit can claim, and a page whose hash needs 512 MiB of them.
    mark.point.page_count = u32::MAX;
    let page = vec![1; 4096];
    let far = PageRef {
        pgno: 1 << 26,
        page: &page,
    };
    let local = applier.local.as_mut().expect("it is open");
    let publish = || local.publish(&[far], &mark, || Ok(()));
    let (published, plan) = with_plan(Plan::default(), publish);
    let error = ApplyError::from(published.expect_err("refused"));
    assert!(error.is_disk_full(), "{error}");
    assert!(!plan.met().contains_key("pages.allocate"));
}
