//! From an `async fn next` to a stream that is polled in place: no task and no queue between a source and its connection,
//! so nothing is produced that the peer has no room for, and a commit takes no detour.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio_stream::Stream;
use tokio_util::sync::ReusableBoxFuture;

/// Something that gives items one after the other.
pub trait Source: Send + 'static {
    /// What it gives.
    type Item: Send + 'static;

    /// The next item; `None`: there are no more.
    fn next(&mut self) -> impl Future<Output = Option<Self::Item>> + Send;
}

/// A source as a stream.
pub fn outgoing<S: Source>(source: S) -> impl Stream<Item = S::Item> + Send + use<S> {
    Outgoing {
        step: Some(ReusableBoxFuture::new(step(source))),
    }
}

/// The box is reused, so a message costs no allocation here. `None` after the end.
struct Outgoing<S: Source> {
    step: Option<ReusableBoxFuture<'static, (Option<S::Item>, S)>>,
}

async fn step<S: Source>(mut source: S) -> (Option<S::Item>, S) {
    let item = source.next().await;
    (item, source)
}

impl<S: Source> Stream for Outgoing<S> {
    type Item = S::Item;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        let Some(future) = &mut self.step else {
            return Poll::Ready(None);
        };
        let (item, source) = ready!(future.poll(cx));
        match item {
            Some(_) => future.set(step(source)),
            None => self.step = None,
        }
        Poll::Ready(item)
    }
}
