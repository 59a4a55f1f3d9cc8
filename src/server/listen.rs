//! Listening, and the end: the listener and the signal to shut down are arguments, so that tests bind port 0.
//!
//! The end has an order. New work is refused and health says so; primaries capture what their applications have
//! committed and their streams send it; every stream ends with a status; then the databases close their files. All of it
//! is bounded, whatever clients do.

use super::admin::Admin;
use super::database::PrimaryDatabase;
use super::door::Door;
use super::health;
use super::position::Positions;
use super::registry::Registry;
use super::replication::Replication;
use super::shared::Shared;
use crate::config::{LONGEST_DURATION, Limits};
use crate::model::{ArchiveStatus, DatabaseState, ProcessMeters, ReplicaStatus};
use crate::security::ServerSecurity;
use crate::wire::pb;
use pb::admin_service_server::AdminServiceServer;
use pb::position_service_server::PositionServiceServer;
use pb::replication_service_server::ReplicationServiceServer;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};

/// How a server behaves.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// How long replicas may take to reach the last position when the server shuts down.
    pub drain_timeout: Duration,
    /// Certificates, tokens, and who may do what. The caller has checked the address with `security::check_listen`.
    pub security: ServerSecurity,
    /// Bounds on what clients use.
    pub limits: Limits,
    /// Whether gRPC reflection is served.
    pub reflection: bool,
    /// Counts connections.
    pub meters: Arc<ProcessMeters>,
}

impl Default for ServerConfig {
    fn default() -> ServerConfig {
        ServerConfig {
            drain_timeout: Duration::from_secs(10),
            security: ServerSecurity::open(),
            limits: Limits::default(),
            reflection: true,
            meters: Arc::default(),
        }
    }
}

/// How the end went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    /// Every stream reached the last position.
    Complete,
    /// Some stream had not when the time was up; its replica goes on from where it is when the server is back.
    TimedOut,
}

/// The server could not run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The reflection service refused our descriptors.
    #[error("describe the services: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The system gives no more threads or descriptors.
    #[error("start threads for connections: {0}")]
    Threads(std::io::Error),
}

/// Databases are closed cleanly within this, or left as a kill would leave them.
const CLOSE: Duration = Duration::from_secs(5);
/// Peers that do not report have this long to read a stream's end.
const LINGER: Duration = Duration::from_millis(100);
/// What the last statuses may take on their way out.
const FLUSH: Duration = Duration::from_secs(1);

/// Serves until `shutdown` completes, then drains. All databases have stopped when it returns.
pub async fn serve(
    listener: TcpListener,
    registry: Registry,
    config: ServerConfig,
    shutdown: impl Future<Output = ()>,
) -> Result<Drained, ServeError> {
    let shared = Arc::new(Shared::new(registry, &config.limits));
    let (reporter, known) = health::begin(&shared).await;
    let routes = routes(&shared, &reporter, &config)?;
    let door = Door::new(
        routes,
        config.security.clone(),
        config.limits,
        config.meters.clone(),
    )
    .map_err(ServeError::Threads)?;
    // Not when the drain begins: hyper closes a connection as soon as its calls have ended, and if the peer has just sent
    // something, TCP resets it, and the peer loses what it has not read yet, such as the last chunk and the status.
    let serving = door.run(listener, shared.closing.clone());
    tokio::pin!(serving);
    let told = CancellationToken::new();
    let health = health::keep(&shared, reporter, known, &told);
    let end = async {
        shutdown.await;
        shared.draining.cancel();
        told.cancelled().await;
        let deadline = Instant::now() + config.drain_timeout.min(LONGEST_DURATION);
        let drained = drain(&shared, deadline).await;
        farewell(&shared).await;
        shared.closing.cancel();
        drained
    };
    let drained = tokio::select! {
        // Not before `end` is through: it stops when that says so.
        () = &mut serving => Drained::Complete,
        drained = end => {
            // A peer that does not close its connection is left to the end of the process.
            let _ = timeout(FLUSH, &mut serving).await;
            drained
        }
        never = health => match never {},
        never = config.security.keep() => match never {},
    };
    close(&shared).await;
    Ok(drained)
}

