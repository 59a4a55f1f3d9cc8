//! What is measured, and on what.

use std::path::PathBuf;
use std::process::Command;

/// The walcast that is measured, of the same build as this.
pub fn program() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_walcast"))
}

/// What figures depend on. A load of much more than 0 at the start means that others used the processors.
pub fn conditions(quick: bool, runs: usize) -> Vec<(&'static str, String)> {
    let said = |program: &str, args: &[&str]| {
        let output = Command::new(program).args(args).output().ok()?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    let version = said("git", &["describe", "--always", "--dirty"]).unwrap_or_default();
    let length = if quick { "quick" } else { "full" };
    vec![
        ("revision", version),
        ("system", said("uname", &["-srm"]).unwrap_or_default()),
        ("processors", processors.to_string()),
        (
            "load when it began",
            load.split(' ').next().unwrap_or_default().to_owned(),
        ),
        ("runs", format!("{runs}, {length}")),
    ]
}
