//! What goes wrong, by the seed: each world has some kinds of fault, and all of them end.

use crate::load::Load;
use crate::rng::{Rng, chance, choose};
use crate::sched::{self, Group, sleep_ms, spawn};
use crate::world::{World, world};
use std::cell::Cell;
use std::rc::Rc;

/// The kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Partition,
    Cut,
    Latency,
    ReplicaKilled,
    ReplicaStopped,
    ReplicaPower,
    ReplicaSlow,
    ReplicaFull,
    ReplicaSync,
    PrimaryKilled,
    PrimaryStopped,
    PrimaryPower,
    PrimaryFull,
    PrimaryErrands,
    Clock,
}

const ALL: [Fault; 15] = [
    Fault::Partition,
    Fault::Cut,
    Fault::Latency,
    Fault::ReplicaKilled,
    Fault::ReplicaStopped,
    Fault::ReplicaPower,
    Fault::ReplicaSlow,
    Fault::ReplicaFull,
    Fault::ReplicaSync,
    Fault::PrimaryKilled,
    Fault::PrimaryStopped,
    Fault::PrimaryPower,
    Fault::PrimaryFull,
    Fault::PrimaryErrands,
    Fault::Clock,
];

impl Fault {
    fn name(self) -> &'static str {
        match self {
            Fault::Partition => "fault: partition",
            Fault::Cut => "fault: connection cut",
            Fault::Latency => "fault: latency",
            Fault::ReplicaKilled => "fault: replica killed",
            Fault::ReplicaStopped => "fault: replica stopped",
            Fault::ReplicaPower => "fault: replica without power",
            Fault::ReplicaSlow => "fault: replica's disk slow",
            Fault::ReplicaFull => "fault: replica's disk full",
            Fault::ReplicaSync => "fault: replica's syncs fail",
            Fault::PrimaryKilled => "fault: primary killed",
            Fault::PrimaryStopped => "fault: primary stopped",
            Fault::PrimaryPower => "fault: primary without power",
            Fault::PrimaryFull => "fault: primary's disk full",
            Fault::PrimaryErrands => "fault: primary's housekeeping late",
            Fault::Clock => "fault: primary's clock wrong",
        }
    }
}

/// All kinds, as they are counted.
pub fn names() -> impl Iterator<Item = &'static str> {
    ALL.into_iter().map(Fault::name)
}

/// Whoever breaks things.
pub struct Faults {
    rng: Rng,
    kinds: Vec<Fault>,
    every_ms: u64,
    /// Work for a disk that nobody waits for begins this much later, in ms, unless a fault says otherwise.
    errands_ms: u64,
    /// One thing happens to the primary at a time, and one to each replica.
    primary_busy: Rc<Cell<bool>>,
    replica_busy: Vec<Rc<Cell<bool>>>,
    /// The application's group, which a power cut ends.
    application: Rc<Cell<Group>>,
    /// Ends the application's work.
    until: Rc<Cell<bool>>,
}

impl Faults {
    /// The kinds of this seed.
    pub fn new(mut rng: Rng) -> Faults {
        let mut kinds: Vec<Fault> = ALL.iter().copied().filter(|_| rng.one_in(3)).collect();
        kinds.push(choose(
            &mut rng,
            &[Fault::Partition, Fault::Cut, Fault::ReplicaKilled],
        ));
        world().note(format_args!("faults: {kinds:?}"));
        // What is not synced yet is what a power cut takes.
        let errands_ms = match kinds.contains(&Fault::PrimaryPower) {
            true => choose(&mut rng, &[0, 0, 1_000, 8_000]),
            false => 0,
        };
        Faults {
            kinds,
            errands_ms,
            every_ms: [300, 1_500, 5_000][rng.below(3) as usize],
            primary_busy: Rc::default(),
            replica_busy: world().replicas.iter().map(|_| Rc::default()).collect(),
            application: Rc::new(Cell::new(sched::group())),
            until: Rc::default(),
            rng,
        }
    }

    /// The application begins to work.
    pub fn start_application(&mut self) {
        self.start_application_after(0);
    }

    fn start_application_after(&mut self, ms: u64) {
        let group = sched::group();
        self.application.set(group);
        self.until = Rc::default();
        let load = Load::new(Rng::new(self.rng.next()));
        let until = self.until.clone();
        spawn(group, async move {
            sleep_ms(ms).await;
            load.run(group, until).await;
        });
    }

    /// The application commits nothing more.
    pub fn stop_application(&self) {
        self.until.set(true);
    }

    /// Breaks things until the time is up, and until all is repaired.
    pub async fn run(&mut self, ms: u64) {
        world().errands_ms.set(self.errands_ms);
        let mut left = ms;
        while left > 0 {
            let pause = self.rng.below(self.every_ms * 2) + 1;
            sleep_ms(pause.min(left)).await;
            left = left.saturating_sub(pause);
            let fault = choose(&mut self.rng, &self.kinds);
            if self.strike(fault) {
                world().count(fault.name());
            }
            world().check_reports();
        }
        // All repairs are through.
        while self.primary_busy.get() || self.replica_busy.iter().any(|busy| busy.get()) {
            sleep_ms(100).await;
        }
        let world = world();
        world.errands_ms.set(0);
        for (link, _) in world.replicas.iter().enumerate() {
            world.net.set_latency(link, 20);
            world.net.heal(link);
        }
    }

