//! What keeps a database from being opened is told each time that it begins.

use super::*;
use crate::replica::Command;
use crate::replica::follow::{Refusal, Request};
use crate::replica::worker::{AtOnce, Next, Work};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

const WHY: &str = "another walcast already serves this database";

/// Opens the second time alone.
struct Opens {
    times: u32,
    begun: UnboundedSender<u32>,
}

impl Work for Opens {
    fn command(&mut self, command: Command) -> Next {
        match command {
            Command::Begin(reply) => {
                self.times += 1;
                let _ = reply.send(match self.times {
                    1 => Err(Refusal::Failed(WHY.to_owned())),
                    2 => Ok(Request {
                        mark: None,
                        replica_id: String::new(),
                        fresh: true,
                    }),
                    _ => Err(Refusal::Told),
                });
                let _ = self.begun.send(self.times);
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
async fn a_failure_that_comes_back_after_it_was_open_is_news() {
    let shared = Target::new().shared;
    let (begun, mut begins) = unbounded_channel();
    let (following, cancel) = followed(&shared, Opens { times: 0, begun });
    while begins.recv().await.expect("it begins") < 3 {}
    assert!(shared.failed_to_open(WHY), "it was told, and is over");
    assert!(!shared.failed_to_open(WHY), "it is told already");
    cancel.cancel();
    following.await.expect("it ends");
}
