//! The systems that are compared, and what each has to be able to do.

use crate::copy_loop::CopyLoop;
use crate::foreign::run;
use crate::helper::{Helper, Measured};
use crate::litestream::{Litestream, ReadBy, Tools};
use crate::load;
use crate::observe::{cpu_seconds, proportional_memory_mib};
use crate::pg_table::PgTable;
use crate::postgres::{Durability, Instance, Programs, Streaming};
use crate::table::{SqliteTable, create};
use crate::walcast::Walcast;
use clap::ValueEnum;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A way to keep a copy that others read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Kind {
    /// walcast
    Walcast,
    /// Litestream; readers open the file that `litestream restore -f` keeps up to date
    LitestreamFollow,
    /// Litestream; readers read its replica through its VFS
    LitestreamVfs,
    /// SQLite's online backup (`.backup`) in a loop
    Backup,
    /// PostgreSQL with a streaming standby, fsync=off: a commit is as durable as with SQLite's synchronous=NORMAL
    Postgres,
    /// PostgreSQL with a streaming standby, fsync=on, synchronous_commit=off
    PostgresAsync,
}

impl Kind {
    /// As tables and plots call it.
    pub fn title(self) -> &'static str {
        match self {
            Kind::Walcast => "walcast",
            Kind::LitestreamFollow => "Litestream, follow",
            Kind::LitestreamVfs => "Litestream, VFS",
            Kind::Backup => "`.backup` loop",
            Kind::Postgres => "PostgreSQL",
            Kind::PostgresAsync => "PostgreSQL, async",
        }
    }

    /// The name on the command line.
    pub fn name(self) -> String {
        let value = self.to_possible_value();
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// What it needs beside walcast itself.
    ///
    /// # Errors
    /// If that is missing: what it is and how to get it.
    pub fn programs(self) -> anyhow::Result<Needs> {
        Ok(match self {
            Kind::Walcast | Kind::Backup => Needs::Nothing,
            Kind::LitestreamFollow => Needs::Litestream(Tools::install()?, ReadBy::Follow),
            Kind::LitestreamVfs => Needs::Litestream(Tools::install()?, ReadBy::Vfs),
            Kind::Postgres => Needs::Postgres(Programs::find()?, Durability::ToTheSystem),
            Kind::PostgresAsync => Needs::Postgres(Programs::find()?, Durability::Later),
        })
    }
}

/// Programs of others.
pub enum Needs {
    Nothing,
    Litestream(Tools, ReadBy),
    Postgres(Programs, Durability),
}

impl Needs {
    /// Their version and the settings that were chosen.
    pub fn settings(&self) -> anyhow::Result<Option<String>> {
        Ok(match self {
            Needs::Nothing => None,
            Needs::Litestream(tools, by) => Some(tools.settings(*by)?),
            Needs::Postgres(programs, durability) => Some(programs.settings(*durability)?),
        })
    }
}

/// The application's database.
pub enum Application {
    Sqlite(PathBuf),
    Postgres(Box<Instance>),
}

impl Application {
    /// An empty table, or one of so many MiB.
    pub fn make(needs: &Needs, root: &Path, mib: u64) -> anyhow::Result<Application> {
        match needs {
            Needs::Postgres(programs, durability) => {
                let instance = Instance::create(programs, *durability, root, "primary")?;
                let mut table = PgTable::connect(&instance.address())?;
                table.create()?;
                load::fill(&mut table, mib)?;
                Ok(Application::Postgres(Box::new(instance)))
            }
            Needs::Nothing | Needs::Litestream(..) => {
                let db = root.join("app.db");
                let connection = create(&db)?;
                load::fill(&mut SqliteTable::application(&db)?, mib)?;
                let truncate = "PRAGMA wal_checkpoint(TRUNCATE)";
                connection.query_row(truncate, [], |_| Ok(()))?;
                Ok(Application::Sqlite(db))
            }
        }
    }

    /// For a helper's `--db`.
    pub fn address(&self) -> OsString {
        match self {
            Application::Sqlite(db) => db.into(),
            Application::Postgres(instance) => instance.address().into(),
        }
    }

    /// Bytes of the database.
    pub fn size(&self) -> anyhow::Result<f64> {
        match self {
            Application::Sqlite(db) => Ok(std::fs::metadata(db)?.len() as f64),
            Application::Postgres(instance) => instance.size(),
        }
    }

