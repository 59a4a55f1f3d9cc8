//! Faults on demand: a test names a disk operation and how it shall fail.
//!
//! Every operation of [`crate::disk`] and every [`point`] asks here first. The plan comes from the environment variable
//! `WALCAST_FAULTS` (for real processes) or from [`with_plan`] (for the current thread of a unit test). Without a plan
//! the cost is one relaxed load.
//!
//! A plan is a list of rules, `NAME=ACTION[@N]`, separated by `;`. NAME is an operation's name, or a prefix that ends
//! in `*`. ACTION is `eio`, `enospc`, `exdev`, `eintr`, `short` (half of a write, then ENOSPC), `kill` (SIGKILL to this process),
//! `panic` (as a bug does), or `stall` (sleep 50 ms). `@N` is the N-th time the name is met (from 1); without it: every time; `@N+`: from then on.
//! `WALCAST_FAULTS_FILE` names a file that holds the plan and may change while the process runs (a disk that is full,
//! and then has space again). `WALCAST_FAULTS_MET` names a file to which a line is added for each disk operation that is
//! met, `NAME N` at its N-th time where N is a power of two, and `NAME!` where a rule strikes: a test learns from it which
//! operations there are.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};

/// How an operation fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// `EIO`: the device failed.
    Eio,
    /// `ENOSPC`: the disk is full.
    Enospc,
    /// `EXDEV`: the other name is on another file system.
    Exdev,
    /// `EINTR`: a signal came first.
    Eintr,
    /// A write stops half-way, then the disk is full.
    Short,
    /// The process is killed with SIGKILL, here.
    Kill,
    /// The thread panics, here.
    Panic,
    /// The operation takes 50 ms longer.
    Stall,
}

#[derive(Clone, Debug)]
struct Rule {
    name: String,
    action: Action,
    first: u64,
    last: u64,
}

/// A set of rules with a counter for each name.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    rules: Vec<Rule>,
    met: HashMap<&'static str, u64>,
}

impl Plan {
    /// Reads a plan; the error says which rule is wrong.
    pub fn parse(text: &str) -> Result<Plan, String> {
        let mut rules = Vec::new();
        for rule in text
            .split([';', '\n'])
            .map(str::trim)
            .filter(|r| !r.is_empty())
        {
            let (name, rest) = rule
                .split_once('=')
                .ok_or_else(|| format!("'{rule}' is not NAME=ACTION[@N]"))?;
            let (action, when) = rest.split_once('@').unwrap_or((rest, "1+"));
            let action = match action {
                "eio" => Action::Eio,
                "enospc" => Action::Enospc,
                "exdev" => Action::Exdev,
                "eintr" => Action::Eintr,
                "short" => Action::Short,
                "kill" => Action::Kill,
                "panic" => Action::Panic,
                "stall" => Action::Stall,
                other => return Err(format!("'{other}' is not an action")),
            };
            let (digits, open) = match when.strip_suffix('+') {
                Some(digits) => (digits, true),
                None => (when, false),
            };
            let first = digits
                .parse()
                .map_err(|_| format!("'{when}' is not a count"))?;
            let last = if open { u64::MAX } else { first };
            rules.push(Rule {
                name: name.to_owned(),
                action,
                first,
                last,
            });
        }
        Ok(Plan {
            rules,
            met: HashMap::new(),
        })
    }

    fn meet(&mut self, name: &'static str) -> Option<Action> {
        let met = self.met.entry(name).or_insert(0);
        *met += 1;
        let met = *met;
        self.rules
            .iter()
            .find(|rule| {
                let named = match rule.name.strip_suffix('*') {
                    Some(prefix) => name.starts_with(prefix),
                    None => rule.name == name,
                };
                named && (rule.first..=rule.last).contains(&met)
            })
            .map(|rule| rule.action)
    }

    /// How often each name was met so far: the list of places where a disk operation can fail.
    pub fn met(&self) -> &HashMap<&'static str, u64> {
        &self.met
    }
}

const UNKNOWN: u8 = 0;
const NONE: u8 = 1;
const ACTIVE: u8 = 2;
static STATE: AtomicU8 = AtomicU8::new(UNKNOWN);

struct ProcessPlan {
    plan: Plan,
    file: Option<(PathBuf, String)>,
    told: Option<std::fs::File>,
}
static PROCESS: Mutex<Option<ProcessPlan>> = Mutex::new(None);

thread_local! {
    static THREAD: RefCell<Option<Plan>> = const { RefCell::new(None) };
}

/// Reads the environment. Says on standard error that faults are planned: nobody shall meet one unawares.
pub fn init_from_env() -> Result<(), String> {
    let file = std::env::var_os("WALCAST_FAULTS_FILE").map(PathBuf::from);
    let text = std::env::var("WALCAST_FAULTS").unwrap_or_default();
    let told = std::env::var_os("WALCAST_FAULTS_MET");
    let active = file.is_some() || told.is_some() || !text.is_empty();
    if active {
        eprintln!("walcast: TEST MODE: disk faults are planned by WALCAST_FAULTS");
        let plan = Plan::parse(&text)?;
        let file = file.map(|path| (path, String::new()));
        let open = |path| {
            std::fs::File::options()
                .create(true)
                .append(true)
                .open(path)
        };
        let told = told
            .map(open)
            .transpose()
            .map_err(|e| format!("WALCAST_FAULTS_MET: {e}"))?;
        let process = ProcessPlan { plan, file, told };
        *PROCESS.lock().unwrap_or_else(PoisonError::into_inner) = Some(process);
    }
    STATE.store(if active { ACTIVE } else { NONE }, Ordering::Relaxed);
    Ok(())
}

