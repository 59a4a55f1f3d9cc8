//! `ReplicationService`: streams to replicas, and their reports.

use super::database::{Copies, Messages};
use super::errors::{Reason, Refusal, draining};
use super::guard::Admitted;
use super::outgoing::{Source, outgoing};
use super::registry::Entry;
use super::shared::{Shared, Slot};
use crate::format::position::Position;
use crate::model::{CopyRequest, Progress, StreamStart};
use crate::wire::pb;
use pb::replication_service_server::ReplicationService;
use std::pin::Pin;
use std::sync::Arc;
use tokio_stream::{Stream, StreamExt as _};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

pub(super) struct Replication(pub(super) Arc<Shared>);

type Responses = Pin<Box<dyn Stream<Item = Result<pb::StreamResponse, Status>> + Send>>;

type Copied = Pin<Box<dyn Stream<Item = Result<pb::ReadCopyResponse, Status>> + Send>>;

#[tonic::async_trait]
impl ReplicationService for Replication {
    type StreamStream = Responses;

    async fn stream(
        &self,
        request: Request<pb::StreamRequest>,
    ) -> Result<Response<Responses>, Status> {
        let address = request
            .remote_addr()
            .map(|a| a.to_string())
            .unwrap_or_default();
        let by = Admitted::of(&request)?;
        let mut start = StreamStart::try_from(request.into_inner()).map_err(Refusal::from)?;
        start.address = address;
        let entry = self.0.find(&by, &start.database)?;
        let primary = entry.served.primary()?;
        let slot = self.0.stream_slot(&by)?;
        let messages = primary.open_stream(start).await;
        let messages = messages.map_err(|refusal| entry.explain(refusal))?;
        let cut = self.0.cut.clone();
        let source = StreamSource {
            messages,
            entry,
            cut,
            over: false,
            _slot: slot,
        };
        Ok(Response::new(Box::pin(outgoing(source))))
    }

    type ReadCopyStream = Copied;

    async fn read_copy(
        &self,
        request: Request<pb::ReadCopyRequest>,
    ) -> Result<Response<Copied>, Status> {
        let by = Admitted::of(&request)?;
        let request = CopyRequest::try_from(request.into_inner()).map_err(Refusal::from)?;
        let entry = self.0.find(&by, &request.database)?;
        let replica = entry.served.replica()?;
        let slot = self.0.copy_slot(&by)?;
        let copies = replica.read_copy(request).await;
        let copies = copies.map_err(|refusal| entry.explain(refusal))?;
        let source = CopyCall {
            copies,
            entry,
            draining: self.0.draining.clone(),
            over: false,
            _slot: slot,
        };
        Ok(Response::new(Box::pin(outgoing(source))))
    }

    async fn report_progress(
        &self,
        request: Request<Streaming<pb::ReportProgressRequest>>,
    ) -> Result<Response<pb::ReportProgressResponse>, Status> {
        let by = Admitted::of(&request)?;
        let _slot = self.0.report_slot(&by)?;
        let mut reports = Reports {
            shared: &self.0,
            by,
            last: None,
        };
        let mut inbound = request.into_inner();
        loop {
            let message = tokio::select! {
                biased;
                refusal = reports.removed() => return Err(refusal.into()),
                () = self.0.closing.cancelled() => return Err(draining().into()),
                message = inbound.message() => message?,
            };
            match message {
                Some(report) => reports.take(report)?,
                None => return Ok(Response::new(pb::ReportProgressResponse {})),
            }
        }
    }
}

/// One stream, with its place among the streams of this server.
struct StreamSource {
    messages: Messages,
    entry: Entry,
    cut: CancellationToken,
    over: bool,
    _slot: Slot,
}

impl Source for StreamSource {
    type Item = Result<pb::StreamResponse, Status>;

