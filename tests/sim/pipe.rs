//! One direction of one call: pieces in order, each with the time at which it arrives.

use crate::world::world;
use bytes::Bytes;
use http::HeaderMap;
use http::response::Parts;
use hyper::body::{Body, Frame};
use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use tokio::time::{Instant, Sleep};
use tonic::Status;

/// What travels.
pub enum Item {
    Head(Box<Parts>),
    Data(Bytes),
    Trailers(HeaderMap),
    End,
}

struct State {
    items: VecDeque<(Instant, Item)>,
    bytes: usize,
    last: Instant,
    /// Whoever reads has dropped its end.
    unread: bool,
    /// Nothing arrives any more.
    broken: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// The writing end; a clone writes to the same reader.
#[derive(Clone)]
pub struct Pipe {
    link: usize,
    window: usize,
    state: Arc<Mutex<State>>,
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

impl Pipe {
    /// Over a link; the sender stops when so many bytes are under way.
    pub fn new(link: usize, window: usize) -> Pipe {
        let state = State {
            items: VecDeque::new(),
            bytes: 0,
            last: Instant::now(),
            unread: false,
            broken: false,
            reader: None,
            writer: None,
        };
        Pipe {
            link,
            window,
            state: Arc::new(Mutex::new(state)),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic")
    }

    /// What is under way is lost, and the reader is told.
    pub fn sever(&self) {
        let mut state = self.state();
        state.broken = true;
        wake(&mut state.reader);
        wake(&mut state.writer);
    }

    /// Puts an item on its way once the window has room. False: nobody reads it any more.
    pub async fn send(&self, item: Item) -> bool {
        let room = poll_fn(|context| {
            let mut state = self.state();
            if state.unread {
                return Poll::Ready(false);
            }
            if state.bytes < self.window {
                return Poll::Ready(true);
            }
            state.writer = Some(context.waker().clone());
            Poll::Pending
        });
        if !room.await {
            return false;
        }
        let due = Instant::now() + world().net.latency(self.link);
        let mut state = self.state();
        // In order, as TCP has it.
        state.last = state.last.max(due);
        let last = state.last;
        if let Item::Data(data) = &item {
            state.bytes += data.len();
        }
        if !state.broken {
            state.items.push_back((last, item));
        }
        wake(&mut state.reader);
        true
    }

    fn poll(
        &self,
        context: &mut Context<'_>,
        timer: &mut Option<Pin<Box<Sleep>>>,
    ) -> Poll<io::Result<Item>> {
        loop {
            let mut state = self.state();
            if state.broken {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            state.reader = Some(context.waker().clone());
            if world().net.is_blocked(self.link, context) {
                return Poll::Pending;
            }
            let Some((due, _)) = state.items.front() else {
                return Poll::Pending;
            };
            if *due <= Instant::now() {
                *timer = None;
                let Some((_, item)) = state.items.pop_front() else {
                    continue;
                };
                if let Item::Data(data) = &item {
                    state.bytes -= data.len();
                    wake(&mut state.writer);
                }
                return Poll::Ready(Ok(item));
            }
            let due = *due;
            drop(state);
            let sleep = timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
            if sleep.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            *timer = None;
        }
    }

    /// The next item.
    pub async fn receive(&self) -> io::Result<Item> {
        let mut timer = None;
        poll_fn(|context| self.poll(context, &mut timer)).await
    }

    /// The rest as the body of a request or an answer. `counted`: for [`crate::net::Net::taken`].
    pub fn body(self, counted: bool) -> PipeBody {
        PipeBody {
            pipe: self,
            timer: None,
            over: false,
            counted,
        }
    }
}

/// The reading end.
pub struct PipeBody {
    pipe: Pipe,
    timer: Option<Pin<Box<Sleep>>>,
    over: bool,
    counted: bool,
}

impl Body for PipeBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.over {
            return Poll::Ready(None);
        }
        let this = &mut *self;
        let item = match this.pipe.poll(context, &mut this.timer) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(item) => item,
        };
        Poll::Ready(match item {
            Ok(Item::Data(data)) => {
                if this.counted {
                    world().net.took(this.pipe.link, data.len());
                }
                Some(Ok(Frame::data(data)))
            }
            Ok(Item::Trailers(trailers)) => Some(Ok(Frame::trailers(trailers))),
            Ok(Item::Head(_) | Item::End) => {
                this.over = true;
                None
            }
            Err(error) => {
                this.over = true;
                Some(Err(Status::from_error(Box::new(error))))
            }
        })
    }
}

impl Drop for PipeBody {
    fn drop(&mut self) {
        let mut state = self.pipe.state();
        state.unread = true;
        state.items.clear();
        wake(&mut state.writer);
    }
}
