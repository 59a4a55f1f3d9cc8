//! Looks for damage in the file itself, a megabyte at a time while nothing else is to do.

use super::error::ApplyError;
use super::local::{Local, LocalError};
use super::shared::Shared;
use crate::format::dbheader::lock_page;
use crate::format::dbsum::page_hash;
use std::time::{Duration, Instant};

const STEP_BYTES: usize = 1 << 20;

/// Where the scrub is.
pub struct Scrub {
    interval: Option<Duration>,
    next_page: u32,
    next_round: Instant,
}

impl Scrub {
    /// One round at most for each interval; `None`: never.
    pub fn new(interval: Option<Duration>) -> Scrub {
        Scrub {
            interval,
            next_page: 1,
            next_round: Instant::now(),
        }
    }

    /// True between two rounds.
    pub fn is_resting(&self) -> bool {
        self.interval.is_none() || Instant::now() < self.next_round
    }

    /// Compares the next megabyte with the hashes. The caller is the only writer, and not in the middle of a transaction, so
    /// the hashes are of what is visible.
    pub fn step(&mut self, local: &mut Local, shared: &Shared) -> Result<(), ApplyError> {
        let Some(interval) = self.interval else {
            return Ok(());
        };
        if Instant::now() < self.next_round {
            return Ok(());
        }
        let pages = local.sums().pages();
        let size = local.page_size() as usize;
        let mut page = vec![0; size];
        for _ in 0..(STEP_BYTES / size).max(1) {
            if self.next_page > pages {
                self.next_page = 1;
                self.next_round = Instant::now() + interval;
                shared.scrubbed();
                return Ok(());
            }
            let pgno = self.next_page;
            self.next_page += 1;
            if pgno == lock_page(local.page_size()) {
                continue;
            }
            local.read_page(pgno, &mut page)?;
            if page_hash(pgno, &page) != local.sums().get(pgno) {
                let what = format!("the scrub found page {pgno} damaged");
                self.next_page = 1;
                return Err(LocalError::Damaged {
                    path: shared.config.path.clone(),
                    what,
                }
                .into());
            }
        }
        Ok(())
    }
}
