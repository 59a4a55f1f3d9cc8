//! A [`Primary`] with archives: to the services it is a primary whose drain also waits for what is archived.

use super::database::{Database, Messages, PrimaryDatabase};
use super::errors::Refusal;
use crate::archiver::Archiver;
use crate::model::{
    ArchiveStatus, DatabaseState, DatabaseStatus, Meters, Point, Progress, ReplicaStatus,
    StreamStart,
};
use crate::primary::Primary;
use std::sync::Arc;
use tokio::sync::watch;

/// A primary and its archivers.
pub struct Archived {
    primary: Arc<Primary>,
    archivers: Vec<Arc<Archiver>>,
}

impl Archived {
    /// Of the archivers of this primary.
    pub fn new(primary: Arc<Primary>, archivers: Vec<Arc<Archiver>>) -> Archived {
        Archived { primary, archivers }
    }

    async fn archivers_stopped(&self) {
        for archiver in &self.archivers {
            archiver.stopped().await;
        }
    }
}

#[tonic::async_trait]
impl Database for Archived {
    fn name(&self) -> &str {
        self.primary.name()
    }

    fn status(&self) -> DatabaseStatus {
        self.primary.status()
    }

    fn pulse(&self) -> (DatabaseState, f64) {
        self.primary.pulse()
    }

    fn meters(&self) -> Arc<Meters> {
        self.primary.meters()
    }

    fn watch(&self) -> watch::Receiver<Option<Point>> {
        self.primary.watch()
    }

    fn stop(&self) {
        for archiver in &self.archivers {
            archiver.stop();
        }
        self.primary.stop();
    }

    async fn stopped(&self) {
        self.archivers_stopped().await;
        self.primary.stopped().await;
    }
}

#[tonic::async_trait]
impl PrimaryDatabase for Archived {
    async fn fence(&self) -> Result<Point, Refusal> {
        PrimaryDatabase::fence(&self.primary).await
    }

    async fn open_stream(&self, start: StreamStart) -> Result<Messages, Refusal> {
        PrimaryDatabase::open_stream(&self.primary, start).await
    }

    fn progress(&self, progress: Progress) -> Result<(), Refusal> {
        PrimaryDatabase::progress(&self.primary, progress)
    }

    fn replicas(&self) -> Vec<ReplicaStatus> {
        self.primary.replicas()
    }

    fn archives(&self) -> Vec<ArchiveStatus> {
        self.archivers.iter().map(|a| a.status()).collect()
    }

    async fn pause(&self) -> Result<Point, Refusal> {
        PrimaryDatabase::pause(&self.primary).await
    }

    async fn resume(&self) -> Result<(Point, bool), Refusal> {
        PrimaryDatabase::resume(&self.primary).await
    }

    async fn drain(&self) {
        self.primary.drain().await;
        self.archivers_stopped().await;
    }
}
