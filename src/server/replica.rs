//! A [`Replica`] as the services see it.

use super::copy::CopySource;
use super::database::{Copies, Database, ReplicaDatabase};
use super::errors::{Reason, Refusal};
use super::outgoing::outgoing;
use crate::format::position::Position;
use crate::model::{CopyRequest, DatabaseState, DatabaseStatus, Meters, Point};
use crate::replica::Replica;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::watch;

#[tonic::async_trait]
impl Database for Arc<Replica> {
    fn name(&self) -> &str {
        Replica::name(self)
    }

    fn status(&self) -> DatabaseStatus {
        Replica::status(self)
    }

    fn pulse(&self) -> (DatabaseState, f64) {
        Replica::pulse(self)
    }

    fn meters(&self) -> Arc<Meters> {
        Replica::meters(self)
    }

    fn watch(&self) -> watch::Receiver<Option<Point>> {
        Replica::watch(self)
    }

    fn stop(&self) {
        Replica::stop(self);
    }

    async fn stopped(&self) {
        Replica::stopped(self).await;
    }
}

#[tonic::async_trait]
impl ReplicaDatabase for Arc<Replica> {
    fn has_caught_up_once(&self) -> bool {
        Replica::has_caught_up_once(self)
    }

    async fn read_copy(&self, request: CopyRequest) -> Result<Copies, Refusal> {
        let name = Replica::name(self);
        match Replica::view(self).await {
            Ok(Some(view)) => Ok(Box::pin(outgoing(CopySource::new(view, request)))),
            Ok(None) => {
                let message = format!("'{name}' has no data yet; see: walcast status");
                Err(Refusal::new(Reason::DatabaseNotReady, message).about(name))
            }
            Err(error) => {
                let message = format!("'{name}' cannot be read now: {error}");
                Err(Refusal::new(Reason::DatabaseNotReady, message).about(name))
            }
        }
    }

    async fn detach(&self) -> Result<(Option<Position>, PathBuf), Refusal> {
        let name = Replica::name(self);
        let detached = Replica::detach(self).await;
        // It cannot be detached as it is now: a person decides what to do.
        detached.map_err(|error| {
            Refusal::new(Reason::WrongState, format!("'{name}': {error}")).about(name)
        })
    }
}
