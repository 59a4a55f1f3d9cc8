//! Slow work for the disk, one piece after the other, on a thread that is there only while there is some: a process has
//! hundreds of databases, and most of them are quiet.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tokio::task::JoinHandle;

/// Runs what a thread would.
pub type Runner = fn(Box<dyn FnOnce() + Send>);

static RUNNER: OnceLock<Runner> = OnceLock::new();

/// For a simulation, which has no threads: from now on there is one runner for all errands of the process. It may run them
/// later; who has to wait for them runs them itself. What [`aside`] takes runs in a task.
#[doc(hidden)]
pub fn simulate(runner: Runner) {
    let _ = RUNNER.set(runner);
}

/// Work that may block, away from the task that waits for it. Called in a tokio runtime.
pub fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    match RUNNER.get() {
        None => tokio::task::spawn_blocking(work),
        Some(_) => tokio::spawn(async move { work() }),
    }
}

/// A thread without work stays this long: a database that is written to has work about once a second.
const LINGER: Duration = Duration::from_secs(3);

type Work<J> = Box<dyn FnMut(J) + Send>;

/// A queue and its thread. Dropping it waits for the work in the queue, and then drops what does the work.
pub struct Errands<J: Send + 'static> {
    inner: Arc<Inner<J>>,
}

struct Inner<J> {
    name: String,
    limit: usize,
    state: Mutex<State<J>>,
    changed: Condvar,
}

struct State<J> {
    queue: VecDeque<J>,
    /// `None` while a thread has it.
    work: Option<Work<J>>,
    /// True while a piece that was taken from the queue is not done.
    busy: bool,
    ending: bool,
}

impl<J: Send + 'static> Errands<J> {
    /// `name` is the thread's; at most `limit` pieces wait.
    pub fn new(name: String, limit: usize, work: impl FnMut(J) + Send + 'static) -> Errands<J> {
        Errands {
            inner: Arc::new(Inner {
                name,
                limit,
                state: Mutex::new(State {
                    queue: VecDeque::new(),
                    work: Some(Box::new(work)),
                    busy: false,
                    ending: false,
                }),
                changed: Condvar::new(),
            }),
        }
    }

    /// Hands a piece over without waiting; gives it back if too many wait.
    pub fn offer(&self, job: J) -> Option<J> {
        let mut state = self.inner.lock();
        if state.queue.len() >= self.inner.limit {
            return Some(job);
        }
        state.queue.push_back(job);
        self.inner.begin(state);
        None
    }

    /// Hands a piece over, and waits for room.
    pub fn give(&self, job: J) {
        let inner = &self.inner;
        let full = |state: &mut State<J>| state.queue.len() >= inner.limit;
        if RUNNER.get().is_some() && full(&mut inner.lock()) {
            inner.run_here();
        }
        let state = inner.lock();
        let mut state = inner
            .changed
            .wait_while(state, full)
            .unwrap_or_else(PoisonError::into_inner);
        state.queue.push_back(job);
        inner.begin(state);
    }

    /// Waits until all that was handed over is done.
    pub fn settle(&self) {
        let inner = &self.inner;
        if RUNNER.get().is_some() {
            return inner.run_here();
        }
        let mut state = inner.lock();
        while state.busy || !state.queue.is_empty() {
            if state.work.is_some() {
                // A panic has left it to the next one who comes.
                inner.begin(state);
                state = inner.lock();
                continue;
            }
            let waited = inner.changed.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl<J: Send + 'static> Drop for Errands<J> {
    fn drop(&mut self) {
        if RUNNER.get().is_some() {
            self.inner.run_here();
        }
        let mut state = self.inner.lock();
        state.ending = true;
        self.inner.changed.notify_all();
        let at_work = |state: &mut State<J>| state.work.is_none();
        let mut state = self
            .inner
            .changed
            .wait_while(state, at_work)
            .unwrap_or_else(PoisonError::into_inner);
        let work = state.work.take();
        drop(state);
        // Here and not with the last handle to it: files and connections are closed when this returns.
        drop(work);
    }
}

impl<J: Send + 'static> Inner<J> {
    fn lock(&self) -> MutexGuard<'_, State<J>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sees to it that somebody does what is queued.
    fn begin(self: &Arc<Self>, mut state: MutexGuard<'_, State<J>>) {
        if let Some(runner) = RUNNER.get() {
            drop(state);
            let inner = self.clone();
            return runner(Box::new(move || inner.run_here()));
        }
        let Some(work) = state.work.take() else {
            drop(state);
            self.changed.notify_all();
            return;
        };
        drop(state);
        let held = Held {
            inner: self.clone(),
            work: Some(work),
        };
        let thread = std::thread::Builder::new().name(self.name.clone());
        // The closure, and with it the work, comes back through `Held` if there is no thread to be had.
        if thread.spawn(move || held.run(LINGER)).is_err() {
            self.run_here();
        }
    }

    /// Does in the calling thread what is queued. Without the work somebody else is at it.
    fn run_here(self: &Arc<Self>) {
        let work = self.lock().work.take();
        if work.is_some() {
            let inner = self.clone();
            Held { inner, work }.run(Duration::ZERO);
        }
    }
}

