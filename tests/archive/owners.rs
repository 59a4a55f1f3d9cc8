//! Two primaries and one archive.

use super::hand;
use super::kit::{Place, commit, create, primary, state_of};

#[test]
fn the_second_is_refused_and_one_that_takes_over_stops_the_first() {
    let (one, two) = (Place::new(), Place::new());
    let archive = one.archive();
    let mut first = create(&one.db());
    (1..=10).for_each(|n| commit(&mut first, n));
    let mut second = create(&two.db());
    (1..=7).for_each(|n| commit(&mut second, n));
    let server = primary(&one.db(), &archive, &["--server-id", "alpha"]);
    server.wait_level();
    let before = one.objects();
    let refused = primary(&two.db(), &archive, &[]);
    let reason = refused.wait_archive("failed");
    assert!(
        reason.contains("app.db on alpha") && reason.contains("--take-over"),
        "{reason}"
    );
    assert_eq!(one.objects(), before, "nothing was mixed in");
    // It serves its replicas all the same.
    refused.position();
    assert_eq!(refused.stop(), Some(0));

    let taking = primary(&two.db(), &archive, &["--take-over", "--server-id", "beta"]);
    taking.wait_level();
    assert_eq!(state_of(&hand::restore(&archive).db), 7);
    commit(&mut first, 11);
    let reason = server.wait_archive("failed");
    assert!(reason.contains("app.db on beta"), "{reason}");
    assert_eq!(server.stop(), Some(0));
    // Nor does it come back by itself.
    let again = primary(&one.db(), &archive, &[]);
    again.wait_archive("failed");
    commit(&mut second, 8);
    taking.wait_level();
    assert_eq!(state_of(&hand::restore(&archive).db), 8);
    // Taken back it begins anew: its old history stands before the other's, and would go on unseen.
    assert_eq!(again.stop(), Some(0));
    let back = primary(&one.db(), &archive, &["--take-over"]);
    back.wait_level();
    commit(&mut first, 12);
    back.wait_level();
    let newest = one.path("newest.db");
    let restored = std::process::Command::new(env!("CARGO_BIN_EXE_walcast"))
        .arg("restore")
        .arg("-o")
        .args([&newest, &archive])
        .output()
        .expect("walcast runs");
    assert!(restored.status.success(), "{restored:?}");
    assert_eq!(state_of(&newest), 12);
    assert_eq!(state_of(&hand::restore(&archive).db), 12);
}

/// A machine that was copied with its database: the copy has the same identity, and the same history.
#[test]
fn a_copy_of_the_whole_directory_stops_the_original_and_mixes_nothing() {
    let (one, two) = (Place::new(), Place::new());
    let archive = one.archive();
    let mut first = create(&one.db());
    (1..=10).for_each(|n| commit(&mut first, n));
    let server = primary(&one.db(), &archive, &[]);
    server.wait_level();
    assert_eq!(server.stop(), Some(0));
    let copied = std::process::Command::new("cp")
        .args(["-a", "--"])
        .args(["app.db", "app.db-wal", "app.db-walcast"].map(|name| one.path(name)))
        .arg(two.dir.path())
        .status()
        .expect("cp");
    assert!(copied.success());
    let server = primary(&one.db(), &archive, &[]);
    (11..=15).for_each(|n| commit(&mut first, n));
    server.wait_level();
    let mut second = create(&two.db());
    let copy = primary(&two.db(), &archive, &[]);
    (11..=13).for_each(|n| commit(&mut second, n));
    copy.wait_level();
    commit(&mut first, 16);
    server.wait_archive("failed");
    // The archive was ahead of the copy: a generation of its own.
    assert_eq!(state_of(&hand::restore(&archive).db), 13);
    drop((server, copy));
}

#[test]
fn the_command_line_refuses_what_would_mix() {
    let place = Place::new();
    let run = |args: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_walcast"))
            .arg("primary")
            .args(args)
            .output()
            .expect("walcast runs");
        (
            output.status.code(),
            String::from_utf8(output.stderr).expect("UTF-8"),
        )
    };
    let (a, b) = (place.path("a.db"), place.path("b.db"));
    let (a, b) = (a.to_str().expect("UTF-8"), b.to_str().expect("UTF-8"));
    for (args, what) in [
        (&["--db", a, "--db", b, "--archive", "/x"][..], "one --db"),
        (&["--db", a, "--archive", "/x", "--archive", "/x"], "twice"),
        (
            &["--db", a, "--archive", "http://x/y"],
            "s3://BUCKET/PREFIX",
        ),
        (&["--db", a, "--take-over"], "--archive"),
    ] {
        let (code, said) = run(args);
        assert_eq!(code, Some(2), "{args:?}: {said}");
        assert!(said.contains(what), "{args:?}: {said}");
    }
    assert!(!place.path("a.db-walcast").exists());
}
