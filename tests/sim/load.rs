//! What the application does: transactions of all sizes, checkpoints in steps, readers that hold the log.

use crate::app::LONGEST_LOG;
use crate::rng::{Rng, chance};
use crate::sched::{Group, sleep_ms, spawn};
use crate::world::world;
use std::cell::Cell;
use std::rc::Rc;
use walcast::format::wal::frame_size;

/// How the application of one seed works.
pub struct Load {
    rng: Rng,
    /// The longest pause between two operations, in ms.
    gap_ms: u64,
    /// Bytes of log from which it asks for a checkpoint.
    checkpoint_bytes: u64,
    /// Frames of most transactions. Where all have as many, they end where those ended that a power cut took.
    usual_frames: (u64, u64),
    huge_left: u64,
    most_pages: u32,
    truncates: bool,
    checkpointing: Rc<Cell<bool>>,
    readers: u64,
}

/// Huge: in several chunks.
const HUGE: u64 = 1_200 << 10;

impl Load {
    pub fn new(mut rng: Rng) -> Load {
        Load {
            gap_ms: [2, 10, 60, 400][rng.below(4) as usize],
            checkpoint_bytes: [4 << 10, 40 << 10, 400 << 10, 4 << 20][rng.below(4) as usize],
            usual_frames: [(1, 4), (1, 4), (1, 1), (2, 2)][rng.below(4) as usize],
            huge_left: if world().large { 6 } else { rng.below(3) },
            most_pages: if world().large { 16 << 10 } else { 600 },
            truncates: rng.one_in(3),
            checkpointing: Rc::default(),
            readers: 0,
            rng,
        }
    }

    /// Works until `until` is over, as one of a group.
    pub async fn run(mut self, group: Group, until: Rc<Cell<bool>>) {
        while !until.get() {
            let quiet = self.rng.one_in(200);
            let pause = if quiet { 5_000 } else { self.gap_ms };
            sleep_ms(self.rng.below(pause + 1)).await;
            if until.get() {
                return;
            }
            if self.rng.one_in(30) {
                self.read(group);
            }
            self.commit();
            let long = world().primary.app.borrow().log_len() > self.checkpoint_bytes;
            if long && !self.checkpointing.replace(true) {
                let truncate = self.truncates && self.rng.one_in(4);
                let rng = Rng::new(self.rng.next());
                spawn(group, checkpoint(rng, truncate, self.checkpointing.clone()));
            }
        }
    }

    /// One transaction.
    pub fn commit(&mut self) {
        let world = world();
        let mut app = world.primary.app.borrow_mut();
        app.try_restart();
        let rng = &mut self.rng;
        let size = app.page_count();
        let frame = frame_size(app.page_size);
        let mut frames = match rng.below(100) {
            0..=79 => rng.between(self.usual_frames.0, self.usual_frames.1),
            80..=97 => rng.between(4, 60),
            _ if self.huge_left > 0 => {
                self.huge_left -= 1;
                rng.between(HUGE, 3 * HUGE) / frame
            }
            _ => 1,
        };
        let room = LONGEST_LOG.saturating_sub(app.log_len()) / frame;
        if room < 200 {
            // Until a checkpoint could begin it anew.
            return;
        }
        let again = app.again.pop_front().map(u64::from);
        let is_again = again.is_some();
        frames = again.unwrap_or(frames).min(room - 100);
        let size = match rng.below(12) {
            _ if is_again => size,
            0 => size + rng.between(1, 20) as u32,
            1 if size > 8 => size - rng.between(1, u64::from(size / 2).min(300)) as u32,
            2 if frames > 500 => size + (frames / 2).min(400) as u32,
            _ => size,
        };
        let state = app.commit(frames as u32, size.min(self.most_pages));
        drop(app);
        world.note(format_args!(
            "application: state {state}, {frames} frames, {size} pages"
        ));
        world.count("commits");
        world.primary.changed.notify_one();
    }

    /// A reader that stays for a while.
    fn read(&mut self, group: Group) {
        self.readers += 1;
        let (reader, time) = (self.readers, self.rng.below(3_000));
        let world = world();
        let memory = world.primary.app.borrow().memory.clone();
        let Some(slot) = memory.get().begin_read(reader) else {
            return;
        };
        spawn(group, async move {
            sleep_ms(time).await;
            memory.get().end_read(reader, slot);
            world.primary.changed.notify_one();
        });
    }
}

/// A checkpoint, a few pages at a time; commits and snapshots go on in between.
async fn checkpoint(mut rng: Rng, truncate: bool, running: Rc<Cell<bool>>) {
    let world = world();
    let primary = &world.primary;
    let begun = primary.app.borrow_mut().begin_checkpoint();
    if let Some(safe) = begun {
        let pages = primary.app.borrow().to_copy(safe);
        let steps = rng.between(1, 6);
        let each = pages.len() / steps as usize + 1;
        for some in pages.chunks(each) {
            for (pgno, frame) in some {
                primary.app.borrow_mut().copy_page(*pgno, *frame);
            }
            if chance(&mut rng, 50) {
                sleep_ms(rng.below(20)).await;
            }
        }
        primary.app.borrow_mut().end_checkpoint(safe);
        world.note(format_args!("application: checkpoint of {safe} frames"));
        primary.changed.notify_one();
    } else {
        sleep_ms(20).await;
    }
    if truncate {
        // Its patience is a busy timeout.
        for _ in 0..20 {
            if primary.app.borrow_mut().truncate_log() {
                world.note(format_args!("application: the log is empty"));
                primary.changed.notify_one();
                break;
            }
            sleep_ms(5).await;
        }
    }
    running.set(false);
}
