//! A record of all that was done to the files below one directory, in order, by all processes: `record.c`, preloaded, makes
//! it, this reads it. That nothing was missed is proven at the end of each recording: what the entries make of an empty
//! directory must be what is there (`workload::record`).

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::fcntl::{Flock, FlockArg};

use crate::support::Scratch;
use crate::support::child::Spec;
use crate::support::proc::Walcast;

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Create,
    Write,
    Truncate,
    Fallocate,
    Rename,
    Unlink,
    Mkdir,
    Rmdir,
    SyncBegun,
    SyncDone,
}

/// One entry.
#[derive(Clone, Debug)]
pub struct Event {
    pub kind: Kind,
    pub pid: u32,
    /// The file that it is done to; 0 where the name says it.
    pub ino: u64,
    /// Offset or length; of a sync, 1 if of the data alone.
    pub a: u64,
    /// Length; of a sync, its number in its process.
    pub b: u64,
    /// Relative to the root.
    pub name: PathBuf,
    /// Of a rename: the new name.
    pub other: PathBuf,
    data: Range<usize>,
}

/// All entries.
pub struct Recording {
    bytes: Vec<u8>,
    pub events: Vec<Event>,
}

const HEADER: usize = 56;
const MAGIC: u32 = 0x5743_5243;

impl Recording {
    /// For tests of the model: what was done to which inode, under which name, with which numbers; writes have their bytes.
    pub fn of(steps: &[(Kind, u64, &str, u64, &[u8])]) -> Recording {
        let mut recording = Recording {
            bytes: Vec::new(),
            events: Vec::new(),
        };
        for (kind, ino, name, a, data) in steps {
            let from = recording.bytes.len();
            recording.bytes.extend_from_slice(data);
            let (name, other) = name.split_once(' ').unwrap_or((name, ""));
            let is_sync = matches!(kind, Kind::SyncBegun | Kind::SyncDone);
            recording.events.push(Event {
                kind: *kind,
                pid: 1,
                ino: *ino,
                a: *a,
                b: if is_sync { *ino } else { data.len() as u64 },
                name: name.into(),
                other: other.into(),
                data: from..recording.bytes.len(),
            });
        }
        recording
    }

    pub fn read(log: &Path, root: &Path) -> Recording {
        let bytes = std::fs::read(log).expect("read the record");
        let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
        let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
        let name = |range: Range<usize>| {
            let text = std::str::from_utf8(&bytes[range]).expect("a name in UTF-8");
            let inside = Path::new(text).strip_prefix(root);
            inside.map(Path::to_owned).unwrap_or_default()
        };
        let mut events = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            assert_eq!(u32_at(at), MAGIC, "an entry at {at}");
            let kind = [
                Kind::Create,
                Kind::Write,
                Kind::Truncate,
                Kind::Fallocate,
                Kind::Rename,
                Kind::Unlink,
                Kind::Mkdir,
                Kind::Rmdir,
                Kind::SyncBegun,
                Kind::SyncDone,
            ][u32_at(at + 4) as usize - 1];
            let (names, others) = (u32_at(at + 12) as usize, u32_at(at + 48) as usize);
            let from = at + HEADER;
            let data = from + names + others;
            let end = data + u64_at(at + 40) as usize;
            events.push(Event {
                kind,
                pid: u32_at(at + 8),
                ino: u64_at(at + 16),
                a: u64_at(at + 24),
                b: u64_at(at + 32),
                name: name(from..from + names),
                other: name(from + names..data),
                data: data..end,
            });
            at = end;
        }
        Recording { bytes, events }
    }

    /// What an entry wrote.
    pub fn data(&self, event: &Event) -> &[u8] {
        &self.bytes[event.data.clone()]
    }
}

/// Records what the processes that it is put before do below its root.
pub struct Recorder {
    pub root: PathBuf,
    log: PathBuf,
    library: PathBuf,
}

impl Recorder {
    /// Compiles the library, with the compiler that SQLite needs as well.
    pub fn new(scratch: &Scratch) -> Recorder {
        let root = scratch.join("root");
        std::fs::create_dir_all(&root).expect("make the root");
        let root = std::fs::canonicalize(root).expect("resolve the root");
        let library = scratch.join("record.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/power/record.c");
        let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
        let status = Command::new(&compiler)
            .args(["-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o"])
            .arg(&library)
            .arg(source)
            .arg("-ldl")
            .status()
            .unwrap_or_else(|e| panic!("run {compiler}: {e}"));
        assert!(status.success(), "{compiler} record.c");
        let log = scratch.join("record.log");
        File::create(&log).expect("make the record");
        Recorder { root, log, library }
    }

    fn variables(&self) -> [(&'static str, String); 3] {
        [
            ("LD_PRELOAD", self.library.display().to_string()),
            ("WALCAST_RECORD_ROOT", self.root.display().to_string()),
            ("WALCAST_RECORD_LOG", self.log.display().to_string()),
        ]
    }

    pub fn watch(&self, walcast: &mut Walcast) {
        for (key, value) in self.variables() {
            walcast.env(key, &value);
        }
    }

    pub fn watched(&self, spec: Spec) -> Spec {
        let with =
            |spec: Spec, (key, value): (&str, String)| spec.with(&format!("env.{key}"), value);
        self.variables().into_iter().fold(spec, with)
    }

    /// While this lives, nobody is between an operation and its entry: a process may be killed.
    pub fn still(&self) -> Flock<File> {
        let file = File::open(&self.log).expect("open the record");
        Flock::lock(file, FlockArg::LockExclusive).expect("lock the record")
    }

    pub fn finish(&self) -> Recording {
        let _still = self.still();
        Recording::read(&self.log, &self.root)
    }
}
