//! A replica's copy as a stream of messages.

use super::errors::{Reason, Refusal};
use super::outgoing::Source;
use crate::format::lz4;
use crate::model::{Codec, CopyBegin, CopyMessage, CopyRequest, MAX_CHUNK, SnapshotPages};
use crate::replica::{CopyError, CopyView};
use bytes::Bytes;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// A caller that takes nothing for longer is cut off: the state that is held for it keeps the replica's log from beginning
/// anew.
const STALLED: Duration = Duration::from_secs(60);
/// A message is packed only if that saves a tenth.
const WORTH: f64 = 0.9;

/// The copy with its place. The view is taken out while it is read, and for good once the caller has stalled.
pub(super) struct CopySource {
    request: CopyRequest,
    begin: CopyBegin,
    next_page: Option<u32>,
    held: Arc<Held>,
    over: bool,
}

struct Held {
    view: Mutex<Option<Box<CopyView>>>,
    last_pull: Mutex<Instant>,
}

impl CopySource {
    pub(super) fn new(view: CopyView, request: CopyRequest) -> CopySource {
        let point = view.point();
        let held = Arc::new(Held {
            view: Mutex::new(Some(Box::new(view))),
            last_pull: Mutex::new(Instant::now()),
        });
        tokio::spawn(let_go_if_stalled(Arc::downgrade(&held)));
        CopySource {
            request,
            begin: CopyBegin {
                position: point.position,
                dbsum: point.dbsum,
                page_count: point.page_count,
                page_size: point.page_size,
            },
            next_page: None,
            held,
            over: false,
        }
    }

    fn refusal(&self, reason: Reason, message: String) -> Refusal {
        Refusal::new(reason, message).about(&self.request.database)
    }

    async fn step(&mut self, first: u32) -> Result<CopyMessage, Refusal> {
        let (held, request, begin) = (self.held.clone(), self.request.clone(), self.begin);
        let read = tokio::task::spawn_blocking(move || {
            // Out of the lock while it reads: whoever looks for stalled calls does not wait for the disk.
            let taken = lock(&held.view).take();
            let mut view = taken?;
            let message = read(&mut view, &request, begin, first);
            *lock(&held.view) = Some(view);
            Some(message)
        });
        match read.await {
            Ok(Some(Ok((message, next)))) => {
                self.next_page = Some(next);
                Ok(message)
            }
            Ok(Some(Err(error))) => Err(self.refusal(Reason::DiskFailed, error.to_string())),
            Ok(None) => {
                let message = format!("nothing was taken for {} s", STALLED.as_secs());
                Err(self.refusal(Reason::TooSlow, message))
            }
            Err(error) => Err(self.refusal(Reason::Internal, error.to_string())),
        }
    }
}

impl Source for CopySource {
    type Item = Result<CopyMessage, Refusal>;

    async fn next(&mut self) -> Option<Self::Item> {
        *lock(&self.held.last_pull) = Instant::now();
        if self.over {
            return None;
        }
        let Some(first) = self.next_page else {
            self.next_page = Some(1);
            return Some(Ok(CopyMessage::Begin(self.begin)));
        };
        if first > self.begin.page_count {
            self.over = true;
            return None;
        }
        let message = self.step(first).await;
        self.over = message.is_err();
        Some(message)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // What is behind it is replaced whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The next message from page `first` on, and the page after it.
fn read(
    view: &mut CopyView,
    request: &CopyRequest,
    begin: CopyBegin,
    first: u32,
) -> Result<(CopyMessage, u32), CopyError> {
    let left = begin.page_count - first + 1;
    let count = left.min(MAX_CHUNK as u32 / begin.page_size);
    let message = if request.hashes_only {
        CopyMessage::Hashes {
            first_page: first,
            hashes: view.hashes(first, count)?,
        }
    } else {
        let mut data = vec![0; (count * begin.page_size) as usize];
        view.read(first, &mut data)?;
        CopyMessage::Pages(pack(first, data, request.lz4))
    };
    Ok((message, first.saturating_add(count)))
}

fn pack(first_page: u32, data: Vec<u8>, lz4: bool) -> SnapshotPages {
    let size = data.len() as u32;
    let mut packed = Vec::new();
    let worth = lz4
        && lz4::compress(&data, &mut packed).is_ok()
        && (packed.len() as f64) < f64::from(size) * WORTH;
    let (codec, data) = match worth {
        true => (Codec::Lz4, packed),
        false => (Codec::None, data),
    };
    SnapshotPages {
        first_page,
        codec,
        size,
        data: Bytes::from(data),
    }
}

/// Ends by itself when the call does.
async fn let_go_if_stalled(held: std::sync::Weak<Held>) {
    loop {
        let Some(last) = held.upgrade().map(|held| *lock(&held.last_pull)) else {
            return;
        };
        if last.elapsed() >= STALLED
            && let Some(held) = held.upgrade()
        {
            lock(&held.view).take();
        }
        tokio::time::sleep_until((last + STALLED).max(Instant::now() + STALLED / 10)).await;
    }
}