    /// Begins to replicate it; a replica is not there yet. `counted` puts something between that counts bytes.
    pub fn replicate(
        self,
        kind: Kind,
        needs: &Needs,
        root: &Path,
        counted: bool,
    ) -> anyhow::Result<Box<dyn System>> {
        Ok(match (self, needs) {
            (Application::Sqlite(db), Needs::Litestream(tools, by)) => {
                Box::new(Litestream::start(tools, *by, root, db)?)
            }
            (Application::Sqlite(db), _) if kind == Kind::Walcast => {
                Box::new(Walcast::start(root, &db, counted)?)
            }
            (Application::Sqlite(db), _) => Box::new(CopyLoop::new(root, db)),
            (Application::Postgres(primary), Needs::Postgres(programs, _)) => {
                Box::new(Streaming::new(programs.clone(), root, *primary, counted)?)
            }
            (Application::Postgres(_), _) => unreachable!("it was made by PostgreSQL's programs"),
        })
    }
}

/// Who reads a copy.
pub enum Reader {
    /// A helper of ours, given this as its `--db`.
    Own(OsString),
    /// A program that takes the same arguments, but the database.
    Other(Box<dyn Fn() -> Command>),
}

impl Reader {
    /// Starts a reader that has a role, with its arguments.
    pub fn start(&self, role: &str, args: &[OsString]) -> anyhow::Result<Helper> {
        match self {
            Reader::Own(address) => {
                let db = ["--db".into(), address.clone()];
                Helper::start(role, db.iter().chain(args))
            }
            Reader::Other(command) => {
                let mut command = command();
                command.arg(role).args(args);
                Helper::start_as(role, command)
            }
        }
    }

    /// Waits until it has seen the row `newest`; when, ns.
    pub fn wait(&self, newest: u64, seconds: u64) -> anyhow::Result<u64> {
        let args = [
            "--newest",
            &newest.to_string(),
            "--patience",
            &seconds.to_string(),
        ];
        let waited = self.start("wait", &args.map(OsString::from))?.wait()?;
        Ok(waited.get("at_ns")? as u64)
    }

    /// What the table holds.
    pub fn digest(&self) -> anyhow::Result<[f64; 3]> {
        let measured: Measured = self.start("digest", &[])?.wait()?;
        Ok([
            measured.get("rows")?,
            measured.get("sequence")?,
            measured.get("bytes")?,
        ])
    }
}

/// A database of an application that is replicated. All its processes end when it is dropped.
pub trait System {
    /// The application's database.
    fn application(&self) -> OsString;

    /// A reader of the replica.
    fn reader(&self) -> Reader;

    /// Starts the replica, for the first time or again.
    fn start_replica(&mut self) -> anyhow::Result<()>;

    /// Ends it, as an operator would; its files stay.
    fn stop_replica(&mut self) -> anyhow::Result<()>;

    /// If the replica is a part of its readers: starts one that does nothing.
    fn start_reader(&mut self) -> anyhow::Result<()> {
        Ok(())
    }

    /// Its processes, both sides.
    fn processes(&self) -> anyhow::Result<Vec<u32>>;

    /// CPU seconds that these have used.
    fn cpu(&self) -> anyhow::Result<f64> {
        self.processes()?.into_iter().map(cpu_seconds).sum()
    }

    /// Their memory, what they share counted once, MiB.
    fn memory_mib(&self) -> anyhow::Result<f64> {
        let processes = self.processes()?.into_iter();
        // One may have ended meanwhile.
        let memory = processes.filter_map(|pid| proportional_memory_mib(pid).ok());
        Ok(memory.sum())
    }

    /// Bytes that went to the replica and back so far; `Err` says why it cannot be told.
    fn transferred(&self) -> Result<u64, &'static str>;

    /// Waits for what the system itself can prove of its copy.
    fn verify(&self) -> anyhow::Result<()> {
        Ok(())
    }
}

/// The bytes of all files in a directory, at any depth.
pub fn bytes_below(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(file) if file.is_dir() => bytes_below(&entry.path()),
        Ok(file) => file.len(),
        // It was removed meanwhile.
        Err(_) => 0,
    };
    entries.map(size).sum()
}

/// The first line of `PROGRAM --version`.
pub fn version(program: &Path, args: &[&str]) -> anyhow::Result<String> {
    let said = run(Command::new(program).args(args))?;
    Ok(said.lines().next().unwrap_or_default().to_owned())
}
