//! Other processes, by running this test executable again: applications, and primaries that can be killed.
//!
//! A child reads commands from its standard input, one a line, and answers each with one line that begins with [`MARK`].

use super::super::{Primary, PrimaryConfig};
use crate::disk::fault;
use rusqlite::fallible_iterator::FallibleIterator;
use rusqlite::{Connection, ErrorCode};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

const MARK: &str = "child> ";
const ROLE: &str = "WALCAST_TEST_CHILD";
const PATH: &str = "WALCAST_TEST_PATH";
/// The application's pause after each 64 commits. One that never pauses leaves capture behind where two processors are busy
/// with other things as well, and the bounds of the tests are about walcast, not about the machine.
const THINKING: Duration = Duration::from_millis(5);

/// A child process of either role.
pub struct Process {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Process {
    fn start(role: &str, path: &Path, environment: &[(&str, &Path)]) -> Process {
        let mut command = Command::new(std::env::current_exe().expect("this executable"));
        command
            .args([
                "--exact",
                "primary::tests::child::child_main",
                "--nocapture",
                "--test-threads=1",
            ])
            .env(ROLE, role)
            .env(PATH, path)
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.spawn().expect("a child");
        let input = child.stdin.take().expect("its input");
        let output = BufReader::new(child.stdout.take().expect("its output"));
        Process {
            child,
            input,
            output,
        }
    }

    pub fn send(&mut self, command: &str) {
        let line = command.replace('\n', " ");
        writeln!(self.input, "{line}").expect("the child listens");
    }

    pub fn answer(&mut self) -> String {
        loop {
            let mut line = String::new();
            let read = self.output.read_line(&mut line).expect("the child answers");
            if read == 0 {
                panic!("the child ended without an answer: {:?}", self.child.wait());
            }
            // libtest prints the test's name without a line feed first.
            if let Some((_, answer)) = line.split_once(MARK) {
                return answer.trim_end().to_owned();
            }
        }
    }

    pub fn ask(&mut self, command: &str) -> String {
        self.send(command);
        self.answer()
    }

    pub fn is_alive(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_none()
    }

    pub fn kill(&mut self) {
        self.child.kill().expect("kill the child");
        self.child.wait().expect("the child is gone");
    }

