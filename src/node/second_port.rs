//! The second port of a process: bound before anything else happens, served until the last database has stopped.

use super::{NodeError, announce};
use crate::config::{Limits, LogFormat, Readiness, ServerOptions};
use crate::http::{self, HttpOptions, Recent};
use crate::model::ProcessMeters;
use crate::security::{self, ServerSecurity};
use crate::server::Registry;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// What the port shows beside the databases.
pub(super) struct Shown {
    pub(super) registry: Registry,
    pub(super) readiness: watch::Receiver<Readiness>,
    pub(super) security: ServerSecurity,
    pub(super) meters: Arc<ProcessMeters>,
    pub(super) server_id: String,
    pub(super) limits: Limits,
    /// The address as it was configured.
    pub(super) listen: String,
    /// Where replicas connect.
    pub(super) grpc: Option<SocketAddr>,
    /// Cancelled when the process begins to end.
    pub(super) draining: CancellationToken,
}

/// Binds the address, if there is one.
pub(super) async fn bind(options: &ServerOptions) -> Result<Option<TcpListener>, NodeError> {
    let Some(listen) = &options.http_listen else {
        return Ok(None);
    };
    let tls = options.tls.is_some();
    let bound = security::bind(listen, "--http-listen", tls, options.insecure).await?;
    Ok(Some(bound))
}

/// A port that is served.
pub(super) struct SecondPort {
    end: CancellationToken,
    task: JoinHandle<()>,
}

impl SecondPort {
    /// Serves, and says where.
    pub(super) fn start(
        listener: TcpListener,
        shown: Shown,
        format: LogFormat,
    ) -> Result<SecondPort, NodeError> {
        let address = listener.local_addr();
        let address = address.map_err(NodeError::system("read the address"))?;
        let scheme = if shown.security.has_tls() {
            "https"
        } else {
            "http"
        };
        let where_it_is = format!("status page on {scheme}://{address}/");
        announce(format, "INFO", &where_it_is);
        let end = CancellationToken::new();
        let options = HttpOptions {
            readiness: shown.readiness,
            server_id: shown.server_id,
            limits: shown.limits,
            listen: shown.listen,
            grpc: shown.grpc,
            meters: shown.meters,
            recent: Recent::of_the_process(),
            security: shown.security,
            draining: shown.draining,
        };
        let ended = end.clone().cancelled_owned();
        let task = tokio::spawn(http::serve(listener, shown.registry, options, ended));
        Ok(SecondPort { end, task })
    }

    /// Ends it.
    pub(super) async fn finish(self) {
        self.end.cancel();
        // A panic in there ends the process.
        let _ = self.task.await;
    }
}
