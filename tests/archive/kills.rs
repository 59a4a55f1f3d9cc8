//! The primary is killed at any moment, and what is in the archive is a state of the database each time.

use super::hand;
use super::kit::{Place, Writer, create, state_of, until};
use std::path::Path;
use std::time::Duration;

/// A small seeded generator.
struct Rng(u64);

impl Rng {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

/// Makes a database of about so many MiB that do not pack.
fn fill(db: &Path, mib: u64) {
    let connection = create(db);
    connection
        .execute_batch(&format!(
            "CREATE TABLE filler(data BLOB);
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {mib})
             INSERT INTO filler SELECT randomblob(1024 * 1024) FROM n;
             PRAGMA wal_checkpoint(TRUNCATE);"
        ))
        .expect("filled");
}

/// With a snapshot each second of which two stay, and a reading back each two seconds: all that goes on goes on while the
/// kills come.
#[test]
fn killed_at_random_moments_the_archive_is_always_a_state_of_the_database() {
    let seed = std::env::var("WALCAST_SEED").map_or(20_250, |s| s.parse().expect("a number"));
    let is_full = std::env::var("WALCAST_FULL").is_ok_and(|v| v == "1");
    let (kills, size_mib) = if is_full { (50, 1024) } else { (10, 64) };
    eprintln!("WALCAST_SEED={seed}, {kills} kills, a database of {size_mib} MiB when it begins");
    let mut rng = Rng(seed);
    let place = Place::new();
    fill(&place.db(), size_mib);
    let writer = Writer::start(&place.db(), Duration::from_millis(2));
    writer.wait(10);
    let archive = "sync-interval: 50ms\nsnapshot-interval: 1s\nretain-age: 3s\nretain-count: 2\nvalidation-interval: 2s";
    let mut before = 0;
    for kill in 0..kills {
        let server = place.run("", archive);
        if kill == 0 {
            until("a snapshot", || {
                hand::is_restorable(&place.archive()).then_some(())
            });
        }
        // Up to some seconds of writing.
        writer.wait(rng.below(800));
        // Each second time nothing is written until it is back: then it goes on in the same history.
        let is_same_history = kill % 2 == 0;
        let held = is_same_history.then(|| writer.hold());
        server.kill9();
        if !is_same_history {
            writer.wait(rng.below(200));
        }
        // The restore takes its time, in which the database would grow for ever.
        let held = held.unwrap_or_else(|| writer.hold());
        let committed = writer.committed() + 1;
        let restored = hand::restore(&place.archive());
        let n = state_of(&restored.db);
        eprintln!("kill {kill}: restored {n} of {committed}");
        assert!(n <= committed, "it holds what was never committed");
        assert!(n >= before, "what was archived is gone");
        before = n;
        if is_same_history {
            let server = place.run("", archive);
            server.wait_level();
            server.kill9();
            let restored = hand::restore(&place.archive());
            before = state_of(&restored.db);
            assert_eq!(before, writer.committed(), "all of it");
        }
        drop(held);
    }
    // Nothing is lost in the end.
    let server = place.run("", archive);
    server.wait_archive("streaming");
    writer.wait(20);
    let last = writer.stop();
    assert_eq!(server.stop(), Some(0));
    assert_eq!(state_of(&hand::restore(&place.archive()).db), last);
}