fn routes(
    shared: &Arc<Shared>,
    reporter: &HealthReporter,
    config: &ServerConfig,
) -> Result<Routes, ServeError> {
    let largest = config.limits.request_bytes;
    let replication = ReplicationServiceServer::new(Replication(shared.clone()));
    let positions = PositionServiceServer::new(Positions(shared.clone()));
    let admin = AdminServiceServer::new(Admin(shared.clone()));
    let health = HealthServer::new(HealthService::from_health_reporter(reporter.clone()));
    let routes = Routes::new(replication.max_decoding_message_size(largest))
        .add_service(positions.max_decoding_message_size(largest))
        .add_service(admin.max_decoding_message_size(largest))
        .add_service(health.max_decoding_message_size(largest));
    if !config.reflection {
        return Ok(routes);
    }
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(pb::FILE_DESCRIPTOR_SET)
            // Each of the two reflection services lists the other, too.
            .register_encoded_file_descriptor_set(tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(
                tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
            )
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            // Without these grpcurl cannot print the details of an error.
            .register_encoded_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)
    };
    let v1 = reflection().build_v1()?.max_decoding_message_size(largest);
    let v1alpha = reflection()
        .build_v1alpha()?
        .max_decoding_message_size(largest);
    Ok(routes.add_service(v1).add_service(v1alpha))
}

pub(super) async fn drain(shared: &Shared, deadline: Instant) -> Drained {
    shared.streams.close();
    tracing::info!(streams = shared.streams.len(), "draining");
    let work = async {
        // All at once: one that is still being read is waited for, and must not use up the others' time.
        let mut draining = JoinSet::new();
        for primary in shared.registry.primaries() {
            draining.spawn(async move { primary.drain().await });
        }
        draining.join_all().await;
        shared.streams.wait().await;
    };
    match timeout_at(deadline, work).await {
        Ok(()) => Drained::Complete,
        Err(_) => {
            let streams = shared.streams.len();
            tracing::warn!(streams, "the time to drain is up; streams are cut");
            for primary in shared.registry.primaries() {
                say_what_is_missing(&*primary);
            }
            Drained::TimedOut
        }
    }
}

/// What did not take all of a primary's commits in time. Nothing is lost: each goes on from where it is.
fn say_what_is_missing(primary: &dyn PrimaryDatabase) {
    let database = primary.name();
    for ArchiveStatus {
        archive,
        state,
        reason,
        lag_bytes,
        ..
    } in primary.archives()
    {
        if state != DatabaseState::Streaming || lag_bytes > 0 {
            tracing::warn!(
                database,
                archive,
                lag_bytes,
                "the archive may lack what was committed last, and gets it once this starts again; it is {state}: {reason}"
            );
        }
    }
    for ReplicaStatus {
        name,
        state,
        lag_bytes,
        ..
    } in primary.replicas()
    {
        if state != DatabaseState::Disconnected && lag_bytes > 0 {
            tracing::warn!(
                database,
                replica = name,
                lag_bytes,
                "the replica lacks what was committed last, and gets it once this starts again"
            );
        }
    }
}

/// Ends the streams that are left, and gives all peers time to read the end.
pub(super) async fn farewell(shared: &Shared) {
    shared.cut.cancel();
    shared.reports.close();
    let read = async {
        shared.streams.wait().await;
        // A replica ends its report when it has read its stream's end; of others nothing is known.
        shared.reports.wait().await;
        tokio::time::sleep(LINGER).await;
    };
    let _ = timeout(FLUSH, read).await;
}

async fn close(shared: &Shared) {
    shared.registry.seal();
    let databases = shared.registry.list();
    for served in &databases {
        served.database().stop();
    }
    let all = async {
        for served in &databases {
            served.database().stopped().await;
        }
    };
    if timeout(CLOSE, all).await.is_err() {
        tracing::warn!(
            "databases took too long to close; they are left as a crash would leave them"
        );
    }
}
