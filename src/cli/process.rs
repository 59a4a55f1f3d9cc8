//! The process itself: threads, limits, signals, and what a bug does.

use super::exit::{Exit, Failure};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::future::Future;
use tokio::signal::unix::{SignalKind, signal};

/// Ends the process when any of its threads panics. A task that died alone would leave a server that looks well and
/// replicates nothing; after a restart everything is proven anew.
pub fn end_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        report(info);
        eprintln!("walcast: this is a bug; the process ends so that nothing goes on half-alive");
        crate::node::abandon_application();
        // The code that Rust itself uses for a panic of the main thread.
        std::process::exit(101);
    }));
}

/// Raises the limit on open files to what the system allows: a server has several for each database and each replica.
pub fn allow_many_files() {
    // Not being allowed to is no reason not to run: the old limit may do.
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
    {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// Threads that wait for the disk at one time. They exist only while there is work: one for each database is enough, and
/// a limit that is reached would let a disk that hangs hold up databases on another one.
const BLOCKING_THREADS: usize = 16 * 1024;

/// Runs a server's work.
pub(super) fn run_server<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_name("walcast-io")
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Failed, format!("start threads: {error}")))?;
    let result = runtime.block_on(work);
    // What is not closed by now, after a second signal, is left as a kill would leave it.
    runtime.shutdown_background();
    result
}

/// Runs a small command's work.
pub(super) fn run_client<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Failed, format!("start: {error}")))?
        .block_on(work)
}

/// Runs work that a signal ends in order, so that what it has on disk is cleaned up.
pub(super) async fn interruptible<T>(
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let stop = shutdown()?;
    tokio::select! {
        result = work => result,
        () = stop => Err(Failure::new(Exit::Failed, "interrupted; nothing is left of it")),
    }
}

/// Listens for SIGTERM and Ctrl-C from now on, for a command; the future completes at the first. The second ends the process
/// at once.
pub(super) fn shutdown() -> Result<impl Future<Output = ()>, Failure> {
    let fail = |error| Failure::new(Exit::Failed, format!("listen for signals: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(fail)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(fail)?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            eprintln!("walcast: a second signal: ending now");
            std::process::exit(Exit::Failed as i32);
        });
    })
}
