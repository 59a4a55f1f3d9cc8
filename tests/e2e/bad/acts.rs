//! A reader of a replica that does whatever its SQLite lets it, in a process of its own.
//!
//! Options: `db`, `dir` for its own files, `seed`, `log`: a line `ACT ANSWER` for each act, where an answer is `ok` or SQLite's
//! primary error code; `hold`: does nothing but read in one transaction until it is killed or told to stop.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};

use crate::support::child::{Spec, Stop};
use crate::support::rng::Rng;
use crate::support::schema::Meta;

const READONLY: i32 = 8;
const BUSY: i32 = 5;
const INTERRUPT: i32 = 9;

type Act = fn(&mut Bad) -> rusqlite::Result<()>;

/// What it does, and the errors that plain SQLite gives for it on a database that others have open and nobody may write to.
/// Whatever else it meets is a failure.
const ACTS: [(&str, Act, &[i32]); 16] = [
    ("checkpoint", Bad::checkpoint, &[]),
    ("write", Bad::write, &[READONLY]),
    ("begin-immediate", Bad::begin_immediate, &[READONLY]),
    ("journal-mode", Bad::journal_mode, &[BUSY, READONLY]),
    ("exclusive", Bad::exclusive, &[BUSY]),
    ("churn", Bad::churn, &[]),
    ("hold", Bad::hold, &[]),
    ("vacuum-into", Bad::vacuum_into, &[]),
    ("serialize", Bad::serialize, &[]),
    ("attach", Bad::attach, &[]),
    ("temporary", Bad::temporary, &[]),
    ("shared-cache", Bad::shared_cache, &[]),
    ("interrupt", Bad::interrupt, &[INTERRUPT]),
    ("read-only", Bad::read_only, &[]),
    ("die-reading", Bad::die_reading, &[]),
    ("die-checkpointing", Bad::die_checkpointing, &[]),
];

/// Acts that promise nothing to the one who does them: SQLite says so in its documentation.
const RECKLESS: [(&str, Act); 3] = [
    ("immutable", Bad::immutable),
    ("no-lock", Bad::no_lock),
    ("copy", Bad::copy),
];

/// The names of all acts.
pub fn names() -> impl Iterator<Item = &'static str> {
    let usual = ACTS.iter().map(|(name, ..)| *name);
    usual.chain(RECKLESS.iter().map(|(name, _)| *name))
}

struct Bad {
    db: PathBuf,
    own: PathBuf,
    rng: Rng,
    log: File,
}

pub fn main(spec: &Spec) -> Spec {
    let stop = Stop::of(spec);
    let mut bad = Bad {
        db: spec.path("db"),
        own: spec.path("dir"),
        rng: Rng::new(spec.or("seed", 1)),
        log: File::options()
            .create(true)
            .append(true)
            .open(spec.path("log"))
            .expect("open the log"),
    };
    std::fs::create_dir_all(&bad.own).expect("make the directory");
    if spec.get("hold").is_some() {
        let conn = bad.open().expect("open");
        conn.execute_batch("BEGIN").expect("begin");
        let first = Meta::load(&conn).expect("read");
        bad.line("hold", "begun");
        while !stop.told() {
            assert_eq!(Meta::load(&conn).expect("read"), first);
            std::thread::sleep(Duration::from_millis(20));
        }
        return Spec::new("bad");
    }
    while !stop.told() {
        let number = bad.rng.below((ACTS.len() + RECKLESS.len()) as u64) as usize;
        match ACTS.get(number) {
            Some((name, act, allowed)) => {
                let answer = act(&mut bad);
                match code(&answer) {
                    None => bad.line(name, "ok"),
                    Some(known) if allowed.contains(&known) => bad.line(name, &known.to_string()),
                    Some(_) => panic!("{name}: {answer:?}"),
                }
            }
            None => {
                let (name, act) = RECKLESS[number - ACTS.len()];
                let answer = code(&act(&mut bad)).map_or("ok".to_owned(), |code| code.to_string());
                bad.line(name, &answer);
            }
        }
    }
    Spec::new("bad")
}

fn code(answer: &rusqlite::Result<()>) -> Option<i32> {
    match answer {
        Ok(()) => None,
        Err(rusqlite::Error::SqliteFailure(error, _)) => Some(error.extended_code & 0xff),
        Err(_) => Some(-1),
    }
}

fn wrong(text: String) -> rusqlite::Error {
    rusqlite::Error::ToSqlConversionFailure(text.into())
}

impl Bad {
    /// In one piece: the process may be killed by itself.
    fn line(&mut self, act: &str, answer: &str) {
        let line = format!("{act} {answer}\n");
        self.log
            .write_all(line.as_bytes())
            .expect("append to the log");
    }

