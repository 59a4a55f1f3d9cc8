//! What is recorded: a life of an application, a primary and a replica with everything in it that writes.

use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags};

use super::disk::Moment;
use super::image::Image;
use super::recording::{Recorder, Recording};
use crate::support::child::{Spec, run};
use crate::support::proc::Walcast;
use crate::support::{Scratch, wait_for};

/// How an application is set up.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub page_size: u32,
    pub synchronous: &'static str,
}

/// The machines, by their directories.
pub const PRIMARY: &str = "primary";
pub const REPLICA: &str = "replica";

pub fn database(root: &Path, side: &str) -> PathBuf {
    root.join(side).join("app.db")
}

/// A primary of the database below `root`. Its limits are small, so that what happens rarely happens here.
pub fn primary(dir: &Path, root: &Path) -> Walcast {
    let db = format!("app={}", database(root, PRIMARY).display());
    let args = [
        "primary",
        "--db",
        &db,
        "--listen",
        "127.0.0.1:0",
        "--retain-size",
        "256KiB",
    ];
    Walcast::new(dir, "primary", &args)
}

pub fn replica(dir: &Path, root: &Path, upstream: std::net::SocketAddr) -> Walcast {
    let db = format!("app={}", database(root, REPLICA).display());
    let upstream = format!("http://{upstream}");
    let args = [
        "replica",
        "--upstream",
        &upstream,
        "--db",
        &db,
        "--listen",
        "127.0.0.1:0",
        "--wal-soft-limit",
        "192KiB",
    ];
    Walcast::new(dir, "replica", &args)
}

/// The mark that a reader of the replica sees.
pub fn seen_mark(db: &Path) -> Result<u64, String> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    // A file that does not exist is not made.
    let conn = Connection::open_with_flags(db, flags).map_err(|e| e.to_string())?;
    conn.query_row("SELECT v FROM mark", [], |row| row.get::<_, i64>(0))
        .map(|v| v as u64)
        .map_err(|e| e.to_string())
}

pub fn wait_mark(replica: &Path, mark: u64) {
    wait_for(
        &format!("mark {mark} on the replica"),
        || match seen_mark(replica)? {
            seen if seen == mark => Ok(()),
            seen => Err(format!("it is at {seen}")),
        },
    );
}

struct Life<'a> {
    scratch: &'a Scratch,
    recorder: &'a Recorder,
    shape: Shape,
    seed: u64,
    mark: u64,
}

impl Life<'_> {
    /// Answers with what the application tells.
    fn act(&mut self, acts: u64, more: &[(&str, &str)]) -> Spec {
        self.mark += 1;
        let mut spec = Spec::new("power")
            .with_path("db", &database(&self.recorder.root, PRIMARY))
            .with("page_size", self.shape.page_size)
            .with("synchronous", self.shape.synchronous)
            .with("seed", self.seed + self.mark)
            .with("acts", acts)
            .with("mark", self.mark);
        for (key, value) in more {
            spec = spec.with(key, value);
        }
        let spec = self.recorder.watched(spec);
        run(self.scratch.path(), "app", spec).unwrap_or_else(|why| panic!("{why}"))
    }

    /// Waits for the last mark on the replica, in a recorded process as well: where walcast does not have the database open
    /// yet, this reader makes a log, or checkpoints and deletes it as the last one to close.
    fn wait_mark(&self) {
        let copy = database(&self.recorder.root, REPLICA);
        let spec = Spec::new("power").with_path("wait", &copy);
        let spec = self.recorder.watched(spec.with("mark", self.mark));
        run(self.scratch.path(), "reader", spec).unwrap_or_else(|why| panic!("{why}"));
    }
}

