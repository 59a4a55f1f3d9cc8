//! `dir:` without an upstream.

use super::{Node, add, application, take_away};
use crate::support::Scratch;
use crate::support::cli::{on, try_on};

#[test]
fn databases_of_a_directory_come_and_go_while_it_runs() {
    let scratch = Scratch::new("node-directory");
    let data = scratch.join("data");
    let dbs = format!("  - dir: {}\n    pattern: '**/*.db'", data.display());
    // The directory itself comes later, too.
    let node = Node::start(&scratch, "node", &dbs);
    assert!(node.databases().is_empty());

    let a = application(&data.join("a.db"), 1);
    let b = application(&data.join("t/x/b.db"), 1);
    std::fs::write(data.join("junk.db"), "this is a letter, not a database").expect("a file");
    std::fs::write(data.join("note.txt"), "no database").expect("a file");
    let outside = scratch.join("outside.db");
    let _outside = application(&outside, 1);
    std::os::unix::fs::symlink(&outside, data.join("link.db")).expect("a link");

    node.wait("a.db", "streaming");
    node.wait("t/x/b.db", "streaming");
    let junk = node.wait("junk.db", "waiting");
    assert!(
        junk["reason"]
            .as_str()
            .expect("text")
            .contains("no SQLite database"),
        "{junk}"
    );
    let link = node.wait("link.db", "failed");
    assert!(
        link["reason"]
            .as_str()
            .expect("text")
            .contains("symbolic link"),
        "{link}"
    );
    node.wait_names(&["a.db", "junk.db", "link.db", "t/x/b.db"]);
    assert_eq!(on(node.address, "position", "t/x/b.db").lines().count(), 1);
    assert_eq!(try_on(node.address, "position", "outside.db").code, Some(5));

    drop(b);
    take_away(&data.join("t/x/b.db"));
    take_away(&data.join("junk.db"));
    take_away(&data.join("link.db"));
    node.wait_names(&["a.db"]);
    assert_eq!(try_on(node.address, "position", "t/x/b.db").code, Some(5));

    // What stays works on, and a name that comes back is taken again.
    add(&a, 2);
    let _b = application(&data.join("t/x/b.db"), 2);
    node.wait("t/x/b.db", "streaming");
    let mut process = node.process;
    assert!(process.terminate().success());
}
