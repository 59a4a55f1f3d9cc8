//! The limit on open files: raised for us, and as it was for whom we start.

use nix::sys::resource::{Resource, getrlimit, rlim_t, setrlimit};
use std::sync::OnceLock;
use tokio::process::Command;

/// The limits before ours was raised: soft and hard.
static BEFORE: OnceLock<(rlim_t, rlim_t)> = OnceLock::new();

/// Raises the limit on open files to what the system allows: a server has several for each database and each replica.
pub fn allow_many_files() {
    // Not being allowed to is no reason not to run: the old limit may do.
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
        && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok()
    {
        // Once is enough: later calls find it raised.
        let _ = BEFORE.set((soft, hard));
    }
}

/// Starts this command with the limit that we were started with. A program may close all descriptors up to its limit, or
/// use `select`, which knows 1,024.
pub fn with_limit_as_it_was(command: &mut Command) -> &mut Command {
    let Some((soft, hard)) = BEFORE.get().copied() else {
        return command;
    };
    let lower = move || setrlimit(Resource::RLIMIT_NOFILE, soft, hard).map_err(Into::into);
    // SAFETY: between fork and exec of a process with threads only async-signal-safe functions may be called, and nothing
    // allocated. This is one system call, with numbers that were copied before; turning its error number into an
    // `io::Error` allocates nothing.
    unsafe { command.pre_exec(lower) }
}
