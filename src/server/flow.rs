//! What one call sends, and whether its client takes it.
//!
//! When a client opens its flow-control window no further, no status can reach it: it would have to pass the data that
//! waits. HTTP/2 has one word for that, RST_STREAM, and hyper says it when the call's task ends. So each call runs in a
//! task that can be ended from here.

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Status;

/// Pieces in which an answer is handed to HTTP/2: the size of a frame, so that a slow client shows that it is not a
/// stalled one several times in each message, and so that no more than two of them wait for it outside the source.
const PIECE: usize = 256 << 10;

tokio::task_local! {
    /// The flow of the call that this task serves.
    static FLOW: Arc<Flow>;
}

/// One call's way out.
pub(super) struct Flow {
    began: Instant,
    /// Milliseconds from `began` to when the last piece was handed out, plus one; 0: the next one was asked for.
    waiting: AtomicU64,
    cut: CancellationToken,
}

impl Flow {
    fn new() -> Arc<Flow> {
        Arc::new(Flow {
            began: Instant::now(),
            waiting: AtomicU64::new(0),
            cut: CancellationToken::new(),
        })
    }

    /// The flow of the call that is being served here.
    pub(super) fn current() -> Option<Arc<Flow>> {
        FLOW.try_with(Arc::clone).ok()
    }

    fn handed_out(&self) {
        let since = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
        self.waiting.store(since + 1, Ordering::Relaxed);
    }

    fn asked_for(&self) {
        self.waiting.store(0, Ordering::Relaxed);
    }

    /// For how long a piece waits to be taken; zero if none does.
    pub(super) fn stalled_for(&self) -> Duration {
        match self.waiting.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            since => self
                .began
                .elapsed()
                .saturating_sub(Duration::from_millis(since - 1)),
        }
    }

    /// Ends the call: its client is told CANCEL.
    pub(super) fn cut(&self) {
        self.cut.cancel();
    }
}

/// Runs each call of a connection in a task that its flow can end.
#[derive(Clone)]
pub(super) struct CallTasks(pub(super) TaskTracker);

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for CallTasks {
    fn execute(&self, call: F) {
        let flow = Flow::new();
        let cut = flow.cut.clone();
        self.0.spawn(FLOW.scope(flow, async move {
            tokio::select! {
                biased;
                () = cut.cancelled() => {}
                () = call => {}
            }
        }));
    }
}

/// An answer on its way out. `T` lives as long as it does.
pub(super) struct Outflow<T> {
    body: tonic::body::Body,
    rest: Option<Bytes>,
    flow: Option<Arc<Flow>>,
    _held: T,
}

impl<T> Outflow<T> {
    pub(super) fn new(body: tonic::body::Body, flow: Option<Arc<Flow>>, held: T) -> Outflow<T> {
        Outflow {
            body,
            rest: None,
            flow,
            _held: held,
        }
    }
}

impl<T: Unpin> Body for Outflow<T> {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if let Some(flow) = &self.flow {
            flow.asked_for();
        }
        let mut data = match self.rest.take() {
            Some(rest) => rest,
            None => match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                end => return Poll::Ready(end),
            },
        };
        if data.len() > PIECE {
            self.rest = Some(data.split_off(PIECE));
        }
        if let Some(flow) = &self.flow {
            flow.handed_out();
        }
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        match self.rest {
            None => self.body.size_hint(),
            Some(_) => SizeHint::new(),
        }
    }
}
