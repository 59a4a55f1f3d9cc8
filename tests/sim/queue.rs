//! What waits for a replica's database, in bytes as they travel: what came out of the network and was not applied yet is
//! bounded, however slow the disk is.
//!
//! Counted is what the network delivered, so nothing can wait where it is not seen: neither in the decoder, nor in a task.

use crate::world::world;
use prost::Message as _;
use walcast::model::Message;
use walcast::replica::parts::{AtOnce, Command, Next, Work};
use walcast::wire::{MAX_PACKED, pb};

/// As `follow` has it: packed bytes that wait for whoever applies.
const IN_FLIGHT: u64 = 8 << 20;
/// As `queue` has it, and one that waits for its place.
const MESSAGES: u64 = 64 + 1;
/// What a message has besides its packed bytes, at most: names, positions, and the frame of gRPC.
const BESIDES: u64 = 512;
/// The frame of gRPC: one byte, and the length in four.
const FRAME: usize = 5;
/// The server puts small messages together up to about this size.
const TOGETHER: u64 = 64 << 10;

/// All of it: the queue, and one message that is not complete yet, with what arrived behind it.
pub const MOST: u64 = IN_FLIGHT + MESSAGES * BESIDES + MAX_PACKED as u64 + BESIDES + TOGETHER;

/// Bytes of a message between the nodes.
fn travelling(message: &Message) -> u64 {
    let message = pb::StreamResponse::from(message.clone());
    (FRAME + message.encoded_len()) as u64
}

/// Whoever applies, with a count of what was applied.
pub struct Counted {
    replica: usize,
    work: Box<dyn Work>,
}

impl Counted {
    pub fn new(replica: usize, work: Box<dyn Work>) -> Box<Counted> {
        Box::new(Counted { replica, work })
    }

    fn applied(&self, bytes: u64) {
        let given = &world().replicas[self.replica].given;
        given.set(given.get() + bytes);
    }
}

impl Work for Counted {
    fn command(&mut self, command: Command) -> Next {
        let bytes = match &command {
            Command::Message { message, .. } => travelling(message),
            _ => 0,
        };
        let next = self.work.command(command);
        self.applied(bytes);
        next
    }

    fn at_once(&mut self, message: Message) -> AtOnce {
        let bytes = travelling(&message);
        let done = self.work.at_once(message);
        if !matches!(done, AtOnce::Later(_)) {
            self.applied(bytes);
        }
        done
    }
}
