//! Everything of one seed: the nodes, the network, the clock, the log of events, and the checks between them.

use crate::app::App;
use crate::check::Check;
use crate::disk::Content;
use crate::excuse;
use crate::net::Net;
use crate::primary::Primary;
use crate::queue;
use crate::replica::Replica;
use crate::rng::{Rng, choose};
use crate::sched::{self, WORLD as NOBODY, sleep_ms};
use crate::store::Failed;
use crate::totals::Totals;
use std::cell::{Cell, RefCell};
use std::fmt::{Arguments, Write as _};
use std::path::Path;
use std::rc::Rc;
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use tokio::time::Instant;
use walcast::format::position::Position;
use walcast::model::outside::{self, Outside};
use walcast::model::{Follows, Message, Point};
use walcast::replica::parts::{Mark, StreamError};

/// Virtual noon of the first day, µs since 1970.
const NOON_US: i64 = 1_764_331_200_000_000;

/// One world of so many has a large database, whose snapshots are several messages.
const LARGE: u64 = 10;

/// Real replicas of one process take turns in applying at once (`worker`), and worlds must not meet.
static REAL: Mutex<()> = Mutex::new(());

/// One world.
pub struct World {
    pub primary: Primary,
    pub replicas: Vec<Replica>,
    pub net: Net,
    pub check: Check,
    began: Instant,
    /// How wrong the primary's wall clock is, µs.
    pub clock_off_us: Cell<i64>,
    /// Work for a disk that nobody waits for begins this much later, in ms.
    pub errands_ms: Cell<u64>,
    _alone: Option<MutexGuard<'static, ()>>,
    random: RefCell<Rng>,
    log: RefCell<Log>,
    /// Nothing is ever too old or too much to be kept.
    pub keeps_all: bool,
    /// The database is large, for a simulation.
    pub large: bool,
    totals: RefCell<Totals>,
}

/// The log of events.
#[derive(Default)]
pub struct Log {
    pub lines: Vec<String>,
    aloud: bool,
}

thread_local! {
    static WORLD: RefCell<Option<Rc<World>>> = const { RefCell::new(None) };
}

/// The world of this thread.
pub fn world() -> Rc<World> {
    WORLD.with(|world| world.borrow().clone().expect("a world"))
}

/// Puts clock, chance and errands of the process into the hands of the worlds.
fn take_over() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        outside::simulate(Outside {
            clock_us: || world().clock_us(),
            random_u64: || world().chance(),
        });
        walcast::disk::simulate(|errand| {
            let late = world().errands_ms.get();
            sched::spawn(NOBODY, async move {
                sleep_ms(late).await;
                errand();
            });
        });
    });
}

impl World {
    /// Makes the world of this thread. `files` is an empty directory.
    pub fn create(seed: u64, files: &Path, aloud: bool) -> Rc<World> {
        take_over();
        let mut rng = Rng::new(seed);
        let large = rng.one_in(LARGE);
        let (page_size, pages) = match large {
            true => {
                let page_size = choose(&mut rng, &[1024, 4096]);
                (page_size, rng.between(3 << 20, 14 << 20) as u32 / page_size)
            }
            false => {
                let page_size = choose(&mut rng, &[512, 1024, 4096]);
                (page_size, rng.between(2, 40) as u32)
            }
        };
        let app_rng = Rng::new(rng.next());
        let app = App::create(&files.join("app.db"), page_size, pages, app_rng);
        let replicas = rng.between(1, 3) as usize;
        let net = Net::new(&mut rng, replicas);
        let primary = Primary::new(app, &mut rng);
        let real = |number: usize, rng: &mut Rng| {
            let directory = files.join(format!("replica-{number}"));
            // What a reader sees of it is read whole at each state, which takes too long of a large one.
            (rng.one_in(8) && !large).then(|| directory.join("copy.db"))
        };
        let replicas: Vec<Replica> = (0..replicas)
            .map(|number| Replica::new(number, real(number, &mut rng)))
            .collect();
        let is_real = replicas.iter().any(|replica| !replica.is_model());
        let world = Rc::new(World {
            keeps_all: primary.keeps_all(),
            primary,
            replicas,
            net,
            check: Check::default(),
            began: Instant::now(),
            clock_off_us: Cell::new(0),
            errands_ms: Cell::new(0),
            _alone: is_real.then(|| REAL.lock().unwrap_or_else(PoisonError::into_inner)),
            random: RefCell::new(Rng::new(rng.next())),
            log: RefCell::new(Log {
                aloud,
                ..Log::default()
            }),
            large,
            totals: RefCell::default(),
        });
        WORLD.with(|current| *current.borrow_mut() = Some(world.clone()));
        world
    }

