//! The process itself: threads, limits, signals, and what a bug does.

use super::exit::{Exit, Failure};
use std::future::Future;
use std::io::Write as _;
use tokio::signal::unix::{SignalKind, signal};

/// Ends the process when any of its threads panics. A task that died alone would leave a server that looks well and
/// replicates nothing; after a restart everything is proven anew.
pub fn end_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        crate::node::abandon_application();
        report(info);
        say("this is a bug; the process ends so that nothing goes on half-alive");
        // The code that Rust itself uses for a panic of the main thread.
        std::process::exit(101);
    }));
}

/// A line to stderr, if it can be written: `eprintln!` would panic.
fn say(words: &str) {
    let _ = writeln!(std::io::stderr(), "walcast: {words}");
}

/// Runs a server's work.
pub(super) fn run_server<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    crate::sqlite::frugal_connections();
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = crate::server::limit_blocking(&mut builder)
        .worker_threads(2)
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
            say("a second signal: ending now");
            std::process::exit(Exit::Failed as i32);
        });
    })
}
