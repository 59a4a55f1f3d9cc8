//! What the primary is told of this replica.

use super::shared::Shared;
use crate::client::Upstream;
use crate::model::Progress;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Progress is reported at most this often.
const REPORT_INTERVAL: Duration = Duration::from_millis(50);

/// Tells the primary how far this replica is, until the session ends. Losing it costs only the primary's view.
pub(super) async fn report(
    shared: Arc<Shared>,
    upstream: Upstream,
    session: CancellationToken,
    (replica_id, session_id): (String, String),
) {
    let (sender, receiver) = mpsc::channel(4);
    let mut applied = shared.watch();
    let feed = async {
        let (mut told, mut before) = (None, 0);
        loop {
            applied.borrow_and_update();
            let progress = shared.progress(&replica_id, &session_id);
            let Progress {
                received,
                applied: visible,
                durable,
                ..
            } = progress;
            let bytes = shared.bytes();
            let flows = std::mem::replace(&mut before, bytes) != bytes;
            let news = Some((received, visible, durable, bytes));
            if told != news {
                told = news;
                if sender.send(progress).await.is_err() {
                    return;
                }
            }
            tokio::time::sleep(REPORT_INTERVAL).await;
            // What becomes durable is told by nobody; it is soon after it became visible. And while bytes come in, the
            // primary hears of us each second: over a slow way the answer to its ping would stand behind all of them.
            let patience = match visible == durable && !flows {
                true => Duration::from_secs(5),
                false => Duration::from_secs(1),
            };
            // Over: something may have become durable.
            if let Ok(Err(_)) = tokio::time::timeout(patience, applied.changed()).await {
                return;
            }
        }
    };
    tokio::select! {
        biased;
        () = session.cancelled() => {}
        () = feed => {}
        result = upstream.report(receiver) => if let Err(error) = result {
            tracing::debug!(database = %shared.config.name, "progress is not reported: {error}");
        }
    }
}
