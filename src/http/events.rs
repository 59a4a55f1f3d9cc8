//! `/events`: everything once, then each second what changed, as server-sent events.

use super::sampler::{Sampler, Told};
use crate::server::{Source, outgoing};
use axum::response::sse::{Event, KeepAlive, Sse};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;

/// What a browser waits before it connects anew.
const RETRY: Duration = Duration::from_secs(2);

/// One page that is open.
struct Page {
    sampler: Arc<Sampler>,
    ticks: Option<Receiver<Arc<Told>>>,
    out: VecDeque<Event>,
    may_see: Box<dyn Fn(&str) -> bool + Send + Sync>,
    end: CancellationToken,
    _place: OwnedSemaphorePermit,
}

impl Page {
    fn everything(&mut self) {
        let (full, ticks) = self.sampler.subscribe();
        self.ticks = Some(ticks);
        let event = Event::default().event("full").retry(RETRY).data(full);
        self.out.push_back(event);
    }

    async fn next(&mut self) -> Option<Event> {
        if let Some(event) = self.out.pop_front() {
            return Some(event);
        }
        let Some(ticks) = &mut self.ticks else {
            self.everything();
            return self.out.pop_front();
        };
        let tick = tokio::select! {
            () = self.end.cancelled() => return None,
            tick = ticks.recv() => tick,
        };
        match tick {
            // A database has come that this client may not see: it asks again, and is told why it may not.
            Ok(tick) if !tick.names.iter().all(|name| (self.may_see)(name)) => None,
            Ok(tick) => Some(Event::default().event("tick").data(&tick.json)),
            // A page that reads slowly costs no memory: it gets the present instead of the past.
            Err(RecvError::Lagged(_)) => {
                self.everything();
                self.out.pop_front()
            }
            Err(RecvError::Closed) => None,
        }
    }
}

/// The events of one page, until `end`. The place is given back when the browser leaves.
pub fn stream(
    sampler: Arc<Sampler>,
    may_see: impl Fn(&str) -> bool + Send + Sync + 'static,
    place: OwnedSemaphorePermit,
    end: CancellationToken,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let page = Page {
        sampler,
        ticks: None,
        out: VecDeque::new(),
        may_see: Box::new(may_see),
        end,
        _place: place,
    };
    Sse::new(outgoing(page)).keep_alive(KeepAlive::default())
}

impl Source for Page {
    type Item = Result<Event, Infallible>;

    async fn next(&mut self) -> Option<Self::Item> {
        Page::next(self).await.map(Ok)
    }
}
