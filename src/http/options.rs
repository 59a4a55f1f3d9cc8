//! What the second port is told.

use super::recent::Recent;
use crate::config::{Limits, Readiness};
use crate::model::ProcessMeters;
use crate::security::ServerSecurity;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// What the second port shows beside the databases, and how it judges.
pub struct HttpOptions {
    /// When `/readyz` says yes; it may change while the server runs.
    pub readiness: watch::Receiver<Readiness>,
    /// The lasting identity of this server, for people.
    pub server_id: String,
    /// The address as it was configured: its name, if it has one, is a right name for this port.
    pub listen: String,
    /// Where replicas connect, for the page's advice.
    pub grpc: Option<SocketAddr>,
    /// Counters that belong to no database.
    pub meters: Arc<ProcessMeters>,
    /// The log's last warnings and errors.
    pub recent: Recent,
    /// Bounds on what clients use.
    pub limits: Limits,
    /// TLS, and who may look; probes are exempt.
    pub security: ServerSecurity,
    /// Cancelled when the server begins to end: `/readyz` says no from then on.
    pub draining: CancellationToken,
}
