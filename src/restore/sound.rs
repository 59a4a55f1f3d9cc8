//! A restore, and on request another one without what was found missing or damaged.

use super::catalog::Catalog;
use super::error::RestoreError;
use super::object::Source;
use super::plan::{self, Target};
use super::run::{Options, Progress, Restored, run};
use crate::archive::Key;
use std::collections::BTreeSet;

/// What became of a restore.
#[derive(Debug)]
pub struct Outcome {
    /// The state.
    pub restored: Restored,
    /// What was missing or damaged, and is not part of it. Empty unless [`Options::sound`] was set.
    pub left_out: Vec<RestoreError>,
}

/// Restores the target's state to a file, verified and durable.
///
/// # Errors
/// What is missing or damaged is named ([`RestoreError::object`]). After an error the file may be there, and is nothing.
pub fn restore(
    source: &Source,
    target: Target,
    options: &Options<'_>,
    progress: Progress<'_>,
) -> Result<Outcome, RestoreError> {
    let mut avoid = BTreeSet::new();
    let mut left_out = Vec::new();
    loop {
        let error = match attempt(source, target, &avoid, options, progress) {
            Ok(restored) => return Ok(Outcome { restored, left_out }),
            Err(error) => error,
        };
        match error.object().filter(|_| options.sound) {
            // Each turn leaves out one more object, so there is an end.
            Some(key) if avoid.insert(key) => left_out.push(error),
            _ if left_out.is_empty() => return Err(error),
            _ if matches!(error, RestoreError::Cancelled | RestoreError::Disk(_)) => {
                return Err(error);
            }
            // What was damaged first is the reason, and more use than that nothing is left.
            _ => {
                let first = left_out.swap_remove(0);
                return Err(RestoreError::NothingSound(Box::new(first)));
            }
        }
    }
}

fn attempt(
    source: &Source,
    target: Target,
    avoid: &BTreeSet<Key>,
    options: &Options<'_>,
    progress: Progress<'_>,
) -> Result<Restored, RestoreError> {
    let catalog = Catalog::read(source, avoid)?;
    let plan = plan::plan(source, &catalog, target, avoid)?;
    run(source, &plan, avoid, options, progress)
}