    /// False: another fault is there.
    fn strike(&mut self, fault: Fault) -> bool {
        let world = world();
        let victim = self.rng.below(world.replicas.len() as u64) as usize;
        match fault {
            Fault::Partition
            | Fault::ReplicaKilled
            | Fault::ReplicaStopped
            | Fault::ReplicaPower
            | Fault::ReplicaSlow
            | Fault::ReplicaFull
            | Fault::ReplicaSync => {
                if self.replica_busy[victim].replace(true) {
                    return false;
                }
                let over = self.replica_busy[victim].clone();
                let rng = Rng::new(self.rng.next());
                spawn(sched::WORLD, async move {
                    replica_fault(crate::world::world(), fault, victim, rng).await;
                    over.set(false);
                });
            }
            Fault::Cut => {
                let late = choose(&mut self.rng, &[1, 50, 3_000, 20_000]);
                world.note(format_args!(
                    "link {victim}: cut; the server learns it after {late} ms"
                ));
                world.net.cut(victim, late);
            }
            Fault::Latency => {
                let high = choose(&mut self.rng, &[0, 5, 60, 600]);
                world.note(format_args!("link {victim}: up to {high} ms"));
                world.net.set_latency(victim, high);
            }
            Fault::PrimaryErrands => {
                let late = choose(&mut self.rng, &[0, 20, 2_000, 9_000]);
                world.note(format_args!("primary: errands take {late} ms"));
                world.errands_ms.set(late);
            }
            Fault::Clock => {
                let seconds = choose(&mut self.rng, &[-86_400, -60, -1, 0, 1, 15, 5_000, 86_400]);
                world.note(format_args!("primary: the clock is off by {seconds} s"));
                world.clock_off_us.set(seconds * 1_000_000);
            }
            Fault::PrimaryKilled
            | Fault::PrimaryStopped
            | Fault::PrimaryPower
            | Fault::PrimaryFull => return self.strike_primary(fault),
        }
        true
    }

    fn strike_primary(&mut self, fault: Fault) -> bool {
        if self.primary_busy.replace(true) {
            return false;
        }
        let world = world();
        let over = self.primary_busy.clone();
        let mut rng = Rng::new(self.rng.next());
        let away = rng.below(8_000);
        if fault == Fault::PrimaryPower {
            sched::kill(self.application.get());
            let lost = world.primary.power_cut(&mut rng);
            world.count_many("commits that a power cut took", lost as u64);
            let state = world.primary.app.borrow().history.current();
            world.note(format_args!(
                "primary: lost power, and {lost} commits; at state {state}"
            ));
            // While it rests, replicas find that the primary is behind them; the longest time is that until the end. Then
            // the primary sees each commit that is over the same offsets as a lost one.
            let rests = choose(
                &mut self.rng,
                &[0, 0, away, away + 1_000, away + 6_000, 90_000],
            );
            self.start_application_after(rests);
        }
        spawn(sched::WORLD, async move {
            let world = crate::world::world();
            let primary = &world.primary;
            match fault {
                Fault::PrimaryFull => {
                    primary.full.set(true);
                    world.note(format_args!("primary: its disk is full"));
                    sleep_ms(away).await;
                    primary.full.set(false);
                    world.note(format_args!("primary: its disk has room"));
                }
                Fault::PrimaryPower => {
                    // A machine without power resets no connection.
                    let late = rng.below(15_000);
                    for link in 0..world.replicas.len() {
                        world.net.cut_after(link, late);
                    }
                    sleep_ms(away).await;
                    primary.start();
                }
                Fault::PrimaryStopped => {
                    primary.stop().await;
                    world.net.cut_all(1);
                    sleep_ms(away).await;
                    primary.start();
                }
                _ => {
                    primary.kill();
                    world.net.cut_all(1);
                    sleep_ms(away).await;
                    primary.start();
                }
            }
            over.set(false);
        });
        true
    }
}

async fn replica_fault(world: Rc<World>, fault: Fault, victim: usize, mut rng: Rng) {
    let replica = &world.replicas[victim];
    let time = choose(&mut rng, &[50, 500, 3_000, 9_000, 25_000]);
    let time = rng.below(time) + 1;
    let set =
        |what: &dyn Fn(&mut crate::disk::Disk)| what(&mut replica.disk.lock().expect("no panic"));
    match fault {
        Fault::Partition => {
            world.note(format_args!("link {victim}: blocked for {time} ms"));
            world.net.block(victim);
            sleep_ms(time).await;
            world.net.heal(victim);
            world.note(format_args!("link {victim}: open"));
        }
        Fault::ReplicaSlow => {
            let late = choose(&mut rng, &[3, 100, 2_000, 20_000]);
            world.note(format_args!("replica {victim}: its disk takes {late} ms"));
            replica.slowness.set(late);
            set(&|disk| disk.slow = true);
            sleep_ms(time + late).await;
            replica.slowness.set(0);
            set(&|disk| disk.slow = false);
            world.note(format_args!("replica {victim}: its disk is fast"));
        }
        Fault::ReplicaFull => {
            world.note(format_args!("replica {victim}: its disk is full"));
            set(&|disk| disk.full = true);
            sleep_ms(time).await;
            set(&|disk| disk.full = false);
            world.note(format_args!("replica {victim}: its disk has room"));
        }
        Fault::ReplicaSync => {
            world.note(format_args!("replica {victim}: syncs fail"));
            set(&|disk| disk.failing = true);
            sleep_ms(time).await;
            set(&|disk| disk.failing = false);
            world.note(format_args!("replica {victim}: syncs work"));
        }
        Fault::ReplicaStopped => {
            replica.stop().await;
            world.net.cut(victim, 1);
            sleep_ms(time).await;
            replica.start();
        }
        _ => {
            let power = fault == Fault::ReplicaPower;
            if power {
                replica.power_cut(&mut rng);
            } else {
                replica.kill();
            }
            // The kernel of a machine that lives resets what a process had open.
            let late = if power { 15_000 } else { 1 };
            world
                .net
                .cut(victim, if chance(&mut rng, 80) { late } else { 1 });
            sleep_ms(time).await;
            replica.start();
        }
    }
}