    fn end(&mut self) {
        self.send("end");
        assert!(self.child.wait().expect("the child ends").success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // By its id; it may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a run of commits met.
#[derive(Debug)]
pub struct Written {
    pub last_version: u64,
    pub busy: u64,
    pub log_restarts: u64,
}

/// An application with one connection.
pub struct App(pub Process);

impl App {
    pub fn start(path: &Path) -> App {
        App(Process::start("app", path, &[]))
    }

    /// Runs statements; rows come back as text, `|` between columns and `;` between rows.
    pub fn sql(&mut self, sql: &str) -> String {
        let answer = self.try_sql(sql);
        answer.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    pub fn try_sql(&mut self, sql: &str) -> Result<String, String> {
        let answer = self.0.ask(&format!("sql {sql}"));
        match answer.strip_prefix("error ") {
            Some(error) => Err(error.to_owned()),
            None => Ok(answer),
        }
    }

    /// Commits `count` transactions: each raises the version by one and changes a few rows.
    pub fn write(&mut self, count: u64) -> Written {
        self.begin_write(count);
        self.end_write()
    }

    pub fn begin_write(&mut self, count: u64) {
        self.0.send(&format!("write {count}"));
    }

    pub fn end_write(&mut self) -> Written {
        let answer = self.0.answer();
        let mut words = answer
            .split(' ')
            .map(|word| word.parse().expect("a number"));
        let mut next = || words.next().expect("three numbers");
        Written {
            last_version: next(),
            busy: next(),
            log_restarts: next(),
        }
    }

    /// Closes the connection and ends.
    pub fn end(mut self) {
        self.0.end();
    }
}

/// A primary in its own process.
pub struct PrimaryChild(pub Process);

impl PrimaryChild {
    pub fn start(path: &Path, environment: &[(&str, &Path)]) -> PrimaryChild {
        PrimaryChild(Process::start("primary", path, environment))
    }

    /// The position that a fence gives, or what is wrong.
    pub fn fence(&mut self) -> Result<String, String> {
        let answer = self.0.ask("fence");
        match answer.strip_prefix("error ") {
            Some(error) => Err(error.to_owned()),
            None => Ok(answer),
        }
    }

    /// Until it is well.
    pub fn wait(&mut self) -> String {
        let begun = std::time::Instant::now();
        loop {
            match self.fence() {
                Ok(position) => return position,
                Err(error) => assert!(begun.elapsed() < super::PATIENCE, "{error}"),
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The most memory it ever had, in KiB.
    pub fn memory(&mut self) -> u64 {
        self.0.ask("memory").parse().expect("a number")
    }

    pub fn end(mut self) {
        self.0.end();
    }
}

fn reply(text: &str) {
    println!("{MARK}{text}");
}

/// Not a test: what a child runs. Without its environment it does nothing.
#[test]
fn child_main() {
    let (Ok(role), Some(path)) = (std::env::var(ROLE), std::env::var_os(PATH)) else {
        return;
    };
    let commands = std::io::stdin()
        .lines()
        .map_while(Result::ok)
        .take_while(|line| line != "end");
    match role.as_str() {
        "app" => application(Path::new(&path), commands),
        "primary" => primary(Path::new(&path), commands),
        role => panic!("no role {role}"),
    }
}

fn application(path: &Path, commands: impl Iterator<Item = String>) {
    let connection = Connection::open(path).expect("open the database");
    for command in commands {
        match command.split_once(' ') {
            Some(("sql", sql)) => match run(&connection, sql) {
                Ok(rows) => reply(&rows),
                Err(error) => reply(&format!("error {error}")),
            },
            Some(("write", count)) => {
                let written = write(&connection, count.parse().expect("a count"));
                let Written {
                    last_version,
                    busy,
                    log_restarts,
                } = written;
                reply(&format!("{last_version} {busy} {log_restarts}"));
            }
            _ => panic!("no command {command}"),
        }
    }
}

fn run(connection: &Connection, sql: &str) -> rusqlite::Result<String> {
    let mut rest = rusqlite::Batch::new(connection, sql);
    let mut rows = Vec::new();
    while let Some(mut statement) = rest.next()? {
        let columns = statement.column_count();
        let mut found = statement.query([])?;
        while let Some(row) = found.next()? {
            let text = |i| row.get_ref(i).map(|v| format!("{v:?}"));
            let row: rusqlite::Result<Vec<String>> = (0..columns).map(text).collect();
            rows.push(row?.join("|"));
        }
    }
    Ok(rows.join(";"))
}

fn write(connection: &Connection, count: u64) -> Written {
    let salts = || {
        let mut wal = path_of(connection).into_os_string();
        wal.push("-wal");
        // The -wal file carries no locks.
        let file = File::open(wal).ok()?;
        let mut salts = [0; 8];
        file.read_exact_at(&mut salts, 16).ok().map(|()| salts)
    };
    let mark: String = connection
        .query_row("SELECT mark FROM meta", [], |row| row.get(0))
        .expect("a version");
    let mut version = u64::from_str_radix(&mark[8..], 16).expect("a number");
    let mut written = Written {
        last_version: version,
        busy: 0,
        log_restarts: 0,
    };
    let mut last_salts = None;
    for i in 0..count {
        let sql = format!(
            "BEGIN IMMEDIATE;
             UPDATE meta SET mark='VERSION:{:016x}' WHERE id=1;
             INSERT OR REPLACE INTO item VALUES({}, {}, randomblob(200));
             COMMIT",
            version + 1,
            (version * 7919) % 5000,
            version
        );
        match connection.execute_batch(&sql) {
            Ok(()) => version += 1,
            Err(rusqlite::Error::SqliteFailure(error, _))
                if error.code == ErrorCode::DatabaseBusy =>
            {
                written.busy += 1;
            }
            Err(error) => panic!("commit {version}: {error}"),
        }
        // A look now and then: opening the log costs as much as a commit.
        if i % 64 == 0 && last_salts != salts() {
            last_salts = salts();
            written.log_restarts += 1;
        }
        if i % 64 == 63 {
            std::thread::sleep(THINKING);
        }
    }
    written.last_version = version;
    written
}

fn path_of(connection: &Connection) -> std::path::PathBuf {
    connection.path().map(Into::into).expect("a file")
}

fn primary(path: &Path, commands: impl Iterator<Item = String>) {
    fault::init_from_env().expect("a plan");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.expect("a runtime");
    let primary = Primary::start(PrimaryConfig::new("app.db", path));
    for command in commands {
        match command.as_str() {
            "fence" => match runtime.block_on(primary.fence()) {
                Ok(point) => reply(&point.position.to_string()),
                Err(error) => reply(&format!("error {error}")),
            },
            "memory" => {
                let status = std::fs::read_to_string("/proc/self/status").expect("procfs");
                let line = status.lines().find(|line| line.starts_with("VmHWM"));
                let words = line.expect("VmHWM").split_whitespace().nth(1);
                reply(words.expect("a number"));
            }
            _ => panic!("no command {command}"),
        }
    }
    primary.stop();
    runtime.block_on(primary.stopped());
}
