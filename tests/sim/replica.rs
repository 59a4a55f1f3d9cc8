//! A replica's machine: the shipped follower, its queue and its machine, over a model disk; or all of the shipped replica
//! over real files, which can be killed, but whose machine does not lose power.

use crate::disk::Disk;
use crate::history::Cut;
use crate::net::Way;
use crate::queue::Counted;
use crate::rng::Rng;
use crate::sched::{self, Group, sleep_ms, spawn};
use crate::store::Store;
use crate::world::world;
use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use tokio_util::sync::CancellationToken;
use walcast::client::Upstream;
use walcast::format::position::Position;
use walcast::replica::ReplicaConfig;
use walcast::replica::parts::{Command, Follower, Queue, Shared, Work, Worker, run, ticks};

/// A process that runs.
#[derive(Clone)]
pub struct Process {
    group: Group,
    pub shared: Arc<Shared>,
    queue: Arc<Queue>,
    cancel: CancellationToken,
}

/// The machine.
pub struct Replica {
    number: usize,
    /// `None`: a model disk.
    files: Option<PathBuf>,
    pub disk: Arc<Mutex<Disk>>,
    pub process: RefCell<Option<Process>>,
    /// Work for the disk begins this much later, in ms.
    pub slowness: Cell<u64>,
    /// What was promised to survive a power cut.
    pub durable: Cell<Option<Position>>,
    /// Bytes of the stream that were applied.
    pub given: Cell<u64>,
    /// Power cuts of the primary before the process began that sends the stream.
    pub sender_began_after: Cell<Cut>,
}

impl Replica {
    /// `files`: where the real copy lies.
    pub fn new(number: usize, files: Option<PathBuf>) -> Replica {
        Replica {
            number,
            files,
            disk: Arc::default(),
            process: RefCell::default(),
            slowness: Cell::new(0),
            durable: Cell::new(None),
            given: Cell::new(0),
            sender_began_after: Cell::new(0),
        }
    }

    /// Which one it is.
    pub fn number(&self) -> usize {
        self.number
    }

    /// True if its disk is a model.
    pub fn is_model(&self) -> bool {
        self.files.is_none()
    }

    /// Starts walcast.
    pub fn start(&self) {
        let group = sched::group();
        let number = self.number;
        let path = self.files.clone().unwrap_or_else(|| "/nowhere/db".into());
        let mut config = ReplicaConfig::new("db", path, "http://primary:4040");
        config.replica_name = format!("replica-{number}");
        // Below it nothing waits for readers by the real clock.
        config.wal_soft_limit = 1 << 30;
        let shared = Arc::new(Shared::new(config));
        let worker: Box<dyn Work> = match self.files {
            None => Box::new(Store::open(number, shared.clone(), self.disk.clone())),
            Some(_) => Box::new(Worker::new(shared.clone())),
        };
        let run_work = move |work: Box<dyn FnOnce() + Send>| {
            let late = world().replicas[number].slowness.get();
            spawn(group, async move {
                if late > 0 {
                    sleep_ms(late).await;
                }
                work();
            });
        };
        let queue = Queue::new(Counted::new(number, worker), Box::new(run_work));
        let way = Way {
            link: number,
            node: group,
        };
        let upstream = Upstream::carried("http://primary:4040", Arc::new(way));
        let cancel = CancellationToken::new();
        let follower = Follower {
            shared: shared.clone(),
            upstream: Some(upstream.expect("a URL")),
            queue: queue.clone(),
        };
        spawn(group, run(follower, cancel.clone()));
        spawn(group, ticks(shared.clone(), queue.clone(), cancel.clone()));
        if let Some(path) = &self.files {
            spawn(
                group,
                crate::files::observe(number, path.clone(), shared.clone()),
            );
        }
        world().note(format_args!("replica {number}: starts"));
        *self.process.borrow_mut() = Some(Process {
            group,
            shared,
            queue,
            cancel,
        });
    }

    /// SIGKILL.
    pub fn kill(&self) {
        let process = self.process.borrow_mut().take();
        if let Some(process) = process {
            process.cancel.cancel();
            sched::kill(process.group);
            world().note(format_args!("replica {}: killed", self.number));
        }
    }

    /// Ends in order.
    pub async fn stop(&self) {
        let process = self.process.borrow().clone();
        if let Some(process) = process {
            world().note(format_args!("replica {}: stops", self.number));
            process.cancel.cancel();
            let _ = process.queue.send(Command::Stop).await;
            sleep_ms(50 + self.slowness.get()).await;
            self.kill();
        }
    }

    /// The machine loses power.
    pub fn power_cut(&self, rng: &mut Rng) {
        self.kill();
        if !self.is_model() {
            return;
        }
        let mut disk = self.disk.lock().expect("no panic");
        disk.power_cut(rng);
        let world = world();
        let app = world.primary.app.borrow();
        let state = |content: &crate::disk::Content| {
            let state = app.history.find(content.sum(), content.page_count());
            state.expect("a state of the primary")
        };
        let kept = disk.synced().map(state);
        if let Some(visible) = disk.visible().map(state) {
            let durable = kept.expect("a copy that was never durable has no name");
            world
                .check
                .visible(&app.history, self.number, visible, Some(durable));
            world.note(format_args!(
                "replica {}: lost power, and is at state {visible}",
                self.number
            ));
        } else {
            world.check.forget(self.number);
        }
        // The position that was promised is the state that is kept.
        if let (Some(position), Some(kept)) = (self.durable.get(), kept) {
            world.check.pair(&app.history, position, kept);
        }
        assert!(
            self.durable.get().is_none() || kept.is_some(),
            "replica {}: what was durable is gone",
            self.number
        );
    }
}
