//! gRPC whose messages are bytes: what a test plays is exactly what was recorded, and nothing of it passes through the types
//! of today.

use crate::bytes_codec::Raw;
use bytes::Bytes;
use http::uri::PathAndQuery;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_stream::Stream;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status, Streaming};

const STREAM: &str = "/walcast.v1.ReplicationService/Stream";
const REPORT: &str = "/walcast.v1.ReplicationService/ReportProgress";

/// How long anything may take on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

pub fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime")
    })
}

/// Fails the test if it takes too long.
pub async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, work).await {
        Ok(value) => value,
        Err(_) => panic!("not in time: {what}"),
    }
}

pub type Messages = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;

/// What stands in a server's place.
#[tonic::async_trait]
pub trait Peer: Send + Sync + 'static {
    async fn stream(&self, request: Bytes) -> Result<Messages, Status>;

    async fn report(&self, reports: Streaming<Bytes>) -> Result<Bytes, Status>;

    /// Any other call, with one answer.
    async fn other(&self, path: &str, _request: Bytes) -> Result<Bytes, Status> {
        Err(Status::unimplemented(path))
    }
}

/// Serves on a free port until the test program ends; the URL.
pub fn serve(peer: Arc<dyn Peer>) -> String {
    runtime().block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let router = axum::Router::new().fallback(move |request| answer(peer.clone(), request));
        let server = Server::builder().add_routes(router.into());
        tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
        url
    })
}

async fn answer(
    peer: Arc<dyn Peer>,
    request: axum::extract::Request,
) -> http::Response<tonic::body::Body> {
    let path = request.uri().path().to_owned();
    let mut grpc = tonic::server::Grpc::new(Raw);
    match path.as_str() {
        STREAM => grpc.server_streaming(Streams(peer), request).await,
        REPORT => grpc.client_streaming(Reports(peer), request).await,
        _ => grpc.unary(Others(peer, path), request).await,
    }
}

struct Streams(Arc<dyn Peer>);
struct Reports(Arc<dyn Peer>);
struct Others(Arc<dyn Peer>, String);

type Answer<T> = Pin<Box<dyn Future<Output = Result<Response<T>, Status>> + Send>>;

impl tonic::server::ServerStreamingService<Bytes> for Streams {
    type Response = Bytes;
    type ResponseStream = Messages;
    type Future = Answer<Messages>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let peer = self.0.clone();
        Box::pin(async move { peer.stream(request.into_inner()).await.map(Response::new) })
    }
}

impl tonic::server::ClientStreamingService<Bytes> for Reports {
    type Response = Bytes;
    type Future = Answer<Bytes>;

    fn call(&mut self, request: Request<Streaming<Bytes>>) -> Self::Future {
        let peer = self.0.clone();
        Box::pin(async move { peer.report(request.into_inner()).await.map(Response::new) })
    }
}

impl tonic::server::UnaryService<Bytes> for Others {
    type Response = Bytes;
    type Future = Answer<Bytes>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let (peer, path) = (self.0.clone(), self.1.clone());
        Box::pin(async move {
            let answer = peer.other(&path, request.into_inner()).await;
            answer.map(Response::new)
        })
    }
}

/// A connection of a replica to a server.
pub async fn connect(url: &str) -> Result<Channel, Status> {
    let endpoint = Endpoint::from_shared(url.to_owned()).expect("a URL");
    let channel = endpoint.connect().await;
    channel.map_err(|error| Status::unavailable(error.to_string()))
}

async fn client(channel: &Channel) -> Result<tonic::client::Grpc<Channel>, Status> {
    let mut client = tonic::client::Grpc::new(channel.clone());
    let ready = client.ready().await;
    ready.map_err(|error| Status::unavailable(error.to_string()))?;
    Ok(client)
}

/// `Stream`.
pub async fn stream(channel: &Channel, request: Bytes) -> Result<Streaming<Bytes>, Status> {
    let path = PathAndQuery::from_static(STREAM);
    let mut client = client(channel).await?;
    let answer = client
        .server_streaming(Request::new(request), path, Raw)
        .await?;
    Ok(answer.into_inner())
}

/// `ReportProgress`.
pub async fn report(
    channel: Channel,
    reports: impl Stream<Item = Bytes> + Send + 'static,
) -> Result<Bytes, Status> {
    let path = PathAndQuery::from_static(REPORT);
    let mut client = client(&channel).await?;
    let answer = client
        .client_streaming(Request::new(reports), path, Raw)
        .await?;
    Ok(answer.into_inner())
}
