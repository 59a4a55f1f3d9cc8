//! PostgreSQL: a primary, and a standby that streams its log by TCP on the loopback.

use crate::foreign::{Foreign, command, find, run};
use crate::observe::{children, cpu_seconds, ended_children_cpu_seconds};
use crate::pg_table::{PgTable, SCHEME};
use crate::proxy::Proxy;
use crate::system::{Reader, System, version};
use anyhow::{Context as _, bail};
use nix::sys::signal::Signal;
use nix::unistd::{User, geteuid};
use std::ffi::OsString;
use std::net::TcpListener;
use std::os::unix::fs::{DirBuilderExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Whom it runs as when we are root, which it refuses to.
const USER: &str = "postgres";
const HOW_TO_GET_IT: &str =
    "PostgreSQL is missing: `apt-get install postgresql` (no service of it is needed)";
/// A server that does not answer in this time will not.
const READY: Duration = Duration::from_secs(60);

/// What a commit waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Its log is given to the operating system, as with SQLite's synchronous=NORMAL in WAL mode: it outlives a killed
    /// process, not a power cut.
    ToTheSystem,
    /// Nothing: the log is written and synced each 10 ms. A standby gets it then.
    Later,
}

impl Durability {
    /// Beyond the defaults.
    fn settings(self) -> &'static [&'static str] {
        match self {
            Durability::ToTheSystem => &["fsync=off", "synchronous_commit=local"],
            Durability::Later => &[
                "fsync=on",
                "synchronous_commit=off",
                "wal_writer_delay=10ms",
            ],
        }
    }
}

/// Where they are.
#[derive(Clone)]
pub struct Programs {
    directory: PathBuf,
    user: Option<User>,
}

impl Programs {
    pub fn find() -> anyhow::Result<Programs> {
        let directory = match find("postgres") {
            Some(path) => path.canonicalize()?.parent().map(Path::to_owned),
            // Debian keeps them out of PATH, a directory for each version.
            None => newest_version(Path::new("/usr/lib/postgresql")),
        };
        let directory = directory.context(HOW_TO_GET_IT)?;
        for program in ["postgres", "initdb", "pg_basebackup"] {
            if !directory.join(program).is_file() {
                bail!("{HOW_TO_GET_IT} (no {program} in {})", directory.display());
            }
        }
        let user = match geteuid().is_root() {
            true => Some(User::from_name(USER)?.with_context(|| {
                format!("PostgreSQL does not run as root, and there is no user '{USER}'")
            })?),
            false => None,
        };
        Ok(Programs { directory, user })
    }

    /// Its version, and how it is set up.
    pub fn settings(&self, durability: Durability) -> anyhow::Result<String> {
        let version = version(&self.directory.join("postgres"), &["--version"])?;
        Ok(format!(
            "{version}; defaults, and {}; a replication slot; application and readers by Unix socket, standby by TCP",
            durability.settings().join(", ")
        ))
    }

    fn command(&self, program: &str) -> Command {
        // The server's fast shutdown.
        command(
            self.user.as_ref(),
            Signal::SIGINT,
            &self.directory.join(program),
        )
    }

    /// A directory that is the server's.
    fn directory(&self, path: &Path) -> anyhow::Result<()> {
        std::fs::DirBuilder::new().mode(0o700).create(path)?;
        if let Some(user) = &self.user {
            chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
        }
        Ok(())
    }
}

fn newest_version(directory: &Path) -> Option<PathBuf> {
    let version = |entry: std::fs::DirEntry| entry.file_name().to_str()?.parse::<u32>().ok();
    let versions = std::fs::read_dir(directory).ok()?.flatten();
    let newest = versions.filter_map(version).max()?;
    Some(directory.join(newest.to_string()).join("bin"))
}

/// A server with its directory.
pub struct Instance {
    programs: Programs,
    durability: Durability,
    directory: PathBuf,
    port: u16,
    server: Option<Foreign>,
    /// Where its socket is: a path of at most 107 bytes. Removed after the server has ended.
    socket: TempDir,
}

impl Instance {
    /// Makes a primary, and starts it.
    pub fn create(
        programs: &Programs,
        durability: Durability,
        root: &Path,
        name: &str,
    ) -> anyhow::Result<Instance> {
        let mut instance = Instance::new(programs, durability, root, name)?;
        let mut initdb = programs.command("initdb");
        initdb.args([
            "--auth=trust",
            "--username=postgres",
            "--no-locale",
            "--encoding=UTF8",
            "--no-sync",
        ]);
        run(initdb.arg("--pgdata").arg(&instance.directory))?;
        instance.start()?;
        instance.wait_ready()?;
        Ok(instance)
    }

    fn new(
        programs: &Programs,
        durability: Durability,
        root: &Path,
        name: &str,
    ) -> anyhow::Result<Instance> {
        let directory = root.join(name);
        programs.directory(&directory)?;
        let socket = tempfile::Builder::new().prefix("walcast-pg-").tempdir()?;
        if let Some(user) = &programs.user {
            chown(
                socket.path(),
                Some(user.uid.as_raw()),
                Some(user.gid.as_raw()),
            )?;
        }
        Ok(Instance {
            programs: programs.clone(),
            durability,
            directory,
            // It cannot be told to take a free one. Nobody else is likely to get it in between.
            port: TcpListener::bind("127.0.0.1:0")?.local_addr()?.port(),
            socket,
            server: None,
        })
    }

