//! SQLite's online backup in a loop, as fast as it goes: the database is copied into the same file each time that it has
//! changed, in one step. That file is in WAL mode, so that readers need not open it again and do not wait.

use crate::clock::precise_sleeps;
use crate::helper::{End, Helper, ready};
use crate::system::{Reader, System};
use clap::Args;
use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Between looks whether the database has changed.
const LOOK_EVERY: Duration = Duration::from_millis(1);

#[derive(Args)]
pub struct CopierArgs {
    #[arg(long)]
    from: PathBuf,
    #[arg(long)]
    to: PathBuf,
}

/// The process that copies.
pub fn copier(args: &CopierArgs) -> anyhow::Result<()> {
    precise_sleeps();
    let from = Connection::open_with_flags(&args.from, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    from.busy_timeout(Duration::from_secs(10))?;
    let mut to = Connection::open(&args.to)?;
    to.busy_timeout(Duration::from_secs(10))?;
    to.execute_batch("PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL")?;
    let end = End::watch();
    ready();
    let mut copied = None;
    while !end.has_come() {
        // Before the copy: a commit meanwhile is one more copy.
        let version: i64 = from.pragma_query_value(None, "data_version", |row| row.get(0))?;
        if copied == Some(version) {
            std::thread::sleep(LOOK_EVERY);
            continue;
        }
        let backup = Backup::new(&from, &mut to)?;
        if backup.step(-1)? == StepResult::Done {
            copied = Some(version);
        }
    }
    Ok(())
}

pub struct CopyLoop {
    db: PathBuf,
    copy: PathBuf,
    copier: Option<Helper>,
}

impl CopyLoop {
    pub fn new(root: &Path, db: PathBuf) -> CopyLoop {
        CopyLoop {
            db,
            copy: root.join("copy.db"),
            copier: None,
        }
    }
}

impl System for CopyLoop {
    fn application(&self) -> OsString {
        self.db.clone().into()
    }

    fn reader(&self) -> Reader {
        Reader::Own(self.copy.clone().into())
    }

    fn start_replica(&mut self) -> anyhow::Result<()> {
        let args: [OsString; 4] = [
            "--from".into(),
            self.db.clone().into(),
            "--to".into(),
            self.copy.clone().into(),
        ];
        self.copier = Some(Helper::start("copier", args)?);
        Ok(())
    }

    fn stop_replica(&mut self) -> anyhow::Result<()> {
        match self.copier.take() {
            Some(copier) => copier.finish().map(drop),
            None => Ok(()),
        }
    }

    fn processes(&self) -> anyhow::Result<Vec<u32>> {
        Ok(self.copier.iter().map(Helper::id).collect())
    }

    fn transferred(&self) -> Result<u64, &'static str> {
        Err(
            "there is no wire: both files are on this machine. To another one, each copy is the whole database",
        )
    }
}