    fn open_as(&self, parameters: &str) -> rusqlite::Result<Connection> {
        let uri = format!("file:{}?{parameters}", self.db.display());
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_URI
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let conn = Connection::open_with_flags(uri, flags)?;
        conn.busy_timeout(Duration::from_secs(1))?;
        Ok(conn)
    }

    fn open(&self) -> rusqlite::Result<Connection> {
        self.open_as("mode=rw")
    }

    /// A new file of its own.
    fn file(&self, name: &str) -> PathBuf {
        let path = self.own.join(name);
        for suffix in ["", "-wal", "-shm", "-journal"] {
            let _absent = std::fs::remove_file(self.own.join(format!("{name}{suffix}")));
        }
        path
    }

    fn checkpoint(&mut self) -> rusqlite::Result<()> {
        let conn = self.open()?;
        let mode = ["PASSIVE", "FULL", "RESTART", "TRUNCATE"][self.rng.below(4) as usize];
        let level = ["OFF", "NORMAL", "FULL"][self.rng.below(3) as usize];
        conn.busy_timeout(Duration::from_millis(self.rng.below(50)))?;
        conn.execute_batch(&format!("PRAGMA synchronous = {level}"))?;
        if self.rng.one_in(2) {
            Meta::load(&conn)?;
        }
        conn.query_row(&format!("PRAGMA wal_checkpoint({mode})"), [], |_| Ok(()))
    }

    fn write(&mut self) -> rusqlite::Result<()> {
        let sql = [
            "INSERT INTO x_none VALUES(1)",
            "UPDATE meta SET version = version + 1",
            "DELETE FROM acct",
            "CREATE TABLE mine(x)",
            "DROP TABLE meta",
            "VACUUM",
            "PRAGMA user_version = 7",
            "PRAGMA application_id = 7",
            "PRAGMA incremental_vacuum",
            "REINDEX",
            "ANALYZE",
        ];
        let conn = self.open()?;
        let sql = sql[self.rng.below(sql.len() as u64) as usize];
        match conn.execute_batch(sql) {
            // These do nothing where there is nothing to do, or name what is not there.
            Ok(()) if sql.ends_with("incremental_vacuum") => Ok(()),
            Ok(()) => Err(wrong(format!("{sql} was done"))),
            Err(e) if sql.starts_with("INSERT") && e.to_string().contains("no such table") => {
                Ok(())
            }
            Err(e) => Err(e),
        }
    }

    fn begin_immediate(&mut self) -> rusqlite::Result<()> {
        let kind = ["IMMEDIATE", "EXCLUSIVE"][self.rng.below(2) as usize];
        let conn = self.open()?;
        conn.execute_batch(&format!("BEGIN {kind}"))?;
        Err(wrong("a write transaction began".to_owned()))
    }

    fn journal_mode(&mut self) -> rusqlite::Result<()> {
        let conn = self.open()?;
        conn.busy_timeout(Duration::from_millis(self.rng.below(20)))?;
        let mode = ["DELETE", "TRUNCATE", "PERSIST", "MEMORY", "OFF"][self.rng.below(5) as usize];
        let now: String =
            conn.query_row(&format!("PRAGMA journal_mode = {mode}"), [], |r| r.get(0))?;
        match now.as_str() {
            "wal" => Ok(()),
            other => Err(wrong(format!("journal_mode is {other}"))),
        }
    }

    fn exclusive(&mut self) -> rusqlite::Result<()> {
        let conn = self.open()?;
        conn.busy_timeout(Duration::from_millis(self.rng.below(20)))?;
        if self.rng.one_in(2) {
            Meta::load(&conn)?;
        }
        conn.query_row("PRAGMA locking_mode = EXCLUSIVE", [], |_| Ok(()))?;
        Meta::load(&conn)?;
        conn.query_row("PRAGMA locking_mode = NORMAL", [], |_| Ok(()))?;
        Meta::load(&conn).map(drop)
    }

    fn churn(&mut self) -> rusqlite::Result<()> {
        for _ in 0..100 {
            Meta::load(&self.open()?)?;
        }
        // And all at once.
        let many: Vec<_> = (0..50).map(|_| self.open()).collect::<Result<_, _>>()?;
        for conn in &many {
            conn.execute_batch("BEGIN; SELECT version FROM meta")?;
        }
        Ok(())
    }

    fn hold(&mut self) -> rusqlite::Result<()> {
        let conn = self.open()?;
        conn.execute_batch("BEGIN")?;
        let first = Meta::load(&conn)?;
        std::thread::sleep(Duration::from_millis(self.rng.below(300)));
        match Meta::load(&conn)? == first {
            true => Ok(()),
            false => Err(wrong("a read transaction saw two states".to_owned())),
        }
    }

    fn integrity(conn: &Connection) -> rusqlite::Result<()> {
        Meta::load(conn)?;
        let said: String = conn.query_row("PRAGMA integrity_check(3)", [], |r| r.get(0))?;
        match said.as_str() {
            "ok" => Ok(()),
            other => Err(wrong(other.to_owned())),
        }
    }