    /// Ends the world of this thread; its events.
    pub fn end() -> Vec<String> {
        let world = WORLD.with(|current| current.borrow_mut().take());
        world.map_or_else(Vec::new, |world| world.log.take().lines)
    }

    /// The last events, after a panic.
    pub fn abandon(count: usize) -> String {
        sched::abandon();
        let Some(world) = WORLD.with(|current| current.borrow_mut().take()) else {
            return String::new();
        };
        let lines = world.log.take().lines;
        std::mem::forget(world);
        lines[lines.len().saturating_sub(count)..].join("\n")
    }

    fn clock_us(&self) -> i64 {
        let us = i64::try_from(self.began.elapsed().as_micros()).expect("a short world");
        NOON_US + us + self.clock_off_us.get()
    }

    /// An event.
    pub fn note(&self, event: Arguments<'_>) {
        let mut line = String::new();
        let _ = write!(line, "{:>9} ms  {event}", self.began.elapsed().as_millis());
        let mut log = self.log.borrow_mut();
        if log.aloud {
            println!("{line}");
        }
        log.lines.push(line);
    }

    /// Words that may differ between two runs of a seed, as paths do.
    pub fn aside(&self, words: &str) {
        if self.log.borrow().aloud {
            println!("{:12}  ({words})", "");
        }
    }

    /// A number of the seed's.
    pub fn chance(&self) -> u64 {
        self.random.borrow_mut().next()
    }

    /// One more of a kind.
    pub fn count(&self, what: &'static str) {
        self.count_many(what, 1);
    }

    /// So many more of a kind.
    pub fn count_many(&self, what: &'static str, count: u64) {
        self.totals.borrow_mut().add(what, count);
    }

    /// The largest of a kind counts.
    pub fn most(&self, what: &'static str, value: u64) {
        self.totals.borrow_mut().most(what, value);
    }

    /// What happened.
    pub fn totals(&self) -> Totals {
        self.count("worlds");
        self.count_many("simulated seconds", self.began.elapsed().as_secs());
        self.count_many("large worlds", u64::from(self.large));
        self.totals.take()
    }

    /// A message of a stream reached a replica whose copy is at `local`.
    pub fn received(&self, replica: usize, message: &Message, local: Option<Mark>) {
        match message {
            Message::Hello(hello) => {
                self.note(format_args!(
                    "replica {replica}: hello at {}, {:?}",
                    hello.position, hello.follows
                ));
                self.aside(&hello.reason);
                self.count(match hello.follows {
                    Follows::Resume => "resumed",
                    Follows::NewReplica => "snapshot: new",
                    Follows::OtherGeneration => "snapshot: generation",
                    Follows::NotRetained => "snapshot: not retained",
                    Follows::ReplicaAhead => "snapshot: ahead",
                    Follows::ChecksumDiffers => "snapshot: checksum",
                    Follows::PageSizeDiffers => "snapshot: page size",
                });
                if let (Some(mark), true) = (local, hello.follows != Follows::Resume) {
                    self.snapshot_was_due(hello.follows, hello.position, mark);
                }
            }
            Message::SnapshotBegin(begin) => {
                self.note(format_args!(
                    "replica {replica}: snapshot from {}",
                    begin.start
                ));
            }
            Message::SnapshotEnd(end) => {
                self.note(format_args!(
                    "replica {replica}: snapshot to {}",
                    end.position
                ));
            }
            Message::Chunk(chunk) => {
                if chunk.commit.is_none() {
                    self.count("parts of a transaction");
                }
                let commit = if chunk.commit.is_some() {
                    ", commits"
                } else {
                    ""
                };
                self.note(format_args!(
                    "replica {replica}: chunk {} to {:x}{commit}",
                    chunk.start, chunk.end_offset
                ));
            }
            Message::SnapshotPages(pages) if pages.first_page > 1 => {
                self.count("parts of a snapshot, but the first");
            }
            Message::SnapshotPages(_) | Message::Heartbeat { .. } => {}
        }
    }

