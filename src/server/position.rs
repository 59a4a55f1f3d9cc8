//! `PositionService`: how far a server is.

use super::database::{Database, Served};
use super::errors::{Reason, Refusal, draining};
use super::guard::Admitted;
use super::outgoing::{Source, outgoing};
use super::registry::Entry;
use super::shared::{Shared, Slot};
use crate::format::position::Position;
use crate::model::Point;
use crate::wire::{parse_position, pb};
use pb::position_service_server::PositionService;
use std::cmp::Ordering;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

/// How long `WaitForPosition` waits if nobody says.
const DEFAULT_WAIT: Duration = Duration::from_secs(30);
/// How long it waits at most.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

pub(super) struct Positions(pub(super) Arc<Shared>);

type Responses = Pin<Box<dyn Stream<Item = Result<pb::WatchPositionResponse, Status>> + Send>>;

#[tonic::async_trait]
impl PositionService for Positions {
    async fn get_position(
        &self,
        request: Request<pb::GetPositionRequest>,
    ) -> Result<Response<pb::GetPositionResponse>, Status> {
        let by = Admitted::of(&request)?;
        let entry = self.0.find(&by, &request.into_inner().database)?;
        let point = match entry.served {
            Served::Primary(primary) => Some(primary.fence().await?),
            Served::Replica(replica) => *replica.watch().borrow(),
        };
        let response = point.map(|point| pb::GetPositionResponse {
            position: point.position.to_string(),
            database_checksum: point.dbsum.0,
            page_count: point.page_count,
            page_size: point.page_size,
        });
        Ok(Response::new(response.unwrap_or_default()))
    }

    type WatchPositionStream = Responses;

    async fn watch_position(
        &self,
        request: Request<pb::WatchPositionRequest>,
    ) -> Result<Response<Responses>, Status> {
        let by = Admitted::of(&request)?;
        let entry = self.0.find(&by, &request.into_inner().database)?;
        let slot = self.0.wait_slot(&by)?;
        let mut points = entry.served.database().watch();
        // What is there is the first item.
        points.mark_changed();
        let source = WatchSource {
            entry,
            points,
            draining: self.0.draining.clone(),
            sent: None,
            over: false,
            _slot: slot,
        };
        Ok(Response::new(Box::pin(outgoing(source))))
    }

    async fn wait_for_position(
        &self,
        request: Request<pb::WaitForPositionRequest>,
    ) -> Result<Response<pb::WaitForPositionResponse>, Status> {
        let by = Admitted::of(&request)?;
        let request = request.into_inner();
        let entry = self.0.find(&by, &request.database)?;
        let wanted = parse_position("position", &request.position).map_err(Refusal::from)?;
        let limit = wait_limit(request.max_wait)?;
        let _slot = self.0.wait_slot(&by)?;
        let mut points = entry.served.database().watch();
        let reached = tokio::select! {
            biased;
            () = entry.removed.cancelled() => return Err(entry.refusal().into()),
            result = reach(entry.served.database(), &mut points, wanted) => result.map(|()| true)?,
            () = tokio::time::sleep(limit) => false,
            () = self.0.draining.cancelled() => return Err(draining().into()),
        };
        let position = points
            .borrow()
            .map(|p| p.position.to_string())
            .unwrap_or_default();
        Ok(Response::new(pb::WaitForPositionResponse {
            reached,
            position,
        }))
    }

    async fn list_databases(
        &self,
        request: Request<pb::ListDatabasesRequest>,
    ) -> Result<Response<pb::ListDatabasesResponse>, Status> {
        let by = Admitted::of(&request)?;
        let (databases, settled) = self.0.registry.listing();
        // A status looks at files, and a disk that hangs must not hold up the streams of this thread.
        let look = move || {
            databases
                .iter()
                .filter(|s| by.may_use(s.database().name()))
                .map(|s| s.database().status().into())
                .collect()
        };
        let databases = tokio::task::spawn_blocking(look).await;
        let databases = databases.map_err(|error| Status::internal(error.to_string()))?;
        Ok(Response::new(pb::ListDatabasesResponse {
            databases,
            settled,
        }))
    }
}

