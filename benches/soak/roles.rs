//! What helpers do to the copy, each in a process of its own: closing a descriptor of a database would drop the locks of
//! whoever has SQLite open on it in the same process.

use crate::storm::BALLAST;
use crate::support::child::{Role, Spec};
use crate::support::foreign::publish_header;
use rusqlite::Connection;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

/// All of them.
pub const ROLES: [Role; 3] = [
    ("checkpoint", checkpoint),
    ("damage", damage),
    ("header", header),
];

fn checkpoint(spec: &Spec) -> Spec {
    let mode = spec.get("mode").unwrap_or("PASSIVE");
    let conn = Connection::open(spec.path("db")).expect("open the copy");
    conn.busy_timeout(Duration::from_millis(500))
        .expect("set the busy timeout");
    let answer = conn.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |row| {
        row.get::<_, i64>(0)
    });
    // It may be refused; what counts is what becomes of the copy.
    Spec::new("checkpoint").with("answer", format!("{answer:?}").replace('\n', " "))
}

/// Flips a bit in the middle of the ballast's last piece in the file, or says whether it is whole.
fn damage(spec: &Spec) -> Spec {
    let file = File::options()
        .read(true)
        .write(true)
        .open(spec.path("db"))
        .expect("open the copy");
    let report = Spec::new("damage");
    let good = BALLAST.as_bytes()[0];
    let mut byte = [0];
    if spec.or("flip", 0) == 0 {
        file.read_exact_at(&mut byte, spec.or("at", 0))
            .expect("read the byte");
        return report.with("whole", u8::from(byte[0] == good));
    }
    let bytes = std::fs::read(spec.path("db")).expect("read the copy");
    let stretch = BALLAST.repeat(100);
    let Some(at) = bytes
        .windows(stretch.len())
        .rposition(|window| window == stretch.as_bytes())
    else {
        return report.with("found", 0);
    };
    // The first letter of a repetition in its middle.
    let at = (at + 50 * BALLAST.len()) as u64;
    file.write_all_at(&[good ^ 0x10], at)
        .expect("write the byte");
    report.with("found", 1).with("at", at)
}

/// Somebody else's wal-index header.
fn header(spec: &Spec) -> Spec {
    publish_header(&spec.path("db"));
    Spec::new("header")
}
