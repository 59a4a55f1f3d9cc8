//! A [`Primary`] as the services see it.

use super::database::{Database, Messages, PrimaryDatabase};
use super::errors::{Reason, Refusal};
use super::outgoing::{Source, outgoing};
use crate::model::{
    DatabaseState, DatabaseStatus, Message, Meters, Point, Progress, ReplicaStatus, StreamStart,
};
use crate::primary::{Primary, PrimaryError, StreamHandle};
use std::sync::Arc;
use tokio::sync::watch;

fn refusal(name: &str, error: PrimaryError) -> Refusal {
    let reason = match &error {
        PrimaryError::NotReady { .. } => Reason::DatabaseNotReady,
        PrimaryError::Paused => Reason::DatabasePaused,
        PrimaryError::GenerationChanged(_) => Reason::GenerationChanged,
        PrimaryError::Damaged(_) => Reason::LogDamaged,
        PrimaryError::Draining => Reason::Draining,
        PrimaryError::TooSlow(_) => Reason::TooSlow,
        PrimaryError::UnknownSession(_) => Reason::SessionUnknown,
        PrimaryError::Disk(_) => Reason::DiskFailed,
    };
    Refusal::new(reason, format!("'{name}': {error}")).about(name)
}

#[tonic::async_trait]
impl Database for Arc<Primary> {
    fn name(&self) -> &str {
        Primary::name(self)
    }

    fn status(&self) -> DatabaseStatus {
        Primary::status(self)
    }

    fn pulse(&self) -> (DatabaseState, f64) {
        Primary::pulse(self)
    }

    fn meters(&self) -> Arc<Meters> {
        Primary::meters(self)
    }

    fn watch(&self) -> watch::Receiver<Option<Point>> {
        Primary::watch(self)
    }

    fn stop(&self) {
        Primary::stop(self);
    }

    async fn stopped(&self) {
        Primary::stopped(self).await;
    }
}

#[tonic::async_trait]
impl PrimaryDatabase for Arc<Primary> {
    async fn fence(&self) -> Result<Point, Refusal> {
        Primary::fence(self)
            .await
            .map_err(|error| refusal(Primary::name(self), error))
    }

    async fn open_stream(&self, start: StreamStart) -> Result<Messages, Refusal> {
        let handle = Primary::open_stream(self, start).await;
        let handle = handle.map_err(|error| refusal(Primary::name(self), error))?;
        Ok(Box::pin(outgoing(Handle {
            handle,
            database: Primary::name(self).to_owned(),
        })))
    }

    fn progress(&self, progress: Progress) -> Result<(), Refusal> {
        Primary::progress(self, progress).map_err(|error| refusal(Primary::name(self), error))
    }

    fn replicas(&self) -> Vec<ReplicaStatus> {
        Primary::replicas(self)
    }

    async fn pause(&self) -> Result<Point, Refusal> {
        Primary::pause(self)
            .await
            .map_err(|error| refusal(Primary::name(self), error))
    }

    async fn resume(&self) -> Result<(Point, bool), Refusal> {
        Primary::resume(self)
            .await
            .map_err(|error| refusal(Primary::name(self), error))
    }

    async fn drain(&self) {
        Primary::drain(self).await;
    }
}

/// A stream, with the name of its database for errors.
struct Handle {
    handle: StreamHandle,
    database: String,
}

impl Source for Handle {
    type Item = Result<Message, Refusal>;

    async fn next(&mut self) -> Option<Self::Item> {
        let message = self.handle.next().await?;
        Some(message.map_err(|error| refusal(&self.database, error)))
    }
}
