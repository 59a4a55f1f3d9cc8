//! One primary, one replica, and a proxy between them that outlives both.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::compare::{Equal, compare, query};
use super::proc::{Walcast, wait_same_position};
use super::proxy::Proxy;
use super::{DEADLINE, Scratch, wait_for};

/// The name of the database on both sides.
pub const NAME: &str = "app";

/// The line that a primary prints for each snapshot it sends.
pub const SENDING_SNAPSHOT: &str = "sending snapshot";

/// Nothing is started by `new`: scenarios differ in what comes first.
pub struct Cluster {
    dir: PathBuf,
    pub primary: Walcast,
    pub replica: Walcast,
    pub proxy: Proxy,
    primary_addr: Option<SocketAddr>,
    replica_addr: Option<SocketAddr>,
    primary_db: PathBuf,
    replica_db: PathBuf,
}

fn database_in(scratch: &Scratch, side: &str) -> PathBuf {
    let dir = scratch.join(side);
    std::fs::create_dir_all(&dir).expect("create a side's directory");
    dir.join("app.db")
}

impl Cluster {
    pub fn new(scratch: &Scratch) -> Self {
        let proxy = Proxy::start();
        let primary_db = database_in(scratch, "primary");
        let replica_db = database_in(scratch, "replica");
        let upstream = format!("http://{}", proxy.addr());
        let named = |path: &Path| format!("{NAME}={}", path.display());
        let listen = ["--listen", "127.0.0.1:0"];
        let of_primary = named(&primary_db);
        let of_replica = named(&replica_db);
        let primary = ["primary", "--db", &of_primary, listen[0], listen[1]];
        let replica = [
            "replica",
            "--upstream",
            &upstream,
            "--db",
            &of_replica,
            listen[0],
            listen[1],
        ];
        Self {
            dir: scratch.path().to_owned(),
            primary: Walcast::new(scratch.path(), "primary", &primary),
            replica: Walcast::new(scratch.path(), "replica", &replica),
            proxy,
            primary_addr: None,
            replica_addr: None,
            primary_db,
            replica_db,
        }
    }

    pub fn primary_db(&self) -> &Path {
        &self.primary_db
    }

    pub fn replica_db(&self) -> &Path {
        &self.replica_db
    }

    /// Where the primary of the last start listens.
    ///
    /// # Panics
    /// When it was never started.
    pub fn primary_addr(&self) -> SocketAddr {
        self.primary_addr.expect("the primary was started")
    }

    /// Where the replica of the last start listens.
    ///
    /// # Panics
    /// When it was never started.
    pub fn replica_addr(&self) -> SocketAddr {
        self.replica_addr.expect("the replica was started")
    }

    /// Starts (again), on a new port; the proxy leads there from now on.
    pub fn start_primary(&mut self) {
        self.try_start_primary()
            .unwrap_or_else(|why| panic!("{why}"));
    }

    pub fn start_replica(&mut self) {
        self.try_start_replica()
            .unwrap_or_else(|why| panic!("{why}"));
    }

    /// `start_primary`, of one that may end at once.
    ///
    /// # Errors
    /// When it does, or says nothing; with its log.
    pub fn try_start_primary(&mut self) -> Result<(), String> {
        let addr = self.primary.try_start(DEADLINE)?;
        self.primary_addr = Some(addr);
        self.proxy.set_target(addr);
        Ok(())
    }

    /// `start_replica`, of one that may end at once.
    ///
    /// # Errors
    /// As `try_start_primary`.
    pub fn try_start_replica(&mut self) -> Result<(), String> {
        self.replica_addr = Some(self.replica.try_start(DEADLINE)?);
        Ok(())
    }

    /// Waits until a reader of the replica sees at least this version.
    ///
    /// # Panics
    /// When it does not, or the replica ends meanwhile.
    pub fn wait_version(&mut self, version: u64) {
        wait_for(&format!("version {version} on the replica"), || {
            if !self.replica.is_running() {
                return Err("the replica is not running".to_owned());
            }
            let sql = "SELECT version FROM meta WHERE id = 1";
            let seen = query(&self.dir, &self.replica_db, sql)?;
            match seen.parse::<u64>() {
                Ok(now) if now >= version => Ok(()),
                _ => Err(format!("it is at {seen}")),
            }
        });
    }

    /// Waits until both sides name the same position. Alone this does not say that the primary
    /// has captured everything: `wait_version` comes first where there is a version.
    ///
    /// # Panics
    /// When they do not.
    pub fn wait_level(&self) -> String {
        wait_same_position(self.primary_addr(), self.replica_addr(), NAME)
    }

    /// After the writer's end at `version`: level, and equal page by page.
    ///
    /// # Panics
    /// When they do not get level, or differ.
    pub fn assert_equal(&mut self, version: u64) -> Equal {
        self.wait_version(version);
        let position = self.wait_level();
        let equal = self.assert_pages_equal();
        eprintln!("equal at {position}, version {version}: {equal:?}");
        equal
    }

    /// # Panics
    /// When the two databases differ.
    pub fn assert_pages_equal(&self) -> Equal {
        compare(&self.dir, &self.primary_db, &self.replica_db).unwrap_or_else(|why| panic!("{why}"))
    }

    /// How many snapshots all runs of the primary sent.
    pub fn snapshots(&self) -> usize {
        self.primary.count_in_logs(SENDING_SNAPSHOT)
    }
}