/// What does the work, while a thread has it. It goes back however the thread ends: a panic is reported elsewhere, and
/// nobody shall wait for ever because of it.
struct Held<J: Send + 'static> {
    inner: Arc<Inner<J>>,
    work: Option<Work<J>>,
}

impl<J: Send + 'static> Held<J> {
    fn run(mut self, linger: Duration) {
        let inner = self.inner.clone();
        let mut state = inner.lock();
        loop {
            if let Some(job) = state.queue.pop_front() {
                state.busy = true;
                drop(state);
                inner.changed.notify_all();
                if let Some(work) = &mut self.work {
                    work(job);
                }
                state = inner.lock();
                state.busy = false;
                if state.queue.is_empty() {
                    inner.changed.notify_all();
                }
                continue;
            }
            let idle = |state: &mut State<J>| state.queue.is_empty() && !state.ending;
            let waited = inner.changed.wait_timeout_while(state, linger, idle);
            let (now, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
            state = now;
            if state.queue.is_empty() && (timeout.timed_out() || state.ending) {
                // Under the lock: who queues something after this finds the work here.
                state.work = self.work.take();
                drop(state);
                inner.changed.notify_all();
                return;
            }
        }
    }
}

impl<J: Send + 'static> Drop for Held<J> {
    fn drop(&mut self) {
        if let Some(work) = self.work.take() {
            let mut state = self.inner.lock();
            state.work = Some(work);
            state.busy = false;
            drop(state);
            self.inner.changed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn all_is_done_in_order_before_the_drop_returns() {
        let (sender, done) = channel();
        let errands = Errands::new("errands".into(), 4, move |job: u32| {
            sender.send(job).expect("a receiver");
        });
        for job in 0..100 {
            errands.give(job);
        }
        drop(errands);
        assert_eq!(
            done.iter().collect::<Vec<_>>(),
            (0..100).collect::<Vec<_>>()
        );
    }

    #[test]
    fn who_waits_for_all_finds_all_done() {
        let (sender, done) = channel();
        let errands = Errands::new("errands".into(), 4, move |job: u32| {
            std::thread::sleep(Duration::from_millis(5));
            sender.send(job).expect("a receiver");
        });
        errands.settle();
        for round in 0..3 {
            for job in 0..3 {
                errands.give(job);
            }
            errands.settle();
            assert_eq!(done.try_iter().count(), 3, "round {round}");
        }
    }

    #[test]
    fn nobody_waits_for_what_a_panic_left() {
        let (sender, done) = channel();
        let errands = Errands::new("errands".into(), 4, move |job: u32| {
            assert_ne!(job, 0, "a bug");
            sender.send(job).expect("a receiver");
        });
        for job in 0..3 {
            errands.give(job);
        }
        errands.settle();
        errands.settle();
        assert_eq!(done.try_iter().collect::<Vec<_>>(), [1, 2]);
    }

    #[test]
    fn what_finds_the_queue_full_comes_back() {
        let (go, wait) = channel::<()>();
        let errands = Errands::new("errands".into(), 1, move |_: u32| {
            wait.recv().expect("a sender");
        });
        errands.give(1);
        // Has its place once the first is under way.
        errands.give(2);
        assert_eq!(errands.offer(3), Some(3));
        for _ in 0..2 {
            go.send(()).expect("a receiver");
        }
    }

    #[test]
    fn a_thread_that_ended_is_followed_by_another() {
        let (sender, done) = channel();
        let errands = Errands::new("errands".into(), 4, move |job: u32| {
            sender.send(job).expect("a receiver");
        });
        errands.give(1);
        assert_eq!(done.recv(), Ok(1));
        // As its time without work ends.
        let work = loop {
            let mut state = errands.inner.lock();
            state.ending = true;
            errands.inner.changed.notify_all();
            if let Some(work) = state.work.take() {
                state.ending = false;
                break work;
            }
            drop(state);
            std::thread::yield_now();
        };
        errands.inner.lock().work = Some(work);
        errands.give(2);
        assert_eq!(done.recv(), Ok(2));
    }
}
