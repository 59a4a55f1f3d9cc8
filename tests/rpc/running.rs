//! A server in this process, on a free port.

use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use walcast::server::{Drained, Registry, Served, ServerConfig, serve};
use walcast::wire::pb;

/// What a test waits for at most.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub struct Running {
    pub address: SocketAddr,
    pub registry: Registry,
    shutdown: CancellationToken,
    task: JoinHandle<Drained>,
}

impl Running {
    pub async fn start(databases: Vec<Served>) -> Running {
        Running::with(databases, None, ServerConfig::default()).await
    }

    pub async fn with(
        databases: Vec<Served>,
        max_staleness: Option<Duration>,
        config: ServerConfig,
    ) -> Running {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let registry = Registry::new(max_staleness);
        for served in databases {
            registry.add(served).expect("unique names");
        }
        let kept = registry.clone();
        let shutdown = CancellationToken::new();
        let signal = shutdown.clone();
        let task = tokio::spawn(async move {
            let served = serve(listener, registry, config, async move {
                signal.cancelled().await
            });
            served.await.expect("a server that runs")
        });
        Running {
            address,
            registry: kept,
            shutdown,
            task,
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub async fn channel(&self) -> Channel {
        let endpoint = Endpoint::from_shared(self.url()).expect("a URL");
        endpoint.connect().await.expect("a connection")
    }

    pub async fn replication(
        &self,
    ) -> pb::replication_service_client::ReplicationServiceClient<Channel> {
        pb::replication_service_client::ReplicationServiceClient::new(self.channel().await)
    }

    pub async fn positions(&self) -> pb::position_service_client::PositionServiceClient<Channel> {
        pb::position_service_client::PositionServiceClient::new(self.channel().await)
    }

    pub async fn admin(&self) -> pb::admin_service_client::AdminServiceClient<Channel> {
        pb::admin_service_client::AdminServiceClient::new(self.channel().await)
    }

    /// Sends the signal.
    pub fn shut_down(&self) {
        self.shutdown.cancel();
    }

    /// Waits for the end.
    pub async fn ended(self) -> Drained {
        self.shutdown.cancel();
        within(self.task).await.expect("no panic in the server")
    }
}

/// Fails the test if it takes too long.
pub async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work)
        .await
        .expect("it took too long")
}
