//! `/events`: everything once, then each second what changed, as server-sent events.

use super::sampler::Sampler;
use super::told::{Told, Viewer};
use crate::server::{Source, outgoing};
use axum::response::sse::{Event, KeepAlive, Sse};
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
    viewer: Viewer,
    end: CancellationToken,
    _place: OwnedSemaphorePermit,
}

impl Page {
    fn everything(&mut self) -> Option<Event> {
        let (full, ticks) = self.sampler.subscribe(&self.viewer)?;
        self.ticks = Some(ticks);
        Some(Event::default().event("full").retry(RETRY).data(full))
    }

    async fn next(&mut self) -> Option<Event> {
        let Some(ticks) = &mut self.ticks else {
            return self.everything();
        };
        let tick = tokio::select! {
            () = self.end.cancelled() => return None,
            tick = ticks.recv() => tick,
        };
        match tick {
            // Without one, a database has come that this client may not see: it asks again, and is told why it may not.
            Ok(tick) => Some(Event::default().event("tick").data(tick.to(&self.viewer)?)),
            // A page that reads slowly costs no memory: it gets the present instead of the past.
            Err(RecvError::Lagged(_)) => self.everything(),
            Err(RecvError::Closed) => None,
        }
    }
}

/// The events of one page, until `end`. The place is given back when the browser leaves.
pub fn stream(
    sampler: Arc<Sampler>,
    viewer: Viewer,
    place: OwnedSemaphorePermit,
    end: CancellationToken,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let page = Page {
        sampler,
        ticks: None,
        viewer,
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
