//! One connection's place: among strangers until a request on it was let in.

use crate::server::StrangerPlace;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;

/// Shared by a connection and its requests.
#[derive(Clone)]
pub struct Seat(Arc<Inner>);

struct Inner {
    stranger: Mutex<Option<StrangerPlace>>,
    asked: Notify,
}

impl std::fmt::Debug for Seat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Seat")
    }
}

impl Seat {
    pub(super) fn new(stranger: StrangerPlace) -> Seat {
        Seat(Arc::new(Inner {
            stranger: Mutex::new(Some(stranger)),
            asked: Notify::new(),
        }))
    }

    /// A request has come.
    pub(super) fn ask(&self) {
        self.0.asked.notify_one();
    }

    /// Completes once a request has come.
    pub(super) async fn asked(&self) {
        self.0.asked.notified().await;
    }

    /// A request was let in: nobody makes room of it any more.
    pub(super) fn is_known(&self) {
        let place = &self.0.stranger;
        place.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}