    fn vacuum_into(&mut self) -> rusqlite::Result<()> {
        let copy = self.file("vacuumed.db");
        let conn = self.open()?;
        conn.execute("VACUUM INTO ?1", [copy.display().to_string()])?;
        Self::integrity(&Connection::open(copy)?)
    }

    /// All pages of one state, as a backup takes them.
    fn serialize(&mut self) -> rusqlite::Result<()> {
        let copy = self.file("serialized.db");
        let mut conn = self.open()?;
        conn.execute_batch("BEGIN")?;
        Meta::load(&conn)?;
        let mut bytes = conn.serialize("main")?.to_vec();
        // The copy has no log.
        bytes[18..20].fill(1);
        std::fs::write(&copy, bytes).expect("write the copy");
        Self::integrity(&Connection::open(copy)?)
    }

    fn attach(&mut self) -> rusqlite::Result<()> {
        let own = Connection::open(self.file("own.db"))?;
        own.execute("ATTACH ?1 AS theirs", [self.db.display().to_string()])?;
        own.execute_batch(
            "BEGIN; CREATE TABLE mine AS SELECT * FROM theirs.acct; DELETE FROM mine; COMMIT",
        )
    }

    fn temporary(&mut self) -> rusqlite::Result<()> {
        let conn = self.open()?;
        conn.execute_batch(
            "PRAGMA mmap_size = 268435456; CREATE TEMP TABLE mine AS SELECT * FROM acct",
        )?;
        conn.execute_batch("SAVEPOINT s; DELETE FROM temp.mine; ROLLBACK TO s; RELEASE s")
    }

    fn shared_cache(&mut self) -> rusqlite::Result<()> {
        let (a, b) = (
            self.open_as("mode=rw&cache=shared")?,
            self.open_as("mode=rw&cache=shared")?,
        );
        a.execute_batch("PRAGMA read_uncommitted = 1")?;
        for conn in [&a, &b] {
            Meta::load(conn)?;
        }
        Ok(())
    }

    fn interrupt(&mut self) -> rusqlite::Result<()> {
        let conn = self.open()?;
        let handle = conn.get_interrupt_handle();
        let after = Duration::from_micros(self.rng.below(5_000));
        std::thread::scope(|scope| {
            scope.spawn(move || {
                std::thread::sleep(after);
                handle.interrupt();
            });
            conn.query_row(
                "SELECT count(*) FROM acct a, acct b, acct c",
                [],
                |_| Ok(()),
            )
        })
    }

    fn read_only(&mut self) -> rusqlite::Result<()> {
        let conn = self.open_as("mode=ro")?;
        conn.execute_batch("PRAGMA query_only = 1; BEGIN")?;
        Meta::load(&conn)?;
        match conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())) {
            // In a transaction, or of a database that is opened to be read.
            Err(e)
                if matches!(
                    e.sqlite_error_code(),
                    Some(ErrorCode::DatabaseLocked | ErrorCode::ReadOnly)
                ) =>
            {
                Ok(())
            }
            other => other,
        }
    }

    fn die_reading(&mut self) -> rusqlite::Result<()> {
        // Not always: a process that lives longer does more.
        if !self.rng.one_in(4) {
            return Ok(());
        }
        let conn = self.open()?;
        conn.execute_batch("BEGIN")?;
        Meta::load(&conn)?;
        self.line("die-reading", "now");
        die()
    }

    fn die_checkpointing(&mut self) -> rusqlite::Result<()> {
        if !self.rng.one_in(4) {
            return Ok(());
        }
        let conn = self.open()?;
        Meta::load(&conn)?;
        self.line("die-checkpointing", "now");
        let after = Duration::from_micros(self.rng.below(1_000));
        std::thread::spawn(move || {
            std::thread::sleep(after);
            die()
        });
        loop {
            conn.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?;
        }
    }

    fn immutable(&mut self) -> rusqlite::Result<()> {
        Meta::load(&self.open_as("immutable=1")?).map(drop)
    }

    fn no_lock(&mut self) -> rusqlite::Result<()> {
        Meta::load(&self.open_as("mode=ro&nolock=1")?).map(drop)
    }

    /// The file without its log, while it is written to. No connection of this process is open: none loses its locks.
    fn copy(&mut self) -> rusqlite::Result<()> {
        let copy = self.file("copy.db");
        std::fs::copy(&self.db, &copy).expect("copy the database");
        Meta::load(&Connection::open(copy)?).map(drop)
    }
}

fn die() -> ! {
    let me = nix::unistd::Pid::this();
    nix::sys::signal::kill(me, nix::sys::signal::Signal::SIGKILL).expect("kill oneself");
    unreachable!("dead")
}
