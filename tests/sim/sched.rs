//! Who runs next: one thread, tasks in groups that can be killed, and the seed's choice among those that are ready.
//!
//! Time is tokio's, stopped: it goes on to the next timer when nobody can run. What the tested code gives to tokio as tasks
//! runs when none of ours can, in the order in which it came.

use crate::rng::Rng;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

/// Tasks that die together.
pub type Group = u64;

/// Nobody kills this one.
pub const WORLD: Group = 0;

/// A poll of one task that comes back ready this often without the time going on is a loop that waits for nothing.
const POLLS_IN_AN_INSTANT: u64 = 2_000_000;

type Work = Pin<Box<dyn Future<Output = ()>>>;

struct Task {
    work: Option<Work>,
    groups: [Group; 2],
}

#[derive(Default)]
struct Ready {
    tasks: Mutex<BTreeSet<u64>>,
    root: Mutex<Option<Waker>>,
}

struct TaskWaker {
    task: u64,
    ready: Arc<Ready>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.ready.tasks.lock().expect("no panic").insert(self.task);
        if let Some(root) = &*self.ready.root.lock().expect("no panic") {
            root.wake_by_ref();
        }
    }
}

/// The scheduler of one world.
pub struct Sched {
    tasks: RefCell<BTreeMap<u64, Task>>,
    ready: Arc<Ready>,
    next: Cell<u64>,
    rng: RefCell<Rng>,
    polls: Cell<u64>,
    /// Looks after each poll whether somebody who cannot be woken has work.
    after: RefCell<Vec<Box<dyn Fn()>>>,
}

thread_local! {
    static CURRENT: RefCell<Option<Rc<Sched>>> = const { RefCell::new(None) };
}

/// The scheduler of this thread.
pub fn current() -> Rc<Sched> {
    CURRENT.with(|current| current.borrow().clone().expect("a world"))
}

/// After a panic: what the tasks hold is in no state to be dropped.
pub fn abandon() {
    std::mem::forget(CURRENT.with(|current| current.borrow_mut().take()));
}

/// A new group.
pub fn group() -> Group {
    let sched = current();
    sched.next.set(sched.next.get() + 1);
    sched.next.get()
}

/// A task of one group.
pub fn spawn(group: Group, work: impl Future<Output = ()> + 'static) {
    current().add([group, group], Box::pin(work));
}

/// A task that dies with any of two groups.
pub fn spawn_in(groups: [Group; 2], work: impl Future<Output = ()> + 'static) {
    current().add(groups, Box::pin(work));
}

/// Ends all tasks of a group at once.
pub fn kill(group: Group) {
    current().kill(group);
}

/// Looks after each poll of any task.
pub fn after_each_poll(look: impl Fn() + 'static) {
    current().after.borrow_mut().push(Box::new(look));
}

/// Lets others run.
pub async fn yield_now() {
    let mut yielded = false;
    poll_fn(|context| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Waits.
pub async fn sleep_ms(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

impl Sched {
    fn add(&self, groups: [Group; 2], work: Work) {
        let id = self.next.get() + 1;
        self.next.set(id);
        let task = Task {
            work: Some(work),
            groups,
        };
        self.tasks.borrow_mut().insert(id, task);
        self.wake(id);
    }

    fn wake(&self, id: u64) {
        let (task, ready) = (id, self.ready.clone());
        Arc::new(TaskWaker { task, ready }).wake();
    }

    fn kill(&self, group: Group) {
        let mut dead = Vec::new();
        let mut tasks = self.tasks.borrow_mut();
        let ids: Vec<u64> = tasks.keys().copied().collect();
        for id in ids {
            if tasks[&id].groups.contains(&group) {
                dead.extend(tasks.remove(&id));
            }
        }
        // Dropped when nothing is borrowed: what they drop may spawn or wake.
        drop(tasks);
        drop(dead);
    }

    fn pick(&self) -> Option<u64> {
        let mut ready = self.ready.tasks.lock().expect("no panic");
        let nth = match ready.len() {
            0 => return None,
            1 => 0,
            many => self.rng.borrow_mut().below(many as u64) as usize,
        };
        let id = *ready.iter().nth(nth)?;
        ready.remove(&id);
        Some(id)
    }

    /// Polls one task. False if none is ready.
    fn step(&self) -> bool {
        let Some(id) = self.pick() else { return false };
        let mut tasks = self.tasks.borrow_mut();
        let Some(task) = tasks.get_mut(&id) else {
            return true;
        };
        let Some(mut work) = task.work.take() else {
            return true;
        };
        drop(tasks);
        self.polls.set(self.polls.get() + 1);
        let ready = self.ready.clone();
        let waker = Waker::from(Arc::new(TaskWaker { task: id, ready }));
        let polled = work.as_mut().poll(&mut Context::from_waker(&waker));
        let mut tasks = self.tasks.borrow_mut();
        match polled {
            Poll::Ready(()) => drop(tasks.remove(&id)),
            Poll::Pending => {
                if let Some(task) = tasks.get_mut(&id) {
                    task.work = Some(work);
                    work = Box::pin(std::future::ready(()));
                }
            }
        }
        drop(tasks);
        // What it was waiting for when it was killed.
        drop(work);
        for look in &*self.after.borrow() {
            look();
        }
        true
    }
}

/// Runs a world until `main` is through.
pub fn run<T: 'static>(seed: u64, main: impl Future<Output = T> + 'static) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    let sched = Rc::new(Sched {
        tasks: RefCell::default(),
        ready: Arc::default(),
        next: Cell::new(0),
        rng: RefCell::new(Rng::new(seed ^ 0x5c4e_d111)),
        polls: Cell::new(0),
        after: RefCell::default(),
    });
    CURRENT.with(|current| *current.borrow_mut() = Some(sched.clone()));
    let result: Rc<RefCell<Option<T>>> = Rc::default();
    let slot = result.clone();
    let answer = runtime.block_on(async move {
        spawn(WORLD, async move {
            let value = main.await;
            *slot.borrow_mut() = Some(value);
        });
        // Tokio's budget for one poll is no matter of the world's.
        tokio::task::unconstrained(poll_fn(|context| {
            *sched.ready.root.lock().expect("no panic") = Some(context.waker().clone());
            let began = sched.polls.get();
            while sched.step() {
                if let Some(value) = result.borrow_mut().take() {
                    return Poll::Ready(value);
                }
                let polls = sched.polls.get() - began;
                assert!(polls < POLLS_IN_AN_INSTANT, "time stands still");
            }
            Poll::Pending
        }))
        .await
    });
    let sched = current();
    let rest = std::mem::take(&mut *sched.tasks.borrow_mut());
    {
        let _inside = runtime.enter();
        drop(rest);
    }
    sched.after.borrow_mut().clear();
    drop(sched);
    drop(runtime);
    CURRENT.with(|current| *current.borrow_mut() = None);
    answer
}
