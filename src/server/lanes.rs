//! The threads that connections live on.
//!
//! Each has a scheduler of its own, and a connection stays on one with all of its calls. The way of a commit from the
//! capture thread to the network is then one wake-up: a scheduler that shares its tasks between threads wakes a second
//! one to look for more, twice on the way of each commit, and on a small machine that takes the processor from whoever
//! is to apply it.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::runtime::{Builder, Handle};
use tokio_util::sync::{CancellationToken, DropGuard};

/// A thread moves gigabytes each second, encrypted as well; more are of use only to many replicas that catch up at once.
const MOST: usize = 4;
/// Threads that wait for the disk at one time. They exist only while there is work: one for each database is enough, and
/// a limit that is reached would let a disk that hangs hold up databases on another one.
const BLOCKING_THREADS: usize = 16 * 1024;
/// A thread without work goes after this. Work comes to all of them in turn: were it longer, the looks around of hundreds of
/// quiet databases would keep as many threads.
const BLOCKING_LINGER: Duration = Duration::from_millis(100);

/// A runtime's limits on threads for the disk, the same for all runtimes of a server.
pub fn limit_blocking(builder: &mut Builder) -> &mut Builder {
    builder
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_keep_alive(BLOCKING_LINGER)
}

/// The threads, until this is dropped.
pub(super) struct Lanes {
    handles: Vec<Handle>,
    next: AtomicUsize,
    _end: DropGuard,
}

impl Lanes {
    /// One for each processor, at most [`MOST`].
    pub(super) fn start() -> io::Result<Lanes> {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let end = CancellationToken::new();
        // What is started is ended if a later one cannot be.
        let guard = end.clone().drop_guard();
        let mut handles = Vec::new();
        for number in 1..=processors.clamp(1, MOST) {
            let mut builder = Builder::new_current_thread();
            let name = format!("walcast-net-{number}");
            let runtime = limit_blocking(&mut builder)
                .thread_name("walcast-disk")
                .enable_all()
                .build()?;
            handles.push(runtime.handle().clone());
            let end = end.clone();
            std::thread::Builder::new().name(name).spawn(move || {
                runtime.block_on(end.cancelled());
                // Whoever still waits for a disk that hangs is not waited for.
                runtime.shutdown_background();
            })?;
        }
        Ok(Lanes {
            handles,
            next: AtomicUsize::new(0),
            _end: guard,
        })
    }

    /// Where the next connection lives: in turn, for nobody knows which of them will be busy.
    pub(super) fn next(&self) -> &Handle {
        let number = self.next.fetch_add(1, Ordering::Relaxed) % self.handles.len();
        &self.handles[number]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread::ThreadId;

    async fn thread_of(handle: &Handle) -> ThreadId {
        let task = handle.spawn(async {
            // What a task begins stays with it.
            let own = std::thread::current().id();
            let child = tokio::spawn(async { std::thread::current().id() });
            assert_eq!(child.await.expect("ran"), own);
            own
        });
        task.await.expect("ran")
    }

    #[tokio::test]
    async fn connections_are_dealt_out_and_stay_where_they_are() {
        let lanes = Lanes::start().expect("threads");
        let count = lanes.handles.len();
        let mut first = Vec::new();
        for _ in 0..count {
            first.push(thread_of(lanes.next()).await);
        }
        let mut distinct = first.clone();
        distinct.dedup();
        assert_eq!(distinct.len(), count);
        for expected in first {
            assert_eq!(thread_of(lanes.next()).await, expected);
        }
    }

    #[tokio::test]
    async fn dropped_they_end_what_runs_on_them() {
        let lanes = Lanes::start().expect("threads");
        let (alive, ended) = tokio::sync::oneshot::channel::<()>();
        lanes.next().spawn(async move {
            let _alive = alive;
            std::future::pending::<()>().await;
        });
        drop(lanes);
        assert!(ended.await.is_err(), "the task's end drops what it holds");
    }
}