fn wait_limit(max_wait: Option<prost_types::Duration>) -> Result<Duration, Refusal> {
    let Some(max_wait) = max_wait else {
        return Ok(DEFAULT_WAIT);
    };
    // What is negative is refused before it is turned: prost's conversion negates, and the least number has no opposite.
    let wait = Some(max_wait).filter(|wait| wait.seconds >= 0);
    let wait = wait.and_then(|wait| Duration::try_from(wait).ok());
    let wait = wait.ok_or_else(|| {
        let message = "max_wait is negative or no duration; write it like 2.5s";
        Refusal::new(Reason::FieldInvalid, message).field("max_wait")
    })?;
    Ok(wait.min(LONGEST_WAIT))
}

fn stopped(database: &dyn Database) -> Refusal {
    let (name, status) = (database.name(), database.status());
    let message = format!("'{name}' is {}: {}", status.state, status.reason);
    Refusal::new(Reason::DatabaseNotReady, message).about(name)
}

/// Returns when the database is at `wanted` or past it.
async fn reach(
    database: &dyn Database,
    points: &mut watch::Receiver<Option<Point>>,
    wanted: Position,
) -> Result<(), Refusal> {
    loop {
        let now = points.borrow_and_update().map(|point| point.position);
        match now.map(|now| (now, now.partial_cmp(&wanted))) {
            Some((_, Some(Ordering::Equal | Ordering::Greater))) => return Ok(()),
            // It may never come: a position of another history says nothing about this one.
            Some((now, None)) => {
                let message = format!(
                    "the position is of generation {}, '{}' is in generation {}; ask the primary for its position again",
                    wanted.generation,
                    database.name(),
                    now.generation
                );
                return Err(Refusal::new(Reason::GenerationDiffers, message).about(database.name()));
            }
            _ => {}
        }
        points.changed().await.map_err(|_| stopped(database))?;
    }
}

/// Positions as they change; what comes faster than the peer reads is left out.
struct WatchSource {
    entry: Entry,
    points: watch::Receiver<Option<Point>>,
    draining: CancellationToken,
    sent: Option<Position>,
    over: bool,
    _slot: Slot,
}

impl Source for WatchSource {
    type Item = Result<pb::WatchPositionResponse, Status>;

    async fn next(&mut self) -> Option<Self::Item> {
        while !self.over {
            let end = tokio::select! {
                biased;
                () = self.entry.removed.cancelled() => Some(self.entry.refusal()),
                changed = self.points.changed() => changed.err().map(|_| stopped(self.entry.served.database())),
                () = self.draining.cancelled() => Some(draining()),
            };
            if let Some(refusal) = end {
                self.over = true;
                return Some(Err(refusal.into()));
            }
            let now = self.points.borrow_and_update().map(|point| point.position);
            if let Some(position) = now
                && self.sent != now
            {
                self.sent = now;
                let position = position.to_string();
                return Some(Ok(pb::WatchPositionResponse { position }));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_bounded_and_never_negative() {
        let limit = |seconds, nanos| wait_limit(Some(prost_types::Duration { seconds, nanos }));
        assert_eq!(
            limit(2, 500_000_000).ok(),
            Some(Duration::from_millis(2500))
        );
        assert_eq!(limit(i64::MAX, 0).ok(), Some(LONGEST_WAIT));
        for (seconds, nanos) in [(-1, 0), (0, -1), (i64::MIN, 0), (i64::MIN, i32::MIN)] {
            limit(seconds, nanos).expect_err("negative");
        }
        assert_eq!(wait_limit(None).ok(), Some(DEFAULT_WAIT));
    }
}
