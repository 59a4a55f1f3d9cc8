//! Turns of the capture without a thread, so that a test says what happens between two looks.

use super::*;
use crate::format::walindex::{IndexHeader, IndexHeaderError, READ0};
use crate::ownership::{self, Ownership};
use crate::primary::continuity::attach_with;
use crate::primary::index::Index;
use crate::primary::session::{End, Session, Turn};
use crate::primary::shadow::{Housekeeping, Job, Layout, work};
use crate::primary::shared::{Request, Shared};
use crate::primary::unsound::Unsound;
use crate::sqlite::{CheckpointInfo, SqliteError, WalIndex};
use crate::sys::LockKind;
use std::sync::Mutex;
use tokio::sync::oneshot;

/// An application that completes its checkpoint after the first look, and commits as soon as its log is let go.
struct Between {
    app: App,
    looks: u32,
    released: bool,
}

/// The wal-index of the application; what it does between the looks.
struct Watched(WalIndex, Arc<Mutex<Option<Between>>>);

impl Index for Watched {
    fn header(&self) -> Result<IndexHeader, IndexHeaderError> {
        if let Some(between) = &mut *self.1.lock().expect("sound") {
            between.looks += 1;
            if between.looks == 2 {
                between.app.sql("PRAGMA wal_checkpoint(PASSIVE)");
            }
        }
        self.0.header()
    }

    fn glance(&self) -> [u32; 4] {
        self.0.glance()
    }

    fn checkpoint_info(&self) -> CheckpointInfo {
        self.0.checkpoint_info()
    }

    fn set_mark(&self, slot: u32, mark: u32) {
        self.0.set_mark(slot, mark);
    }

    fn lock(&mut self, slot: u32, kind: LockKind) -> Result<bool, SqliteError> {
        self.0.lock(slot, kind)
    }

    fn unlock(&mut self, slot: u32, kind: LockKind) -> Result<(), SqliteError> {
        self.0.unlock(slot, kind)?;
        if let Some(between) = &mut *self.1.lock().expect("sound")
            && slot > READ0
            && kind == LockKind::Shared
        {
            between.app.write(30);
            between.released = true;
        }
        Ok(())
    }

    fn barrier(&self) {
        self.0.barrier();
    }
}

struct Attached {
    session: Session,
    shared: Arc<Shared>,
    between: Arc<Mutex<Option<Between>>>,
    _ownership: Ownership,
}

/// Attached, and up to date.
fn attached(bench: &Bench) -> Attached {
    attached_with(bench, Housekeeping::new("test"))
}

fn attached_with(bench: &Bench, housekeeping: Housekeeping) -> Attached {
    let shared = Arc::new(Shared::new(bench.config()));
    let owned = ownership::take(shared.layout.root()).expect("nobody else has it");
    let candidate = crate::primary::attach::examine(&shared).expect("sound");
    let index = WalIndex::open(&bench.path()).expect("opened");
    let between = Arc::new(Mutex::new(None));
    let index = Box::new(Watched(index, Arc::clone(&between)));
    let housekeeping = Arc::new(housekeeping);
    let mut unsound = Unsound::default();
    let session = attach_with(&shared, candidate, index, &housekeeping, None, &mut unsound);
    let mut session = session.expect("attached");
    session.begin();
    while shared.hub.tip_now().is_none() {
        assert!(!matches!(session.turn(), Turn::End(_)));
    }
    Attached {
        session,
        shared,
        between,
        _ownership: owned,
    }
}

#[tokio::test]
async fn a_snapshot_begins_behind_a_log_that_was_let_go_since_it_was_seen() {
    let mut bench = Bench::new("PRAGMA wal_autocheckpoint=0");
    bench.app.write(10);
    let mut reader = App::start(&bench.path());
    reader.sql("BEGIN; SELECT count(*) FROM item");
    bench.app.write(10);
    // Up to where the reader is.
    bench.app.sql("PRAGMA wal_checkpoint(PASSIVE)");
    reader.sql("ROLLBACK");
    let Attached {
        mut session,
        shared,
        between,
        _ownership,
    } = attached(&bench);
    let tip = shared.hub.tip_now().expect("captured");
    let log = std::fs::read(wal_of(&bench.path())).expect("the log");
    *between.lock().expect("sound") = Some(Between {
        app: bench.app,
        looks: 0,
        released: false,
    });
    let (reply, mut answer) = oneshot::channel();
    shared.request(Request::Snapshot(reply));
    let start = loop {
        assert!(!matches!(session.turn(), Turn::End(_)));
        if let Ok(start) = answer.try_recv() {
            break start.expect("a snapshot");
        }
    };
    let between = between.lock().expect("sound").take().expect("it is there");
    assert!(between.released, "after {} looks", between.looks);
    let now = std::fs::read(wal_of(&shared.config.path)).expect("the log");
    assert_ne!(now[..32], log[..32], "begun anew");
    let begin = start.begin;
    assert_eq!(begin.start, tip.position);
    assert_eq!(begin.log.map(|(_, cksum)| cksum), tip.frame_cksum);
    session.close(End::Stopped);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_to_be_removed_is_gone_before_a_new_attachment_looks() {
    let mut bench = Bench::new("PRAGMA wal_autocheckpoint=0");
    let primary = bench.primary();
    bench.app.write(10);
    let mut end = fence(&primary).await.position;
    while fence(&primary).await.position.index == 0 {
        end = fence(&primary).await.position;
        bench.app.sql("PRAGMA wal_checkpoint(TRUNCATE)");
        bench.app.write(10);
    }
    stop(primary).await;
    // As the attachment before may have left it.
    let housekeeping = Housekeeping::with("test", |job| {
        std::thread::sleep(Duration::from_millis(300));
        work(job)
    });
    let layout = Layout::of(&bench.path());
    let directory = layout.index(end.generation, 0);
    for path in [layout.sidecar(end.generation, 0), directory.clone()] {
        assert!(housekeeping.offer(Job::Remove(path)).is_none());
    }
    let attached = attached_with(&bench, housekeeping);
    assert!(!attached.shared.hub.is_kept(end));
    assert!(!directory.exists());
    attached.session.close(End::Stopped);
}

#[tokio::test]
async fn each_who_asks_for_a_pause_at_one_time_gets_it() {
    let mut bench = Bench::new("");
    bench.app.write(10);
    let Attached {
        mut session,
        shared,
        between: _,
        _ownership,
    } = attached(&bench);
    let generation = shared.hub.tip_now().expect("captured").position.generation;
    let renew = || Request::Renew(generation, "the test asks".into());
    let (first, _) = oneshot::channel();
    let (second, mut other) = oneshot::channel();
    shared.request(renew());
    shared.request(Request::Pause(first));
    shared.request(Request::Pause(second));
    shared.request(renew());
    let end = loop {
        if let Turn::End(end) = session.turn() {
            break end;
        }
    };
    assert!(matches!(session.close(end), End::Paused(..)));
    // The supervisor takes it.
    let asked = shared.take_requests();
    assert!(matches!(asked.front(), Some(Request::Pause(_))));
    assert!(other.try_recv().is_err(), "not refused");
}
