//! Connections on which nobody was let in yet: a small number of places, and when they are all taken the one that has
//! been there longest goes. Whoever keeps them all taken would have to come faster than an honest client needs to say who
//! it is.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio_util::sync::CancellationToken;

#[derive(Default)]
struct Room {
    next: u64,
    places: BTreeMap<u64, CancellationToken>,
}

/// The places.
#[derive(Clone)]
pub struct Strangers {
    room: Arc<Mutex<Room>>,
    limit: usize,
}

/// One of them; given back when dropped.
pub struct StrangerPlace {
    room: Arc<Mutex<Room>>,
    number: u64,
}

fn lock(room: &Mutex<Room>) -> MutexGuard<'_, Room> {
    room.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Strangers {
    /// So many of them, at least one.
    pub fn new(limit: usize) -> Strangers {
        Strangers {
            room: Arc::default(),
            limit: limit.max(1),
        }
    }

    /// A place, the token that is cancelled when another needs it, and whether that happened to one now.
    pub fn enter(&self) -> (StrangerPlace, CancellationToken, bool) {
        let mut room = lock(&self.room);
        let mut crowded = false;
        while room.places.len() >= self.limit {
            let Some((_, oldest)) = room.places.pop_first() else {
                break;
            };
            oldest.cancel();
            crowded = true;
        }
        let number = room.next;
        room.next += 1;
        let evicted = CancellationToken::new();
        room.places.insert(number, evicted.clone());
        let place = StrangerPlace {
            room: self.room.clone(),
            number,
        };
        (place, evicted, crowded)
    }
}

impl Drop for StrangerPlace {
    fn drop(&mut self) {
        lock(&self.room).places.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_that_came_first_makes_room() {
        let strangers = Strangers::new(2);
        let (first, first_out, _) = strangers.enter();
        let (second, second_out, crowded) = strangers.enter();
        assert!(!crowded);
        let (third, third_out, crowded) = strangers.enter();
        assert!(crowded && first_out.is_cancelled());
        assert!(!second_out.is_cancelled() && !third_out.is_cancelled());
        // One that is known now is not sent away any more.
        drop(second);
        let (_fourth, _, crowded) = strangers.enter();
        assert!(!crowded && !second_out.is_cancelled());
        drop((first, third));
        assert_eq!(lock(&strangers.room).places.len(), 1);
    }
}
