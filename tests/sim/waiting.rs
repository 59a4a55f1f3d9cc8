//! The rule for waiting: once nothing is broken any more, and nobody commits, all is right within a bounded time, in the
//! words of everybody, and stays so. Right is:
//!
//! - each replica shows the newest state, says so, and says that it is streaming, level (no lag) and durable there;
//! - the primary's list of its replicas (`ListReplicas`) says the same of each.
//!
//! The time is simulated, so the bound is a sum of the product's own patience, and no guess.

use crate::replica::Replica;
use crate::sched::sleep_ms;
use crate::world::world;
use walcast::format::position::Position;
use walcast::model::{DatabaseState, ReplicaStatus};

/// Between two looks.
const STEP_MS: u64 = 10;
/// An attempt to connect that began before the end (`client`).
const CONNECT_MS: u64 = 5_000;
/// The longest pause of the follower: `LONGEST_BACKOFF`, and its jitter.
const PAUSE_MS: u64 = 7_500;
/// A stream may be refused once more, where the copy turns out to be wrong; then a snapshot comes.
const PAUSES: u64 = 2;
/// Nothing comes for this long: `silence`, four of the longest heartbeats.
const SILENCE_MS: u64 = 20_000;
/// The copy is synced within a second, and looked at by ticks (`house`); then that is reported within a second (`report`).
const TOLD_MS: u64 = 2_500;
/// The slowest way that there is: 4 KiB under way for 20 ms.
const BYTES_IN_A_MS: u64 = 4096 / 20;

/// It stays right for as long.
const STAYS_MS: u64 = 6_000;

/// How long it may take with so many bytes to send.
fn bound_ms(bytes: u64) -> u64 {
    CONNECT_MS + SILENCE_MS + PAUSES * PAUSE_MS + bytes / BYTES_IN_A_MS + TOLD_MS
}

/// Waits until everything is right.
pub async fn until_right() {
    let world = world();
    let bytes = world.primary.to_send();
    let bound = bound_ms(bytes);
    let mut waited = 0;
    loop {
        let wrong = wrong();
        if wrong.is_empty() {
            break;
        }
        assert!(
            waited < bound,
            "{waited} ms after the last fault, with {bytes} bytes to send:\n{}",
            wrong.join("\n")
        );
        sleep_ms(STEP_MS).await;
        waited += STEP_MS;
    }
    world.note(format_args!("all is right after {waited} ms"));
    world.most("ms until all was right", waited);
    world.most("percent of the time allowed for that", waited * 100 / bound);
    sleep_ms(STAYS_MS).await;
    let wrong = wrong();
    assert!(
        wrong.is_empty(),
        "what was right is so no more:\n{}",
        wrong.join("\n")
    );
}

/// What is not right, in words.
fn wrong() -> Vec<String> {
    let world = world();
    let Some(tip) = world.primary.tip() else {
        return vec!["the primary has captured nothing".to_owned()];
    };
    let process = world.primary.process.borrow().clone();
    let list = process.expect("a primary").served.replicas();
    let mut wrong = Vec::new();
    for replica in &world.replicas {
        wrong.extend(wrong_here(replica, tip.position));
        let name = format!("replica-{}", replica.number());
        match list.iter().find(|known| known.name == name) {
            Some(known) => wrong.extend(wrong_there(known, tip.position)),
            None => wrong.push(format!("the primary does not know {name}")),
        }
    }
    wrong
}

fn wrong_here(replica: &Replica, tip: Position) -> Option<String> {
    let world = world();
    let number = replica.number();
    let newest = world.primary.app.borrow().history.current();
    let seen = world.check.seen(number);
    if seen != Some(newest) {
        return Some(format!("replica {number} shows {seen:?}, not {newest}"));
    }
    let process = replica.process.borrow().clone().expect("a process");
    let status = process.shared.status();
    let right = status.state == DatabaseState::Streaming
        && status.position == Some(tip)
        && status.upstream_position == Some(tip)
        && status.durable == Some(tip)
        && status.lag_seconds == 0.0;
    (!right).then(|| format!("replica {number} at {tip} says {status:#?}"))
}

fn wrong_there(known: &ReplicaStatus, tip: Position) -> Option<String> {
    let right = known.state == DatabaseState::Streaming
        && known.connected_since_us > 0
        && known.applied == Some(tip)
        && known.durable == Some(tip)
        && known.lag_bytes == 0
        && known.lag_seconds == 0.0;
    (!right).then(|| format!("the primary at {tip} says {known:#?}"))
}
