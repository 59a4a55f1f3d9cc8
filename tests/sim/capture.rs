//! The capture thread of a simulated primary: the supervisor's rounds, with the turns of the shipped session.

use crate::history::Cut;
use crate::primary::Process;
use crate::rng::Rng;
use crate::sched::{self, sleep_ms};
use crate::world::world;
use std::time::Duration;
use walcast::disk::fault::{Plan, with_plan};
use walcast::format::position::Position;
use walcast::model::DatabaseState;
use walcast::ownership;
use walcast::primary::parts::{End, Session, Turn, Unsound, attach_with, examine};
use walcast::primary::shadow::recover;

/// Between two tries to attach (`supervisor`).
const AGAIN_MS: u64 = 200;
/// Between two looks that find nothing.
const LOOK_MS: u64 = 250;

/// A disk without room, for what capture writes.
const FULL: &str =
    "shadow.append=short;shadow.create=enospc;shadow.sidecar-create=enospc;shadow.mkdir=enospc";

/// Captures for as long as the process lives.
pub async fn capture(process: Process, number: u64) {
    let world = world();
    let primary = &world.primary;
    let housekeeping = primary.housekeeping(&process);
    let shared = &process.shared;
    let mut renew: Option<String> = None;
    let mut unsound = Unsound::default();
    let root = ownership::directory_of(&primary.path());
    let _ownership = ownership::take(&root).expect("nobody else has the database");
    loop {
        if shared.is_stopping() {
            break;
        }
        let index = primary.app.borrow().memory.open(number);
        let found = Found::by(&process);
        let attached = examine(shared).and_then(|found| {
            let renew = renew.as_deref();
            attach_with(shared, found, index, &housekeeping, renew, &mut unsound)
        });
        let mut session = match attached {
            Ok(session) => session,
            Err(reason) => {
                world.note(format_args!("primary: cannot attach"));
                world.aside(&reason);
                shared.set_state(DatabaseState::Waiting, &reason);
                shared.hub.forget_tip();
                for request in shared.take_requests() {
                    request.refuse(shared.not_ready());
                }
                sleep_ms(AGAIN_MS).await;
                continue;
            }
        };
        renew = None;
        found.note(&process);
        session.begin();
        let end = turns(&process, &mut session).await;
        let end = session.close(end);
        shared.hub.end();
        match end {
            End::Stopped => break,
            End::Renew(_) => {
                world.note(format_args!("primary: a new generation is wanted"));
                primary.captured_log.set(None);
                renew = Some("the simulation was told so".to_owned());
            }
            end => {
                if let End::Unsound(salt, reason) = end {
                    unsound.note(salt, reason);
                }
                world.note(format_args!("primary: attaches again"));
                shared.set_state(DatabaseState::Starting, "again");
                sleep_ms(AGAIN_MS).await;
            }
        }
    }
    shared.set_state(DatabaseState::Stopped, "");
    shared.hub.end();
    shared.refuse_all();
}

/// What a process finds after a power cut, before it attaches.
struct Found {
    cuts: Cut,
    /// Where the shadow WAL ends; looked for once after each cut.
    end: Option<Position>,
}

impl Found {
    fn by(process: &Process) -> Found {
        let world = world();
        let cuts = world.primary.app.borrow().history.cuts();
        let recovered = match world.check.has_attached(cuts) {
            true => None,
            false => recover(&process.shared.layout).ok().flatten(),
        };
        let end = recovered.map(|recovered| recovered.end);
        Found { cuts, end }
    }

    fn note(self, process: &Process) {
        let world = world();
        if world.check.has_attached(self.cuts) {
            return;
        }
        let generation = process.shared.hub.generation().expect("it is attached");
        let end = self.end.filter(|end| end.generation == generation);
        let end = end.unwrap_or_else(|| Position::start_of(generation));
        world.note(format_args!("primary: goes on from {end}"));
        world.check.attached(self.cuts, end);
    }
}

async fn turns(process: &Process, session: &mut Session) -> End {
    let world = world();
    let primary = &world.primary;
    let mut tip = process.served.watch();
    let mut first = true;
    let mut rng = Rng::new(world.chance());
    loop {
        let turn = match primary.full.get() {
            true => with_plan(Plan::parse(FULL).expect("a plan"), || session.turn()).0,
            false => session.turn(),
        };
        if tip.has_changed().unwrap_or(false) || first {
            first = false;
            if let Some(point) = *tip.borrow_and_update() {
                primary.captured(&point);
            }
        }
        match turn {
            Turn::On => sched::yield_now().await,
            Turn::End(end) => return end,
            Turn::Wait(time) => {
                let time = time.max(Duration::from_micros(1));
                let _ = tokio::time::timeout(time, primary.changed.notified()).await;
            }
            Turn::Rest(_) => {
                let patience = Duration::from_millis(LOOK_MS);
                let _ = tokio::time::timeout(patience, primary.changed.notified()).await;
                let late = rng.below(primary.sluggish + 1);
                if late > 0 {
                    sleep_ms(late).await;
                }
            }
        }
    }
}
