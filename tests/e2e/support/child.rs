//! Helper processes: the test executable runs itself again with one test chosen, so that
//! `cargo test` needs no second binary and each writer and reader is a process of its own.

use std::collections::BTreeMap;
use std::fmt::{Debug, Display};
use std::path::{Path, PathBuf};
use std::process::{Child as OsChild, Command, ExitStatus, Stdio};
use std::str::FromStr;
use std::time::Duration;

use super::{DEADLINE, poll_for};

const SPEC_VAR: &str = "WALCAST_E2E_CHILD";

/// What a child is told, and what it reports: `key=value` lines. Values hold no newline.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spec(BTreeMap<String, String>);

impl Spec {
    pub fn new(role: &str) -> Self {
        Self::default().with("role", role)
    }

    #[must_use]
    pub fn with(mut self, key: &str, value: impl Display) -> Self {
        let value = value.to_string();
        assert!(!value.contains('\n'), "a newline in {key}");
        self.0.insert(key.to_owned(), value);
        self
    }

    #[must_use]
    pub fn with_path(self, key: &str, path: &Path) -> Self {
        self.with(key, path.display())
    }

    /// # Panics
    /// When a line has no `=`.
    pub fn parse(text: &str) -> Self {
        let pairs = text.lines().filter(|l| !l.is_empty()).map(|line| {
            let (key, value) = line.split_once('=').expect("a key=value line");
            (key.to_owned(), value.to_owned())
        });
        Self(pairs.collect())
    }

    pub fn text(&self) -> String {
        self.0.iter().map(|(k, v)| format!("{k}={v}\n")).collect()
    }

    /// The pairs as arguments of a Python twin.
    pub fn args(&self) -> Vec<String> {
        self.0.iter().map(|(k, v)| format!("{k}={v}")).collect()
    }

    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// # Panics
    /// When the key is missing.
    pub fn path(&self, key: &str) -> PathBuf {
        PathBuf::from(
            self.get(key)
                .unwrap_or_else(|| panic!("{key} is missing in {self:?}")),
        )
    }

    /// A number or word, or `default` when it is not given.
    ///
    /// # Panics
    /// When the value does not parse.
    pub fn or<T: FromStr<Err: Debug>>(&self, key: &str, default: T) -> T {
        self.get(key).map_or(default, |v| {
            v.parse()
                .unwrap_or_else(|e| panic!("{key}={v} does not parse: {e:?}"))
        })
    }

    /// The pairs whose key begins with `prefix`.
    pub fn prefixed<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0
            .iter()
            .filter(move |(k, _)| k.starts_with(prefix))
            .map(|(k, v)| (k.as_str(), v.as_str()))
    }
}

/// With `uid` and `gid` in its spec a child runs as that user, of that group alone.
fn as_user(command: &mut Command, spec: &Spec) {
    use std::os::unix::process::CommandExt;
    if spec.get("uid").is_some() {
        command.uid(spec.or("uid", 0)).gid(spec.or("gid", 0));
    }
}

/// A running helper. Dropping it kills it: nothing outlives its test.
pub struct Child {
    name: String,
    os: OsChild,
    log: PathBuf,
    report: PathBuf,
    stop: PathBuf,
}

impl Child {
    /// Starts this executable in `spec`'s role, with `env.NAME` of it as environment. The files `NAME.log`, `NAME.report` and
    /// `NAME.stop` in `dir` belong to it.
    ///
    /// # Panics
    /// When the process cannot be started.
    pub fn start(dir: &Path, name: &str, spec: Spec) -> Self {
        let exe = std::env::current_exe().expect("path of the test executable");
        let mut command = Command::new(exe);
        command.args([
            "--exact",
            "support::child::child_main",
            "--nocapture",
            "--test-threads=1",
        ]);
        as_user(&mut command, &spec);
        command.envs(spec.prefixed("env.").map(|(k, v)| (&k["env.".len()..], v)));
        let spec = Self::own_files(dir, name, spec);
        command.env(SPEC_VAR, spec.text());
        Self::spawn(dir, name, command)
    }

    /// Starts any program (a Python twin) with `spec`'s pairs as arguments, under the same rules.
    ///
    /// # Panics
    /// When the process cannot be started.
    pub fn start_program(dir: &Path, name: &str, mut command: Command, spec: Spec) -> Self {
        as_user(&mut command, &spec);
        command.args(Self::own_files(dir, name, spec).args());
        Self::spawn(dir, name, command)
    }

    fn own_files(dir: &Path, name: &str, spec: Spec) -> Spec {
        spec.with_path("report", &dir.join(format!("{name}.report")))
            .with_path("stop", &dir.join(format!("{name}.stop")))
    }

