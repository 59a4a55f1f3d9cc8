//! The process that is called: it keeps the real harness in a process group of its own, so that Ctrl-C reaches that one
//! alone and not the databases' processes, and leaves nothing running, however the harness ends.

use anyhow::Context as _;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Command, ExitCode};
use tokio::signal::unix::{SignalKind, signal};

const INSIDE: &str = "WALCAST_SOAK_INSIDE";

/// True in the harness itself. It is then told (SIGTERM) when the keeper dies.
pub fn is_inside() -> anyhow::Result<bool> {
    let inside = std::env::var_os(INSIDE).is_some();
    if inside {
        set_pdeathsig(Signal::SIGTERM)?;
    }
    Ok(inside)
}

/// Runs this program again as the harness, and gives its exit code.
pub fn keep(runtime: &tokio::runtime::Runtime) -> anyhow::Result<ExitCode> {
    let mut harness = Command::new(std::env::current_exe()?)
        .args(std::env::args_os().skip(1))
        .env(INSIDE, "1")
        .process_group(0)
        .spawn()
        .context("start the harness")?;
    let group = Pid::from_raw(i32::try_from(harness.id())?);
    let _entered = runtime.enter();
    for kind in [SignalKind::interrupt(), SignalKind::terminate()] {
        let mut told = signal(kind)?;
        runtime.spawn(async move {
            while told.recv().await.is_some() {
                let _ended_already = kill(group, Signal::SIGTERM);
            }
        });
    }
    let status = harness.wait()?;
    // Only members that outlived their leader are left in the group, or none.
    let _nobody = killpg(group, Signal::SIGKILL);
    if let Some(signal) = status.signal() {
        eprintln!("the harness was ended by signal {signal}");
    }
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(ExitCode::from(code.unwrap_or(1)))
}
