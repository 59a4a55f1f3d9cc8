//! `dir:` with an upstream.

use super::{Node, add, application, take_away, wait_row};
use crate::support::{Scratch, wait_for};

#[test]
fn a_mirror_follows_databases_as_they_come_and_go() {
    let scratch = Scratch::new("node-mirror");
    let data = scratch.join("data");
    let copies = scratch.join("copies");
    let a = application(&data.join("t/a.db"), 1);
    let _other = application(&data.join("other.db"), 1);
    let dbs = format!("  - dir: {}\n    pattern: '**/*.db'", data.display());
    let primary = Node::start(&scratch, "primary", &dbs);
    let dbs = format!(
        "  - dir: {}\n    pattern: 't/**/*'\n    upstream: {{url: 'http://{}'}}",
        copies.display(),
        primary.address
    );
    let mut replica = Node::start(&scratch, "replica", &dbs);
    replica.wait("t/a.db", "streaming");
    wait_row(&copies.join("t/a.db"), 1);

    let b = application(&data.join("t/deep/b.db"), 7);
    replica.wait("t/deep/b.db", "streaming");
    wait_row(&copies.join("t/deep/b.db"), 7);
    replica.wait_names(&["t/a.db", "t/deep/b.db"]);
    assert!(
        !copies.join("other.db").exists(),
        "the pattern leaves it out"
    );

    // All streams are on one connection.
    let peers = wait_for("both replicas", || {
        let databases = primary.databases();
        let of = |name: &str| {
            databases[name]["replicas"][0]["address"]
                .as_str()
                .map(str::to_owned)
        };
        of("t/a.db")
            .zip(of("t/deep/b.db"))
            .ok_or_else(|| format!("{databases:?}"))
    });
    assert_eq!(peers.0, peers.1);

    drop(b);
    take_away(&data.join("t/deep/b.db"));
    let orphan = replica.wait("t/deep/b.db", "stopped");
    assert!(
        orphan["reason"]
            .as_str()
            .expect("text")
            .contains("no longer followed"),
        "{orphan}"
    );
    wait_row(&copies.join("t/deep/b.db"), 7);
    // What the upstream let go does not make the server unhealthy.
    let health = |name: &str| {
        let url = format!("http://{}", replica.address);
        crate::support::cli::walcast(&["health", "--server", &url, "--db", name]).code
    };
    assert_eq!(health(""), Some(0));
    assert_eq!(health("t/deep/b.db"), Some(1));

    // It comes back as another database, and the copy becomes that.
    let _b = application(&data.join("t/deep/b.db"), 8);
    replica.wait("t/deep/b.db", "streaming");
    wait_row(&copies.join("t/deep/b.db"), 8);
    add(&a, 2);
    wait_row(&copies.join("t/a.db"), 2);
    assert!(replica.process.terminate().success());
}

#[test]
fn a_mirror_whose_upstream_is_away_serves_the_copies_it_has() {
    let scratch = Scratch::new("node-mirror-alone");
    let (data, copies) = (scratch.join("data"), scratch.join("copies"));
    let _a = application(&data.join("a.db"), 1);
    let dbs = format!("  - dir: {}\n    pattern: '*.db'", data.display());
    let mut primary = Node::start(&scratch, "primary", &dbs);
    let mirror = format!(
        "  - dir: {}\n    upstream: {{url: 'http://{}'}}",
        copies.display(),
        primary.address
    );
    let health = |node: &Node| {
        let url = format!("http://{}", node.address);
        crate::support::cli::walcast(&["health", "--server", &url]).code
    };
    let mut replica = Node::start(&scratch, "replica", &mirror);
    replica.wait("a.db", "streaming");
    wait_for("its health", || match health(&replica) {
        Some(0) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    // What it left half-done, if anything, the next one repairs.
    assert!(replica.process.kill9());
    assert!(primary.process.terminate().success());
    std::fs::write(copies.join("stranger.db"), b"no copy").expect("a file");

    let replica = Node::start(&scratch, "replica", &mirror);
    let copy = replica.wait("a.db", "disconnected");
    assert!(
        copy["position"].as_str().is_some_and(|p| !p.is_empty()),
        "{copy}"
    );
    replica.wait_names(&["a.db"]);
    wait_row(&copies.join("a.db"), 1);
    assert_eq!(health(&replica), Some(1));

    // One without a copy knows of nothing, which is not all that it should have.
    let empty = mirror.replace("/copies", "/none");
    let empty = Node::start(&scratch, "empty", &empty);
    wait_for("its first answer", || {
        let log = empty.process.log();
        log.contains("looking again").then_some(()).ok_or(log)
    });
    assert_eq!(health(&empty), Some(1));
}