    async fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        // A snapshot always has a next message: the looks come first, or such a stream could not be ended.
        let message = if self.entry.removed.is_cancelled() {
            Some(Err(self.entry.refusal()))
        } else if self.cut.is_cancelled() {
            None
        } else {
            tokio::select! {
                biased;
                message = self.messages.next() => message,
                () = self.entry.removed.cancelled() => Some(Err(self.entry.refusal())),
                () = self.cut.cancelled() => None,
            }
        };
        Some(match message {
            Some(Ok(message)) => Ok(message.into()),
            Some(Err(refusal)) => {
                self.over = true;
                Err(self.entry.explain(refusal).into())
            }
            // A stream has no natural end: without a status the replica could not tell an orderly end from a lost one.
            None => {
                self.over = true;
                Err(self.entry.explain(draining()).into())
            }
        })
    }
}

/// One copy, with its place among the streams of this server. Nobody loses anything when it is cut off, so a drain does
/// not wait for it.
struct CopyCall {
    copies: Copies,
    entry: Entry,
    draining: CancellationToken,
    over: bool,
    _slot: Slot,
}

impl Source for CopyCall {
    type Item = Result<pb::ReadCopyResponse, Status>;

    async fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let message = tokio::select! {
            biased;
            () = self.draining.cancelled() => Some(Err(draining())),
            () = self.entry.removed.cancelled() => Some(Err(self.entry.refusal())),
            message = self.copies.next() => message,
        };
        Some(match message? {
            Ok(message) => Ok(message.into()),
            Err(refusal) => {
                self.over = true;
                Err(self.entry.explain(refusal).into())
            }
        })
    }
}

/// The reports of one call.
struct Reports<'a> {
    shared: &'a Shared,
    by: Admitted,
    last: Option<(Entry, Progress)>,
}

impl Reports<'_> {
    /// Completes when the database that is reported on is taken off the server.
    async fn removed(&self) -> Refusal {
        match &self.last {
            Some((entry, _)) => {
                entry.removed.cancelled().await;
                entry.refusal()
            }
            None => std::future::pending().await,
        }
    }

    fn take(&mut self, report: pb::ReportProgressRequest) -> Result<(), Refusal> {
        let progress = Progress::try_from(report)?;
        let entry = match &self.last {
            Some((entry, last)) => {
                follows(last, &progress)?;
                entry.clone()
            }
            None => self.shared.find(&self.by, &progress.database)?,
        };
        let taken = entry.served.primary()?.progress(progress.clone());
        taken.map_err(|refusal| entry.explain(refusal))?;
        self.last = Some((entry, progress));
        Ok(())
    }
}

/// Within one call a replica is one stream's, and never goes back.
fn follows(last: &Progress, next: &Progress) -> Result<(), Refusal> {
    let refuse = |field, message: String| {
        Err(Refusal::new(Reason::FieldInvalid, message)
            .about(&next.database)
            .field(field))
    };
    for (field, before, now) in [
        ("database", &last.database, &next.database),
        ("replica_id", &last.replica_id, &next.replica_id),
        ("session_id", &last.session_id, &next.session_id),
    ] {
        if before != now {
            return refuse(
                field,
                format!("{field} changed within one call, from '{before}' to '{now}'"),
            );
        }
    }
    let goes_back = |before: Option<Position>, now: Option<Position>| match (before, now) {
        // Between generations there is no order: a snapshot may take a replica from one to another.
        (Some(before), Some(now)) => now < before,
        (before, now) => before.is_some() && now.is_none(),
    };
    for (field, before, now) in [
        ("received", last.received, next.received),
        ("applied", last.applied, next.applied),
        ("durable", last.durable, next.durable),
    ] {
        if goes_back(before, now) {
            let text = |p: Option<Position>| p.map_or("nothing".to_owned(), |p| p.to_string());
            return refuse(
                field,
                format!("{field} went back, from {} to {}", text(before), text(now)),
            );
        }
    }
    Ok(())
}