/// Runs `body` with a plan for this thread, and returns the plan with its counters.
pub fn with_plan<R>(plan: Plan, body: impl FnOnce() -> R) -> (R, Plan) {
    THREAD.with(|cell| *cell.borrow_mut() = Some(plan));
    let before = STATE.swap(ACTIVE, Ordering::Relaxed);
    let result = body();
    let plan = THREAD
        .with(|cell| cell.borrow_mut().take())
        .unwrap_or_default();
    // Another test's thread may still rely on ACTIVE; it only costs time.
    if before == ACTIVE {
        STATE.store(ACTIVE, Ordering::Relaxed);
    }
    (result, plan)
}

impl ProcessPlan {
    fn meet(&mut self, name: &'static str, is_operation: bool) -> Option<Action> {
        let decision = self.plan.meet(name);
        if let Some(told) = self.told.as_mut().filter(|_| is_operation) {
            let times = self.plan.met[name];
            let mut line = String::new();
            if times.is_power_of_two() {
                line = format!("{name} {times}\n");
            }
            if decision.is_some() {
                line.push_str(&format!("{name}!\n"));
            }
            // In one write: several processes may tell the same file.
            let _ = told.write_all(line.as_bytes());
        }
        decision
    }
}

fn decide(name: &'static str, is_operation: bool) -> Option<Action> {
    if STATE.load(Ordering::Relaxed) != ACTIVE {
        return None;
    }
    let here = THREAD.with(|cell| cell.borrow_mut().as_mut().map(|plan| plan.meet(name)));
    if let Some(decision) = here {
        return decision;
    }
    let mut guard = PROCESS.lock().unwrap_or_else(PoisonError::into_inner);
    let process = guard.as_mut()?;
    if let Some((path, seen)) = &mut process.file {
        // Reading a small file for each operation is slow, and only tests pay for it.
        let text = std::fs::read_to_string(path).unwrap_or_default();
        if text != *seen {
            process.plan = Plan::parse(&text).unwrap_or_default();
            *seen = text;
        }
    }
    process.meet(name, is_operation)
}

fn kill_self() -> ! {
    let _ = nix::sys::signal::kill(nix::unistd::Pid::this(), nix::sys::signal::Signal::SIGKILL);
    // SIGKILL cannot be missed, only late.
    loop {
        std::thread::park();
    }
}

/// A place in a procedure that is no disk operation, where a test may kill or stall the process.
pub fn point(name: &'static str) {
    match decide(name, false) {
        Some(Action::Kill) => kill_self(),
        Some(Action::Panic) => panic!("a test asked for this panic at {name}"),
        Some(Action::Stall) => std::thread::sleep(std::time::Duration::from_millis(50)),
        _ => {}
    }
}

/// What [`check`] tells a write to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Go {
    /// All of it.
    On,
    /// Half of it, then fail with `ENOSPC`.
    Half,
}

/// Asks whether the named operation may go on.
pub fn check(name: &'static str) -> io::Result<Go> {
    let errno = match decide(name, true) {
        None => return Ok(Go::On),
        Some(Action::Short) => return Ok(Go::Half),
        Some(Action::Kill) => kill_self(),
        Some(Action::Panic) => panic!("a test asked for this panic at {name}"),
        Some(Action::Stall) => {
            std::thread::sleep(std::time::Duration::from_millis(50));
            return Ok(Go::On);
        }
        Some(Action::Eio) => nix::errno::Errno::EIO,
        Some(Action::Enospc) => nix::errno::Errno::ENOSPC,
        Some(Action::Exdev) => nix::errno::Errno::EXDEV,
        Some(Action::Eintr) => nix::errno::Errno::EINTR,
    };
    Err(io::Error::from_raw_os_error(errno as i32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_strikes_when_it_says() {
        let plan = Plan::parse("a.write=eio@2; b.*=enospc@2+").expect("a valid plan");
        let (struck, plan) = with_plan(plan, || {
            let a: Vec<bool> = (0..3).map(|_| check("a.write").is_err()).collect();
            let b: Vec<bool> = (0..3).map(|_| check("b.sync").is_err()).collect();
            (a, b)
        });
        assert_eq!(struck.0, [false, true, false]);
        assert_eq!(struck.1, [false, true, true]);
        assert_eq!(plan.met()["a.write"], 3);
    }

    #[test]
    fn a_wrong_plan_is_named() {
        assert!(Plan::parse("a=explode").unwrap_err().contains("explode"));
        assert!(Plan::parse("nonsense").unwrap_err().contains("nonsense"));
    }
}
