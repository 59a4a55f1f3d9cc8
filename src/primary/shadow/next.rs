//! The files of the next index, made while nobody waits for them.
//!
//! The commit that restarts the application's log begins an index: a directory and two files, which the file system may
//! make wait for what it is syncing just then. So they are made ahead, empty, in `<db>-walcast/` itself, under names that
//! no index has, and only get theirs at the restart: the directory first, since by it a start finds what an end in between
//! has left. No more is synced for a rename than for a creation: either comes to disk before what is synced below it later,
//! and where it does not, that index is lost as one is whose files are. Where nothing is ready, or a step fails, the index
//! is made as it is without this.

use super::{Housekeeping, Job, Layout};
use crate::disk::{self, File};
use crate::format::position::Generation;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// Nothing is there that could be used.
    #[default]
    Empty,
    /// Housekeeping has the job.
    Asked,
    /// All are there.
    Ready,
    /// They could not be made, or not be renamed (a full disk). Tried again once an index has begun without them.
    Failed,
    /// They can never be renamed: to another file system. Not tried again.
    Useless,
}

/// What is known of the files. A clone is the same one.
#[derive(Clone, Debug)]
pub struct NextIndex {
    layout: Layout,
    state: Arc<Mutex<State>>,
}

/// The files of an index that has just begun, both empty.
pub struct Begun {
    pub sidecar: File,
    pub segment: File,
}

impl NextIndex {
    /// What a former run left is not used: it is made anew.
    pub fn new(layout: Layout) -> NextIndex {
        let state = Arc::default();
        NextIndex { layout, state }
    }

    /// Sets the state, and gives the one before, if it is among these.
    fn change(&self, from: &[State], to: State) -> Option<State> {
        let mut state = self.lock();
        let before = *state;
        from.contains(&before).then(|| {
            *state = to;
            before
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the files made, if that is not done or under way.
    pub fn ask(&self, housekeeping: &Housekeeping) {
        if self.change(&[State::Empty], State::Asked).is_some()
            && housekeeping.offer(Job::Prepare(self.clone())).is_some()
        {
            *self.lock() = State::Empty;
        }
    }

    /// Makes the files. In the one thread that does a database's jobs: another could empty what is in use by then.
    pub fn make(&self) -> disk::Result<()> {
        let made = self.make_files();
        *self.lock() = match made {
            Ok(()) => State::Ready,
            Err(_) => State::Failed,
        };
        made
    }

    fn make_files(&self) -> disk::Result<()> {
        let directory = self.layout.next_index();
        // With all that an end has left in it: it may have been an index, whose name a power cut took away.
        disk::remove_dir_all("shadow.next-remove", &directory)?;
        disk::create_dirs_within("shadow.next-mkdir", self.layout.root(), &directory)?;
        File::create_within("shadow.next-create", &self.layout.next_segment())?;
        File::create_within("shadow.next-sidecar", &self.layout.next_sidecar())?;
        Ok(())
    }

    /// Makes the files those of this index. `None`, or an error: it has to be made in the other way, in which nothing that
    /// is left of this one stands.
    pub fn begin(&self, generation: Generation, index: u64) -> disk::Result<Option<Begun>> {
        let before = self.change(&[State::Ready, State::Failed], State::Empty);
        if before != Some(State::Ready) {
            return Ok(None);
        }
        match self.rename(generation, index) {
            Ok(begun) => Ok(Some(begun)),
            // It was begun already, and then something else failed, which was told.
            Err(error) if error.is_there_already() => Ok(None),
            Err(error) => {
                *self.lock() = match error.source.kind() {
                    std::io::ErrorKind::CrossesDevices => State::Useless,
                    _ => State::Failed,
                };
                Err(error)
            }
        }
    }

    fn rename(&self, generation: Generation, index: u64) -> disk::Result<Begun> {
        let layout = &self.layout;
        let directory = layout.index(generation, index);
        let sidecar = layout.sidecar(generation, index);
        disk::rename("shadow.next-rename", &layout.next_index(), &directory)?;
        disk::rename(
            "shadow.next-rename-sidecar",
            &layout.next_sidecar(),
            &sidecar,
        )?;
        let segment = layout.segment(generation, index, 0);
        Ok(Begun {
            sidecar: File::open_rw("shadow.next-open", &sidecar)?,
            segment: File::open_rw("shadow.next-open", &segment)?,
        })
    }
}
