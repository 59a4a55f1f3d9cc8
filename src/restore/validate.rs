//! Whether an archive can be restored, found out by restoring it.

use super::error::RestoreError;
use super::object::Source;
use super::plan::Target;
use super::run::{Options, Restored};
use super::sound::restore;
use crate::archive::Store;
use crate::disk;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::runtime::Handle;

/// Sets the flag when the caller goes away: the work on its thread then ends soon.
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Restores the newest state in `scratch`, a directory that is made for it and goes with it, one object at a time. Dropping
/// the future ends it.
///
/// # Errors
/// What is missing or damaged; what the store or the disk says.
pub async fn validate(store: Store, scratch: PathBuf) -> Result<Restored, RestoreError> {
    let runtime = Handle::current();
    let guard = CancelOnDrop(Arc::new(AtomicBool::new(false)));
    let cancel = guard.0.clone();
    let work = tokio::task::spawn_blocking(move || {
        disk::remove_dir_all("validate.scratch", &scratch)?;
        disk::create_private_dir("validate.scratch", &scratch)?;
        let path = scratch.join("restored.db");
        let options = Options {
            path: &path,
            parallelism: 1,
            integrity_check: false,
            sound: false,
            cancel: &cancel,
        };
        let source = Source::new(store, runtime);
        let outcome = restore(&source, Target::Newest, &options, &mut |_, _| {});
        disk::remove_dir_all("validate.scratch", &scratch)?;
        Ok(outcome?.restored)
    });
    let done = work.await;
    drop(guard);
    match done {
        Ok(done) => done,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(RestoreError::Cancelled),
    }
}
