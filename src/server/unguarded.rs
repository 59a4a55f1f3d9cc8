//! The replication service without a network and without a door: a simulation carries the calls.

use super::guard::Admitted;
use super::listen::{drain, farewell};
use super::registry::Registry;
use super::replication::Replication;
use super::shared::Shared;
use crate::config::{Limits, Permission};
use crate::security::ServerSecurity;
use crate::wire::pb;
use http::{Request, Response};
use pb::replication_service_server::ReplicationServiceServer;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tonic::body::Body;
use tonic::service::Routes;
use tower::Service as _;

/// A server whose every caller may do everything.
#[derive(Clone)]
pub struct Unguarded {
    shared: Arc<Shared>,
    routes: Routes,
    admitted: Option<Admitted>,
}

impl Unguarded {
    /// Serves what is in the registry.
    pub fn new(registry: Registry, limits: &Limits) -> Unguarded {
        let shared = Arc::new(Shared::new(registry, limits));
        let replication = ReplicationServiceServer::new(Replication(shared.clone()));
        let needs = &[Permission::Stream];
        let caller = ServerSecurity::open()
            .access()
            .admit(&[], None, None, needs);
        Unguarded {
            shared,
            routes: Routes::new(replication.max_decoding_message_size(limits.request_bytes)),
            admitted: caller.ok().map(|caller| Admitted { caller, needs }),
        }
    }

    /// One call.
    pub async fn call(&self, mut request: Request<Body>) -> Response<Body> {
        if let Some(admitted) = &self.admitted {
            request.extensions_mut().insert(admitted.clone());
        }
        match self.routes.clone().call(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }

    /// Ends in order, as [`super::serve`] does: streams reach the last position, within `patience`.
    pub async fn drain(&self, patience: Duration) {
        self.shared.draining.cancel();
        drain(&self.shared, Instant::now() + patience).await;
        farewell(&self.shared).await;
    }
}