    fn start(&mut self) -> anyhow::Result<()> {
        let mut command = self.programs.command("postgres");
        command.arg("-D").arg(&self.directory);
        let fixed = [
            format!("port={}", self.port),
            "listen_addresses=127.0.0.1".to_owned(),
            format!("unix_socket_directories={}", self.socket.path().display()),
        ];
        let chosen = self.durability.settings().iter().map(|s| (*s).to_owned());
        for setting in fixed.into_iter().chain(chosen) {
            command.args(["-c", &setting]);
        }
        let log = self.directory.with_extension("log");
        // An immediate shutdown: its other processes end with it.
        self.server = Some(Foreign::start(command, &log, Signal::SIGQUIT)?);
        Ok(())
    }

    /// Waits until it answers a query.
    fn wait_ready(&mut self) -> anyhow::Result<PgTable> {
        let deadline = Instant::now() + READY;
        loop {
            let answer = PgTable::connect(&self.address());
            let server = self.server.as_mut().context("it was started")?;
            server.check()?;
            match answer {
                Ok(table) => return Ok(table),
                Err(error) if Instant::now() > deadline => {
                    return Err(error.context(server.last_words()));
                }
                Err(_) => std::thread::sleep(Duration::from_millis(1)),
            }
        }
    }

    /// For [`PgTable::connect`].
    pub fn address(&self) -> String {
        let socket = self.socket.path().display();
        format!(
            "{SCHEME}host={socket} port={} user=postgres dbname=postgres",
            self.port
        )
    }

    /// Bytes of the table and its index.
    pub fn size(&self) -> anyhow::Result<f64> {
        let sql = "SELECT pg_total_relation_size('t')";
        Ok(PgTable::connect(&self.address())?.number(sql)? as f64)
    }

    fn stop(&mut self) -> anyhow::Result<()> {
        match self.server.take() {
            Some(mut server) => server.end(Signal::SIGINT),
            None => Ok(()),
        }
    }

    /// The server and what it has started.
    fn processes(&self) -> anyhow::Result<Vec<u32>> {
        let Some(server) = &self.server else {
            return Ok(Vec::new());
        };
        let mut processes = children(server.id())?;
        processes.push(server.id());
        Ok(processes)
    }

    /// Of those, and of all that it has started and that have ended.
    fn cpu(&self) -> anyhow::Result<f64> {
        let Some(server) = &self.server else {
            return Ok(0.0);
        };
        let ended = ended_children_cpu_seconds(server.id())?;
        // One may end between the look for it and this.
        let used = self
            .processes()?
            .into_iter()
            .filter_map(|pid| cpu_seconds(pid).ok());
        Ok(ended + used.sum::<f64>())
    }
}

/// A primary and a standby.
pub struct Streaming {
    primary: Instance,
    standby: Instance,
    proxy: Option<Proxy>,
    /// Whether the standby has its base backup.
    copied: bool,
}

impl Streaming {
    pub fn new(
        programs: Programs,
        root: &Path,
        primary: Instance,
        counted: bool,
    ) -> anyhow::Result<Streaming> {
        let standby = Instance::new(&programs, primary.durability, root, "standby")?;
        let proxy = counted.then(Proxy::start);
        if let Some(proxy) = &proxy {
            proxy.set_target(([127, 0, 0, 1], primary.port).into());
        }
        Ok(Streaming {
            primary,
            standby,
            proxy,
            copied: false,
        })
    }

    fn base_backup(&self) -> anyhow::Result<()> {
        let port = match &self.proxy {
            Some(proxy) => proxy.addr().port(),
            None => self.primary.port,
        };
        let mut backup = self.primary.programs.command("pg_basebackup");
        backup.args([
            "--host=127.0.0.1",
            "--username=postgres",
            "--checkpoint=fast",
        ]);
        backup.args([
            "--wal-method=stream",
            "--write-recovery-conf",
            "--create-slot",
            "--slot=standby",
        ]);
        backup.arg(format!("--port={port}"));
        run(backup.arg("--pgdata").arg(&self.standby.directory)).map(drop)
    }
}

impl System for Streaming {
    fn application(&self) -> OsString {
        self.primary.address().into()
    }

    fn reader(&self) -> Reader {
        Reader::Own(self.standby.address().into())
    }

    fn start_replica(&mut self) -> anyhow::Result<()> {
        if !self.copied {
            self.base_backup()?;
            self.copied = true;
        }
        self.standby.start()?;
        self.standby.wait_ready().map(drop)
    }

    fn stop_replica(&mut self) -> anyhow::Result<()> {
        self.standby.stop()
    }

    fn processes(&self) -> anyhow::Result<Vec<u32>> {
        let mut processes = self.primary.processes()?;
        processes.extend(self.standby.processes()?);
        Ok(processes)
    }

    fn cpu(&self) -> anyhow::Result<f64> {
        Ok(self.primary.cpu()? + self.standby.cpu()?)
    }

    fn transferred(&self) -> Result<u64, &'static str> {
        let proxy = self.proxy.as_ref().ok_or("nothing counted")?;
        Ok(proxy.to_client() + proxy.to_server())
    }
}

impl Drop for Streaming {
    fn drop(&mut self) {
        // The standby first: a primary waits for it.
        let _ = self.standby.stop();
        let _ = self.primary.stop();
    }
}
