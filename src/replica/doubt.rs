//! Whether what was written to the log is on the disk.
//!
//! A kernel tells of what it could not write once, and calls the pages clean: the next sync succeeds without them. So a sync that
//! failed is remembered until the log begins anew, and over a restart of the process, which the kernel's pages outlive: in
//! `<db>-walcast/unsynced`. That file is not synced: what a power cut leaves of the log is what is on the disk.

use crate::disk::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What is known of one log. Whoever syncs it and whoever begins it anew share this.
#[derive(Debug)]
pub struct Doubt {
    path: PathBuf,
    /// A sync failed since the log began.
    failed: Mutex<bool>,
}

impl Doubt {
    /// What is known of the log of a database with this directory.
    pub fn open(directory: &Path) -> disk::Result<Doubt> {
        let path = directory.join("unsynced");
        let noted = disk::read_if_exists("unsynced.read", &path)?;
        Ok(Doubt {
            path,
            failed: Mutex::new(noted.is_some()),
        })
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True if no sync can tell any more what of the log is on the disk.
    pub fn is_raised(&self) -> bool {
        *self.lock()
    }

    /// Syncs the log; an error if that failed once, also where it would succeed now.
    pub fn sync(&self, op: &'static str, log: &File) -> disk::Result<()> {
        let synced = log.sync_data(op);
        let mut failed = self.lock();
        let Err(error) = &synced else {
            return match *failed {
                false => Ok(()),
                true => {
                    let before = io::Error::other("a sync of it failed before");
                    Err(disk::DiskError::new(op, log.path(), before))
                }
            };
        };
        *failed = true;
        let text = format!("{error}\n");
        let noted = File::create_within("unsynced.write", &self.path)
            .and_then(|file| file.write_all_at("unsynced.write", text.as_bytes(), 0));
        if let Err(error) = noted {
            tracing::error!(
                "that a sync of the log failed is not noted ({error}): do not restart walcast before its log has begun anew"
            );
        }
        synced
    }

    /// The log begins anew: nothing of before is in it.
    pub fn clear(&self) -> disk::Result<()> {
        let mut failed = self.lock();
        if *failed {
            disk::remove_file("unsynced.remove", &self.path)?;
            *failed = false;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::fault::{Plan, with_plan};

    #[test]
    fn a_sync_that_succeeds_makes_no_failed_one_good() {
        let directory = tempfile::tempdir().expect("a directory");
        let log = File::create("wal.create", &directory.path().join("db-wal"), 0o600);
        let log = log.expect("a log");
        let doubt = Doubt::open(directory.path()).expect("nothing is noted");
        let plan = Plan::parse("durable.sync-wal=eio@2").expect("a plan");
        let (synced, _) = with_plan(plan, || {
            [(); 3].map(|()| doubt.sync("durable.sync-wal", &log).is_ok())
        });
        assert_eq!(synced, [true, false, false]);
        // Another process, with the same pages of the kernel.
        let doubt = Doubt::open(directory.path()).expect("a note");
        assert!(doubt.is_raised());
        assert!(doubt.sync("durable.sync-wal", &log).is_err());
        doubt.clear().expect("removed");
        doubt
            .sync("durable.sync-wal", &log)
            .expect("a log of its own");
        assert!(!Doubt::open(directory.path()).expect("nothing").is_raised());
    }
}
