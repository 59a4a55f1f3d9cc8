//! The queue without a database: who works on it, and when nobody has to.

use crate::model::Message;
use crate::replica::Command;
use crate::replica::queue::Queue;
use crate::replica::worker::{AtOnce, Next, Work};
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Waker};
use std::time::Duration;

struct Counts(Arc<AtomicUsize>);

impl Work for Counts {
    fn command(&mut self, _: Command) -> Next {
        self.0.fetch_add(1, SeqCst);
        Next::More
    }

    fn at_once(&mut self, message: Message) -> AtOnce {
        AtOnce::Later(message)
    }
}

type Threads = Arc<Mutex<Vec<Box<dyn FnOnce() + Send>>>>;

/// Runs what a thread was asked for; fails if it does not come to an end.
fn run(threads: &Threads) {
    let work = threads
        .lock()
        .expect("the lock")
        .pop()
        .expect("a thread was asked for");
    let (done, wait) = mpsc::channel();
    std::thread::spawn(move || {
        work();
        done.send(()).expect("somebody waits");
    });
    wait.recv_timeout(Duration::from_secs(20))
        .expect("it waits, busily, for what nobody has queued");
}

#[test]
fn a_place_that_is_only_promised_is_not_waited_for() {
    let (count, threads) = (Arc::new(AtomicUsize::new(0)), Threads::default());
    let asked = threads.clone();
    let run_work = move |work| asked.lock().expect("the lock").push(work);
    let queue = Queue::new(Box::new(Counts(count.clone())), Box::new(run_work));
    let mut context = Context::from_waker(Waker::noop());
    let tick = || Command::Tick { idle: false };
    let mut sent = 0;
    let mut late = loop {
        let mut sending = Box::pin(queue.send(tick()));
        if sending.as_mut().poll(&mut context).is_pending() {
            break sending;
        }
        sent += 1;
    };
    // The queue is full, and somebody waits for a place, who gets it now, and cannot use it before it runs.
    run(&threads);
    assert_eq!(count.load(SeqCst), sent);
    assert!(pin!(&mut late).poll(&mut context).is_ready());
    run(&threads);
    assert_eq!(count.load(SeqCst), sent + 1);
}