    fn spawn(dir: &Path, name: &str, mut command: Command) -> Self {
        let log = dir.join(format!("{name}.log"));
        let report = dir.join(format!("{name}.report"));
        let stop = dir.join(format!("{name}.stop"));
        for old in [&report, &stop] {
            // A restarted child must not read its predecessor's stop file, nor we its report.
            let _absent_at_first_start = std::fs::remove_file(old);
        }
        let file = std::fs::File::create(&log).expect("create the child's log");
        let again = file.try_clone().expect("share the child's log");
        let os = command
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(again)
            .spawn()
            .unwrap_or_else(|e| panic!("start {command:?}: {e}"));
        Self {
            name: name.to_owned(),
            os,
            log,
            report,
            stop,
        }
    }

    /// Asks the child to end, waits for it, and gives its report.
    ///
    /// # Errors
    /// When it does not end in time, ends with an error, or leaves no report.
    pub fn stop(&mut self) -> Result<Spec, String> {
        std::fs::write(&self.stop, "stop").map_err(|e| format!("write the stop file: {e}"))?;
        self.finish(DEADLINE)
    }

    /// Waits until the child ends by itself, and gives its report.
    ///
    /// # Errors
    /// As `stop`.
    pub fn finish(&mut self, limit: Duration) -> Result<Spec, String> {
        let status = self.wait(limit)?;
        if !status.success() {
            return Err(format!(
                "{} ended with {status}:\n{}",
                self.name,
                self.log()
            ));
        }
        // libtest is content when no test matches: only the report proves that the role ran.
        let text = std::fs::read_to_string(&self.report)
            .map_err(|e| format!("{} left no report ({e}):\n{}", self.name, self.log()))?;
        Ok(Spec::parse(&text))
    }

    /// # Errors
    /// When the child does not end within `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus, String> {
        let what = format!("the end of {}", self.name);
        poll_for(&what, limit, || match self.os.try_wait() {
            Ok(Some(status)) => Ok(status),
            Ok(None) => Err(format!("still running; its log:\n{}", self.log())),
            Err(e) => Err(format!("wait: {e}")),
        })
    }

    /// SIGKILL, and reaps it.
    pub fn kill9(&mut self) {
        let _already_dead = self.os.kill();
        let _reaped = self.os.wait();
    }

    pub fn is_running(&mut self) -> bool {
        matches!(self.os.try_wait(), Ok(None))
    }

    pub fn pid(&self) -> u32 {
        self.os.id()
    }

    /// What it printed.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill9();
        if std::thread::panicking() {
            eprintln!(
                "--- log of {} ---\n{}",
                self.name,
                super::proc::tail(&self.log())
            );
        }
    }
}

/// Runs `spec` to its end and gives its report.
///
/// # Errors
/// As `Child::finish`.
pub fn run(dir: &Path, name: &str, spec: Spec) -> Result<Spec, String> {
    Child::start(dir, name, spec).finish(DEADLINE * 5)
}

/// What a child's loop asks. A test that is killed writes no stop file: its children then have
/// another parent, and end as well.
pub struct Stop {
    file: PathBuf,
    parent: u32,
}

impl Stop {
    pub fn of(spec: &Spec) -> Self {
        Self {
            file: spec.path("stop"),
            parent: std::os::unix::process::parent_id(),
        }
    }

    pub fn told(&self) -> bool {
        self.file.exists() || std::os::unix::process::parent_id() != self.parent
    }
}

/// A role that a program has beside those of the kit: its name, and what gives the report.
pub type Role = (&'static str, fn(&Spec) -> Spec);

/// The other side: what the re-executed test executable does. As an ordinary test it does nothing.
#[test]
fn child_main() {
    main(&crate::ROLES);
}

/// The whole life of a child; false if this process is none.
///
/// # Panics
/// As its role does; and when there is no such role.
pub fn main(more: &[Role]) -> bool {
    let Ok(text) = std::env::var(SPEC_VAR) else {
        return false;
    };
    let spec = Spec::parse(&text);
    let named = |role: &str| more.iter().find(|(name, _)| *name == role);
    let report = match spec.get("role") {
        Some("writer") => super::writer::main(&spec),
        Some("crowd") => super::crowd::main(&spec),
        Some("reader") => super::reader::main(&spec),
        Some("dump") => super::dump::main(&spec),
        Some("query") => super::dump::query_main(&spec),
        Some("echo") => spec.clone(),
        Some("panic") => panic!("told to"),
        role => match role.and_then(named) {
            Some((_, run)) => run(&spec),
            None => panic!("no such role: {role:?}"),
        },
    };
    let path = spec.path("report");
    let partial = path.with_extension("report-partial");
    std::fs::write(&partial, report.text()).expect("write the report");
    std::fs::rename(&partial, &path).expect("publish the report");
    true
}