    /// A snapshot may be sent only where the log would not do.
    fn snapshot_was_due(&self, follows: Follows, tip: Position, mark: Mark) {
        let at = mark.point.position;
        let history = &self.primary.app.borrow().history;
        let state = history.find(mark.point.dbsum.0, mark.point.page_count);
        let state = state.expect("the copy was at a commit");
        let newest = self.check.state_at(tip);
        let newest = newest.expect("the primary's position was captured");
        if at.generation != tip.generation || !history.leads_to(state, newest) {
            return;
        }
        if self.primary.damaged.borrow().contains(&at.generation) {
            return;
        }
        let kept = self.primary.kept(at.generation);
        let whole = (at.index..=tip.index).all(|index| kept.contains(&index));
        let forgotten = !self.keeps_all && !self.primary.is_kept(at);
        assert!(
            !whole || forgotten,
            "a snapshot ({follows:?}) for a copy at {at}, from where on the log is kept up to {tip}"
        );
    }

    /// What was received and is not applied is bounded.
    pub fn check_queue(&self, replica: usize, taken: u64) {
        let applied = self.replicas[replica].given.get();
        let waiting = taken.checked_sub(applied);
        let waiting = waiting.expect("what was applied came out of the network");
        self.most("bytes that waited for a database", waiting);
        assert!(
            waiting <= queue::MOST,
            "replica {replica}: {waiting} bytes wait for its database"
        );
    }

    /// A replica did not take what it received. No byte changes on the way, so a message that breaks the protocol, or a
    /// state that is not the primary's, was made by the code under test. `meant`: nobody knew where the copy was, and it
    /// should have become this.
    pub fn refused(&self, replica: usize, why: &Failed, meant: Option<Point>) {
        self.note(format_args!("replica {replica}: refused: {why:?}"));
        match why {
            Failed::Full => self.count("refused: full"),
            Failed::Checksum(_) | Failed::Stream(StreamError::Diverged(_))
                if meant.is_some_and(|meant| self.is_stranded(replica, &meant)) =>
            {
                self.count("excused: a copy that is lost");
            }
            why => panic!("replica {replica} refused what the primary sent: {why:?}"),
        }
    }

    fn is_stranded(&self, replica: usize, meant: &Point) -> bool {
        let history = &self.primary.app.borrow().history;
        let disk = self.replicas[replica].disk.lock().expect("no panic");
        let copy = disk.visible().expect("a copy");
        let copy = history.find(copy.sum(), copy.page_count());
        let meant = history.find(meant.dbsum.0, meant.page_count);
        excuse::is_stranded(
            history,
            copy.expect("the copy is at a commit"),
            meant.expect("the primary sends its commits"),
        )
    }

    /// Readers of a replica see this now.
    pub fn published(&self, replica: usize, content: &Content, point: &Point) {
        self.visible(replica, content.sum(), content.page_count(), point);
    }

    /// The same by the checksum of what they see.
    pub fn visible(&self, replica: usize, sum: u64, pages: u32, point: &Point) {
        let history = &self.primary.app.borrow().history;
        let position = point.position;
        let state = history.find(sum, pages).unwrap_or_else(|| {
            panic!("replica {replica} shows at {position} what the primary never committed")
        });
        self.note(format_args!(
            "replica {replica}: shows state {state} at {position}"
        ));
        self.count("states read");
        assert_eq!(sum, point.dbsum.0, "replica {replica} is not what it says");
        if self.check.seen(replica) != Some(state) {
            let sender = self.replicas[replica].sender_began_after.get();
            assert!(
                excuse::was_under_way(history, state, sender),
                "replica {replica} shows state {state} at {position}, which was lost before it was sent"
            );
            if history.taken_by(state).is_some() {
                self.count("excused: under way at a power cut");
            }
        }
        if self.check.pair(history, position, state) {
            self.count("excused: a position that is used again");
        }
        if self.check.visible(history, replica, state, None) {
            self.count("excused: readers that leave a lost state");
        }
    }

    /// What the primary knows of its replicas is not more than they have said.
    pub fn check_reports(&self) {
        let Some(process) = self.primary.process.borrow().clone() else {
            return;
        };
        for known in process.served.replicas() {
            let number = known
                .name
                .rsplit('-')
                .next()
                .expect("a name")
                .parse::<usize>();
            let replica = &self.replicas[number.expect("a number")];
            if let (Some(told), Some(durable)) = (known.durable, replica.durable.get()) {
                assert!(
                    told.generation != durable.generation || told <= durable,
                    "the primary believes that {told} is durable on {}, where {durable} is",
                    known.name
                );
            }
        }
    }

    /// A replica promises that this survives a power cut.
    pub fn durable(&self, replica: usize, position: Position) {
        self.note(format_args!("replica {replica}: durable {position}"));
        self.replicas[replica].durable.set(Some(position));
    }
}
