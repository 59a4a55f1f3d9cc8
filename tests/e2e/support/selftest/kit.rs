//! Children, servers, seeds.

use std::path::Path;
use std::time::Duration;

use crate::support::child::{Child, Spec, run};
use crate::support::proc::{Walcast, is_position, listening_on};
use crate::support::rng::Rng;
use crate::support::{Scratch, poll_for, skip_if_allowed};

#[test]
fn a_child_reports_and_a_failed_one_says_why() {
    let scratch = Scratch::new("child");
    let told = Spec::new("echo").with("word", "a=b c").with("n", 7);
    let report = run(scratch.path(), "echo", told).expect("echo");
    assert_eq!(report.get("word"), Some("a=b c"));
    assert_eq!(report.or("n", 0), 7);
    let why = run(scratch.path(), "panic", Spec::new("panic")).expect_err("it panics");
    assert!(why.contains("told to"), "{why}");
    let why = run(scratch.path(), "nobody", Spec::new("nobody")).expect_err("no such role");
    assert!(why.contains("no such role"), "{why}");
}

#[test]
fn a_child_that_leaves_no_report_is_a_failure() {
    let scratch = Scratch::new("noreport");
    let command = std::process::Command::new("true");
    let mut child = Child::start_program(scratch.path(), "true", command, Spec::new("x"));
    let why = child
        .finish(Duration::from_secs(10))
        .expect_err("no report");
    assert!(why.contains("left no report"), "{why}");
}

fn shell(scratch: &Scratch, script: &str) -> Walcast {
    Walcast::with_program(
        scratch.path(),
        "fake",
        Path::new("/bin/sh"),
        &["-c", script],
    )
}

#[test]
fn a_server_is_started_killed_and_started_again() {
    let scratch = Scratch::new("server");
    let script = "echo one; echo 'INFO walcast: listening on 127.0.0.1:4242' >&2; exec sleep 600";
    let mut server = shell(&scratch, script);
    assert_eq!(server.start().port(), 4242);
    assert!(server.is_running());
    assert!(server.kill9());
    assert!(!server.kill9(), "it is dead");
    assert_eq!(server.start().port(), 4242);
    let status = server.terminate();
    assert!(!status.success(), "{status}");
    assert_eq!(server.count_in_logs("listening on"), 2);
    assert_eq!(server.count_in_logs("sending snapshot"), 0);
}

#[test]
fn a_server_that_ends_or_stays_silent_is_an_error_with_its_log() {
    let scratch = Scratch::new("server-bad");
    let mut server = shell(&scratch, "echo 'no such file' >&2; exit 3");
    let why = server
        .try_start(Duration::from_secs(10))
        .expect_err("it ends");
    assert!(
        why.contains("ended") && why.contains("no such file"),
        "{why}"
    );
    let mut server = shell(&scratch, "echo 'still busy' >&2; exec sleep 600");
    let why = server
        .try_start(Duration::from_millis(300))
        .expect_err("no address");
    assert!(
        why.contains("gave up") && why.contains("still busy"),
        "{why}"
    );
}

#[test]
fn addresses_and_positions_are_read_strictly() {
    let found = listening_on("x\nlistening on 127.0.0.1:80 \n").map(|a| a.port());
    assert_eq!(found, Some(80));
    assert_eq!(
        listening_on("listening on 127.0.0.1:80"),
        None,
        "half a line"
    );
    assert_eq!(listening_on("listening on soon\n"), None);
    assert!(is_position(
        "89abcdef01234567/0000000000000003:00000000000010f8"
    ));
    for bad in [
        "",
        "89abcdef01234567/0000000000000003",
        "89ABCDEF01234567/0000000000000003:00000000000010f8",
        "89abcdef01234567/3:10f8",
        "89abcdef01234567/0000000000000003:00000000000010f8 ",
    ] {
        assert!(!is_position(bad), "{bad:?}");
    }
}

#[test]
fn a_seed_names_a_run() {
    let of = |seed| {
        let mut rng = Rng::new(seed);
        (rng.next(), rng.below(10), rng.between(3, 5), rng.bytes(11))
    };
    assert_eq!(of(1), of(1));
    assert_ne!(of(1), of(2));
    // The reference value of splitmix64 for seed 0.
    assert_eq!(Rng::new(0).next(), 0xe220_a839_7b1d_cdaf);
    assert_eq!(of(9).3.len(), 11);
    assert!((3..=5).contains(&of(9).2));
    assert_eq!(Rng::new(1).below(0), 0);
}

#[test]
fn waiting_ends_with_the_last_refusal() {
    let mut n = 0;
    let value = poll_for("three", Duration::from_secs(10), || {
        n += 1;
        if n == 3 { Ok(n) } else { Err(format!("{n}")) }
    });
    assert_eq!(value, Ok(3));
    let limit = Duration::from_millis(30);
    let why = poll_for("never", limit, || Err::<(), _>("not yet".to_owned())).expect_err("never");
    assert!(why.contains("never") && why.contains("not yet"), "{why}");
}

#[test]
fn a_skip_is_loud() {
    skip_if_allowed("self-test of skipping", false);
}

#[test]
#[should_panic(expected = "SKIP is a failure here")]
fn a_skip_is_a_failure_where_all_is_required() {
    skip_if_allowed("self-test of skipping", true);
}
