//! A local log at its hard limit ends the stream; the next begins with the room, and not later.

use super::*;
use crate::replica::Command;
use crate::replica::follow::Refusal;
use crate::replica::worker::{AtOnce, Next, Work};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::time::Instant;

/// Is full whenever a stream begins.
struct Full {
    shared: Arc<Shared>,
    begun: UnboundedSender<Instant>,
}

impl Work for Full {
    fn command(&mut self, command: Command) -> Next {
        match command {
            Command::Begin(reply) => {
                self.shared.set_held(true);
                let _ = reply.send(Err(Refusal::Told));
                let _ = self.begun.send(Instant::now());
            }
            Command::End(reply) => drop(reply.send(())),
            _ => {}
        }
        Next::More
    }

    fn at_once(&mut self, message: Message) -> AtOnce {
        AtOnce::Later(message)
    }
}

#[tokio::test(start_paused = true)]
async fn what_waited_for_room_does_not_pause_on_top_of_it() {
    let shared = Target::new().shared;
    let (begun, mut begins) = unbounded_channel();
    let work = Full {
        shared: shared.clone(),
        begun,
    };
    let (following, cancel) = followed(&shared, work);
    begins.recv().await.expect("it begins");
    // More of them than pauses grow.
    for round in 0..10 {
        let room = Instant::now();
        shared.set_held(false);
        let next = begins.recv().await.expect("it begins again");
        assert_eq!(next - room, std::time::Duration::ZERO, "round {round}");
    }
    cancel.cancel();
    following.await.expect("it ends");
}