/// Records a life. It is the same for the same seed but for what the threads of the processes do at the same time.
pub fn record(shape: Shape, seed: u64) -> (Recording, Scratch) {
    let scratch = Scratch::new("power");
    let recorder = Recorder::new(&scratch);
    let root = recorder.root.clone();
    for side in [PRIMARY, REPLICA] {
        std::fs::create_dir(root.join(side)).expect("make a machine's directory");
    }
    let copy = database(&root, REPLICA);
    let mut life = Life {
        scratch: &scratch,
        recorder: &recorder,
        shape,
        seed,
        mark: 0,
    };

    life.act(15, &[]);
    let mut up = primary(scratch.path(), &root);
    recorder.watch(&mut up);
    let address = up.start();
    life.act(40, &[]);
    let mut down = replica(scratch.path(), &root, address);
    recorder.watch(&mut down);
    down.start();
    life.wait_mark();
    // A few commits, long before any checkpoint, are made durable.
    let durable = copy.with_file_name("app.db-walcast").join("position");
    let position = || std::fs::read_to_string(&durable).map_err(|e| e.to_string());
    let before = wait_for("the first durable position", position);
    life.act(4, &[("autocheckpoint", "0")]);
    life.wait_mark();
    wait_for("the next durable position", || {
        (position()? != before).then_some(()).ok_or(before.clone())
    });
    // Logs begin anew on both sides, and what is kept of the shadow WAL goes.
    for pages in ["1", "20", "0", "60"] {
        life.act(60, &[("autocheckpoint", pages)]);
        life.wait_mark();
    }
    // A reader's checkpoint, which synced nothing, is all that the replica's log waited for to begin anew.
    let held = life.act(60, &[("hold", &copy.display().to_string())]);
    let log = copy.with_file_name("app.db-wal");
    wait_for("the log to begin anew", || match log_header(&log) {
        // Between the two it may be empty.
        Some(now) if held.get("header") != Some(now.as_str()) => Ok(()),
        _ => Err("not yet".to_owned()),
    });
    life.act(60, &[]);
    life.wait_mark();
    // The primary ends, and finds the log as it left it, but longer.
    kill(&recorder, &mut up);
    life.act(5, &[("autocheckpoint", "0"), ("acts", "3")]);
    kill(&recorder, &mut down);
    let mut down = restart(&scratch, &recorder, &mut up);
    life.wait_mark();
    // The replica ends, and is behind, by more than one log.
    kill(&recorder, &mut down);
    life.act(60, &[]);
    down.start();
    life.wait_mark();
    // The log is lost to the primary: another generation, and a snapshot in place.
    kill(&recorder, &mut up);
    life.act(20, &[("last", "TRUNCATE")]);
    life.act(20, &[("last", "TRUNCATE")]);
    kill(&recorder, &mut down);
    let mut down = restart(&scratch, &recorder, &mut up);
    life.wait_mark();
    life.act(60, &[("autocheckpoint", "10")]);
    life.wait_mark();
    // Somebody deletes the copy, but not what lies beside it.
    kill(&recorder, &mut down);
    let spec = Spec::new("power").with_path("remove", &root.join(REPLICA));
    run(scratch.path(), "remove", recorder.watched(spec)).unwrap_or_else(|why| panic!("{why}"));
    down.start();
    life.act(20, &[]);
    life.wait_mark();
    down.terminate();
    up.terminate();

    let recording = recorder.finish();
    for side in [PRIMARY, REPLICA] {
        prove_complete(&recording, &root, Path::new(side));
    }
    (recording, scratch)
}

/// The header of a log, for a comparison; `None` if it has none.
pub fn log_header(log: &Path) -> Option<String> {
    let bytes = std::fs::read(log).ok()?;
    Some(format!("{:02x?}", bytes.get(..32)?))
}

/// Both again; the replica with the primary's new address.
fn restart(scratch: &Scratch, recorder: &Recorder, up: &mut Walcast) -> Walcast {
    let address = up.start();
    let mut down = replica(scratch.path(), &recorder.root, address);
    recorder.watch(&mut down);
    down.start();
    down
}

fn kill(recorder: &Recorder, walcast: &mut Walcast) {
    let _still = recorder.still();
    walcast.kill9();
}

/// What the entries make of nothing is what is there.
fn prove_complete(recording: &Recording, root: &Path, side: &Path) {
    let told = Moment::new(recording, side, recording.events.len()).whole();
    let there = Image::read(root, side);
    assert!(!there.files.is_empty());
    let names = |image: &Image| image.files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&told), names(&there), "the record misses something");
    assert_eq!(told.dirs, there.dirs, "the record misses something");
    for (path, bytes) in &there.files {
        assert!(
            told.files[path] == *bytes,
            "the record misses something of {}",
            path.display()
        );
    }
}
